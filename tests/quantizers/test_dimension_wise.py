from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from visiontok.base.errors import ConfigError
from visiontok.quantizers import DimensionWiseQuantizerConfig
from visiontok.quantizers.dimension_wise import CUT, MOST_LEVELS, normal_centroids

CONFIGS = st.builds(DimensionWiseQuantizerConfig, levels=st.integers(2, MOST_LEVELS), range=st.floats(0.1, 50))
SEEDS = st.integers(0, 2**31)


def latents(config: DimensionWiseQuantizerConfig, seed: int) -> torch.Tensor:
    """Some of them beyond the range."""
    return config.range / 2 * torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(seed))


@given(CONFIGS, SEEDS)
def test_looked_up_ids_are_the_quantized_latents(config, seed):
    quantizer = config.build()
    quantized = quantizer(latents(config, seed))
    assert quantized.indices.shape == quantized.latents.shape
    assert torch.equal(quantizer.lookup(quantized.indices), quantized.latents)
    assert quantized.indices.min() >= 0
    assert quantized.indices.max() < config.levels


@given(CONFIGS, SEEDS)
def test_the_id_is_that_of_the_nearest_value_by_full_comparison(config, seed):
    quantizer = config.build()
    unit = (latents(config, seed) + config.range) / (2 * config.range)
    standardised = (unit * (2 * CUT) - CUT).clamp(-CUT, CUT)
    expected = (standardised[..., None] - normal_centroids(config.levels)).abs().argmin(dim=-1)
    assert torch.equal(quantizer(latents(config, seed)).indices, expected)


@given(CONFIGS)
def test_every_value_of_the_table_keeps_its_id(config):
    quantizer = config.build()
    assert torch.equal(quantizer(quantizer.table).indices, torch.arange(config.levels))


def test_the_table_rises_at_every_number_of_levels():
    assert all(bool((normal_centroids(levels).diff() > 0).all()) for levels in range(2, MOST_LEVELS + 1))


@pytest.mark.parametrize("levels", [2, 7, 64])
def test_values_are_the_means_of_equally_likely_bins(levels):
    """Against scipy's truncated normal, in float64."""
    bounds = np.clip(torch.special.ndtri(torch.linspace(0, 1, levels + 1).double()).numpy(), -CUT, CUT)
    expected = [truncnorm(low, high).mean() for low, high in itertools.pairwise(bounds)]
    np.testing.assert_allclose(normal_centroids(levels).numpy(), expected, atol=2e-5)


def test_what_lies_outside_becomes_the_outermost_value():
    quantizer = DimensionWiseQuantizerConfig(levels=64, range=5.0).build()
    assert quantizer(torch.tensor([-1e30, -6.0, 6.0, math.inf])).indices.tolist() == [0, 0, 63, 63]
    assert quantizer.table[0].item() == pytest.approx(-4.0618, abs=1e-4)


def test_more_levels_lose_less():
    z = latents(DimensionWiseQuantizerConfig(range=5.0), 0)
    errors = [DimensionWiseQuantizerConfig(levels=levels, range=5.0).build()(z).stats["quantization_error"] for levels in (4, 8, 16, 32, 64)]
    assert errors == sorted(errors, reverse=True)


@given(SEEDS)
def test_half_precision_latents_give_the_ids_of_their_float32_values(seed):
    quantizer = DimensionWiseQuantizerConfig(levels=16).build()
    for dtype in (torch.float16, torch.bfloat16):
        z = latents(quantizer.config, seed).to(dtype)
        assert torch.equal(quantizer(z).indices, quantizer(z.float()).indices)


def test_a_model_in_bfloat16_keeps_its_table():
    quantizer, table = DimensionWiseQuantizerConfig(levels=64).build(), DimensionWiseQuantizerConfig(levels=64).build().table
    assert torch.equal(quantizer.to(torch.bfloat16).table, table)


def test_the_gradient_passes_straight_through():
    z = torch.randn(3, 4, requires_grad=True)
    weight = torch.randn(3, 4)
    (DimensionWiseQuantizerConfig().build()(z).latents * weight).sum().backward()
    assert torch.equal(z.grad, weight)


def test_neighbours_are_the_next_values_on_both_sides():
    quantizer = DimensionWiseQuantizerConfig(levels=8).build()
    near = quantizer.neighbours(quantizer.table[None] + 1e-4, 3)
    assert near.shape == (1, 8, 3)
    assert torch.equal(near[0, :, 0], torch.arange(8))
    assert set(near[0, 4].tolist()) == {3, 4, 5}


@pytest.mark.parametrize("values", [{"levels": 1}, {"levels": MOST_LEVELS + 1}, {"range": 0.0}])
def test_tables_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError):
        DimensionWiseQuantizerConfig.parse(values)
