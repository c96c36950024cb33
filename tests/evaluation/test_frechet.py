import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import frechet_distance
from visiontok.evaluation.metrics.frechet import frechet_distance_of_features


def test_diagonal_covariances_have_a_closed_form() -> None:
    value = frechet_distance([1.0, 2.0], np.diag([4.0, 9.0]), [0.0, 0.0], np.diag([1.0, 16.0]))
    assert value == pytest.approx(5 + (2 - 1) ** 2 + (3 - 4) ** 2, rel=1e-14)


def test_agrees_with_the_matrix_square_root_where_that_is_accurate() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(90, 12)), draw.normal(size=(80, 12)) @ draw.normal(size=(12, 12))
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(0) - b.mean(0)
    expected = gap @ gap + np.trace(s1) + np.trace(s2) - 2 * np.trace(sqrtm(s1 @ s2)).real
    assert frechet_distance(a.mean(0), s1, b.mean(0), s2) == pytest.approx(expected, rel=1e-10)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 20), st.integers(2, 20), st.integers(1, 14))
def test_statistics_and_features_agree_at_any_rank(seed: int, n1: int, n2: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(n1, width)) * np.logspace(0, -3, width), draw.normal(size=(n2, width)) + 1
    direct = frechet_distance_of_features(a, b)
    moments = [(x.mean(0), np.cov(x, rowvar=False).reshape(width, width)) for x in (a, b)]
    assert frechet_distance(*moments[0], *moments[1]) == pytest.approx(direct, rel=1e-10)
    assert frechet_distance_of_features(b, a) == pytest.approx(direct, rel=1e-10)


def test_features_of_very_different_scales_all_count() -> None:
    deviations = np.asarray([1e6, 1.0, 1e-6])
    value = frechet_distance(np.zeros(3), np.diag(deviations**2), np.zeros(3), np.diag((deviations / 2) ** 2))
    assert value == pytest.approx(float(((deviations / 2) ** 2).sum()), rel=1e-12)
    small = frechet_distance(np.zeros(3), np.diag([1e12, 1, 1e-12]), np.zeros(3), np.diag([1e12, 1, 4e-12]))
    assert abs(small) < 1e-3  # the trace of 1e12 leaves no more digits


@pytest.mark.parametrize("condition", [1e4, 1e8, 1e12])
@pytest.mark.parametrize("seed", range(3))
def test_ill_conditioned_covariances_lose_no_digits(condition: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.normal(size=(20, 20)))[0]
    first, second = (np.geomspace(1, 1 / np.sqrt(condition), 20)[draw.permutation(20)] for _ in range(2))
    # both sides in one basis, so that the distance is that of the standard deviations
    value = frechet_distance(np.zeros(20), basis * first**2 @ basis.T, np.zeros(20), basis * second**2 @ basis.T)
    assert value == pytest.approx(float(np.square(first - second).sum()), rel=1e-12, abs=5e-10)


@pytest.mark.parametrize("shared", [0, 3, 8])
def test_covariances_of_partly_different_subspaces(shared: int) -> None:
    draw = np.random.default_rng(0)
    basis = np.linalg.qr(draw.normal(size=(20, 20)))[0]
    first, second = np.zeros(20), np.zeros(20)
    first[:8], second[8 - shared : 16 - shared] = draw.uniform(1, 2, 8), draw.uniform(1, 2, 8)
    value = frechet_distance(np.zeros(20), basis * first**2 @ basis.T, np.zeros(20), basis * second**2 @ basis.T)
    assert value == pytest.approx(float(np.square(first - second).sum()), rel=1e-12)


def test_constant_features_have_a_covariance_of_rounding_errors() -> None:
    mean = np.array([0.3, 0.1])
    noise = np.array([[-9e-18, 4e-17], [4e-17, 3e-18]])
    assert frechet_distance(mean, noise, mean + 0.5, np.zeros((2, 2))) == pytest.approx(0.5)
    first = np.array([[0.04, 0.0], [0.0, 1e-19]])  # one of two features is constant
    assert frechet_distance(mean, first, mean, np.diag([0.09, 0.0])) == pytest.approx(0.01)


def test_mistakes_are_refused() -> None:
    eye = np.eye(3)
    with pytest.raises(EvaluationError, match="same extractor"):
        frechet_distance(np.zeros(3), eye, np.zeros(2), np.eye(2))
    with pytest.raises(EvaluationError, match=r"first side has a mean of shape \(2,\)"):
        frechet_distance(np.zeros(2), eye, np.zeros(3), eye)
    with pytest.raises(EvaluationError, match="second side holds numbers that are not finite"):
        frechet_distance(np.zeros(3), eye, np.zeros(3), np.full((3, 3), np.inf))
    with pytest.raises(EvaluationError, match="not symmetric"):
        frechet_distance(np.zeros(3), np.triu(np.ones((3, 3))), np.zeros(3), eye)
    with pytest.raises(EvaluationError, match="negative eigenvalues"):
        frechet_distance(np.zeros(2), [[1.0, 2.0], [2.0, 1.0]], np.zeros(2), np.eye(2))
    with pytest.raises(EvaluationError, match="never negative"):
        frechet_distance(np.zeros(2), np.diag([1.0, -1.0]), np.zeros(2), np.eye(2))
