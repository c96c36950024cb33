"""One number with everything required to interpret it: its protocol, its interval, its seeds."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from pydantic import Field, JsonValue

from visiontok.base.config import Config
from visiontok.evaluation.metrics.bootstrap import Interval

Better: TypeAlias = Literal["higher", "lower", "neither"]


class SeedSpread(Config):
    """The variation between seeds.

    Attributes:
        values: seed -> the number with it.
        deviation: their sample standard deviation.
    """

    values: dict[str, float]
    deviation: float


class Cut(NamedTuple):
    """The part of every sample's tokens that is decoded; by default all of them.

    Attributes:
        length: so many first tokens.
        levels: so many first codebook levels.
    """

    length: int | None = None
    levels: int | None = None

    @property
    def in_words(self) -> str:
        """For columns of tables."""
        if self.length is not None:
            return f"{self.length} tokens"
        return "all tokens" if self.levels is None else f"{self.levels} codebook levels"

    @property
    def suffix(self) -> str:
        """Of labels; empty for all tokens."""
        return "" if self == Cut() else f" at {self.in_words}"


class MetricValue(Config):
    """One number.

    Attributes:
        metric: of the registry `METRICS` that gave it.
        version: of that metric; values of different versions are not comparable.
        name: with the extractor or the variant where there are several: "psnr.mean_db", "FD[digit-classifier]".
        title: for tables and plots.
        part: which codebook it is about, where a tokenizer has several; None for the whole.
        length: how many tokens of each sample were kept, where a suite asks for lengths; None for all of them.
        levels: how many codebook levels were kept, where a suite asks for levels; None for all of them.
        value: None where it is not defined, such as the PSNR of images that are all identical.
        no_value: why it is not.
        unit: "dB", "bits", ...; empty for shares and distances.
        better: which direction is better, if any.
        count: N, the number of samples (of each side, for distances).
        interval: over the samples: of a mean by percentile bootstrap, of a Fréchet distance by resampled distances centered on it.
        no_interval: why a metric over sets of samples has none.
        seeds: where it was evaluated with several seeds, the values of each; `value` is then their mean, and the ends of `interval` are
            the means of theirs.
        protocol: how it was computed, in words.
        details: further numbers that belong to it.
    """

    metric: str
    version: int = 1
    name: str
    title: str
    part: str | None = None
    length: int | None = None
    levels: int | None = None
    value: float | None
    no_value: str = ""
    unit: str = ""
    better: Better = "neither"
    count: int
    interval: Interval | None = None
    no_interval: str = ""
    seeds: SeedSpread | None = None
    protocol: str
    details: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name, part and cut."""
        return self.name + (f" ({self.part})" if self.part is not None else "") + self.cut.suffix

    @property
    def cut(self) -> Cut:
        """Which part of every sample's tokens it is about."""
        return Cut(self.length, self.levels)

    @property
    def heading(self) -> str:
        """How a reader knows it, with its better direction and its unit: "PSNR ↑ (dB)"."""
        return heading(self.title + (f" of {self.part}" if self.part else ""), unit=self.unit, better=self.better)

    @property
    def key(self) -> tuple[str, str | None, Cut]:
        """The key that identifies it among the values of a result."""
        return self.name, self.part, self.cut

    @property
    def text(self) -> str:
        """The formatted number with its interval; a distance below zero by a rounding error is shown as zero."""
        if self.value is None:
            return "not defined"
        shown = max(self.value, 0.0) if self.metric == "frechet" else self.value
        interval = f" [{_digits(self.interval.low)}, {_digits(self.interval.high)}]" if self.interval else ""
        spread = f" ± {_digits(self.seeds.deviation)} over {len(self.seeds.values)} seeds" if self.seeds else ""
        return _digits(shown) + spread + interval


def heading(title: str, *, unit: str, better: Better) -> str:
    """A metric at the head of a column or a row, or at an axis: "PSNR ↑ (dB)"."""
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[better]
    return title + arrow + (f" ({unit})" if unit and unit not in title.lower() else "")


def _digits(number: float) -> str:
    return f"{number:.4g}" if abs(number) < 1e4 else f"{number:.0f}"
