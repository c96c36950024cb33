import numpy as np
import pytest
from scipy.spatial.distance import cdist

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics import manifold
from visiontok.evaluation.metrics.inception_score import inception_score, inception_score_of_blocks
from visiontok.evaluation.metrics.mmd import kernel_distance, squared_mmd


def test_precision_and_recall_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "_BLOCK", 7)  # several blocks, the last one short
    draw = np.random.default_rng(0)
    fake, real = draw.normal(size=(40, 5)) * 0.8 + 100, draw.normal(size=(50, 5)) + 100
    radius = [np.sort(cdist(side, side), axis=1)[:, 3] for side in (fake, real)]
    distance = cdist(fake, real)
    scores = manifold.manifold_scores(fake, real)
    assert scores.precision == (distance <= radius[1]).any(axis=1).mean()
    assert scores.recall == (radius[0] >= distance.T).any(axis=1).mean()
    assert scores.density == pytest.approx((distance < radius[1]).sum() / (3 * 40))
    assert scores.coverage == (distance < radius[1]).any(axis=0).mean()


def test_a_set_against_itself_and_against_something_else() -> None:
    real = np.random.default_rng(0).normal(size=(30, 4))
    same, far = manifold.manifold_scores(real, real), manifold.manifold_scores(real + 1000, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_the_unbiased_distance_of_one_distribution_is_about_zero() -> None:
    draw = np.random.default_rng(0)
    values = [squared_mmd(draw.normal(size=(60, 3)), draw.normal(size=(60, 3))) for _ in range(30)]
    assert min(values) < 0 < max(values)


def test_subsets_are_reproducible_and_bounded() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(40, 3)), draw.normal(size=(50, 3)) + 1
    assert kernel_distance(a, b, subsets=5, subset_size=20) == kernel_distance(a, b, subsets=5, subset_size=20)
    with pytest.raises(EvaluationError, match="subsets of 1000"):
        kernel_distance(a, b)


def test_inception_score_limits() -> None:
    certain = np.eye(8).repeat(5, axis=0) * 1000
    assert inception_score(certain, splits=1)[0] == pytest.approx(8)
    assert inception_score(np.zeros((40, 8)), splits=4) == pytest.approx((1, 0))
    # class-ordered rows make every block see few classes: the mistake that the order of samples hides
    assert inception_score_of_blocks(certain, block=5) == pytest.approx(1)


def test_refusals() -> None:
    with pytest.raises(EvaluationError, match="no 3-th neighbor"):
        manifold.manifold_scores(np.zeros((3, 2)), np.zeros((9, 2)))
    with pytest.raises(EvaluationError, match="cannot be divided"):
        inception_score(np.zeros((3, 2)), splits=4)
    with pytest.raises(EvaluationError, match="expected features"):
        squared_mmd(np.zeros((3, 2)), np.zeros((3, 4)))
