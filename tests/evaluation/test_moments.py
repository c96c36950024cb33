import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.moments import Moments


def moments(*batches: np.ndarray) -> Moments:
    accumulator = Moments()
    for batch in batches:
        accumulator.update(batch)
    return accumulator


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 30), max_size=5), st.integers(1, 4))
def test_any_sharding_gives_the_moments_of_all_samples(seed: int, cuts: list[int], shards: int) -> None:
    features = np.random.default_rng(seed).normal(size=(31, 6)) * [1, 10, 1e-3, 0, 100, 1] + 50
    parts = np.split(features, sorted(cuts))
    ranks = [moments(*parts[rank::shards]) for rank in range(shards)]
    for other in ranks[1:]:
        ranks[0].merge(other)
    found = ranks[0].compute()
    assert found.count == 31
    np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(features, rowvar=False), rtol=1e-12, atol=1e-12)


def test_features_far_from_zero_lose_no_digits() -> None:
    features = np.random.default_rng(0).normal(size=(200, 3))
    far = moments(*np.array_split(features + 1e7, 9)).compute()
    np.testing.assert_allclose(far.covariance, np.cov(features, rowvar=False), rtol=1e-7)


def test_state_round_trip_also_before_the_first_batch() -> None:
    features = np.random.default_rng(0).normal(size=(9, 3))
    first, second = Moments(), moments(features[:4])
    for accumulator in (first, second):
        restored = Moments()
        restored.load_state(accumulator.state())
        restored.update(features[4:])
        accumulator.update(features[4:])
        np.testing.assert_array_equal(restored.compute().covariance, accumulator.compute().covariance)


def test_state_is_a_copy() -> None:
    accumulator = moments(np.eye(3))
    state = accumulator.state()
    before = state["scatter"].copy()
    accumulator.update(np.ones((5, 3)))
    np.testing.assert_array_equal(state["scatter"], before)


def test_bad_features_are_refused_by_name() -> None:
    with pytest.raises(EvaluationError, match=r"shape \(B, D\)"):
        moments(np.zeros(3))
    with pytest.raises(EvaluationError, match="sample 1 are not finite"):
        moments(np.asarray([[0.0], [np.nan]]))
    with pytest.raises(EvaluationError, match="2 wide, earlier ones were 3"):
        moments(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(EvaluationError, match="at least 2 samples, got 1"):
        moments(np.zeros((1, 3))).compute()


def test_small_batches_are_gathered_and_a_stored_state_goes_on_bit_for_bit() -> None:
    features = np.random.default_rng(0).normal(size=(1300, 5)) + 100
    whole, first, second = Moments(), Moments(), Moments()
    for batch in np.split(features, 130):
        whole.update(batch)
    for batch in np.split(features[:690], 69):
        first.update(batch)
    second.load_state(first.state())
    for batch in np.split(features[690:], 61):
        second.update(batch)
    ours, theirs = whole.compute(), second.compute()
    assert np.array_equal(ours.covariance, theirs.covariance)
    np.testing.assert_allclose(ours.covariance, np.cov(features, rowvar=False), rtol=1e-12)
    broken = features[:3].copy()
    broken[1, 0] = np.nan
    with pytest.raises(EvaluationError, match="features of sample 691 are not finite"):
        first.update(broken)
    with pytest.raises(EvaluationError, match="4 wide, earlier ones were 5 wide"):
        first.update(features[:3, :4])
