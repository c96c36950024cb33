"""Quality against rate: a tokenizer measured at several lengths or wishes, or at the one length that it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import EvaluationError
from visiontok.base.files import replacing
from visiontok.core.model import evaluating
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.fidelity import psnr
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.reconstruction.kept import KeptMeasurements
from visiontok.evaluation.reconstruction.run import Measurement, Report
from visiontok.evaluation.reconstruction.suite import Metric, Suite
from visiontok.evaluation.results.result import Result
from visiontok.tokens import Tokens

ALWAYS: tuple[Metric, ...] = ("psnr", "ssim", "rate")
IF_ASKED: tuple[Metric, ...] = ("ms_ssim", "lpips.alex", "lpips.vgg", "lpips.squeeze", "dists", "frechet")
"""What of a suite's own metrics is drawn against the rate."""

WISHES = (0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.38)
"""Mean absolute errors that an adaptive tokenizer is asked for where nobody says."""


@runtime_checkable
class Adaptive(Protocol):
    """A tokenizer that finds the number of tokens for a wished quality in one pass."""

    def with_max_loss(self, max_loss: float) -> Tokenizer[Any]:
        """The same weights, asked for a mean absolute error of `max_loss` where nobody says."""


@dataclass(frozen=True)
class Point:
    """One setting of one model.

    Attributes:
        label: the setting in words.
        tokens, bits, bits_per_pixel: nominal, mean over images.
        qualities: by name, everything else that was measured.
    """

    label: str
    tokens: float
    bits: float
    bits_per_pixel: float
    qualities: dict[str, MetricValue]


class Curve(Config):
    """One model at all its settings.

    Attributes:
        model: as it was asked for.
        setting: what was varied: the number of tokens, the wish of an adaptive tokenizer, or nothing.
        wishes: mean absolute errors that were asked for, one per result; empty otherwise.
        counts: tokens of every image at each wish, in the order of the images' numbers: approximately their complexity; empty otherwise.
        results: one per wish, else one that holds all lengths.
    """

    model: str
    setting: Literal["length", "max_loss", "none"]
    wishes: tuple[float, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()
    results: tuple[Result, ...]

    @property
    def points(self) -> list[Point]:
        """By rising rate."""
        found = []
        for number, result in enumerate(self.results):
            for length in dict.fromkeys(value.length for value in result.values):
                values = {value.name: value for value in result.values if value.length == length}
                rates = ("tokens_per_image", "bits_per_image.nominal", "bits_per_pixel.nominal")
                tokens, bits, bits_per_pixel = (float(values.pop(name).value or 0) for name in rates)
                label = in_words(tokens, self.wishes[number] if self.wishes else None)
                found.append(Point(label, tokens, bits, bits_per_pixel, values))
        return sorted(found, key=lambda point: point.tokens)


class RateDistortion(Config):
    """What `visiontok evaluate rd` writes down.

    Attributes:
        format: version of this layout.
        curves: one per model.
    """

    format: Literal[1] = 1
    kind: Literal["rate-distortion"] = "rate-distortion"
    curves: tuple[Curve, ...]

    def save(self, path: str | Path) -> None:
        """Write JSON that `load` reads, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Seen:
    """Some pictures at one setting.

    Attributes:
        label: the setting in words.
        reconstructions: (n, 3, H, W) uint8.
        tokens: of each.
        decibels: PSNR of each; infinite where nothing was lost.
    """

    label: str
    reconstructions: Tensor
    tokens: list[int]
    decibels: list[float]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Some pictures of the suite at every setting of a model; `originals` are (n, 3, H, W) uint8."""

    originals: Tensor
    settings: list[Seen]


@dataclass(frozen=True)
class Settings:
    """What is varied.

    Attributes:
        lengths: numbers of tokens; None for powers of two up to all.
        max_losses: wishes to adaptive tokenizers; None for `WISHES`, or for `lengths` where those are given.
    """

    lengths: tuple[int, ...] | None = None
    max_losses: tuple[float, ...] | None = None

    @classmethod
    def none(cls) -> Self:
        """One point, with all tokens."""
        return cls(lengths=())

    def measurements(self, suite: Suite, tokenizer: Tokenizer[Any], name: str) -> list[tuple[float | None, Measurement]]:
        """With the wish of each.

        Raises:
            EvaluationError: if the tokenizer has no such settings, or no ids.
        """
        if tokenizer.layout.is_continuous:
            raise EvaluationError(f"{name} has continuous latents, which have no nominal bits: there is no rate to draw")
        wishes = self.max_losses
        if isinstance(tokenizer, Adaptive) and wishes is None and self.lengths is None:
            wishes = WISHES
        if wishes is not None and self.lengths != ():
            if not isinstance(tokenizer, Adaptive):
                raise EvaluationError(f"{name} cannot be asked for an error: it does not choose the number of tokens itself; give --lengths")
            plain = suite.replace(lengths=())
            return [(wish, Measurement(plain, tokenizer.with_max_loss(wish), name=name)) for wish in sorted(wishes, reverse=True)]
        lengths = self.lengths
        if len(tokenizer.lengths_supported) == 1 and lengths:
            raise EvaluationError(
                f"{name} always writes {tokenizer.lengths_supported[0]} tokens, and its first ones do not decode alone, so it has no curve over "
                f"{', '.join(map(str, lengths))}; draw it as one point with --fixed {name}"
            )
        if lengths is None:
            lengths = _powers_of_two(tokenizer.lengths_supported)
        return [(None, Measurement(suite.replace(lengths=sorted(lengths)), tokenizer, name=name))]


def rate_suite(suite: Suite) -> Suite:
    """A suite that measures rates and what is drawn against them."""
    metrics = (*ALWAYS, *(metric for metric in suite.metrics if metric in IF_ASKED))
    return suite.replace(metrics=metrics)


def measure_curve(
    suite: Suite,
    tokenizer: Tokenizer[Any],
    settings: Settings,
    *,
    name: str,
    pictures: int = 6,
    progress: Callable[[str], AbstractContextManager[Report]],
    kept: KeptMeasurements | None = None,
) -> tuple[Curve, Gallery]:
    """Measure a tokenizer at all settings, and reconstruct some pictures at each to look at.

    Args:
        suite: as `rate_suite` gives it.
        tokenizer: what is measured.
        settings: at which settings.
        name: of the model, as it was asked for.
        pictures: how many to show, from all over the suite.
        progress: gives a context around each measurement, whose value is called with the pictures done and their total.
        kept: what an interrupted command had measured; None to keep nothing.

    Raises:
        EvaluationError: if the tokenizer has no such settings; see also `Measurement`.
    """
    measurements = settings.measurements(suite, tokenizer, name)
    results, counts = [], []
    for wish, measurement in measurements:
        context = progress(name if wish is None else f"{name} up to {wish:g}")
        if kept is not None:
            result, evidence = kept.measure(measurement, context)
        else:
            with context as step:
                result, evidence = measurement.run(progress=step)
        results.append(result)
        if wish is not None:
            counts.append(tuple(int(count) for count in evidence.per_image["tokens_per_image"]))
    wishes = tuple(wish for wish, _ in measurements if wish is not None)
    setting: Literal["length", "max_loss", "none"] = "max_loss" if wishes else "length" if measurements[0][1].suite.lengths else "none"
    curve = Curve(model=name, setting=setting, wishes=wishes, counts=tuple(counts), results=tuple(results))
    return curve, _gallery([measurement for _, measurement in measurements], wishes, pictures)


def in_words(tokens: float, wish: float | None) -> str:
    """A setting: its number of tokens, or the wish that led to varying numbers."""
    if wish is not None:
        return f"error up to {wish:g}"
    return f"{tokens:g} token{'' if tokens == 1 else 's'}"


def _gallery(measurements: Sequence[Measurement], wishes: Sequence[float], count: int) -> Gallery:
    first = measurements[0]
    places = np.unique(np.linspace(0, len(first.source) - 1, min(count, len(first.source))).astype(int)).tolist()
    loaded = first.load(places)
    originals = to_uint8(loaded.signals.values)
    settings = []
    for number, measurement in enumerate(measurements):
        with evaluating(measurement.tokenizer):
            for tokens, pictures in measurement.reconstruct(loaded, measurement.suite.lengths or (None,)).values():
                assert isinstance(tokens, Tokens)
                held = tokens.sample_lengths.tolist()
                label = in_words(held[0], wishes[number] if wishes else None)
                settings.append(Seen(label, pictures, held, psnr(originals, pictures, data_range=255).tolist()))
    return Gallery(originals, settings)


def _powers_of_two(supported: Sequence[int]) -> tuple[int, ...]:
    """Those of the supported lengths, and the longest; nothing where there is only one."""
    if len(supported) == 1:
        return ()
    longest = supported[-1]
    return (*(2**power for power in range(longest.bit_length()) if 2**power in supported and 2**power < longest), longest)
