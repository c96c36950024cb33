from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from visiontok.base.errors import ConfigError
from visiontok.quantizers import DimensionWiseQuantizerConfig
from visiontok.quantizers.dimension_wise import CUT, MOST_LEVELS, normal_table

CONFIGS = st.builds(DimensionWiseQuantizerConfig, levels=st.integers(2, MOST_LEVELS), range=st.floats(0.1, 50))
SEEDS = st.integers(0, 2**31)


def latents(config: DimensionWiseQuantizerConfig, seed: int) -> torch.Tensor:
    """Some of them beyond the range."""
    return config.range / 2 * torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(seed))


@given(CONFIGS, SEEDS)
def test_looked_up_tokens_are_the_quantized_latents(config, seed):
    quantizer = config.build()
    quantized = quantizer(latents(config, seed))
    assert quantized.indices.shape == quantized.latents.shape
    assert torch.equal(quantizer.lookup(quantized.indices), quantized.latents)
    assert quantized.indices.min() >= 0
    assert quantized.indices.max() < config.levels


@given(CONFIGS, SEEDS)
def test_the_token_is_that_of_the_nearest_value_by_full_comparison(config, seed):
    quantizer, scalars = config.build(), latents(config, seed)
    expected = (scalars.clamp(-config.range, config.range)[..., None] - quantizer.table).abs().argmin(dim=-1)
    assert torch.equal(quantizer(scalars).indices, expected)


@given(CONFIGS)
def test_every_value_of_the_table_keeps_its_token(config):
    quantizer = config.build()
    assert torch.equal(quantizer(quantizer.table).indices, torch.arange(config.levels))


def test_the_table_rises_at_every_number_of_levels():
    assert all(bool((normal_table(levels, CUT).diff() > 0).all()) for levels in range(2, MOST_LEVELS + 1))


def by_the_standard_library(levels: int) -> torch.Tensor:
    """The means with other implementations of the special functions than torch's."""
    quantile, deviation = NormalDist().inv_cdf, math.sqrt(2)
    edges = [-CUT, *(min(max(quantile(step / levels), -CUT), CUT) for step in range(1, levels)), CUT]
    density = [math.exp(-(edge**2) / 2) / math.sqrt(2 * math.pi) for edge in edges]
    cumulative = [math.erf(edge / deviation) / 2 for edge in edges]
    means = [(density[i] - density[i + 1]) / (cumulative[i + 1] - cumulative[i]) for i in range(levels)]
    return torch.tensor([(means[i] - means[-1 - i]) / 2 for i in range(levels)], dtype=torch.float64)


def test_the_table_is_the_same_whoever_computes_the_special_functions():
    """They differ in their last bits between processors; tokens made on one must be read on another."""
    for levels in range(2, MOST_LEVELS + 1):
        assert torch.equal(normal_table(levels, 5.0), (by_the_standard_library(levels) * (5.0 / CUT)).float())


@pytest.mark.parametrize("levels", [2, 7, 64])
def test_values_are_the_means_of_equally_likely_bins(levels):
    """Against scipy's truncated normal, in float64."""
    bounds = np.clip(torch.special.ndtri(torch.linspace(0, 1, levels + 1, dtype=torch.float64)).numpy(), -CUT, CUT)
    expected = [truncnorm(low, high).mean() for low, high in itertools.pairwise(bounds)]
    np.testing.assert_allclose(normal_table(levels, CUT).numpy(), expected, atol=1e-6)


def test_what_lies_outside_becomes_the_outermost_value():
    quantizer = DimensionWiseQuantizerConfig(levels=64, range=5.0).build()
    assert quantizer(torch.tensor([-1e30, -6.0, 6.0, math.inf])).indices.tolist() == [0, 0, 63, 63]
    assert quantizer.table[0].item() == pytest.approx(-4.0618, abs=1e-4)


def test_more_levels_lose_less():
    z = latents(DimensionWiseQuantizerConfig(range=5.0), 0)
    errors = [DimensionWiseQuantizerConfig(levels=levels, range=5.0).build()(z).stats["quantization_error"] for levels in (4, 8, 16, 32, 64)]
    assert errors == sorted(errors, reverse=True)


@given(SEEDS)
def test_half_precision_latents_give_the_tokens_of_their_float32_values(seed):
    quantizer = DimensionWiseQuantizerConfig(levels=16).build()
    for dtype in (torch.float16, torch.bfloat16):
        z = latents(quantizer.config, seed).to(dtype)
        assert torch.equal(quantizer(z).indices, quantizer(z.float()).indices)


def test_a_model_in_bfloat16_keeps_its_table():
    quantizer, table = DimensionWiseQuantizerConfig(levels=64).build(), DimensionWiseQuantizerConfig(levels=64).build().table
    assert torch.equal(quantizer.to(torch.bfloat16).table, table)


def test_the_gradient_passes_straight_through():
    random = torch.Generator().manual_seed(0)
    z = torch.randn(3, 4, generator=random).requires_grad_()
    weight = torch.randn(3, 4, generator=random)
    (DimensionWiseQuantizerConfig().build()(z).latents * weight).sum().backward()
    assert torch.equal(z.grad, weight)


def test_neighbors_are_the_next_values_on_both_sides():
    quantizer = DimensionWiseQuantizerConfig(levels=8).build()
    near = quantizer.neighbors(quantizer.table[None] + 1e-4, 3)
    assert near.shape == (1, 8, 3)
    assert torch.equal(near[0, :, 0], torch.arange(8))
    assert set(near[0, 4].tolist()) == {3, 4, 5}


@pytest.mark.parametrize("values", [{"levels": 1}, {"levels": MOST_LEVELS + 1}, {"range": 0.0}])
def test_tables_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError):
        DimensionWiseQuantizerConfig.parse(values)
