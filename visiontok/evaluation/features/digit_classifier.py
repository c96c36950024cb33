"""A small classifier of handwritten digits: the extractor and the classifier of the built-in digits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.data.digits import DigitsConfig, DigitsSource
from visiontok.evaluation.features.base import Classifier, described

SIDE, HIDDEN, SEED = 8, 64, 0


class DigitClassifier(Classifier):
    """scikit-learn's multi-layer perceptron with one hidden layer, trained when it is built on the training digits, with a fixed seed.

    Features are the 64 rectified hidden units. It sees images of any size as gray means over 8 x 8 equal areas, as the digits were
    scanned.

    Attributes:
        test_accuracy: share of the held-out digits that it classifies correctly.
        test_count: number of held-out digits.
    """

    name = "digit-classifier"
    protocol = "gray means over 8 x 8 equal areas; hidden layer of 64 units of a scikit-learn MLPClassifier trained on the training digits"

    def __init__(self) -> None:
        from sklearn.neural_network import MLPClassifier  # takes a second

        images, labels = _digits("train")
        # L-BFGS has no order of batches and converges in half a second
        network = MLPClassifier((HIDDEN,), solver="lbfgs", alpha=0.1, max_iter=1000, random_state=SEED)
        network.fit(_gray(images).numpy(), labels)
        self._weights = [torch.from_numpy(weight) for weight in network.coefs_]
        self._biases = [torch.from_numpy(bias) for bias in network.intercepts_]
        self.identity = described("digit-classifier", *(array.numpy().tobytes() for array in (*self._weights, *self._biases)))
        test_images, test_labels = _digits("test")
        self.test_accuracy = float((self.classify(test_images).numpy() == test_labels).mean())
        self.test_count = len(test_labels)

    def extract(self, images: Tensor) -> Tensor:
        return (_gray(images).cpu() @ self._weights[0] + self._biases[0]).relu()

    def logits_of(self, features: Tensor) -> Tensor:
        return features @ self._weights[1] + self._biases[1]


def _gray(images: Tensor) -> Tensor:
    """(B, 64) float64 in [0, 1]."""
    return F.adaptive_avg_pool2d(images.double().mean(dim=1, keepdim=True) / 255, SIDE).flatten(1)


def _digits(split: str) -> tuple[Tensor, np.ndarray]:
    source = DigitsSource(DigitsConfig.parse({"split": split}))
    samples = [source.read(index) for index in range(len(source))]
    pixels = np.stack([np.asarray(sample.image) for sample in samples])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), np.asarray([sample.label for sample in samples])
