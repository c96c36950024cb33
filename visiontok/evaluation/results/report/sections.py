"""What a report is made of. Each section is data; the template decides how it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

ImageArray: TypeAlias = np.ndarray
"""(H, W, 3) uint8; see `images.to_image_array`."""


FEW_POINTS = 2
"""So many points are a table, not a plot."""


@dataclass(frozen=True)
class Text:
    """Paragraphs.

    Attributes:
        title: heading; may be empty.
        paragraphs: plain text each.
    """

    kind: ClassVar[str] = "text"
    title: str
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        cells: texts, one per column.
        published: the source of the numbers if they were published by others and not computed here; the line is then marked.
        note: what the numbers mean, shown when asked for.
        name: by which files and commands know what the line is about; shown small below the first cell.
    """

    cells: Sequence[str]
    published: str = ""
    note: str = ""
    name: str = ""


@dataclass(frozen=True)
class Table:
    """Numbers.

    Attributes:
        title: heading.
        columns: names; the first column is aligned left, the others right.
        rows: lines.
        note: a sentence below.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True)
class ImageRow:
    """Images side by side.

    Attributes:
        label: at their left.
        images: (H, W, 3) uint8 each.
        captions: one below each; empty for none.
    """

    label: str
    images: Sequence[ImageArray]
    captions: Sequence[str] = ()


@dataclass(frozen=True)
class ImageGrid:
    """A grid of images; those of one column belong together, such as an original over its reconstruction.

    Attributes:
        title: heading.
        rows: from top to bottom.
        width: of each image on the page, in CSS pixels; enlarged images keep their pixels sharp.
        note: a sentence below.
    """

    kind: ClassVar[str] = "images"
    title: str
    rows: Sequence[ImageRow]
    width: int = 72
    note: str = ""

    @property
    def columns(self) -> int:
        return max((len(row.images) for row in self.rows), default=0)


@dataclass(frozen=True)
class ClipGrid:
    """Clips that belong together: all at once as one animation, and frame by frame.

    Attributes:
        title: heading.
        animation: the clips side by side, the bytes of an animated WebP file.
        labels: of the clips in the animation, from left to right.
        rows: contact sheets, from top to bottom.
        animation_width: on the page, in CSS pixels, where there is room.
        width: of each frame of the contact sheets.
        note: a sentence below.
    """

    kind: ClassVar[str] = "clips"
    title: str
    animation: bytes
    labels: Sequence[str]
    rows: Sequence[ImageRow]
    animation_width: int
    width: int = 72
    note: str = ""

    @property
    def columns(self) -> int:
        return max((len(row.images) for row in self.rows), default=0)


@dataclass(frozen=True)
class Waveform:
    """A sound over time, as the range of its samples in every column.

    Attributes:
        low, high: (n,) the lowest and the highest sample of each column.
        seconds: that the columns cover.
        limit: both ends of the axis.
    """

    caption: ClassVar[str] = "waveform"
    low: ArrayLike
    high: ArrayLike
    seconds: float
    limit: float = 1.0


@dataclass(frozen=True)
class Spectrogram:
    """Levels over time and frequency.

    Attributes:
        decibels: (frequencies, columns), the lowest frequency first.
        seconds: that the columns cover.
        kilohertz: that the rows cover.
        low, high: levels at the ends of the color scale.
        is_difference: whether the levels are differences, which have no color where they are zero.
    """

    decibels: ArrayLike
    seconds: float
    kilohertz: float
    low: float
    high: float
    is_difference: bool = False

    @property
    def caption(self) -> str:
        return "difference" if self.is_difference else "spectrogram"


@dataclass(frozen=True)
class SoundRow:
    """One sound, to look at and to listen to.

    Attributes:
        label: what it is.
        file: a sound file that browsers play, such as flac.
        panels: drawings side by side.
    """

    label: str
    file: bytes
    panels: Sequence[Waveform | Spectrogram]


@dataclass(frozen=True)
class SoundGrid:
    """A sound above its reconstructions.

    Attributes:
        title: heading.
        rows: from top to bottom.
        codes: the codes of the sound, one pixel each, a row per level; None where there is nothing to draw.
        note: a sentence below.
    """

    kind: ClassVar[str] = "sounds"
    title: str
    rows: Sequence[SoundRow]
    codes: ImageArray | None = None
    note: str = ""

    @property
    def codes_height(self) -> int:
        """Of the drawing of the codes on the page, in CSS pixels."""
        levels = 0 if self.codes is None else len(self.codes)
        return levels * max(6, min(14, 240 // max(levels, 1)))


@dataclass(frozen=True)
class LinePlot:
    """Curves.

    Attributes:
        title: heading.
        series: name -> (x, y), each (n,).
        x_label, y_label: of the axes.
        log_x, log_y: logarithmic axes.
        note: a sentence below.
    """

    kind: ClassVar[str] = "plot"
    title: str
    series: Mapping[str, tuple[ArrayLike, ArrayLike]]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    note: str = ""

    def legible(self) -> LinePlot | Table:
        """Itself, or a table of its points where there are too few for a plot."""
        return _as_table(self) or self


@dataclass(frozen=True)
class PointPlot:
    """Points, such as one for each trained model.

    Attributes:
        title: heading.
        series: name -> (x, y), each (n,).
        x_label, y_label: of the axes.
        note: a sentence below.
    """

    kind: ClassVar[str] = "plot"
    title: str
    series: Mapping[str, tuple[ArrayLike, ArrayLike]]
    x_label: str
    y_label: str
    note: str = ""

    def legible(self) -> PointPlot | Table:
        """Itself, or a table of its points where there are too few for a plot."""
        return _as_table(self) or self


@dataclass(frozen=True)
class BarPlot:
    """Heights side by side.

    Attributes:
        title: heading.
        heights: (n,).
        x_label, y_label: of the axes.
        names: below the bars; without them they are numbered.
        note: a sentence below.
    """

    kind: ClassVar[str] = "plot"
    title: str
    heights: ArrayLike
    x_label: str
    y_label: str
    names: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class Folded:
    """Sections that are read only when asked for.

    Attributes:
        title: what to click on.
        sections: inside.
    """

    kind: ClassVar[str] = "folded"
    title: str
    sections: Sequence[Text | Table | ImageGrid | ClipGrid | SoundGrid | LinePlot | PointPlot | BarPlot] = field(default_factory=tuple)


def _as_table(plot: LinePlot | PointPlot) -> Table | None:
    """The points of a plot that holds hardly any; None for others."""
    points = [(name, x, y) for name, (xs, ys) in plot.series.items() for x, y in zip(np.asarray(xs), np.asarray(ys), strict=True)]
    if len(points) > FEW_POINTS:
        return None
    named = len(plot.series) > 1
    rows = [Row([*([name] if named else []), f"{x:.4g}", f"{y:.4g}"]) for name, x, y in points]
    return Table(plot.title, [*([""] if named else []), plot.x_label, plot.y_label], rows, note=plot.note)


Section: TypeAlias = Text | Table | ImageGrid | ClipGrid | SoundGrid | LinePlot | PointPlot | BarPlot | Folded
