"""Linear maps of a few rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from visiontok.layers.few_rows import BLOCK, LEAST_ROWS, MOST_UNPACKED_ROWS, PackedLinear, can_pack, linear_of_few_rows

needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch was built without MKL")


@needs_mkl
@given(rows=st.integers(1, 40), inputs=st.integers(1, 40), outputs=st.integers(1, 300), has_bias=st.booleans(), seed=st.integers(0, 9))
def test_packed_weights_are_the_linear_map_for_any_size(rows: int, inputs: int, outputs: int, has_bias: bool, seed: int):
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(rows, inputs, generator=generator), torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator) if has_bias else None
    product = PackedLinear(weight, rows, bias=bias)
    for rows_read in (x, -x, x[1:]):
        torch.testing.assert_close(product(rows_read), F.linear(rows_read, weight, bias), rtol=1e-5, atol=1e-5 * inputs**0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_only_float32_is_packed(dtype: torch.dtype):
    assert not can_pack(torch.ones(8, 8, dtype=dtype))
    assert not can_pack(torch.ones(8, 8, device="meta"))
    assert can_pack(torch.ones(8, 8)) == torch.backends.mkl.is_available()
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_pack(torch.ones(8, 8))


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("outputs", [5, 2 * BLOCK])
@pytest.mark.parametrize("rows", [1, LEAST_ROWS, MOST_UNPACKED_ROWS, MOST_UNPACKED_ROWS + 1])
def test_few_rows_in_blocks_are_the_linear_map_too(rows: int, outputs: int, has_bias: bool):
    generator = torch.Generator().manual_seed(rows)
    x, weight = torch.randn(rows, 24, generator=generator), torch.randn(outputs, 24, generator=generator, requires_grad=True)
    bias = torch.randn(outputs, generator=generator) if has_bias else None
    expected = linear_of_few_rows(x, weight, bias)
    assert expected.requires_grad
    torch.testing.assert_close(expected, F.linear(x, weight, bias), rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(linear_of_few_rows(x, weight, bias), expected, rtol=1e-5, atol=1e-4)
