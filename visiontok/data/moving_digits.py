"""Handwritten digits that bounce between the borders of black frames, with exact labels: every clip follows from (seed, split, index) alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from visiontok.data.digits import DigitsConfig, DigitsSource
from visiontok.data.moving import Contents, Motion, MovingConfig, MovingSource

_SIDES = (0.35, 0.5)  # of a digit, in sides of the frame


class MovingDigitsConfig(MovingConfig):
    """The moving digits; each split moves the scans of that split of `digits`."""

    largest_margin: ClassVar[float] = _SIDES[1] / 2

    name: Literal["moving-digits"] = "moving-digits"


@dataclass(frozen=True)
class MovingDigit:
    """One digit of a clip.

    Attributes:
        digit: what it is.
        scan: its index in the split of `digits`.
        side: of the square that holds it, in sides of the frame.
        motion: of its center.
    """

    digit: int
    scan: int
    side: float
    motion: Motion


class MovingDigitsSource(MovingSource[tuple[MovingDigit, ...]]):
    """White digits on black, where they meet the brighter of both. The class is the largest digit, which comes first."""

    def __init__(self, config: MovingDigitsConfig) -> None:
        super().__init__(config)
        scans = DigitsSource(DigitsConfig(split=config.split))
        samples = [scans.read(index) for index in range(len(scans))]
        self.class_names = tuple(str(digit) for digit in range(10))
        self._scans = np.stack([np.asarray(sample.image)[..., 0] for sample in samples]).astype(np.float64)
        self._labels = [int(sample.label or 0) for sample in samples]

    def scene(self, index: int) -> tuple[MovingDigit, ...]:
        """The digits of a clip, exactly as they move."""
        rng, config = self.rng(index), self.config
        found = []
        for _ in range(rng.integers(config.min_objects, config.max_objects + 1)):
            scan, side = int(rng.integers(len(self._scans))), float(rng.uniform(*_SIDES))
            found.append(MovingDigit(self._labels[scan], scan, side, Motion.drawn(rng, config, margin=side / 2)))
        return tuple(sorted(found, key=lambda each: -each.side))

    def contents(self, scene: tuple[MovingDigit, ...]) -> Contents:
        caption = " and ".join(f"a {each.digit} moving {each.motion.direction}" for each in scene)
        return Contents(scene[0].digit, caption, len(scene))

    def draw(self, scene: tuple[MovingDigit, ...], seconds: float) -> np.ndarray:
        frame = np.zeros((self.config.size, self.config.size))
        for each in scene:
            columns, rows = (_tents(center, each.side, self.config.size) for center in each.motion.at(seconds))
            frame = np.maximum(frame, rows @ self._scans[each.scan] @ columns.T)
        return np.rint(frame).astype(np.uint8)[..., None].repeat(3, axis=-1)


def _tents(center: float, side: float, size: int) -> np.ndarray:
    """(size, 8): the weights of a scan's rows or columns at every pixel, for bilinear interpolation."""
    pixels = ((np.arange(size) + 0.5) / size - center) / side * 8 + 3.5  # in pixels of the scan
    return np.clip(1 - np.abs(pixels[:, None] - np.arange(8)), 0, 1)
