from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from family_checks import assert_bfloat16_is_close, assert_round_trips, trained_generator
from torch import Tensor
from torch.nn import functional as F

import visiontok
from visiontok.base.errors import ConfigError, SignalError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.generators.larp.model import LarpGenerator
from visiontok.registry import checkpoints
from visiontok.tokenizers.video.larp.model import LarpConfig, LarpTokenizer
from visiontok.tokenizers.video.larp.prior import ContinuousPrior, PriorConfig
from visiontok.tokens import Tokens
from visiontok.training import parse_recipe, train

REFERENCE = Path(__file__).parents[2] / "reference" / "larp" / "tok_ar_cls" / "config.json"
VIT = {"dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
SVQ = {"type": "svq", "codebook_size": 32, "dim": 4}
CONFIG = {
    "image_size": 16,
    "num_frames": 8,
    "frames_per_patch": 2,
    "num_latent_tokens": 6,
    "encoder": VIT,
    "decoder": VIT,
    "quantizer": SVQ,
    "prior": {"dim": 16, "depth": 1, "num_heads": 2, "sampling_ramp_steps": 4},
}


def model(**changes: object) -> LarpTokenizer:
    torch.manual_seed(0)
    return LarpTokenizer(LarpConfig.parse({**CONFIG, **changes})).eval()


def clips(count: int = 2, frames: int = 8) -> Tensor:
    return torch.rand(count, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1))


def test_clips_become_tokens_and_clips_again():
    tokenizer = model()
    tokens = tokenizer.encode(clips())
    assert tokens.indices.shape == (2, 6)
    assert tokens.layout == tokenizer.layout
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == clips().shape
    assert 0 <= float(decoded.min()) <= float(decoded.max()) <= 1
    assert torch.equal(tokenizer.decode(tokens.indices), decoded)  # as a generator makes them, without extras


@pytest.mark.parametrize("frames", [1, 4, 5, 7])
def test_shorter_clips_have_as_many_tokens_and_keep_their_frames(frames: int):
    tokenizer, short = model(), clips(frames=frames)
    tokens = tokenizer.encode(short)
    assert tokens.indices.shape == (2, 6)
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == short.shape
    output = tokenizer(short)
    assert output.reconstruction is not None
    torch.testing.assert_close(output.reconstruction.clamp(0, 1), decoded)


def test_clips_of_different_lengths_share_a_batch():
    tokenizer, signals = model(), [clips(1, frames)[0] for frames in (8, 3, 6, 8, 1)]
    tokens = tokenizer.encode(signals)
    decoded = tokenizer.decode(tokens)
    for row, signal in enumerate(signals):
        alone = tokenizer.encode(signal[None])
        assert torch.equal(tokens.indices[row], alone.indices[0])
        torch.testing.assert_close(decoded[row, :, : signal.shape[1]], tokenizer.decode(alone)[0])


@pytest.mark.parametrize("shape", [(1, 3, 9, 16, 16), (1, 3, 8, 24, 16), (1, 3, 8, 8, 8)])
def test_other_sizes_are_refused_in_training(shape: tuple[int, ...]):
    with pytest.raises(SignalError, match=r"\(8, 16, 16\)|at most 8"):
        model()(torch.rand(shape))


def test_longer_clips_are_refused_and_larger_frames_are_resized():
    with pytest.raises(SignalError, match=r"9 frames.* at most 8"):
        model().encode(clips(frames=9))
    assert len(model().encode(torch.rand(1, 3, 8, 20, 32))) == 1


def test_tokens_of_longer_clips_are_refused():
    tokenizer = model()
    tokens = tokenizer.encode(clips())
    longer = tokens.with_data(tokens.indices, extras={"signal_size": torch.tensor([[8, 16, 16], [90, 16, 16]])})
    with pytest.raises(TokenError, match="90"):
        tokenizer.decode(longer)


def test_encode_is_deterministic_and_draws_where_noise_is_given():
    tokenizer = model()
    assert tokenizer.is_stochastic
    best = tokenizer.encode(clips(4)).indices
    assert torch.equal(best, tokenizer.encode(clips(4)).indices)
    drawn = tokenizer.encode(clips(4), noise=SampleNoise(0, range(4))).indices
    assert not torch.equal(drawn, best)
    assert torch.equal(tokenizer.encode(clips(4)[1:3], noise=SampleNoise(0, [1, 2])).indices, drawn[1:3])


def test_codes_are_drawn_by_their_cosines():
    quantizer = model(quantizer={**SVQ, "codebook_size": 5, "temperature": 0.4}).quantizer
    latent = torch.randn(4, generator=torch.Generator().manual_seed(3))
    expected = quantizer.probabilities(latent)
    torch.testing.assert_close(expected, (F.normalize(quantizer.codebook, dim=-1) @ F.normalize(latent, dim=0) / 0.4).softmax(dim=0))
    count = 20_000
    indices = quantizer(latent.expand(count, 4), noise=torch.Generator().manual_seed(0)).indices
    chi_square = ((torch.bincount(indices, minlength=5) - count * expected).square() / (count * expected)).sum()
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001


def test_draws_come_in_the_same_parts_for_every_batch_size(monkeypatch: pytest.MonkeyPatch):
    from visiontok.quantizers import stochastic_vector

    monkeypatch.setattr(stochastic_vector, "SAMPLE_SCORES", 2 * 32)
    quantizer, latents = model().quantizer, torch.randn(5, 7, 4)
    whole = quantizer(latents, noise=SampleNoise(0, range(5))).indices
    assert torch.equal(quantizer(latents[3:], noise=SampleNoise(0, [3, 4])).indices, whole[3:])


def test_the_prior_reads_the_past_only():
    prior = ContinuousPrior(PriorConfig.parse(CONFIG["prior"]), latent_dim=4).eval()
    codes = F.normalize(torch.randn(1, 6, 4), dim=-1)
    changed = codes.clone()
    changed[:, 3] = -changed[:, 3]
    before, after = prior(codes), prior(changed)
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert not torch.allclose(after[:, 4:], before[:, 4:])
    torch.testing.assert_close(before[:, 0], codes[:, 0])


def test_the_prior_samples_more_the_longer_it_trains():
    config = PriorConfig(sampling_ratio=0.5, sampling_ramp_steps=10)
    assert [config.ratio(step) for step in (0, 5, 10, 99)] == [0.0, 0.25, 0.5, 0.5]


def test_rounds_of_the_prior_read_drawn_codes():
    """With all positions replaced, the second round reads nothing of the codes but the first; the loss is the mean of both."""
    prior = ContinuousPrior(PriorConfig.parse({**CONFIG["prior"], "sampling_ratio": 1.0, "sampling_ramp_steps": 1}), latent_dim=4).eval()
    codebook = F.normalize(torch.randn(32, 4), dim=-1)
    indices = torch.randint(32, (2, 6))
    codes = codebook[indices].requires_grad_(True)
    found = prior.loss(codes, indices, codebook, step=1, noise=SampleNoise(0, range(2)))
    noise = SampleNoise(0, range(2))
    assert (noise.uniform(2, 5, 1) < 1).all()
    predicted = prior(codes)[:, 1:]
    drawn = (prior.logits(predicted, codebook).softmax(dim=-1) / noise.exponential(2, 5, 32)).argmax(dim=-1)
    second = prior(torch.cat([codes[:, :1], codebook[drawn]], dim=1))[:, 1:]
    expected = (prior.cross_entropy(predicted, indices, codebook) + prior.cross_entropy(second, indices, codebook)) / 2
    torch.testing.assert_close(found, expected)
    found.backward()
    assert codes.grad is not None
    assert codes.grad.abs().sum() > 0


@pytest.mark.parametrize("prior", [CONFIG["prior"], None])
def test_training_lowers_error_and_prior_loss(prior: object):
    tokenizer = model(prior=prior).train()
    colors = torch.rand(8, 3, 1, 1, 1, generator=torch.Generator().manual_seed(2)).expand(-1, -1, 8, 16, 16)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    errors, priors = [], []
    for step in range(40):
        output = tokenizer(colors, step=step, noise=SampleNoise((0, step), range(8)))
        assert ("prior" in output.losses) == (prior is not None)
        error = (output.reconstruction - colors).abs().mean()
        optimizer.zero_grad()
        (error + 0.1 * torch.stack([*output.losses.values()]).sum()).backward()
        optimizer.step()
        errors.append(error.item())
        priors.append(float(output.losses.get("prior", torch.zeros(())).detach()))
    assert min(errors[-5:]) < errors[0] / 2
    assert prior is None or min(priors[-5:]) < priors[0]


def test_a_recipe_trains_on_longer_clips_and_its_tokens_train_a_generator(tmp_path: Path):
    (tmp_path / "clips").mkdir()
    for number, clip in enumerate(torch.rand(8, 3, 11, 18, 16, generator=torch.Generator().manual_seed(3))):
        np.save(tmp_path / "clips" / f"{number}.npy", clip.numpy())
    signals = {"source": {"name": "arrays", "path": str(tmp_path / "clips"), "modality": "video"}, "size": [8, 16, 16]}
    run = {"steps": 2, "batch_size": 4, "optimizer": {"lr_factors": {"prior.": 50}}, "sample_images": {"every": 2, "count": 2}}
    recipe = {**run, "kind": "tokenizer", "output": str(tmp_path / "run"), "data": signals, "model": {"family": "larp", "config": CONFIG}}
    train(parse_recipe(recipe))
    trained = visiontok.from_pretrained(tmp_path / "run")
    assert isinstance(trained, LarpTokenizer)
    small = {"positions": "learned", "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8}
    generator = trained_generator(tmp_path / "ar", tmp_path / "run", signals, {"family": "larp-ar", "config": small})
    assert isinstance(generator, LarpGenerator)
    assert trained.decode(generator.generate(num_samples=2)).shape == (2, 3, 8, 16, 16)


def test_training_does_not_depend_on_how_samples_are_batched():
    tokenizer = model(prior={**CONFIG["prior"], "attention_dropout": 0.0}).train()
    whole = tokenizer(clips(4), step=9, noise=SampleNoise(0, range(4)))
    parts = [tokenizer(clips(4)[rows], step=9, noise=SampleNoise(0, rows)) for rows in ([0, 1], [2, 3])]
    assert torch.equal(torch.cat([part.tokens.indices for part in parts]), whole.tokens.indices)
    for name, loss in whole.losses.items():
        torch.testing.assert_close(sum(part.losses[name] for part in parts) / 2, loss)


def test_files_and_configuration_come_back(tmp_path: Path):
    assert_round_trips(model(learned_patch_positions=True, token_types=["latents", "patches"]), clips(), tmp_path)


def test_bfloat16_is_close():
    assert_bfloat16_is_close(model(), model(), clips())


def test_published_generators_read_its_tokens():
    family, checkpoint = checkpoints()["larp-l-long"]
    tokenizer = family.model_class()
    with torch.device("meta"):
        released = tokenizer(tokenizer.config_from_reference(checkpoint.reference_config, {}))
    for name in ("larp-l-long-ar", "larp-l-long-ar-fp"):
        generators, own = checkpoints()[name]
        config = generators.model_class().config_from_reference(own.reference_config, {})
        assert config.layout == released.layout
        assert config.condition.type != "tokens" or config.condition.layout == released.layout
        assert own.tokenizer == "larp-l-long"


def test_a_generator_trains_on_its_tokens_and_writes_tokens_that_decode():
    tokenizer = model()
    tokens = tokenizer.encode(clips(4))
    generator = visiontok.create("larp-ar", layout=tokenizer.layout, dim=16, depth=1, num_heads=2, multiple_of=8)
    assert isinstance(generator, LarpGenerator)
    assert torch.isfinite(generator.loss(Tokens(tokens.indices, tokens.layout))["loss"])
    written = generator.eval().generate(num_samples=2, noise=SampleNoise(0, range(2)))
    assert tokenizer.decode(written).shape == (2, 3, 8, 16, 16)


def test_the_released_size_is_the_published_one():
    with torch.device("meta"):
        released = visiontok.create("larp-l-long")
    prior = sum(parameter.numel() for parameter in released.prior.parameters())
    assert prior / 1e6 == pytest.approx(21.7, abs=0.05)
    assert (released.num_parameters - prior) / 1e6 == pytest.approx(173, rel=0.006)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("decoder_patch_size", 4),
        ("latent_pe_scale_factor", 100),
        ("learned_encoder_latent_query_embed", False),
        ("encoder_name", "vit"),
        ("no_such_key", 1),
        ("bottleneck/args/norm", "layer"),
        ("bottleneck/args/regularizer/args/stochastic_temperature", -1.0),
        ("bottleneck/args/regularizer/args/entropy_loss_weight", 0.1),
        ("prior_model/name", "gptc-XL"),
        ("prior_model/avg_loss_over_rounds", False),
    ],
)
def test_configurations_of_no_release_are_refused(path: str, value: object):
    config = json.loads(REFERENCE.read_text())["tokenizer"]
    *parents, last = path.split("/")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = value
    with pytest.raises(ConfigError, match=last):
        LarpTokenizer.config_from_reference(config, {})


def test_the_nearest_code_and_no_prior_are_read_too():
    config = json.loads(REFERENCE.read_text())["tokenizer"]
    config["bottleneck"]["args"]["regularizer"]["args"]["stochastic"] = False
    config["prior_model"] = None
    found = LarpTokenizer.config_from_reference(config, {})
    assert found.quantizer.type == "vq"
    assert found.quantizer.normalize_latents
    assert found.prior is None


@pytest.mark.parametrize(
    "changes",
    [{"decoder": {**VIT, "patch_size": 4}}, {"num_frames": 7}, {"image_size": 20}, {"num_latent_tokens": 1}, {"encoder": {**VIT, "dim": 6}}],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object]):
    with pytest.raises(ConfigError):
        model(**changes)
