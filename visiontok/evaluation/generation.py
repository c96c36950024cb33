"""Measuring the pictures of a generator: distance to real ones, and whether a classifier sees what was asked for."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from visiontok.data import EvalLoader, SkipReport, open_source
from visiontok.errors import EvaluationError
from visiontok.evaluation.bootstrap import BootstrapConfig
from visiontok.evaluation.environment import environment
from visiontok.evaluation.features import Classifier, FeatureExtractor, all_extractors
from visiontok.evaluation.frechet_sides import frechet_to_statistics, frechet_value
from visiontok.evaluation.generation_suite import GenerationSuite
from visiontok.evaluation.identity import Clock, Pictures
from visiontok.evaluation.measures.classifier import agreement_value
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.per_image import PerImage
from visiontok.evaluation.pictures import choose
from visiontok.evaluation.protocol import to_uint8
from visiontok.evaluation.result import DataIdentity, MetricValue, ModelIdentity, Result
from visiontok.evaluation.sampling import SamplePlan
from visiontok.evaluation.statistics_files import read_statistics
from visiontok.preprocessing import ImagePreprocessing


def evaluate_samples(
    suite: GenerationSuite,
    samples: Iterable[tuple[Tensor, Tensor | None]],
    *,
    model: ModelIdentity | None = None,
    plan: SamplePlan | None = None,
    skips: SkipReport | None = None,
    extractors: Sequence[FeatureExtractor] = (),
    device: torch.device | str = "cpu",
) -> Result:
    """Measure generated pictures against real ones, in one process. Statistics are streamed; no more than a batch is in memory.

    Where the reference holds more pictures than were generated, as many are drawn from it, since the Fréchet distance depends on N.

    Args:
        suite: what to measure.
        samples: batches of (pictures (B, 3, size, size), uint8 or floats in [0, 1]; the classes asked for (B,) int64, or None throughout).
        model: what made them, see `model_identity`.
        plan: how they were sampled, where that is known.
        skips: where whoever reads the samples reports those that cannot be read.
        extractors: your own, beside those that the suite names.
        device: where they were made, for the record.

    Raises:
        EvaluationError: if there are no samples, or another number than the suite says, some are of another size than the reference, only
            some have a class, or a distance would not mean what its name says: fewer real than generated pictures, or no more than features.
        DataError: if the reference cannot be read.
    """
    clock = Clock()
    extractors = all_extractors(suite.extractors, extractors)
    generated = _Side(extractors)
    verdicts = PerImage()
    judges = [extractor for extractor in extractors if isinstance(extractor, Classifier) and "classifier" in suite.metrics]
    for images, classes in samples:
        pictures = images.cpu() if images.dtype == torch.uint8 else to_uint8(images.float()).cpu()
        if pictures.shape[1:] != (3, suite.size, suite.size):
            raise EvaluationError(f"samples have shape {tuple(pictures.shape)}; the reference is brought to (B, 3, {suite.size}, {suite.size})")
        numbers, features = generated.update(pictures)
        if classes is not None:
            seen = {judge.name: judge.logits_of(features[judge.name]).argmax(dim=1) for judge in judges}
            verdicts.update(numbers, asked=classes, **seen)
    broken = f" ({len(skips)} could not be read: {'; '.join(f'{skip.key}: {skip.reason}' for skip in skips.kept)})" if skips else ""
    if not generated.count:
        raise EvaluationError(f"there are no samples to measure{broken}")
    if suite.num_samples is not None and generated.count + (len(skips) if skips else 0) != suite.num_samples:
        raise EvaluationError(f"{generated.count} samples were given{broken}, but the suite {suite.name} is about {suite.num_samples}")
    distances, data = _distances(suite, extractors, generated)
    return Result(
        kind="generation",
        suite=suite.to_dict(),
        model=model,
        data=data,
        generated_sha256=generated.pictures.pixels_sha256(),
        generated_skipped=tuple(f"{skip.key}: {skip.reason}" for skip in skips.kept) if skips else (),
        sampling=plan.to_dict() if plan else None,
        extractors={extractor.name: extractor.identity for extractor in extractors},
        values=(*(distances if "frechet" in suite.metrics else ()), *_agreements(verdicts, judges, generated.count, suite.bootstrap)),
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

    def update(self, images: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Take in (B, 3, H, W) uint8, numbered on from those before unless they have numbers of their own; gives the numbers and the features."""
        numbers = torch.arange(self.count, self.count + len(images)) if numbers is None else numbers
        self.pictures.update(numbers, images)
        features = {extractor.name: extractor(images) for extractor in self._extractors}
        for moments, extractor in zip(self.moments, self._extractors, strict=True):
            moments.update(features[extractor.name])
        return numbers, features


def _distances(suite: GenerationSuite, extractors: Sequence[FeatureExtractor], generated: _Side) -> tuple[list[MetricValue], DataIdentity]:
    """To real pictures, and which those were; to statistics files, which the values name."""
    measured = [moments.compute() for moments in generated.moments]
    if suite.reference is None:
        files = {file.extractor: file for file in suite.statistics}
        values, sums = [], []
        for extractor, side in zip(extractors, measured, strict=True):
            file = files[extractor.name]
            stored = read_statistics(file.path, split=file.split, count=file.count)
            sums.append(stored.sha256)
            few = suite.allow_few_samples
            values.append(frechet_to_statistics(side, stored, extractor=extractor, reconstructions=False, allow_few_samples=few))
        config: dict[str, JsonValue] = {"statistics": [file.to_dict() for file in suite.statistics]}
        fingerprint = hashlib.sha256("".join(sums).encode()).hexdigest()
        size, name = (suite.size, suite.size), f"statistics-{fingerprint[:16]}"
        return values, DataIdentity(config=config, identity=name, images=generated.count, size=size, pixels_sha256=fingerprint)
    reference, data = _reference(suite, extractors, generated.count)
    side_name = f"pictures of {suite.reference.name}, drawn with seed {suite.seed} where there are more"
    values = [
        frechet_value(
            side,
            real.compute(),
            extractor=extractor,
            reference_side=side_name,
            allow_unequal_counts=suite.allow_unequal_counts,
            allow_few_samples=suite.allow_few_samples,
        )
        for extractor, side, real in zip(extractors, measured, reference.moments, strict=True)
    ]
    return values, data


def _reference(suite: GenerationSuite, extractors: Sequence[FeatureExtractor], count: int) -> tuple[_Side, DataIdentity]:
    assert suite.reference is not None
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
