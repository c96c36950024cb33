"""Linear maps whose weights are arranged in blocks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from visiontok.layers.streamed_linear import BLOCK, LEAST_ROWS, MOST_ROWS, StreamedLinear, linear_of_few_rows


@given(
    rows=st.integers(1, 2 * LEAST_ROWS),
    inputs=st.integers(1, 40),
    outputs=st.sampled_from([1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]),
    seed=st.integers(0, 9),
)
def test_it_is_the_linear_map_for_any_size(rows: int, inputs: int, outputs: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(rows, inputs, generator=generator), torch.randn(outputs, inputs, generator=generator)
    found = StreamedLinear(weight)(x)
    torch.testing.assert_close(found, F.linear(x, weight), rtol=1e-5, atol=1e-5 * inputs**0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_computes_in_the_type_of_the_weights(dtype: torch.dtype):
    weight = torch.randn(2 * BLOCK, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = StreamedLinear(weight)(torch.ones(8, 16, dtype=dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found[0], weight.sum(dim=1), rtol=0.02, atol=0.05)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("outputs", [5, 2 * BLOCK])
@pytest.mark.parametrize("rows", [1, LEAST_ROWS, MOST_ROWS, MOST_ROWS + 1])
def test_few_rows_are_the_linear_map_too(rows: int, outputs: int, has_bias: bool):
    generator = torch.Generator().manual_seed(rows)
    x, weight = torch.randn(rows, 24, generator=generator), torch.randn(outputs, 24, generator=generator, requires_grad=True)
    bias = torch.randn(outputs, generator=generator) if has_bias else None
    expected = linear_of_few_rows(x, weight, bias)
    assert expected.requires_grad
    torch.testing.assert_close(expected, F.linear(x, weight, bias), rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(linear_of_few_rows(x, weight, bias), expected, rtol=1e-5, atol=1e-4)
