"""Functions of statistics at the edge of what they take: a number that is right, or an EvaluationError."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics import density, huffman, inception_score, innovation, manifold, mmd, probes, rate_distortion, zipf
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.frechet import frechet_distance, frechet_distance_of_features
from visiontok.evaluation.metrics.frechet_bootstrap import resampled_distances

DRAWN = np.random.default_rng(0).normal(size=(8, 4))
SAME = np.tile(DRAWN[:1], (8, 1))
FOUR = [1.0, 2.0, 3.0, 4.0]
TWO_CLASSES = probes.labeled(DRAWN, np.arange(8) % 2)
REFUSED: dict[str, Callable[[], Any]] = {
    "Zipf's law of one code": lambda: zipf.zipf_fit([5]),
    "Zipf's law of one code of four": lambda: zipf.zipf_fit([5, 0, 0, 0], support=4),
    "Zipf's law without ranks": lambda: zipf.zipf_fit([5, 3], support=0),
    "Mandelbrot's law of two codes": lambda: zipf.mandelbrot_fit([5, 3]),
    "Mandelbrot's law without a maximum": lambda: zipf.mandelbrot_fit([9, 9, 1]),
    "counts that are all one": lambda: zipf.count_exponent([1, 1, 1]),
    "counts from 0 on": lambda: zipf.count_exponent([1, 2, 3], minimum=0),
    "counts from -1 on": lambda: zipf.approximate_count_exponent([1, 2, 3], minimum=-1),
    "a line through the top -1": lambda: zipf.log_log_fit([5, 4, 3], top=-1),
    "Heaps' law of one sample": lambda: innovation.heaps_fit([1], tokens_per_sample=4),
    "Heaps' law of no sample": lambda: innovation.heaps_fit([], tokens_per_sample=4),
    "Heaps' law of no tokens": lambda: innovation.heaps_fit([1, 2], tokens_per_sample=0),
    "innovation without codes": lambda: innovation.innovation_curve(np.zeros((3, 0), dtype=int)),
    "a share above 1": lambda: innovation.samples_to_share([1, 2, 3], 1.5),
    "a share of nothing": lambda: innovation.samples_to_share([], 0.5),
    "a codebook of 0": lambda: huffman.fixed_bits_per_token(0),
    "0 neighbors": lambda: manifold.manifold_scores(DRAWN, DRAWN, neighbors=0),
    "-1 neighbors": lambda: manifold.manifold_scores(DRAWN, DRAWN, neighbors=-1),
    "as many neighbors as samples": lambda: manifold.manifold_scores(DRAWN, DRAWN, neighbors=8),
    "no generated samples": lambda: manifold.manifold_scores(DRAWN[:0], DRAWN),
    "features that are NaN": lambda: manifold.manifold_scores(DRAWN, DRAWN * np.nan),
    "a zero embedding": lambda: mmd.cmmd(DRAWN * 0, DRAWN),
    "one embedding": lambda: mmd.cmmd(DRAWN[:1], DRAWN),
    "embeddings that are NaN": lambda: mmd.cmmd(DRAWN * np.nan, DRAWN),
    "subsets of 1": lambda: mmd.kernel_distance(DRAWN, DRAWN, subset_size=1),
    "subsets of -1": lambda: mmd.kernel_distance(DRAWN, DRAWN, subset_size=-1),
    "0 subsets": lambda: mmd.kernel_distance(DRAWN, DRAWN, subset_size=2, subsets=0),
    "more splits than samples": lambda: inception_score.inception_score(DRAWN, splits=9),
    "0 splits": lambda: inception_score.inception_score(DRAWN, splits=0),
    "blocks of 0": lambda: inception_score.inception_score_of_blocks(DRAWN, block=0),
    "logits that are infinite": lambda: inception_score.inception_score(DRAWN * np.inf, splits=2),
    "area from 0 tokens on": lambda: rate_distortion.area_under_curve([0, 1], [1, 2]),
    "area under infinity": lambda: rate_distortion.area_under_curve([1, 2], [1, math.inf]),
    "area of unequal lengths": lambda: rate_distortion.area_under_curve([1, 2], [1, 2, 3]),
    "deltas of an infinite PSNR": lambda: rate_distortion.bd_quality(FOUR, [1, 2, 3, math.inf], FOUR, FOUR),
    "deltas of rate 0": lambda: rate_distortion.bd_rate([0, 1, 2, 3], FOUR, FOUR, FOUR),
    "deltas of three points": lambda: rate_distortion.bd_rate(FOUR, FOUR[:3], FOUR, FOUR),
    "the hull of nothing": lambda: rate_distortion.lower_hull([], []),
    "complexity of no sample": lambda: rate_distortion.token_complexity([1, 2], np.zeros((0, 2)), threshold=0),
    "complexity at no count": lambda: rate_distortion.token_complexity([], np.zeros((2, 0)), threshold=0),
    "use of no tokens": lambda: rate_distortion.token_use([]),
    "quality for 0 tokens": lambda: density.quality_density([30.0], [0]),
    "accuracy for 0 tokens": lambda: density.tokdense(90.0, 0),
    "one class": lambda: probes.linear_probe(probes.labeled(DRAWN, np.ones(8)), TWO_CLASSES),
    "0 voting neighbors": lambda: probes.nearest_neighbors(TWO_CLASSES, TWO_CLASSES, neighbors=0),
    "more voting neighbors than samples": lambda: probes.nearest_neighbors(TWO_CLASSES, TWO_CLASSES, neighbors=9),
    "one sample without a covariance": lambda: frechet_distance_of_features(DRAWN[:1], DRAWN),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_value_is_refused(case: str) -> None:
    with pytest.raises(EvaluationError):
        REFUSED[case]()


def test_steep_laws_are_not_cut_off() -> None:
    assert zipf.zipf_fit([10**9, 1]).exponent == pytest.approx(math.log2(1e9), rel=1e-5)
    assert zipf.zipf_fit([3, 3, 3]).exponent == pytest.approx(0, abs=1e-6)


def test_equal_rows_lie_at_distance_zero() -> None:
    far = DRAWN * 1e-9 + 1e6
    assert manifold.neighbor_distances(np.repeat(far, 4, axis=0), 3).tolist() == [0.0] * 32
    same = manifold.manifold_scores(SAME + 1e6, SAME + 1e6)
    assert (same.precision, same.recall, same.density, same.coverage) == (1, 1, 0, 0)
    identical = manifold.manifold_scores(DRAWN, DRAWN)
    assert (identical.precision, identical.recall, identical.density, identical.coverage) == (1, 1, 1, 1)


def test_the_hull_takes_the_lowest_of_equal_rates() -> None:
    assert rate_distortion.lower_hull([1, 1, 2], [3, 1, 0]).tolist() == [1, 1, 0]


@pytest.mark.parametrize("odd", [0, 1, 3])
@pytest.mark.parametrize("count", [2, 3, 70, 349])
def test_distances_of_a_collapsed_generator_have_intervals(odd: int, count: int) -> None:
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(count, 32)), np.tile(np.maximum(draw.normal(size=32), 0), (count, 1))
    fake[:odd] = np.maximum(draw.normal(size=(min(odd, count), 32)), 0)
    for paired in (False, True):
        resampled = resampled_distances(fake, real, paired=paired, bootstrap=BootstrapConfig(resamples=100))
        assert np.isfinite(resampled).all()
        assert resampled.min() > 0


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_one_feature_has_a_closed_form_at_any_offset(offset: float) -> None:
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(50, 1)) + offset, 2 * draw.normal(size=(50, 1)) + offset
    expected = (first.mean() - second.mean()) ** 2 + (first.std(ddof=1) - second.std(ddof=1)) ** 2
    assert frechet_distance_of_features(first, second) == pytest.approx(expected, rel=1e-6)
    moments = [(side.mean(axis=0), np.cov(side.T).reshape(1, 1)) for side in (first, second)]
    assert frechet_distance(*moments[0], *moments[1]) == pytest.approx(expected, rel=1e-6)
