"""Measuring the pictures of a generator: distance to real ones, and whether a classifier sees what was asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, JsonValue
from torch import Tensor

from visiontok.config import Config
from visiontok.data import DataConfig, EvalLoader, SkipReport, open_source
from visiontok.errors import EvaluationError
from visiontok.evaluation.bootstrap import BootstrapConfig
from visiontok.evaluation.environment import environment
from visiontok.evaluation.features import Classifier, FeatureExtractor, all_extractors
from visiontok.evaluation.frechet_sides import frechet_value
from visiontok.evaluation.identity import Clock, Pictures
from visiontok.evaluation.measures.classifier import agreement_value
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.per_image import PerImage
from visiontok.evaluation.pictures import choose
from visiontok.evaluation.protocol import to_uint8
from visiontok.evaluation.result import DataIdentity, MetricValue, ModelIdentity, Result
from visiontok.preprocessing import ImagePreprocessing


class GenerationSuite(Config):
    """What to measure of generated pictures, and against what.

    Attributes:
        name: in results.
        reference: the source of the real pictures.
        size: side of the square that real pictures are brought to, in pixels; the generated ones must have it.
        extractors: whose features the distances are computed over; those that classify judge the asked-for classes.
        seed: of the choice of real pictures, where there are more of them than generated ones.
        batch_size: real pictures at a time.
        bootstrap: of the confidence intervals.
        allow_unequal_counts: compare with fewer real pictures than generated ones.
        allow_few_samples: compute distances also with no more samples than features.
    """

    name: str = "generation"
    reference: DataConfig
    size: Annotated[int, Field(gt=0)]
    extractors: tuple[str, ...] = Field(min_length=1)
    seed: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(gt=0)] = 64
    bootstrap: BootstrapConfig = BootstrapConfig()
    allow_unequal_counts: bool = False
    allow_few_samples: bool = False


def evaluate_samples(
    suite: GenerationSuite,
    samples: Iterable[tuple[Tensor, Tensor | None]],
    *,
    model: ModelIdentity | None = None,
    extractors: Sequence[FeatureExtractor] = (),
    device: torch.device | str = "cpu",
) -> Result:
    """Measure generated pictures against real ones, in one process.

    Where the reference holds more pictures than were generated, as many are drawn from it, since the Fréchet distance depends on N.

    Args:
        suite: what to measure.
        samples: batches of (pictures (B, 3, size, size), uint8 or floats in [0, 1]; the classes asked for (B,) int64, or None throughout).
        model: what made them, see `model_identity`.
        extractors: your own, beside those that the suite names.
        device: where they were made, for the record.

    Raises:
        EvaluationError: if there are no samples, some are of another size than the reference, only some have a class, or a distance would
            not mean what its name says: fewer real than generated pictures, or no more than features.
        DataError: if the reference cannot be read.
    """
    clock = Clock()
    extractors = all_extractors(suite.extractors, extractors)
    generated = _Side(extractors)
    verdicts = PerImage()
    judges = [extractor for extractor in extractors if isinstance(extractor, Classifier)]
    for images, classes in samples:
        pictures = images.cpu() if images.dtype == torch.uint8 else to_uint8(images.float()).cpu()
        if pictures.shape[1:] != (3, suite.size, suite.size):
            raise EvaluationError(f"samples have shape {tuple(pictures.shape)}; the reference is brought to (B, 3, {suite.size}, {suite.size})")
        numbers = generated.update(pictures)
        if classes is not None:
            verdicts.update(numbers, asked=classes, **{judge.name: judge.classify(pictures) for judge in judges})
    if not generated.count:
        raise EvaluationError("there are no samples to measure")
    reference, source_identity = _reference(suite, extractors, generated.count)
    values = [
        frechet_value(
            measured.compute(),
            real.compute(),
            extractor=extractor,
            reference_side=f"pictures of {suite.reference.name}, drawn with seed {suite.seed} where there are more",
            allow_unequal_counts=suite.allow_unequal_counts,
            allow_few_samples=suite.allow_few_samples,
        )
        for extractor, measured, real in zip(extractors, generated.moments, reference.moments, strict=True)
    ]
    return Result(
        kind="generation",
        suite=suite.to_dict(),
        model=model,
        data=source_identity,
        generated_sha256=generated.pictures.pixels_sha256(),
        extractors={extractor.name: extractor.identity for extractor in extractors},
        values=(*values, *_agreements(verdicts, judges, generated.count, suite.bootstrap)),
        environment=environment(torch.device(device)),
        run=clock.run(1),
    )


class _Side:
    """Features and fingerprints of one side."""

    def __init__(self, extractors: Sequence[FeatureExtractor]) -> None:
        self._extractors = extractors
        self.moments = [Moments() for _ in extractors]
        self.pictures = Pictures()

    @property
    def count(self) -> int:
        return self.pictures.count

    def update(self, images: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Take in (B, 3, H, W) uint8; numbers them on from those before unless they have numbers of their own."""
        numbers = torch.arange(self.count, self.count + len(images)) if numbers is None else numbers
        self.pictures.update(numbers, images)
        for moments, extractor in zip(self.moments, self._extractors, strict=True):
            moments.update(extractor(images))
        return numbers


def _reference(suite: GenerationSuite, extractors: Sequence[FeatureExtractor], count: int) -> tuple[_Side, DataIdentity]:
    whole = open_source(suite.reference)
    source = choose(whole, min(count, len(whole)), seed=suite.seed)
    loader = EvalLoader(source, preprocessing=ImagePreprocessing(size=suite.size), batch_size=suite.batch_size)
    loader.report = SkipReport(source.skipped, keep=sys.maxsize)
    side = _Side(extractors)
    for batch in loader:
        side.update(to_uint8(batch.images), batch.indices)
    return side, side.pictures.identity(suite.reference, source, loader.report)


def _agreements(verdicts: PerImage, judges: Sequence[Classifier], count: int, bootstrap: BootstrapConfig) -> list[MetricValue]:
    """Share of samples that each judge gives the class that was asked for, also by class."""
    if not verdicts.state():
        return []
    table = verdicts.compute()
    if len(table["asked"]) != count:
        raise EvaluationError(f"{len(table['asked'])} of {count} samples have a class that was asked for; give one for all or for none")
    values = []
    for judge in judges:
        agrees = table[judge.name] == table["asked"]
        value = agreement_value(f"agreement[{judge.name}].asked_class", agrees, bootstrap, f"{judge.name} sees the class that was asked for")
        by_class: dict[str, JsonValue] = {str(label): float(agrees[table["asked"] == label].mean()) for label in np.unique(table["asked"])}
        values.append(value.model_copy(update={"details": {"by_class": by_class}}))
    return values
