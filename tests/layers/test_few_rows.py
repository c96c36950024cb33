"""Linear maps of a few rows."""

from __future__ import annotations

import platform

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from visiontok.layers import few_rows
from visiontok.layers.few_rows import (
    LEAST_ROWS,
    MOST_ROWS,
    BlockedProduct,
    MKLProduct,
    OneDNNProduct,
    Product,
    UsualProduct,
    product_of,
)

MANY = 1000
KINDS: dict[str, tuple[bool, int, type[Product]]] = {
    "intel": (True, MANY, MKLProduct),
    "intel, few uses": (True, 1, BlockedProduct),
    "other": (False, MANY, OneDNNProduct),
    "other, few uses": (False, 1, OneDNNProduct),
}
"""By processor: whether it is Intel's, how often a product is used, and what it is for a few rows and a size that has blocks."""

needs_both = pytest.mark.skipif(
    not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")),
    reason="torch was built without MKL or oneDNN",
)


@needs_both
@pytest.mark.parametrize("kind", KINDS)
@given(
    rows=st.integers(1, 40),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 300) | st.just(BlockedProduct.OUTPUTS),
    has_bias=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_product_is_the_linear_map_for_any_size(kind: str, rows: int, inputs: int, outputs: int, has_bias: bool, seed: int):
    is_intel, uses, expected = KINDS[kind]
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(rows, inputs, generator=generator), torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator) if has_bias else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_rows, "_is_intel", lambda: is_intel)
        patch.setattr(OneDNNProduct, "LEAST_WEIGHTS", 1)
        product = product_of(weight, rows, uses=uses, bias=bias)
    has_blocks = rows <= MOST_ROWS and outputs % BlockedProduct.OUTPUTS == 0
    if rows >= LEAST_ROWS:
        assert type(product) is (expected if has_blocks or expected is not BlockedProduct else UsualProduct)
    for part in (x, -x, x[1:]):
        mapped = F.linear(part, weight, bias)
        near = {"rtol": 1e-5, "atol": 1e-5 * inputs**0.5}
        torch.testing.assert_close(product(part), mapped, **near)
        residual = torch.ones_like(mapped)
        product.add_to(residual, part)
        torch.testing.assert_close(residual, 1 + mapped, **near)


@needs_both
@pytest.mark.parametrize("is_intel", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_only_float32_has_another_product(dtype: torch.dtype, is_intel: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(few_rows, "_is_intel", lambda: is_intel)
    weight, rows = torch.ones(512, 256), LEAST_ROWS
    assert type(product_of(weight, rows, uses=MANY)) is not UsualProduct
    assert type(product_of(weight.to(dtype), rows, uses=MANY)) is UsualProduct
    assert type(product_of(weight.to("meta"), rows, uses=MANY)) is UsualProduct
    with torch.autocast("cpu", torch.bfloat16):
        assert type(product_of(weight, rows, uses=MANY)) is UsualProduct


@needs_both
def test_small_weights_have_the_usual_product_on_other_processors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(few_rows, "_is_intel", lambda: False)
    few, many = (torch.ones(outputs, 256) for outputs in (OneDNNProduct.LEAST_WEIGHTS // 256 - 1, OneDNNProduct.LEAST_WEIGHTS // 256))
    for rows in (1, LEAST_ROWS, MOST_ROWS):
        assert type(product_of(few, rows, uses=MANY)) is UsualProduct
        assert type(product_of(many, rows, uses=MANY)) is OneDNNProduct


@pytest.mark.parametrize("missing", ["mkl", "mkldnn"])
def test_torch_without_a_library_has_the_usual_product(missing: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(few_rows, "_is_intel", lambda: missing == "mkl")
    monkeypatch.setattr(f"torch.backends.{missing}.is_available", lambda: False)
    assert type(product_of(torch.ones(512, 256), LEAST_ROWS, uses=MANY)) is UsualProduct


@needs_both
@pytest.mark.parametrize("outputs", [5, 2 * BlockedProduct.OUTPUTS])
@pytest.mark.parametrize("rows", [1, LEAST_ROWS, MOST_ROWS, MOST_ROWS + 1])
def test_a_weight_that_is_used_once_is_read_in_blocks_where_it_has_some(rows: int, outputs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(few_rows, "_is_intel", lambda: True)
    is_blocked = LEAST_ROWS <= rows <= MOST_ROWS and outputs > 5
    assert type(product_of(torch.ones(outputs, 8), rows, uses=1)) is (BlockedProduct if is_blocked else UsualProduct)
