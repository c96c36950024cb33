from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import ConfigError
from visiontok.quantizers import FiniteScalarQuantizerConfig

LEVELS = st.lists(st.integers(2, 9), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**31)


def latents(levels: list[int], seed: int, count: int = 40) -> torch.Tensor:
    return 2 * torch.randn(count, len(levels), generator=torch.Generator().manual_seed(seed))


@given(LEVELS, SEEDS)
def test_looked_up_indices_are_the_quantized_latents(levels, seed):
    quantizer = FiniteScalarQuantizerConfig(levels=levels).build()
    quantized = quantizer(latents(levels, seed))
    assert torch.equal(quantizer.lookup(quantized.indices), quantized.latents)
    assert quantized.latents.abs().max() <= 1
    assert quantized.indices.min() >= 0
    assert quantized.indices.max() < quantizer.config.codebook_size


@given(LEVELS)
def test_every_index_is_reached_and_comes_back(levels):
    quantizer = FiniteScalarQuantizerConfig(levels=levels).build()
    indices = torch.arange(min(quantizer.config.codebook_size, 3000))
    digits = quantizer.lookup(indices) * torch.tensor([level // 2 for level in levels])
    shift, half_width, offset = quantizer._curve()
    assert torch.equal(quantizer(torch.atanh((digits + offset) / half_width) - shift).indices, indices)


@given(LEVELS, SEEDS)
def test_samples_do_not_know_each_other(levels, seed):
    quantizer = FiniteScalarQuantizerConfig(levels=levels).build()
    z = latents(levels, seed)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(quantizer(z[order]).indices, quantizer(z).indices[order])


@given(SEEDS)
def test_half_precision_latents_give_the_indices_of_their_float32_values(seed):
    quantizer = FiniteScalarQuantizerConfig(levels=[8, 5]).build()
    for dtype in (torch.float16, torch.bfloat16):
        z = latents([8, 5], seed).to(dtype)
        quantized = quantizer(z)
        assert quantized.latents.dtype == dtype
        assert torch.equal(quantized.indices, quantizer(z.float()).indices)


def test_the_gradient_is_that_of_the_bound():
    quantizer = FiniteScalarQuantizerConfig(levels=[8, 5, 2]).build()
    z = latents([8, 5, 2], 0).requires_grad_(True)
    quantizer(z).latents.sum().backward()
    expected = latents([8, 5, 2], 0).requires_grad_(True)
    (quantizer.bound(expected) / torch.tensor([4, 2, 1])).sum().backward()
    torch.testing.assert_close(z.grad, expected.grad)


def test_values_and_indices_of_the_published_sizes():
    quantizer = FiniteScalarQuantizerConfig(levels=[8, 8, 8, 5, 5, 5]).build()
    assert quantizer.config.codebook_size == 64000
    zero = quantizer(torch.zeros(6))
    assert torch.equal(zero.latents, torch.zeros(6))
    assert zero.indices.item() == 4 * 1 + 4 * 8 + 4 * 64 + 2 * 512 + 2 * 2560 + 2 * 12800
    assert torch.equal(quantizer.lookup(torch.tensor([0, 1, 8])), torch.tensor([[-1.0] * 6, [-0.75, *[-1.0] * 5], [-1.0, -0.75, *[-1.0] * 4]]))


def test_many_channels_keep_exact_indices():
    quantizer = FiniteScalarQuantizerConfig(levels=[2] * 62).build()
    z = torch.where(torch.arange(62) % 3 == 0, 5.0, -5.0)
    assert quantizer(z).indices.item() == sum(2**channel for channel in range(0, 62, 3))
    with pytest.raises(ConfigError, match="64 bits"):
        FiniteScalarQuantizerConfig.parse({"levels": [2] * 63})


def test_the_nearest_neighbor_of_a_latent_is_its_own_id():
    quantizer = FiniteScalarQuantizerConfig(levels=[8, 5]).build()
    z = latents([8, 5], 3).view(4, 10, 2)
    near = quantizer.neighbors(z, 3)
    assert near.shape == (4, 10, 3)
    assert torch.equal(near[..., 0], quantizer(z).indices)


def test_a_channel_needs_two_levels():
    with pytest.raises(ConfigError, match="levels"):
        FiniteScalarQuantizerConfig.parse({"levels": [8, 1]})


@pytest.mark.parametrize("levels", [[8, 5, 2], [4], [3, 3]])
def test_losses_are_those_of_a_softmax_over_all_codes(levels):
    entropy = {"weight": 0.1, "batch_weight": 0.7, "temperature": 0.2}
    quantizer = FiniteScalarQuantizerConfig(levels=levels, commitment_weight=0.25, entropy=entropy).build().train()
    z, other = latents(levels, 0).requires_grad_(True), latents(levels, 0).requires_grad_(True)
    found = quantizer(z)
    p = (other @ quantizer.codes().T / 0.2).softmax(dim=1)

    def nats(probabilities):
        return -(probabilities * probabilities.clamp_min(1e-5).log()).sum(dim=-1)

    sample, batch = nats(p).mean(), nats(p.mean(dim=0))
    expected = {"commitment": 0.25 * (other - found.latents.detach()).square().mean(), "entropy": 0.1 * (sample - 0.7 * batch)}
    torch.testing.assert_close(found.losses, expected)
    torch.testing.assert_close(found.stats["batch_entropy"], batch.detach())
    sum(found.losses.values()).backward()
    sum(expected.values()).backward()
    torch.testing.assert_close(z.grad, other.grad)
    assert quantizer.eval()(z).losses == {}


def test_entropies_of_too_many_codes_are_refused():
    with pytest.raises(ConfigError, match="33554432 codes"):
        FiniteScalarQuantizerConfig.parse({"levels": [2] * 25, "entropy": {"weight": 0.1}})
