"""What the built-in sets of clips share: things that bounce between the borders of a frame, drawn at any rate, in any size, for any length.

Motions are in sides of the frame and seconds, so that the same clip is drawn at every rate and in every size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import atan2, ceil, cos, pi, sin
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.base.modality import Modality
from visiontok.data.procedural import ProceduralSource
from visiontok.data.source import Sample
from visiontok.signals.video_reading import Clip

_DIRECTIONS = ("right", "down and right", "down", "down and left", "left", "up and left", "up", "up and right")


SceneT = TypeVar("SceneT")


class MovingConfig(Config):
    """What the sets of clips have in common.

    Attributes:
        split: "train" and "test" share no clip.
        size: side of the square frames in pixels.
        frames: of a clip; any number.
        fps: frames per second.
        num_samples: clips in the set.
        seed: of everything.
        min_objects, max_objects: things that move in a clip.
        min_speed, max_speed: of every one of them, in sides of the frame per second.
        lattice: with a number n, things start on the points of a lattice of n x n per frame and move along its rows or columns; so do the tokens of a
            tokenizer with that grid, if a thing moves by whole points between them. None for any place and direction.
        largest_margin: between the center of the set's largest things and the borders, in sides of the frame.
    """

    largest_margin: ClassVar[float]

    name: str
    split: Literal["train", "test"] = "train"
    size: Annotated[int, Field(ge=16, le=1024)] = 64
    frames: Positive = 17
    fps: Annotated[float, Field(gt=0, le=1000)] = 8.0
    num_samples: Positive = 2000
    seed: Annotated[int, Field(ge=0)] = 0
    min_objects: Annotated[int, Field(ge=1)] = 1
    max_objects: Annotated[int, Field(ge=1, le=16)] = 2
    min_speed: Annotated[float, Field(ge=0)] = 0.2
    max_speed: Annotated[float, Field(ge=0, le=100)] = 0.8
    lattice: Annotated[int, Field(ge=2, le=1024)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for low, high in (("min_objects", "max_objects"), ("min_speed", "max_speed")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low)} exceeds {high} {getattr(self, high)}")
        if self.lattice is not None and 2 * _first_point(self.lattice, self.largest_margin) >= self.lattice:
            raise ValueError(
                f"lattice {self.lattice} has no two points in a row that are {self.largest_margin:.2f} sides away from the borders of a frame, "
                "as the largest things need; choose a finer one"
            )
        return self


def _first_point(lattice: int, margin: float) -> int:
    """Of a row of a lattice, that far from the border."""
    return ceil(margin * lattice)


@dataclass(frozen=True)
class Motion:
    """A center that moves evenly and bounces off the borders.

    Attributes:
        x, y: at time 0, to the right and down, in sides of the frame.
        vx, vy: at time 0, in sides per second.
        margin: between the center and every border at least, in sides.
    """

    x: float
    y: float
    vx: float
    vy: float
    margin: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, config: MovingConfig, *, margin: float) -> Motion:
        """Anywhere, in any direction, or on the lattice."""
        if config.lattice is None:
            x, y = rng.uniform(margin, 1 - margin, size=2)
            speed, direction = rng.uniform(config.min_speed, config.max_speed), rng.uniform(0, 2 * pi)
            return cls(float(x), float(y), float(speed * cos(direction)), float(speed * sin(direction)), margin)
        first = _first_point(config.lattice, margin)
        x, y = rng.integers(first, config.lattice - first + 1, size=2) / config.lattice
        speed, turn = rng.uniform(config.min_speed, config.max_speed), int(rng.integers(4))
        vx, vy = ((1, 0), (0, 1), (-1, 0), (0, -1))[turn]
        return cls(float(x), float(y), float(speed * vx), float(speed * vy), first / config.lattice)

    @property
    def direction(self) -> str:
        """At time 0, to an eighth of a turn: "right", "down and right"."""
        return _DIRECTIONS[round(atan2(self.vy, self.vx) / (pi / 4)) % 8]

    def at(self, seconds: float) -> tuple[float, float]:
        """x and y, in sides."""
        return self._bounced(self.x, self.vx * seconds), self._bounced(self.y, self.vy * seconds)

    def _bounced(self, start: float, way: float) -> float:
        span = 1 - 2 * self.margin
        return self.margin + span - abs((start - self.margin + way) % (2 * span) - span)


@dataclass(frozen=True)
class Contents:
    """What is known of a clip.

    Attributes:
        label: its class.
        caption: what moves, and where to.
        objects: how many things move.
    """

    label: int
    caption: str
    objects: int


class MovingSource(ProceduralSource, Generic[SceneT]):
    """Square clips. A set defines its scenes, and how they are drawn.

    Args:
        config: of the set.
    """

    modality: Modality = "video"
    class_names: tuple[str, ...]

    config: MovingConfig

    def __init__(self, config: MovingConfig) -> None:
        self.config = config

    @abstractmethod
    def scene(self, index: int) -> SceneT:
        """What moves in a clip, exactly as it moves."""

    @abstractmethod
    def contents(self, scene: SceneT) -> Contents:
        """The labels of a scene."""

    @abstractmethod
    def draw(self, scene: SceneT, seconds: float) -> np.ndarray:
        """A scene at a time, (size, size, 3) uint8."""

    def read(self, index: int) -> Sample:
        known = self.contents(self.scene(index))
        (frames,) = self.stream(index, chunk=self.config.frames)
        return Sample(self.key(index), Clip(frames, self.config.fps), label=known.label, caption=known.caption, objects=known.objects)

    def stream(self, index: int, *, chunk: int) -> Iterator[np.ndarray]:
        """A clip in parts (t, size, size, 3) of at most `chunk` frames, drawn as they are read: for clips that are too long for memory."""
        scene, total, fps = self.scene(index), self.config.frames, self.config.fps
        for start in range(0, total, chunk):
            yield np.stack([self.draw(scene, frame / fps) for frame in range(start, min(start + chunk, total))])
