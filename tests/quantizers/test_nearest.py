from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visiontok.quantizers import nearest, nearest_codes


def brute_force(latents: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return (latents[:, None].double() - codebook[None].double()).square().sum(dim=2)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 300),
    size=st.integers(1, 300),
    dim=st.integers(1, 24),
    tile=st.sampled_from([1, 64, 4096, 2**21]),
    seed=st.integers(0, 10_000),
)
def test_finds_a_nearest_code(rows, size, dim, tile, seed):
    generator = torch.Generator().manual_seed(seed)
    latents, codebook = torch.randn(rows, dim, generator=generator), torch.randn(size, dim, generator=generator)
    original = nearest.TILE_SCORES["cpu"]
    nearest.TILE_SCORES["cpu"] = tile
    try:
        found = nearest_codes(latents, codebook)
    finally:
        nearest.TILE_SCORES["cpu"] = original
    distances = brute_force(latents, codebook)
    torch.testing.assert_close(distances.gather(1, found[:, None])[:, 0], distances.amin(dim=1), rtol=1e-4, atol=1e-5)


def test_the_lowest_index_wins_among_equal_codes():
    codebook = torch.randn(40, 8).repeat(7, 1)
    assert torch.equal(nearest_codes(codebook[200:240], codebook), torch.arange(200, 240) % 40)


def test_permuting_the_rows_permutes_the_result():
    latents, codebook = torch.randn(500, 6), torch.randn(90, 6)
    order = torch.randperm(500)
    assert torch.equal(nearest_codes(latents[order], codebook), nearest_codes(latents, codebook)[order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_searched_in_float32(dtype):
    latents, codebook = torch.randn(400, 12).to(dtype), torch.randn(70, 12).to(dtype)
    assert torch.equal(nearest_codes(latents, codebook), nearest_codes(latents.float(), codebook.float()))


def test_no_rows_give_no_indices():
    assert nearest_codes(torch.zeros(0, 4), torch.randn(5, 4)).shape == (0,)


@pytest.mark.parametrize(("latents", "codebook"), [((3, 4), (5, 6)), ((3, 4), (0, 4)), ((3, 2, 4), (5, 4))])
def test_shapes_that_do_not_fit_are_refused(latents, codebook):
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        nearest_codes(torch.zeros(latents), torch.zeros(codebook))


def test_no_allocation_exceeds_a_fiftieth_of_the_distance_matrix():
    from torch.profiler import ProfilerActivity, profile

    latents, codebook = torch.randn(65_536, 12), torch.randn(4_096, 12)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        nearest_codes(latents, codebook)
    allocated = [event.self_cpu_memory_usage for event in recorded.events() if event.self_cpu_memory_usage > 0]
    assert max(allocated) < 65_536 * 4_096 * 4 / 50
