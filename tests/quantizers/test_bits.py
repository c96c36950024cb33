from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visiontok.quantizers.bits import MAX_BITS, bits_to_indices, indices_to_bits

CHUNKS = st.lists(st.integers(1, MAX_BITS), min_size=1, max_size=4)
ORDERS = st.sampled_from(["msb", "lsb"])


def spelled(bits: list[bool], order: str) -> int:
    """The number as Python reads it, of any size."""
    digits = "".join(str(int(bit)) for bit in bits)
    return int(digits if order == "msb" else digits[::-1], 2)


@settings(max_examples=60, deadline=None)
@given(chunks=CHUNKS, order=ORDERS, shape=st.lists(st.integers(0, 3), max_size=3), seed=st.integers(0, 1000))
def test_indices_are_the_numbers_the_bits_spell_and_give_the_bits_back(chunks, order, shape, seed):
    bits = torch.rand(*shape, sum(chunks), generator=torch.Generator().manual_seed(seed)) < 0.5
    indices = bits_to_indices(bits, chunks=chunks, order=order)
    assert indices.dtype == torch.int64
    assert indices.shape == ((*shape, len(chunks)) if len(chunks) > 1 else tuple(shape))
    rows = zip(bits.view(-1, sum(chunks)).tolist(), indices.view(-1, len(chunks)).tolist(), strict=True)
    for row, numbers in rows:
        ends = [sum(chunks[: place + 1]) for place in range(len(chunks))]
        assert numbers == [spelled(row[end - size : end], order) for size, end in zip(chunks, ends, strict=True)]
    assert torch.equal(indices_to_bits(indices, chunks=chunks, order=order), bits)


def test_thirty_six_bits_are_exact():
    """float32 would round them."""
    bits = torch.ones(36, dtype=torch.bool)
    assert bits_to_indices(bits, chunks=[36], order="msb").item() == 2**36 - 1
    bits[-1] = False
    assert bits_to_indices(bits, chunks=[36], order="msb").item() == 2**36 - 2


def test_integer_bits_are_taken_as_well():
    assert bits_to_indices(torch.tensor([1, 0, 0, 1, 1], dtype=torch.uint8), chunks=[2, 3], order="msb").tolist() == [2, 3]


@pytest.mark.parametrize("chunks", [[], [0, 4], [63], [3]])
def test_chunks_that_do_not_fit_are_refused(chunks):
    with pytest.raises(ValueError, match="chunks"):
        bits_to_indices(torch.zeros(2, 4), chunks=chunks, order="msb")


def test_indices_without_their_chunk_axis_are_refused():
    with pytest.raises(ValueError, match="must have 2 on the last axis"):
        indices_to_bits(torch.zeros(5, 3, dtype=torch.int64), chunks=[2, 2], order="lsb")
