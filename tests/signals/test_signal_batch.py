"""Signals of different sizes in one batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import SignalError
from visiontok.signals import SignalBatch

sizes = st.integers(1, 3).flatmap(lambda axes: st.lists(st.tuples(*[st.integers(1, 4)] * axes), min_size=1, max_size=5))


def signals(shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, *shape, generator=generator) for shape in shapes]


@given(sizes)
def test_every_signal_comes_back_at_its_exact_size(shapes):
    whole = signals(shapes)
    batch = SignalBatch.stack(whole)
    assert len(batch) == len(shapes)
    assert batch.sizes.tolist() == [list(shape) for shape in shapes]
    assert all(torch.equal(one, other) for one, other in zip(batch, whole, strict=True))
    assert batch.is_even == (len(set(shapes)) == 1)
    assert batch.values.sum() == pytest.approx(float(sum(signal.sum() for signal in whole)), rel=1e-4)  # zeros beyond the signals


@given(sizes)
def test_groups_hold_every_signal_once_without_padding(shapes):
    whole = signals(shapes)
    seen = []
    for rows, values in SignalBatch.stack(whole).groups():
        for row, value in zip(rows.tolist(), values, strict=True):
            assert torch.equal(value, whole[row])
            seen.append(row)
    assert sorted(seen) == list(range(len(shapes)))


def test_rows_are_picked_with_slices_and_tensors_only():
    batch = SignalBatch.stack(signals([(3,), (5,), (4,)]))
    assert batch[1:].sizes.flatten().tolist() == [5, 4]
    assert batch[torch.tensor([2, 0])].sizes.flatten().tolist() == [4, 3]
    with pytest.raises(TypeError, match="int"):
        batch[0]


def test_sizes_have_one_number_per_axis():
    for wrong in (torch.tensor([[1, 2]]), torch.tensor([[1.0]]), torch.tensor([1])):
        with pytest.raises(SignalError, match="sizes"):
            SignalBatch(torch.zeros(1, 2, 4), wrong)
