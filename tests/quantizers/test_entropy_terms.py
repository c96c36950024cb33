from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visiontok.quantizers import entropy_terms
from visiontok.quantizers.entropy_terms import LogFloor, entropy, mean_probabilities, sample_entropy

FLOORS = [LogFloor(), LogFloor(kind="add", eps=1e-3), LogFloor(kind="max", eps=1e-3)]
CASES = {
    "groups": st.integers(1, 3),
    "group_size": st.integers(1, 6),
    "rows": st.integers(1, 12),
    "scale": st.sampled_from([0.1, 1.0, 30.0]),
    "floor": st.sampled_from(FLOORS),
    "chunk": st.sampled_from([1, 40, 10**6]),
    "seed": st.integers(0, 1000),
}


def enumerated(logits: torch.Tensor, group_size: int) -> torch.Tensor:
    """(N, G, 2^g): the probability of every code by its definition, in the order of binary numbers."""
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=group_size)), dtype=logits.dtype)
    return (logits.unflatten(1, (-1, group_size)) @ codes.T).softmax(dim=-1)


@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_both_terms_and_their_gradients_equal_the_sums_over_all_codes(groups, group_size, rows, scale, floor, chunk, seed):
    draws = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(rows, groups * group_size, generator=draws, dtype=torch.float64)).requires_grad_(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(entropy_terms.CHUNK_SIZES, "cpu", chunk)
        sample = sample_entropy(logits, group_size=group_size, floor=floor)
        mean = mean_probabilities(logits, group_size=group_size)
        found = torch.autograd.grad(sample - entropy(mean, floor).sum(), logits)[0]
    probabilities = enumerated(logits, group_size)
    expected_sample, expected_mean = entropy(probabilities, floor).sum(dim=1).mean(), probabilities.mean(dim=0)
    torch.testing.assert_close(sample, expected_sample)
    torch.testing.assert_close(mean, expected_mean)
    expected = torch.autograd.grad(expected_sample - entropy(expected_mean, floor).sum(), logits)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("floor", FLOORS)
def test_certain_signs_have_no_entropy_and_finite_gradients(floor):
    logits = torch.full((5, 4), 1e4).requires_grad_(True)
    total = sample_entropy(logits, group_size=4, floor=floor) + entropy(mean_probabilities(logits, group_size=4), floor).sum()
    assert abs(float(total.detach())) < 3e-3
    assert torch.isfinite(torch.autograd.grad(total, logits)[0]).all()


def test_evenly_used_codes_have_the_greatest_entropy():
    logits = torch.tensor(list(itertools.product([-50.0, 50.0], repeat=6)))
    mean = mean_probabilities(logits, group_size=6)
    torch.testing.assert_close(entropy(mean, LogFloor()).sum(), torch.tensor(64.0).log())


def test_the_two_terms_over_all_codes_of_18_signs_hold_little_at_once(monkeypatch):
    """A matrix of 600 latents by 2^18 codes would hold 157 million numbers."""
    largest = 0
    softmax = torch.Tensor.softmax

    def watched(self, dim):
        nonlocal largest
        largest = max(largest, self.numel())
        return softmax(self, dim=dim)

    monkeypatch.setitem(entropy_terms.CHUNK_SIZES, "cpu", 2**16)
    monkeypatch.setattr(torch.Tensor, "softmax", watched)
    logits = torch.randn(600, 18).requires_grad_(True)
    mean = mean_probabilities(logits, group_size=18)
    entropy(mean, LogFloor(eps=1e-5)).sum().backward()
    assert mean.shape == (1, 2**18)
    torch.testing.assert_close(mean.sum(), torch.tensor(1.0))
    assert 0 < largest <= 2**16
