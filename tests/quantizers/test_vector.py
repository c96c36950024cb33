from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from visiontok.base.errors import ConfigError
from visiontok.quantizers import VectorQuantizerConfig

CONFIGS = st.fixed_dictionaries(
    {
        "codebook_size": st.integers(1, 50),
        "dim": st.integers(1, 16),
        "normalize_latents": st.booleans(),
        "normalize_codes": st.booleans(),
    }
)


@settings(max_examples=50, deadline=None)
@given(values=CONFIGS, shape=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 1000))
def test_lookup_of_the_indices_is_what_the_decoder_reads(values, shape, seed):
    torch.manual_seed(seed)
    quantizer = VectorQuantizerConfig(**values).build()
    torch.nn.init.normal_(quantizer.codebook)
    quantized = quantizer(torch.randn(*shape, values["dim"]))
    assert quantized.indices.shape == tuple(shape)
    assert 0 <= int(quantized.indices.min()) <= int(quantized.indices.max()) < values["codebook_size"]
    torch.testing.assert_close(quantized.latents, quantizer.lookup(quantized.indices))


def test_the_gradient_passes_straight_through():
    quantizer = VectorQuantizerConfig(codebook_size=20, dim=4, commitment_weight=0.0, codebook_weight=0.0).build()
    latents, cotangent = torch.randn(3, 7, 4, requires_grad=True), torch.randn(3, 7, 4)
    (quantizer(latents).latents * cotangent).sum().backward()
    assert torch.equal(latents.grad, cotangent)


def test_each_loss_moves_its_own_side():
    quantizer = VectorQuantizerConfig(codebook_size=20, dim=4, commitment_weight=0.25, codebook_weight=1.0).build()
    latents = torch.randn(30, 4, requires_grad=True)
    losses = quantizer(latents).losses
    assert torch.autograd.grad(losses["commitment"], quantizer.codebook, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(losses["codebook"], latents, allow_unused=True, retain_graph=True) == (None,)
    torch.testing.assert_close(losses["commitment"], 0.25 * losses["codebook"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents_find_the_codes_of_their_float32_copies(dtype):
    quantizer = VectorQuantizerConfig(codebook_size=64, dim=8).build()
    torch.nn.init.normal_(quantizer.codebook)
    latents = torch.randn(50, 8).to(dtype)
    quantized = quantizer(latents)
    assert quantized.latents.dtype == dtype
    assert torch.equal(quantized.indices, quantizer(latents.float()).indices)


def clusters(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = 3 * torch.randn(16, 4, generator=generator)
    return centers.repeat(32, 1) + 0.05 * torch.randn(512, 4, generator=generator)


def test_k_means_starts_after_the_warm_up_and_uses_every_code():
    config = VectorQuantizerConfig(codebook_size=16, dim=4, kmeans={"after_steps": 2})
    torch.manual_seed(0)
    quantizer = config.build()
    latents = clusters()
    for _ in range(2):
        quantized = quantizer(latents)
        assert torch.equal(quantized.latents, latents)
        assert sum(quantized.losses.values()) == 0
    quantized = quantizer(latents)
    assert F.mse_loss(quantized.latents, latents) < F.mse_loss(latents.mean(dim=0).expand_as(latents), latents) / 10
    before = quantizer.codebook.clone()
    quantizer(latents)
    assert torch.equal(quantizer.codebook, before)


def test_k_means_with_fewer_latents_than_codes_fills_the_codebook():
    quantizer = VectorQuantizerConfig(codebook_size=100, dim=4, kmeans={}).build()
    quantizer(clusters()[:30])
    assert torch.isfinite(quantizer.codebook).all()
    assert len(torch.unique(quantizer.codebook, dim=0)) > 90


def test_moving_averages_converge_to_the_means_of_their_cells():
    torch.manual_seed(0)
    quantizer = VectorQuantizerConfig(codebook_size=16, dim=4, kmeans={}, ema={"decay": 0.8}).build()
    latents = clusters()
    for _ in range(60):
        quantized = quantizer(latents)
    assert "codebook" not in quantized.losses
    assert not quantizer.codebook.requires_grad
    for code in quantized.indices.unique():
        torch.testing.assert_close(quantizer.codebook[code], latents[quantized.indices == code].mean(dim=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("ema", [None, {"decay": 0.9}])
def test_dead_code_reset_brings_codes_into_use(ema):
    def used(dead_code_reset) -> float:
        torch.manual_seed(1)
        config = VectorQuantizerConfig(codebook_size=64, dim=4, ema=ema, dead_code_reset=dead_code_reset)
        quantizer = config.build()
        for _ in range(120):
            indices = quantizer(torch.randn(512, 4) + 5).indices
        return len(indices.unique()) / 64

    assert used({"every_steps": 5, "decay": 0.8}) > 0.8
    assert used(None) < 0.5


def test_clustering_brings_dead_codes_to_the_latents_and_leaves_used_ones():
    torch.manual_seed(1)
    quantizer = VectorQuantizerConfig(codebook_size=8, dim=4, clustering={"decay": 0.5}).build()
    latents = torch.randn(512, 4) + 5
    first = quantizer(latents).indices
    assert len(first.unique()) < 8
    used, unused = int(first.mode().values), sorted(set(range(8)) - set(first.tolist()))
    moved = quantizer.codebook.detach().clone()
    assert bool((torch.cdist(moved[unused], latents).amin(dim=1) < 0.02).all())  # a thousandth of the way, from codes near zero, is left
    assert moved[used].norm() < 1  # the code that they all fell on is still near zero, far from every latent
    assert len(quantizer(latents).indices.unique()) > len(first.unique())


def test_clustering_excludes_other_updates_of_unused_codes():
    for other in ("ema", "dead_code_reset"):
        with pytest.raises(ConfigError, match="clustering"):
            VectorQuantizerConfig.parse({"codebook_size": 4, "dim": 2, "clustering": {}, other: {}})


@pytest.mark.parametrize("updates", [{"kmeans": {}, "ema": {}, "dead_code_reset": {}}, {"clustering": {}}])
def test_evaluation_changes_nothing(updates):
    quantizer = VectorQuantizerConfig(codebook_size=16, dim=4, **updates).build().eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(clusters())
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_the_same_state_continues_the_same_way():
    config = VectorQuantizerConfig(codebook_size=32, dim=4, kmeans={"after_steps": 3}, ema={}, dead_code_reset={"every_steps": 2})
    torch.manual_seed(0)
    straight = config.build()
    for step in range(4):
        straight(clusters(step))
    resumed = config.build()
    resumed.load_state_dict(straight.state_dict())
    for step in range(4, 12):
        straight(clusters(step))
        resumed(clusters(step))
    assert all(torch.equal(a, b) for a, b in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True))


def test_moving_averages_and_unit_codes_exclude_each_other():
    with pytest.raises(ConfigError, match="moving averages"):
        VectorQuantizerConfig.parse({"codebook_size": 4, "dim": 2, "ema": {}, "normalize_codes": True})
