import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.probes import LabeledFeatures, labeled, linear_probe, nearest_neighbors, pooled


def blobs(count: int, seed: int, spread: float = 0.3) -> LabeledFeatures:
    draw = np.random.default_rng(seed)
    classes = draw.integers(0, 3, count)
    centers = np.asarray([[1.0, 0, 0, 5], [0, 1, 0, 5], [0, 0, 1, 5]]) * [1, 1, 1, 100]
    return labeled(centers[classes] + spread * draw.normal(size=(count, 4)), torch.from_numpy(classes))


def test_separable_classes_are_found_and_shuffled_ones_are_not():
    train, test = blobs(120, 0), blobs(60, 1)
    assert linear_probe(train, test).mean() > 0.95
    shuffled = LabeledFeatures(train.features, np.random.default_rng(0).permutation(train.labels))
    assert linear_probe(shuffled, test).mean() < 0.7
    # the large constant column drowns the cosine of raw features, not the probe, which standardizes
    assert nearest_neighbors(train, test).mean() <= linear_probe(train, test).mean()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_nearest_neighbors_equal_scikit_learns(seed: int, neighbors: int):
    draw = np.random.default_rng(seed)
    train, test = (LabeledFeatures(draw.normal(size=(count, 5)), draw.integers(0, 3, count)) for count in (40, 25))

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp(-(distances**2) / 2 / 0.07)  # |x - y|^2 = 2 - 2 cos of unit vectors

    reference = KNeighborsClassifier(neighbors, weights=weights)
    unit = [side.features / np.linalg.norm(side.features, axis=1, keepdims=True) for side in (train, test)]
    expected = reference.fit(unit[0], train.labels).predict(unit[1]) == test.labels
    np.testing.assert_array_equal(nearest_neighbors(train, test, neighbors=neighbors), expected)


def test_pooling():
    embeddings = torch.arange(12.0).reshape(2, 3, 2)
    assert pooled(embeddings, pooling="mean").tolist() == [[2, 3], [8, 9]]
    assert pooled(embeddings, pooling="concatenate").shape == (2, 6)
    held = torch.tensor([[True, True, False], [False, True, False]])
    assert pooled(embeddings, pooling="mean", mask=held).tolist() == [[1, 2], [8, 9]]


def test_mistakes_are_refused():
    with pytest.raises(EvaluationError, match=r"features \(N, D\) and labels \(N,\)"):
        labeled(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(EvaluationError, match="not finite"):
        labeled(np.full((2, 2), np.nan), np.zeros(2))
    train = labeled(np.eye(3), np.arange(3))
    with pytest.raises(EvaluationError, match="3 training samples have no 20 neighbors"):
        nearest_neighbors(train, train)
    with pytest.raises(EvaluationError, match="3 wide in training and 2"):
        linear_probe(train, labeled(np.eye(2), np.arange(2)))
