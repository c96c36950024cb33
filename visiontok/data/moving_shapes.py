"""Colored shapes that move, turn, grow and shrink, with exact labels: every clip follows from (seed, split, index) alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sin
from typing import ClassVar, Literal

import numpy as np

from visiontok.data.moving import Contents, Motion, MovingConfig, MovingSource
from visiontok.data.shapes import SHAPE_CLASSES, Scene, Shape, draw_scene, looks

_RADII = (0.12, 0.22)  # in sides of the frame, before growing
_TURNS = (-pi, pi)  # radians per second
_PULSES = (0.0, 0.3)
_PULSE_RATES = (0.2, 0.6)  # per second
_PHASES = (0.0, 2 * pi)


class MovingShapesConfig(MovingConfig):
    """The moving shapes."""

    largest_margin: ClassVar[float] = _RADII[1] * (1 + _PULSES[1])

    name: Literal["moving-shapes"] = "moving-shapes"


@dataclass(frozen=True)
class MovingShape:
    """One object of a clip, in sides of the frame, radians and seconds.

    Attributes:
        kind, color: see `shapes`.
        motion: of its center.
        angle: at time 0.
        turn: radians per second, clockwise where positive.
        radius: of the circumscribed circle in the middle of growing and shrinking.
        pulse: by which share of it the radius grows and shrinks.
        pulse_rate: how often per second.
        phase: of that, at time 0, in radians.
    """

    kind: str
    color: str
    motion: Motion
    angle: float
    turn: float
    radius: float
    pulse: float
    pulse_rate: float
    phase: float

    def at(self, seconds: float, *, size: int) -> Shape:
        """At a time, in pixels of frames of a size."""
        x, y = self.motion.at(seconds)
        radius = self.radius * (1 + self.pulse * sin(2 * pi * self.pulse_rate * seconds + self.phase))
        return Shape(self.kind, self.color, x * size, y * size, radius * size, self.angle + self.turn * seconds)


@dataclass(frozen=True)
class MovingScene:
    """What a clip shows: the gray level behind, and objects, the largest first; smaller ones cover larger ones."""

    background: int
    shapes: tuple[MovingShape, ...]


class MovingShapesSource(MovingSource[MovingScene]):
    """One class per color and kind ("red circle"): that of the largest object. The caption names every object."""

    class_names = SHAPE_CLASSES

    def scene(self, index: int) -> MovingScene:
        """The objects of a clip, exactly as they move."""
        rng, config = self.rng(index), self.config
        background, shapes = int(rng.integers(190, 256)), []
        for _ in range(rng.integers(config.min_objects, config.max_objects + 1)):
            kind, color, angle = looks(rng)
            turn, radius, pulse, rate, phase = (float(rng.uniform(*each)) for each in (_TURNS, _RADII, _PULSES, _PULSE_RATES, _PHASES))
            motion = Motion.drawn(rng, config, margin=radius * (1 + pulse))
            shapes.append(MovingShape(kind, color, motion, angle, turn, radius, pulse, rate, phase))
        return MovingScene(background, tuple(sorted(shapes, key=lambda shape: -shape.radius)))

    def contents(self, scene: MovingScene) -> Contents:
        main = scene.shapes[0]
        caption = " and ".join(f"a {each.color} {each.kind} moving {each.motion.direction}" for each in scene.shapes)
        return Contents(SHAPE_CLASSES.index(f"{main.color} {main.kind}"), caption, len(scene.shapes))

    def draw(self, scene: MovingScene, seconds: float) -> np.ndarray:
        size = self.config.size
        return draw_scene(Scene(scene.background, tuple(shape.at(seconds, size=size) for shape in scene.shapes)), size)
