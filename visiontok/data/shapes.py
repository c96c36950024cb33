"""Procedural colored shapes on gray, with exact labels: every image follows from (seed, split, index) alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.base.modality import Modality
from visiontok.data.procedural import ProceduralSource
from visiontok.data.source import Sample
from visiontok.signals.image_reading import read_image

COLORS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 80, 200),
    "yellow": (240, 200, 30),
    "purple": (140, 50, 170),
    "cyan": (30, 180, 200),
}

# Signed distances from an outline in pixels (negative inside), for points (x, y) around a center and a circumscribed circle of radius r.
KINDS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "circle": lambda x, y, r: np.hypot(x, y) - r,
    "square": lambda x, y, r: _box(x, y, r / 2**0.5, r / 2**0.5),
    "triangle": lambda x, y, r: np.maximum(y, np.abs(x) * 0.75**0.5 - y / 2) - r / 2,
    "cross": lambda x, y, r: np.minimum(_box(x, y, r * 0.9**0.5, r * 0.1**0.5), _box(x, y, r * 0.1**0.5, r * 0.9**0.5)),
    "ring": lambda x, y, r: np.abs(np.hypot(x, y) - 0.75 * r) - 0.25 * r,
}

SHAPE_CLASSES = tuple(f"{color} {kind}" for kind in KINDS for color in COLORS)

_PLACING_ATTEMPTS = 50
_SMALLEST_CELL = 4  # pixels; smaller objects show neither kind nor angle


class ShapesConfig(Config):
    """The procedural shapes.

    Attributes:
        split: "train" and "test" share no image.
        size: side in pixels.
        num_samples: images in the set.
        seed: of everything.
        min_objects, max_objects: objects per image; fewer where no free position is found.
        cells: side of a grid in whose cells the objects sit, all of nearly one size, so that an image holds the more the more objects it has.
            None for anywhere, in sizes that make the objects share the area: the first may be large, the others are smaller.
    """

    name: Literal["shapes"] = "shapes"
    split: Literal["train", "test"] = "train"
    size: Annotated[int, Field(ge=16, le=1024)] = 64
    num_samples: Positive = 10_000
    seed: Annotated[int, Field(ge=0)] = 0
    min_objects: Annotated[int, Field(ge=1)] = 1
    max_objects: Annotated[int, Field(ge=1, le=16)] = 3
    cells: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_objects > self.max_objects:
            raise ValueError(f"min_objects {self.min_objects} exceeds max_objects {self.max_objects}")
        if self.cells and self.max_objects > self.cells**2:
            raise ValueError(f"max_objects {self.max_objects} exceeds the {self.cells**2} cells of a grid with side {self.cells}")
        if self.cells and self.size < _SMALLEST_CELL * self.cells:
            raise ValueError(f"{self.cells} cells beside each other need {_SMALLEST_CELL * self.cells} pixels at least, and size is {self.size}")
        return self


@dataclass(frozen=True)
class Shape:
    """One object: x to the right and y down in pixels, radius of the circumscribed circle in pixels, angle in radians."""

    kind: str
    color: str
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """What an image shows: the gray level behind, and objects that do not touch each other, the largest first."""

    background: int
    shapes: tuple[Shape, ...]


class ShapesSource(ProceduralSource):
    """One class per color and kind ("red circle"): that of the largest object. The caption names every object."""

    modality: Modality = "image"
    class_names = SHAPE_CLASSES
    config: ShapesConfig

    def __init__(self, config: ShapesConfig) -> None:
        self.config = config

    def scene(self, index: int) -> Scene:
        """The objects of an image, exactly as they are drawn."""
        config = self.config
        rng = self.rng(index)
        background = int(rng.integers(190, 256))
        count = int(rng.integers(config.min_objects, config.max_objects + 1))
        shapes = _anywhere(rng, count, config.size) if config.cells is None else _in_cells(rng, count, config.size, config.cells)
        return Scene(background, tuple(shapes))

    def read(self, index: int) -> Sample:
        scene = self.scene(index)
        main = scene.shapes[0]
        caption = " and ".join(f"a {shape.color} {shape.kind}" for shape in scene.shapes)
        label = self.class_names.index(f"{main.color} {main.kind}")
        return Sample(self.key(index), read_image(draw_scene(scene, self.config.size)), label=label, caption=caption, objects=len(scene.shapes))


def _anywhere(rng: np.random.Generator, count: int, size: int) -> list[Shape]:
    """Up to `count` shapes; one for which no free position is found is dropped."""
    shapes: list[Shape] = []
    for _ in range(count):
        largest = 0.6 * shapes[0].radius if shapes else 0.32 * size
        radius = rng.uniform(0.6, 1.0) * largest
        kind, color, angle = looks(rng)
        for x, y in rng.uniform(radius + 1, size - radius - 1, size=(_PLACING_ATTEMPTS, 2)):
            if all(np.hypot(x - other.x, y - other.y) > radius + other.radius + 2 for other in shapes):
                shapes.append(Shape(kind, color, float(x), float(y), float(radius), angle))
                break
    return shapes


def _in_cells(rng: np.random.Generator, count: int, size: int, cells: int) -> list[Shape]:
    """`count` shapes in the middles of different cells, which they do not leave."""
    side = size / cells
    largest = side / 2 - 0.5  # an outline is smooth over a pixel
    shapes = []
    for cell in rng.permutation(cells**2)[:count]:
        kind, color, angle = looks(rng)
        x, y = (cell % cells + 0.5) * side, (cell // cells + 0.5) * side
        shapes.append(Shape(kind, color, float(x), float(y), float(rng.uniform(0.8, 1.0) * largest), angle))
    return sorted(shapes, key=lambda shape: -shape.radius)


def looks(rng: np.random.Generator) -> tuple[str, str, float]:
    """A kind, a color and an angle, evenly drawn."""
    kind, color = (names[rng.integers(len(names))] for names in (list(KINDS), list(COLORS)))
    return kind, color, float(rng.uniform(0, 2 * np.pi))


def draw_scene(scene: Scene, size: int) -> np.ndarray:
    """The scene as (size, size, 3) uint8; a pixel at an outline mixes both sides by the share that it covers."""
    pixels = np.full((size, size, 3), scene.background, dtype=np.float64)
    rows, columns = np.mgrid[:size, :size] + 0.5
    for shape in scene.shapes:
        right, down = columns - shape.x, rows - shape.y
        cosine, sine = np.cos(shape.angle), np.sin(shape.angle)
        distance = KINDS[shape.kind](cosine * right + sine * down, cosine * down - sine * right, shape.radius)
        covered = np.clip(0.5 - distance, 0, 1)[..., None]
        pixels += covered * (np.asarray(COLORS[shape.color]) - pixels)
    return np.rint(pixels).astype(np.uint8)


def _box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)
