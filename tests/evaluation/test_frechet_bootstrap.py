import numpy as np
import pytest

from visiontok.evaluation import BootstrapConfig
from visiontok.evaluation.features.statistics import Statistics
from visiontok.evaluation.metrics.frechet import frechet_distance_of_features
from visiontok.evaluation.metrics.frechet_bootstrap import RESAMPLES, centered_interval, resampled_distances, why_no_interval

BOOTSTRAP = BootstrapConfig(resamples=100)


def sides(draw: np.random.Generator, count: int = 150) -> tuple[np.ndarray, np.ndarray]:
    original = draw.normal(size=(count, 4))
    return original * [1.3, 0.8, 1, 1] + 0.4 * draw.normal(size=original.shape) + 0.2, original


def test_the_interval_holds_the_expected_distance_at_this_n_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    expected = np.mean([frechet_distance_of_features(*sides(draw)) for _ in range(1000)])
    held = 0
    for _ in range(60):
        features, reference = sides(draw)
        value = frechet_distance_of_features(features, reference)
        resampled = resampled_distances(features, reference, paired=True, bootstrap=BOOTSTRAP)
        interval = centered_interval(value, resampled, samples=150, bootstrap=BOOTSTRAP)
        assert interval.low < value < interval.high
        held += interval.low <= expected <= interval.high
    assert held >= 52  # of 60 times 95 % are 57


def test_pairs_are_kept_together_and_statistics_stay() -> None:
    features, reference = sides(np.random.default_rng(1))
    paired = resampled_distances(features, reference, paired=True, bootstrap=BOOTSTRAP)
    apart = resampled_distances(features, reference, paired=False, bootstrap=BOOTSTRAP)
    assert paired.std() < apart.std()
    assert np.array_equal(paired, resampled_distances(features, reference, paired=True, bootstrap=BOOTSTRAP))
    whole = Statistics(reference.mean(axis=0), np.cov(reference.T), len(reference))
    fixed = resampled_distances(features, whole, paired=False, bootstrap=BOOTSTRAP)
    assert abs(resampled_distances(reference, reference, paired=True, bootstrap=BOOTSTRAP)).max() < 1e-9
    assert fixed.mean() < apart.mean()  # only one side is drawn again
    shifted = resampled_distances(features + 1e4, reference + 1e4, paired=True, bootstrap=BOOTSTRAP)
    assert shifted == pytest.approx(paired, rel=1e-6)


def test_where_there_is_no_interval_there_is_a_reason() -> None:
    assert why_no_interval(355, 64) == ""
    assert "fewer than twice the 64 features" in why_no_interval(127, 64)
    assert "takes too long" in why_no_interval(50_000, 2048)
    assert "not known beforehand" in why_no_interval(None, 64)
    many = resampled_distances(*sides(np.random.default_rng(2)), paired=True, bootstrap=BootstrapConfig(resamples=1000))
    assert len(many) == RESAMPLES
    assert centered_interval(1.0, many, samples=150, bootstrap=BootstrapConfig(resamples=1000)).bootstrap.resamples == RESAMPLES
