"""scikit-learn's 1,797 scans of handwritten digits: 8 x 8 pixels in 17 gray levels, ten classes."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np

from visiontok.base.config import Config
from visiontok.base.modality import Modality
from visiontok.data.source import Sample, Source, fingerprint
from visiontok.signals.image_reading import read_image


class DigitsConfig(Config):
    """The built-in digits.

    Attributes:
        split: "test" is every fifth scan of each class, "train" the others (so both hold every class in equal shares), "all" both.
    """

    name: Literal["digits"] = "digits"
    split: Literal["train", "test", "all"] = "train"


class DigitsSource(Source):
    """Scans as 8 x 8 RGB images; the loaders enlarge them."""

    modality: Modality = "image"

    def __init__(self, config: DigitsConfig) -> None:
        from sklearn.datasets import load_digits  # takes a second

        scans = load_digits()
        self.class_names = tuple(str(digit) for digit in range(10))
        within_class = np.zeros(len(scans.target), dtype=np.int64)
        for digit in range(10):
            members = np.flatnonzero(scans.target == digit)
            within_class[members] = np.arange(len(members))
        is_test = within_class % 5 == 4
        chosen = {"train": ~is_test, "test": is_test, "all": np.ones_like(is_test)}[config.split]
        self._numbers = np.flatnonzero(chosen)
        self._pixels = np.rint(scans.images[chosen] * (255 / 16)).astype(np.uint8)
        self._labels = scans.target[chosen]

    @cached_property
    def identity(self) -> str:
        return fingerprint("digits", len(self), [self._pixels.tobytes(), self._labels.astype("<i8").tobytes()])

    def __len__(self) -> int:
        return len(self._numbers)

    def key(self, index: int) -> str:
        return f"digit-{self._numbers[index]:04d}"

    def read(self, index: int) -> Sample:
        return Sample(self.key(index), read_image(self._pixels[index]), label=int(self._labels[index]))
