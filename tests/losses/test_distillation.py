"""Distillation of an encoder of speech into the first level of SpeechTokenizer, here of tiny ones with random weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from family_checks import fit
from small_models import SMALL
from speech_teacher import save_speech_teacher
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.base.network_folders import found_network
from visiontok.losses import CodecConfig, CodecObjective
from visiontok.losses.distillation import DAxisConfig, SpeechTeacherConfig, TAxisConfig
from visiontok.signals.audio_conversion import resampled
from visiontok.tokenizers.audio.speechtokenizer.model import SpeechTokenizer

MEL = {"mel": {"resolutions": [{"n_fft": 32, "hop": 8, "num_bins": 5}]}, "mel_weight": 1.0}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_speech_teacher(folder)
    return folder


def sounds() -> Tensor:
    return 0.3 * torch.randn(3, 1, 200, generator=torch.Generator().manual_seed(1))


def distilling(teacher: Path | None, **changes: object) -> tuple[SpeechTokenizer, CodecObjective]:
    torch.manual_seed(0)
    tokenizer = visiontok.create("speechtokenizer", **SMALL["speechtokenizer"]).train()
    distillation = None if teacher is None else {"teacher": {"folder": str(teacher)}, **changes}
    objective = CodecConfig.parse({**MEL, "distillation": distillation}).build(tokenizer.spec)
    objective.attach(tokenizer)
    return tokenizer, objective


def term(tokenizer: SpeechTokenizer, objective: CodecObjective) -> Tensor:
    output = tokenizer(sounds())
    terms = objective.generator_terms(output.reconstruction, sounds(), output.losses, step=0, first_level=output.first_level)
    return terms["distillation"]


def test_distances_are_those_of_the_paper() -> None:
    features, target = (torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    over_time = [math.log(torch.sigmoid(features[b, :, d] @ target[b, :, d] / features[b, :, d].norm() / target[b, :, d].norm())) for b in (0, 1)
                 for d in range(3)]  # fmt: skip
    assert DAxisConfig().distance(features, target).item() == pytest.approx(-sum(over_time) / 6, rel=1e-5)
    over_channels = torch.sigmoid(F.cosine_similarity(features, target, dim=-1)).log().mean()
    expected = (features - target).abs().mean() - 0.5 * over_channels
    assert TAxisConfig(similarity_weight=0.5).distance(features, target).item() == pytest.approx(expected.item(), rel=1e-5)
    assert DAxisConfig().distance(target, target).item() == pytest.approx(math.log(1 + math.exp(-1)))


@pytest.mark.parametrize("layer", ["mean", 1])
def test_the_teacher_gives_what_transformers_gives(teacher: Path, layer: int | str) -> None:
    import transformers

    network = transformers.HubertModel.from_pretrained(teacher).eval()
    prepare = transformers.AutoFeatureExtractor.from_pretrained(teacher)
    found = SpeechTeacherConfig(folder=teacher, layer=layer).build()(torch.cat([sounds(), -0.5 * sounds()], dim=1), sample_rate=1600)
    for row, sound in enumerate(sounds()):
        values = prepare(sound[0].numpy() / 4, sampling_rate=1600, return_tensors="pt").input_values
        with torch.no_grad():
            states = network(values, output_hidden_states=True).hidden_states
        expected = torch.stack(states).mean(dim=0) if layer == "mean" else states[layer]
        torch.testing.assert_close(found[row], expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("distance", ["d_axis", "t_axis"])
def test_the_loss_falls_and_its_gradient_reaches_encoder_and_projection_only(teacher: Path, distance: str) -> None:
    tokenizer, objective = distilling(teacher, weight=2.0, distance={"type": distance})
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    term(tokenizer, objective).backward()
    reached = {name.split(".")[0] for name, parameter in tokenizer.named_parameters() if parameter.grad is not None and bool(parameter.grad.any())}
    assert reached == {"encoder", "semantic_projection"}
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    objective.train()
    losses = fit(tokenizer.parameters(), lambda step: term(tokenizer, objective), steps=30, lr=1e-2)
    assert losses[-1] < 0.95 * losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())
    plain = CodecConfig.parse({**MEL, "distillation": {"teacher": {"folder": str(teacher)}, "distance": {"type": distance}, "weight": 1.0}})
    unweighted = plain.build(tokenizer.spec)
    unweighted.attach(tokenizer)
    with torch.no_grad():
        assert term(tokenizer.eval(), objective) == pytest.approx(2 * term(tokenizer, unweighted).item(), rel=1e-5)


def test_only_the_first_level_learns_from_it(teacher: Path) -> None:
    """Its codes as they were read, before the averages of the codebook move."""
    tokenizer, _ = distilling(teacher)
    codes = tokenizer.quantizer.levels[0].codes().clone()
    latents = tokenizer.encode_latents(sounds())
    output = tokenizer(sounds())
    nearest = torch.cdist(latents, codes[None]).argmin(dim=-1)
    torch.testing.assert_close(output.first_level, codes[nearest])


def test_without_distillation_the_projection_is_frozen_and_not_computed(teacher: Path) -> None:
    computed: list[int] = []
    for calls in (0, 1):
        tokenizer, objective = distilling(teacher if calls else None)
        assert all(parameter.requires_grad == bool(calls) for parameter in tokenizer.semantic_projection.parameters())
        tokenizer.semantic_projection.register_forward_hook(lambda *_: computed.append(1))
        output = tokenizer(sounds())
        objective.generator_terms(output.reconstruction, sounds(), output.losses, step=0, first_level=output.first_level)
        assert sum(computed) == calls


@pytest.mark.parametrize("rate", [800, 2400])
def test_sound_of_another_rate_is_resampled_for_the_teacher(teacher: Path, rate: int) -> None:
    tokenizer, objective = distilling(teacher)
    other = objective.config.build(tokenizer.spec.model_copy(update={"rate": float(rate)})).distillation
    assert objective.distillation is not None
    assert other is not None
    features = torch.randn(3, 20 * 1600 // rate, 6, generator=torch.Generator().manual_seed(2))
    expected = [torch.from_numpy(resampled(sound.numpy(), rate, 1600)) for sound in sounds()]
    assert len(expected[0][0]) == 200 * 1600 // rate
    torch.testing.assert_close(other(features, sounds()), objective.distillation(features, torch.stack(expected)))


def test_teachers_that_do_not_fit_are_refused(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        SpeechTeacherConfig(folder=tmp_path / "nowhere").build()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=tmp_path.name):
        SpeechTeacherConfig(folder=tmp_path).build()
    _, digest = found_network(teacher, "teacher")
    SpeechTeacherConfig(folder=teacher, sha256=digest).build()
    with pytest.raises(CheckpointError, match=digest):
        SpeechTeacherConfig(folder=teacher, sha256="0" * 64).build()
    with pytest.raises(ConfigError, match="3"):
        SpeechTeacherConfig(folder=teacher, layer=3).build()
    tokenizer, objective = distilling(teacher)
    dim = tokenizer.config.networks.dim
    with pytest.raises(ConfigError, match="40 of 6"):
        objective.generator_terms(sounds(), sounds(), {}, step=0, first_level=torch.zeros(3, 40, dim))
    with pytest.raises(ConfigError, match="distillation"):
        objective.generator_terms(sounds(), sounds(), {}, step=0)
    with pytest.raises(ConfigError, match="attach"):
        objective.config.build(tokenizer.spec).generator_terms(sounds(), sounds(), {}, step=0, first_level=torch.zeros(3, 20, dim))
    objective.handles.projection = torch.nn.Linear(dim, 5)
    with pytest.raises(ConfigError, match="semantic_dim"):
        objective.generator_terms(sounds(), sounds(), {}, step=0, first_level=torch.zeros(3, 20, dim))
    with pytest.raises(ConfigError, match="semantic_projection"):
        objective.attach(torch.nn.Linear(1, 1))
