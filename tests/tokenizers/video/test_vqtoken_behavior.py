"""What VQToken promises beside parity: a codebook for each clip, adaptive numbers of codes, both modes, and gradients for a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import silhouette_score
from token_batches import assert_same
from torch import Tensor
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

import visiontok
from visiontok.base.errors import ConfigError, SignalError, TokenError
from visiontok.base.noise import GeneratorNoise, SampleNoise
from visiontok.tokenizers.video.vqtoken.clustering import elbow, kmeans, published_elbow, published_silhouette, silhouette, silhouette_widths
from visiontok.tokenizers.video.vqtoken.model import VqToken
from visiontok.tokens import Tokens

SIGLIP = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 18, "patch_size": 4}
SIZES = {"vision": SIGLIP, "grid": (4, 4), "num_frames": 5, "dim": 8}
ATTENTION = {"num_heads": 2, "mlp_dim": 16}
FEATURES = {"vision": None, "grid": (2, 3), "num_frames": 4, "dim": 8}
KINDS = [{"type": "fixed", "count": 4}, {"type": "elbow", "fewest": 2, "most": 6}, {"type": "silhouette", "fewest": 2, "most": 6}]


def build(**changes: Any) -> VqToken:
    torch.manual_seed(0)
    model: VqToken = visiontok.create("vqtoken", **{**SIZES, "clusters": KINDS[0], **changes}).eval()
    return model


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(*frames: int) -> list[Tensor]:
    generator = seeded()
    return [torch.rand(3, count, 18, 18, generator=generator) for count in frames]


def points(clusters: int, each: int = 30) -> Tensor:
    """Rows of length 1 around as many directions at right angles."""
    directions = torch.eye(16)[:clusters].repeat_interleave(each, dim=0)
    return F.normalize(directions + 0.05 * torch.randn(directions.shape, generator=seeded()), dim=1)


def runs(rows: Tensor, fewest: int, most: int) -> list[Any]:
    """Of every number of clusters the best of several, so that the elbow does not depend on a start."""
    noise = GeneratorNoise(seeded(), rows.device)
    found = [[kmeans(rows, count, max_iterations=50, tolerance=1e-4, noise=noise) for _ in range(8)] for count in range(fewest, most + 1)]
    return [min(several, key=lambda run: float(run.distortion)) for several in found]


@pytest.mark.parametrize("mode", ["reference", "paper"])
@pytest.mark.parametrize("clusters", KINDS, ids=lambda kind: kind["type"])
def test_every_clip_has_its_own_codebook(mode: str, clusters: dict[str, Any]) -> None:
    model = build(mode=mode, clusters=clusters)
    tokens = model.encode(clips(5, 2, 5, 1))
    assert isinstance(tokens, Tokens)
    for row, clip in enumerate(clips(5, 2, 5, 1)):
        alone = model.encode([clip])
        assert alone.view().shape == (1, clip.shape[1], 4, 4)
        assert_same(tokens[row : row + 1].with_data(tokens[row : row + 1].data, extras={}), alone.with_data(alone.data, extras={}))
        count = int(alone.extras["num_codes"])
        assert int(tokens.extras["num_codes"][row]) == count
        assert count == 4 if clusters["type"] == "fixed" else 2 <= count <= 6
        assert int(alone.indices.max()) < count
        features = model.features(clip[None]).flatten(0, 2)
        averaged = F.normalize(features, dim=1) if mode == "reference" else features
        for code in range(count):
            members = averaged[alone.indices[0] == code]
            mean = members.mean(dim=0) if len(members) else torch.zeros(8)
            torch.testing.assert_close(tokens.extras["codebook"][row, code], mean)
        assert not tokens.extras["codebook"][row, count:].any()


def test_starts_are_drawn_where_noise_is_given() -> None:
    model = build(clusters={"type": "fixed", "count": 6})
    assert model.is_stochastic
    plain = model.encode(clips(5, 5))
    assert_same(model.encode(clips(5, 5)), plain)
    drawn = [model.encode(clips(5, 5), noise=SampleNoise(seed, [7, 8])) for seed in (3, 3, 4)]
    assert_same(drawn[0], drawn[1])
    assert not torch.equal(drawn[0].indices, drawn[2].indices)
    assert_same(model.encode(clips(5, 5)[1:], noise=SampleNoise(3, [8])), drawn[0][1:])


@pytest.mark.parametrize("mode", ["reference", "paper"])
@pytest.mark.parametrize("attention", [None, ATTENTION], ids=["codebook", "attention"])
def test_what_a_language_model_reads(mode: str, attention: dict[str, int] | None) -> None:
    model = build(mode=mode, attention=attention, newline=True, clusters={"type": "fixed", "count": 3})
    counts = (5, 5) if mode == "paper" and attention else (5, 2)
    tokens = model.encode(clips(*counts))
    read = model.visual_tokens(tokens)
    expected = [max(frames, 3) if mode == "reference" and attention else 3 for frames in counts]
    assert model.tokens_read(tokens).tolist() == expected
    assert read.sample_lengths.tolist() == [count + 1 for count in expected]
    for row, clip in enumerate(clips(*counts)):
        alone = model.visual_tokens(model.encode([clip])).values[0]
        torch.testing.assert_close(read.values[row, : len(alone)], alone)
        assert torch.equal(alone[-1], model.newline)
        assert not read.values[row, len(alone) :].any()
        if attention is None:
            assert torch.equal(alone[:-1], tokens.extras["codebook"][row])


def test_the_map_matters_only_to_the_attention() -> None:
    model = build(attention=ATTENTION)
    tokens = model.encode(clips(5))
    other = tokens.with_data(tokens.indices.flip(1))
    assert not torch.allclose(model.visual_tokens(other).values, model.visual_tokens(tokens).values)
    assert torch.equal(build().visual_tokens(other).values, build().visual_tokens(tokens).values)


@pytest.mark.parametrize("mode", ["reference", "paper"])
def test_gradients_reach_every_parameter_and_a_readers_loss_falls(mode: str) -> None:
    model = build(mode=mode, attention=ATTENTION, newline=True).train()
    reader, target = torch.nn.Linear(8, 3), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.AdamW([*model.parameters(), *reader.parameters()], lr=1e-2)
    signal, losses = torch.stack(clips(5, 5, 5, 5)), []
    for _ in range(40):
        output = model(signal, noise=SampleNoise(0, range(4)))
        assert output.reconstruction is None
        loss = F.cross_entropy(reader(output.latents.mean(dim=1)), target)
        optimizer.zero_grad()
        loss.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
        optimizer.step()
        losses.append(float(loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_vision_network_is_that_of_transformers_without_its_last_layer() -> None:
    torch.manual_seed(0)
    network = SiglipVisionModel(SiglipVisionConfig(**{**SIGLIP, "num_hidden_layers": 2}, vision_use_head=False)).eval()
    tower = {f"vision_model.{name.removeprefix('vision_model.')}": tensor for name, tensor in network.state_dict().items()}
    weights = {f"model.vision_tower.vision_tower.{name}": tensor for name, tensor in tower.items() if ".encoder.layers.1." not in name}
    weights |= {f"model.mm_projector.{number}.bias": torch.zeros(16) for number in (0, 2)}
    weights |= {f"model.mm_projector.{number}.weight": torch.eye(16) for number in (0, 2)}
    weights |= {"model.image_newline": torch.ones(16), "model.norm.weight": torch.ones(2)}
    weights |= {f"model.cross_attention.to_q_proj.{name}": torch.ones(2) for name in ("weight", "bias")}
    config = {"adaptive": "", "K": 4, "num_frames": 5, "grid": [4, 4], "hidden_size": 16, "vision_config": SIGLIP}
    model = visiontok.from_reference("vqtoken", {**config, "use_vq_attention": False, "image_newline": True}, weights)
    (clip,) = clips(3)
    with torch.no_grad():
        hidden = network(clip.transpose(0, 1) * 2 - 1, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(model.features(clip[None])[0], F.gelu(hidden), rtol=1e-4, atol=1e-5)
    assert torch.equal(model.visual_tokens(model.encode([clip])).values[0, -1], torch.ones(16))


def test_frames_of_any_size_are_stretched() -> None:
    model = build()
    (clip,) = clips(2)
    wide = F.interpolate(clip, size=(18, 36), mode="nearest")
    torch.testing.assert_close(model.prepare([wide]).values, model.prepare([clip]).values, rtol=0, atol=0.15)
    assert model.encode([torch.rand(3, 2, 11, 47)]).view().shape == (1, 2, 4, 4)
    with pytest.raises(SignalError, match=r"\(11, 47\).*\(18, 18\)"):
        model.train()(torch.rand(1, 3, 2, 11, 47))


def test_features_instead_of_frames() -> None:
    model = build(**FEATURES, attention=ATTENTION)
    signal = torch.randn(2, 8, 18, generator=seeded())
    tokens = model.encode(signal)
    assert tokens.view().shape == (2, 18)
    assert model.tokens_read(tokens).tolist() == [4, 4]
    with pytest.raises(SignalError, match="17"):
        model.encode(signal[:, :, :17])
    with pytest.raises(SignalError, match="17"):
        model.train()(signal[:, :, :17])


def test_it_only_encodes_and_needs_its_extras() -> None:
    model = build()
    tokens = model.encode(clips(5))
    with pytest.raises(TokenError, match="VqToken"):
        model.decode(tokens)
    with pytest.raises(TokenError, match="codebook"):
        model.visual_tokens(tokens.with_data(tokens.indices, extras={}))


def test_tokens_in_a_file(tmp_path: Path) -> None:
    model = build(attention=ATTENTION, clusters=KINDS[1])
    tokens = Tokens.cat([model.encode([clip]) for clip in clips(5, 2, 4)])
    tokens.save(tmp_path / "tokens.npz")
    loaded = Tokens.load(tmp_path / "tokens.npz")
    assert_same(loaded, model.encode(clips(5, 2, 4)))
    assert torch.equal(model.visual_tokens(loaded).values, model.visual_tokens(tokens).values)


@pytest.mark.parametrize("true", [4, 6])
def test_the_number_of_clusters(true: int) -> None:
    rows = points(true)
    found = runs(rows, 2, 8)
    assert elbow(rows, found) == silhouette(rows, found) == true
    # The published index of the elbow counts from 0 as if runs began at 1 cluster, and the published silhouette does not look at clusters.
    assert published_elbow(rows, found) == true - 3 + 4
    assert published_silhouette(rows, found) == 2


def test_silhouettes_are_those_of_scikit_learn() -> None:
    rows = F.normalize(torch.randn(40, 6, generator=seeded(), dtype=torch.float64), dim=1)
    labels = torch.arange(40) % 5 + (torch.arange(40) == 39)  # cluster 5 has one row, and 6 none
    widths = silhouette_widths(rows, labels, 7)
    assert float(widths[39]) == 0
    assert float(widths.mean()) == pytest.approx(silhouette_score(rows.numpy(), labels.numpy(), metric="cosine"), rel=1e-9)
    assert not silhouette_widths(rows, torch.zeros(40, dtype=torch.int64), 3).any()


def test_an_empty_cluster_keeps_its_center_and_has_a_code_of_zeros() -> None:
    model = build(**FEATURES, clusters={"type": "fixed", "count": 3})
    tokens = model.encode(torch.eye(8)[:2].repeat_interleave(6, dim=0).T[None])
    used = tokens.indices.unique()
    assert len(used) == 2
    codebook = tokens.extras["codebook"][0]
    assert codebook.norm(dim=1).sort().values.tolist() == pytest.approx([0, 1, 1])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"grid": (4, 5)}, "4 x 4"),
        ({"clusters": {"type": "elbow", "fewest": 12, "most": 13}}, "14"),
        ({"clusters": {"type": "elbow", "fewest": 1, "most": 13}}, "fewest"),
        ({"attention": {"num_heads": 3}}, "3"),
        ({"mode": "both"}, "mode"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build(**changes)


@pytest.mark.parametrize("changes", [{"surprise": 1}, {"query_dim": 15}, {"adaptive": "gap"}, {"K": None}])
def test_settings_that_cannot_be(changes: dict[str, Any]) -> None:
    settings = {"adaptive": "", "K": 4, "num_frames": 5, "grid": [4, 4], "hidden_size": 8, "num_heads": 2, "query_dim": 16}
    with pytest.raises(ConfigError):
        visiontok.from_reference("vqtoken", {**settings, **changes}, {})
