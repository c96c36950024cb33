"""Quality against rate: a tokenizer evaluated at several lengths, codebook levels or target errors, or at the one length that it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import EvaluationError
from visiontok.base.files import replacing
from visiontok.base.modes import evaluating
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import DataBatch
from visiontok.evaluation.metrics.fidelity import psnr
from visiontok.evaluation.metrics.rate_distortion import token_complexity
from visiontok.evaluation.metrics.registry import QUALITIES
from visiontok.evaluation.metrics.value import Cut, MetricValue
from visiontok.evaluation.reconstruction.evaluate import run_or_take
from visiontok.evaluation.reconstruction.falling_curves import RatePoint, curve_warnings, rate_points
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.report.images import signal_image
from visiontok.evaluation.results.report.sections import ImageArray, SoundGrid
from visiontok.evaluation.results.report.side_by_side import seconds_shown, side_by_side
from visiontok.evaluation.results.result import Result
from visiontok.evaluation.run_state import ProgressCallback, RunStates
from visiontok.signals import SignalSpec

DEFAULT_QUALITIES = ("psnr", "ssim")
"""What is drawn against the rate where a suite names no quality."""

DECIBELS = (20.0, 25.0, 30.0, 35.0)
"""The PSNRs in dB for which the tokens that samples require are counted."""

Varied: TypeAlias = Literal["length", "levels", "max_loss", "none"]

TARGETS = (0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.38)
"""Default target errors (mean absolute error) for tokenizers that choose their number of tokens."""


@dataclass(frozen=True)
class Point:
    """One setting of one model.

    Attributes:
        label: the setting in words.
        tokens, bits: nominal, mean over samples.
        bits_per_unit: nominal, per pixel or second, whichever there is.
        qualities: by name, everything else that was computed.
    """

    label: str
    tokens: float
    bits: float
    bits_per_unit: float
    qualities: dict[str, MetricValue]


class Reached(Config):
    """How many tokens samples need for a PSNR.

    Attributes:
        decibels: the PSNR.
        share: of the samples that reach it at some of the lengths.
        mean_over_reached: tokens of those; None where none does.
        mean_capped: tokens of all, where the others are given all.
    """

    decibels: float
    share: float
    mean_over_reached: float | None
    mean_capped: float


class Curve(Config):
    """One model at all its settings.

    Attributes:
        model: as it was requested.
        setting: what was varied: the number of tokens, that of codebook levels, the target error, or nothing.
        counts: tokens of every sample at each target error, by sample index: approximately their complexity; empty otherwise.
        reached: where lengths were varied, the tokens that some PSNRs require.
        falls: qualities that fall from one target error to the next; a result at several lengths or levels warns of its own.
        results: one per target error, else one that holds all lengths or levels.
    """

    model: str
    setting: Varied
    counts: tuple[tuple[int, ...], ...] = ()
    reached: tuple[Reached, ...] = ()
    falls: tuple[str, ...] = ()
    results: tuple[Result, ...]

    @property
    def targets(self) -> tuple[float, ...]:
        """The target errors, one per result; none where something else was varied."""
        return tuple(float(str(result.suite["max_loss"])) for result in self.results if result.suite.get("max_loss") is not None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the model or its curve although the numbers are right."""
        return tuple(dict.fromkeys([*(warning for result in self.results for warning in result.warnings), *self.falls]))

    @property
    def points(self) -> list[Point]:
        """By rising rate."""
        found = []
        for number, result in enumerate(self.results):
            for cut in dict.fromkeys(value.cut for value in result.values):
                values = {value.name: value for value in result.values if value.cut == cut}
                per_unit = [values.pop(name) for name in ("bits_per_pixel.nominal", "bits_per_second.nominal") if name in values]
                tokens, bits = (float(values.pop(name).value or 0) for name in ("tokens_per_sample", "bits_per_sample.nominal"))
                label = setting_in_words(tokens, cut.levels, self.targets[number] if self.targets else None)
                qualities = {name: value for name, value in values.items() if value.metric != "rate"}
                found.append(Point(label, tokens, bits, float(per_unit[0].value or 0) if per_unit else 0.0, qualities))
        return sorted(found, key=lambda point: point.tokens)


class RateDistortion(Config):
    """The result of `visiontok evaluate rd`.

    Attributes:
        format: version of this layout.
        curves: one per model.
    """

    format: Literal[2] = 2
    kind: Literal["rate-distortion"] = "rate-distortion"
    curves: tuple[Curve, ...]

    def save(self, path: str | Path) -> None:
        """Write JSON that `load` reads, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class GalleryRow:
    """Some samples at one setting.

    Attributes:
        label: the setting in words.
        reconstructions: one per sample.
        tokens: of each.
        decibels: PSNR of each; infinite where nothing was lost, None where the values have no bounds.
    """

    label: str
    reconstructions: list[ImageArray]
    tokens: list[int]
    decibels: list[float] | None


@dataclass(frozen=True, eq=False)
class Gallery:
    """Some samples of the suite at every setting of a model; none for signals that can be neither shown nor played.

    Attributes:
        originals, rows: of images.
        sounds: one by one, each with its reconstructions.
    """

    originals: list[ImageArray] = field(default_factory=list)
    rows: list[GalleryRow] = field(default_factory=list)
    sounds: list[SoundGrid] = field(default_factory=list)


@dataclass(frozen=True)
class Settings:
    """What is varied.

    Attributes:
        lengths: numbers of tokens; None for powers of two up to all, where the tokenizer has such.
        levels: numbers of codebook levels; None for all that decode, of tokenizers of one length, where `lengths` is None too.
        max_losses: target errors; None for `TARGETS` of tokenizers that choose their number of tokens, where `lengths` is None too.
    """

    lengths: tuple[int, ...] | None = None
    levels: tuple[int, ...] | None = None
    max_losses: tuple[float, ...] | None = None

    @classmethod
    def none(cls) -> Self:
        """One point, with all tokens."""
        return cls(lengths=())

    def runs(self, suite: Suite, tokenizer: Tokenizer[Any], name: str) -> list[ReconstructionRun]:
        """One per target error, else one for all lengths or levels.

        Raises:
            EvaluationError: if the tokenizer has no such settings, or no tokens.
        """
        layout, supported = tokenizer.layout, tokenizer.lengths_supported
        if layout.is_continuous:
            raise EvaluationError(f"{name} has continuous latents, which have no nominal bits: there is no rate to draw")
        lengths, levels, targets = self.lengths, self.levels, self.max_losses
        plain = suite.replace(lengths=(), levels=(), max_loss=None)
        if lengths is levels is targets is None:
            if layout.ragged and len(supported) > 1:
                targets = TARGETS
            elif len(supported) == 1 and layout.levels != "none":
                levels = tuple(tokenizer.levels_supported)
        if targets is not None:
            return [ReconstructionRun(plain.replace(max_loss=error), tokenizer, name=name) for error in sorted(targets, reverse=True)]
        if levels:
            if layout.levels == "none":
                raise EvaluationError(f"the codebook levels of {name} do not decode one without the other; draw it as one point with --fixed {name}")
            return [ReconstructionRun(plain.replace(levels=sorted(levels)), tokenizer, name=name)]
        if len(supported) == 1 and lengths:
            raise EvaluationError(
                f"{name} always writes {supported[0]} tokens, and its first ones do not decode alone, so it has no curve over "
                f"{', '.join(map(str, lengths))}; draw it as one point with --fixed {name}"
            )
        if lengths is None:
            lengths = _powers_of_two(supported)
        return [ReconstructionRun(plain.replace(lengths=sorted(lengths)), tokenizer, name=name)]


def rate_suite(suite: Suite) -> Suite:
    """A suite that computes rates and what is plotted against them."""
    qualities = tuple(metric for metric in suite.metrics if metric in QUALITIES) or DEFAULT_QUALITIES
    return suite.replace(metrics=(*qualities, "rate"))


def evaluate_curve(
    suite: Suite,
    tokenizer: Tokenizer[Any],
    settings: Settings,
    *,
    name: str,
    examples: int = 6,
    progress: Callable[[str], AbstractContextManager[ProgressCallback]],
    states: RunStates | None = None,
) -> tuple[Curve, Gallery]:
    """Evaluate a tokenizer at all settings, and reconstruct some samples at each to look at.

    Args:
        suite: as `rate_suite` gives it.
        tokenizer: that is evaluated.
        settings: at which settings.
        name: of the model, as it was requested.
        examples: samples to show, from all over the suite.
        progress: gives a context around each run, whose value is called with the samples done and their total.
        states: of an interrupted command; None to keep nothing.

    Raises:
        EvaluationError: if the tokenizer has no such settings, or its rate could not be computed; see also `ReconstructionRun`.
    """
    runs = settings.runs(suite, tokenizer, name)
    results, counts = [], []
    points: list[RatePoint] = []
    reached: tuple[Reached, ...] = ()
    for run in runs:
        error = run.suite.max_loss
        context = progress(name if error is None else f"{name} up to {error:g}")
        if states is not None:
            result, per_sample = run_or_take(run, states, context)
        else:
            with context as step:
                result, per_sample = run.run(progress=step)
        if "rate" in result.failed:
            raise EvaluationError(f"there is no rate to draw the curve of {name} against: {result.failed['rate']}")
        results.append(result)
        if error is not None:
            points += rate_points(result.values, per_sample.per_sample, label=_error_in_words(error))
            counts.append(tuple(int(count) for count in per_sample.per_sample["tokens_per_sample"]))
        elif run.suite.lengths:
            reached = tokens_for_psnr(per_sample, run.suite.lengths)
    varied = runs[0].suite
    setting: Varied = "max_loss" if counts else "length" if varied.lengths else "levels" if varied.levels else "none"
    falls = curve_warnings(points, suite.bootstrap)
    curve = Curve(model=name, setting=setting, counts=tuple(counts), reached=reached, falls=falls, results=tuple(results))
    return curve, _gallery(runs, examples)


def tokens_for_psnr(per_sample: PerSampleResults, lengths: Sequence[int]) -> tuple[Reached, ...]:
    """The tokens that some PSNRs require, of a run at rising lengths; nothing where PSNR was not computed."""
    labels = [f"psnr.mean_db{Cut(length).suffix}" for length in lengths]
    if not set(labels) <= set(per_sample.per_sample):
        return ()
    errors = -np.stack([per_sample.per_sample[label] for label in labels], axis=1)
    found = [(decibels, token_complexity(lengths, errors, threshold=-decibels)) for decibels in DECIBELS]
    return tuple(
        Reached(
            decibels=decibels,
            share=each.reached,
            mean_over_reached=each.mean_over_reached,
            mean_capped=each.mean_capped,
        )
        for decibels, each in found
    )


def setting_in_words(tokens: float, levels: int | None, error: float | None) -> str:
    """A setting: its number of tokens or codebook levels, or the target error that led to varying numbers of tokens."""
    if error is not None:
        return _error_in_words(error)
    count, unit = (tokens, "token") if levels is None else (levels, "level")
    return f"{count:g} {unit}{'' if count == 1 else 's'}"


def _error_in_words(error: float) -> str:
    return f"error up to {error:g}"


def _gallery(runs: Sequence[ReconstructionRun], count: int) -> Gallery:
    first, rows = runs[0], []
    spec = first.tokenizer.preprocessing.spec
    indices = np.unique(np.linspace(0, len(first.source) - 1, min(count, len(first.source))).astype(int)).tolist()
    loaded = [first.loader.read([index]) for index in indices]
    if spec.modality == "audio":
        return Gallery(sounds=_sounds(runs, loaded, spec))
    originals = [image for item in loaded for signal in item.signals if (image := signal_image(signal, spec)) is not None]
    if not originals:
        return Gallery()
    peak = 255.0 if spec.is_rgb and spec.modality == "image" else spec.peak
    for run in runs:
        with evaluating(run.tokenizer):
            found = [run.reconstruct(item, run.suite.cuts) for item in loaded]
        for cut in run.suite.cuts:
            held, shown, decibels = [], [], []
            for item, each in zip(loaded, found, strict=True):
                tokens, samples = each[cut]
                assert samples is not None
                (original,), (sample,) = item.signals, samples
                image = signal_image(sample, spec)
                assert image is not None
                held.append(int(tokens.sample_lengths[0]))
                shown.append(image)
                if peak is not None:
                    decibels.append(float(psnr(original[None], sample[None], data_range=peak)))
            rows.append(GalleryRow(setting_in_words(held[0], cut.levels, run.suite.max_loss), shown, held, decibels if peak is not None else None))
    return Gallery(originals, rows)


def _sounds(runs: Sequence[ReconstructionRun], loaded: Sequence[DataBatch], spec: SignalSpec) -> list[SoundGrid]:
    """Each with what it is reconstructed to at every setting."""
    seconds = seconds_shown(spec, sounds=len(loaded) * (1 + sum(len(run.suite.cuts) for run in runs)))
    found = []
    for item in loaded:
        (original,), decoded = item.signals, {}
        for run in runs:
            with evaluating(run.tokenizer):
                reconstructed = run.reconstruct(item, run.suite.cuts)
            for cut, (tokens, samples) in reconstructed.items():
                assert samples is not None
                (decoded[setting_in_words(int(tokens.sample_lengths[0]), cut.levels, run.suite.max_loss)],) = samples
        section = side_by_side(item.keys[0], original, decoded, spec=spec, tokens=tokens, seconds=seconds)
        assert isinstance(section, SoundGrid)
        found.append(section)
    return found


def _powers_of_two(supported: Sequence[int]) -> tuple[int, ...]:
    """Those of the supported lengths, and the longest; nothing where there is only one."""
    if len(supported) == 1:
        return ()
    longest = supported[-1]
    return (*(2**power for power in range(longest.bit_length()) if 2**power in supported and 2**power < longest), longest)
