"""Measuring the pictures of a generator: distances to real ones, and whether a classifier sees what was asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

import torch
from pydantic import JsonValue
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.data import EvalLoader, SkipReport, open_source
from visiontok.evaluation.features import Classifier, FeatureExtractor, all_extractors
from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.features.statistics import read_statistics
from visiontok.evaluation.generation.samples import Samples
from visiontok.evaluation.generation.sampling import SamplePlan
from visiontok.evaluation.generation.side import SampleSide
from visiontok.evaluation.generation.suite import GenerationSuite
from visiontok.evaluation.generation.values import RealSide, agreements, distances, statistics_identity
from visiontok.evaluation.metrics.entries.frechet_sides import check_enough_samples, check_equal_counts, check_same_features, feature_width
from visiontok.evaluation.metrics.frechet_bootstrap import why_no_interval
from visiontok.evaluation.reconstruction.run import Report
from visiontok.evaluation.results.environment import environment
from visiontok.evaluation.results.identity import Clock
from visiontok.evaluation.results.per_sample import Evidence
from visiontok.evaluation.results.result import DataIdentity, ModelIdentity, Result
from visiontok.evaluation.run_state import Progress, UnfinishedSides
from visiontok.evaluation.selection import choose
from visiontok.signals import ImagePreprocessing


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
    """Measure generated pictures that come in batches; see `SampleMeasurement`, which also goes on after an interruption.

    Args:
        suite: what to measure.
        samples: batches of (pictures (B, 3, size, size), uint8 or floats in [0, 1]; the classes asked for (B,) int64, or None throughout).
        model: what made them, see `model_identity`.
        plan: how they were sampled, where that is known.
        skips: where whoever reads the samples reports those that cannot be read.
        extractors: your own, beside those that the suite names.
        device: of the extractors' networks.

    Raises:
        EvaluationError, DataError: see `SampleMeasurement`.
    """
    measurement = SampleMeasurement(suite, model=model, plan=plan, extractors=extractors, device=device)
    for images, classes in samples:
        measurement.update(images, classes)
    return measurement.finish(skips or SkipReport())[0]


class SampleMeasurement:
    """Generated pictures on one suite, in one process. Reads every picture once, and holds no more than a batch of them.

    Moments are streamed; features of single pictures are kept only for metrics that need them, and for intervals. Where the reference holds
    more pictures than were generated, as many are drawn from it, since the Fréchet distance depends on N.
    """

    def __init__(
        self,
        suite: GenerationSuite,
        *,
        count: int | None = None,
        model: ModelIdentity | None = None,
        plan: SamplePlan | None = None,
        extractors: Sequence[FeatureExtractor] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        """Open the reference and the extractors, and refuse what would be refused in the end.

        Args:
            suite: what to measure.
            count: how many samples there will be, if the suite does not say.
            model, plan: what made them and how, where that is known.
            extractors: your own, beside those that the suite names.
            device: of the extractors' networks.

        Raises:
            EvaluationError: if a distance would not mean what its name says: fewer real than generated pictures, no more pictures than
                features, statistics of another extractor.
            CheckpointError: if an extractor's weights are missing.
            DataError: if the reference cannot be opened.
        """
        self._clock = Clock()
        self.suite, self._model, self._plan, self._device = suite, model, plan, torch.device(device)
        self._count = suite.num_samples or count
        self._extractors = [extractor.to(device) for extractor in all_extractors(suite.extractors, extractors)]
        self._omitted: dict[str, str] = {}
        if "inception_score" in suite.metrics and not any(isinstance(extractor, InceptionV3Compat) for extractor in self._extractors):
            self._omitted["inception_score"] = "none of the extractors is the Inception network"
        self._source = None if suite.reference is None else open_source(suite.reference)
        self._stored = {file.extractor: read_statistics(file.path, split=file.split, count=file.count) for file in suite.statistics}
        widths = {extractor.name: feature_width(extractor, suite.size) for extractor in self._extractors}
        if "frechet" in suite.metrics:
            self._refuse_early(widths)
        resampled = {name for name, width in widths.items() if "frechet" in suite.metrics and not why_no_interval(self._count, width)}
        kept = [extractor.name for extractor in self._extractors if suite.over_sets or extractor.name in resampled]
        self._generated = SampleSide(self._extractors, kept=kept)
        self._real = SampleSide(self._extractors, kept=kept)
        self._judges = [extractor for extractor in self._extractors if isinstance(extractor, Classifier) and "classifier" in suite.metrics]

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Everything but the samples on which the numbers depend."""
        return {
            "suite": self.suite.to_dict(),
            "model": self._model.to_dict() if self._model else None,
            "plan": self._plan.to_dict() if self._plan else None,
            "reference": self._source.identity if self._source else statistics_identity(self._stored.values()),
            "extractors": {extractor.name: extractor.identity for extractor in self._extractors},
            "environment": environment(self._device).to_dict(),
        }

    def update(self, images: Tensor, classes: Tensor | None) -> None:
        """Take in samples (B, 3, size, size), uint8 or floats in [0, 1], and the classes that were asked for (B,).

        Raises:
            EvaluationError: if they are of another size than the reference.
        """
        pictures = images.cpu() if images.dtype == torch.uint8 else to_uint8(images.float()).cpu()
        if pictures.shape[1:] != (3, self.suite.size, self.suite.size):
            expected = f"(B, 3, {self.suite.size}, {self.suite.size})"
            raise EvaluationError(f"samples have shape {tuple(pictures.shape)}; the reference is brought to {expected}")
        numbers, features = self._generated.update(pictures)
        if classes is not None:
            seen = {judge.name: judge.logits_of(features[judge.name]).argmax(dim=1) for judge in self._judges}
            self._generated.verdicts.update(numbers, asked=classes, **seen)

    def run(
        self, samples: Samples, *, progress: Report = lambda done, total: None, unfinished: UnfinishedSides | None = None
    ) -> tuple[Result, Evidence]:
        """Measure samples that lie on disk.

        Args:
            samples: all of them.
            progress: called with the pictures of both sides measured so far, and their number.
            unfinished: where an interrupted run of this measurement left its state, and where this one leaves its own.

        Raises:
            EvaluationError: if there are no samples, or another number than the suite says, or only some have a class.
            DataError: if the reference cannot be read.
        """
        position = 0
        earlier = unfinished.generated.load(0) if unfinished else None
        if earlier is not None:
            position = earlier.position
            samples.report.update(earlier.skips)
            self._generated.load_state(earlier.states)
        total = len(samples) + (0 if self._source is None else min(len(samples), len(self._source)))
        progress(position, total)
        for images, classes in samples.batches(self.suite.batch_size, start=position):
            self.update(images, classes)
            progress(samples.position, total)
            if unfinished and unfinished.generated.is_due:
                unfinished.generated.store(0, Progress(samples.position, samples.report.kept, self._generated.state()))
        return self.finish(samples.report, progress=lambda done: progress(len(samples) + done, total), unfinished=unfinished)

    def finish(
        self, skips: SkipReport, *, progress: Callable[[int], None] = lambda done: None, unfinished: UnfinishedSides | None = None
    ) -> tuple[Result, Evidence]:
        """The result over all samples taken in; see `run`.

        Args:
            skips: samples that could not be read.
            progress: called with the real pictures measured so far.
            unfinished: see `run`.
        """
        suite, generated = self.suite, self._generated
        broken = f" ({len(skips)} could not be read: {'; '.join(f'{skip.key}: {skip.reason}' for skip in skips.kept)})" if skips else ""
        if not generated.count:
            raise EvaluationError(f"there are no samples to measure{broken}")
        if suite.num_samples is not None and generated.count + len(skips) != suite.num_samples:
            raise EvaluationError(f"{generated.count} samples were given{broken}, but the suite {suite.name} is about {suite.num_samples}")
        data = self._measure_reference(progress, unfinished)
        real = RealSide(self._real if self._source is not None else None, self._stored)
        values, resampled = distances(suite, self._extractors, generated, real, expected=self._count)
        agreed, per_image = agreements(generated.verdicts, self._judges, generated.count, suite.bootstrap)
        evidence = Evidence(generated.pictures.numbers(), per_image, {}, resampled)
        result = Result(
            kind="generation",
            suite=suite.to_dict(),
            model=self._model,
            data=data,
            generated_sha256=generated.pictures.pixels_sha256(),
            generated_skipped=tuple(f"{skip.key}: {skip.reason}" for skip in skips.kept),
            sampling=self._plan.to_dict() if self._plan else None,
            extractors={extractor.name: extractor.identity for extractor in self._extractors},
            values=(*values, *agreed),
            omitted=self._omitted,
            evidence_sha256=evidence.sha256,
            environment=environment(self._device),
            run=self._clock.run(1),
        )
        return result, evidence

    def _refuse_early(self, widths: dict[str, int]) -> None:
        suite = self.suite
        for extractor in self._extractors:
            width, count = widths[extractor.name], self._count
            if extractor.name in self._stored:
                check_same_features(self._stored[extractor.name], extractor, width)
                others = self._stored[extractor.name].count
            else:
                others = None if self._source is None else len(self._source)
            if count is not None and self._source is not None and not suite.allow_unequal_counts:
                check_equal_counts(count, min(count, len(self._source)))
            known = [number for number in (count, others) if number is not None]
            if known and not suite.allow_few_samples:
                check_enough_samples(min(known), extractor, width)

    def _measure_reference(self, progress: Callable[[int], None], unfinished: UnfinishedSides | None) -> DataIdentity:
        """Which real pictures the samples are compared with, or which files."""
        suite, count = self.suite, self._generated.count
        if suite.reference is None or self._source is None:
            fingerprint = statistics_identity(self._stored.values())
            config: dict[str, JsonValue] = {"statistics": [file.to_dict() for file in suite.statistics]}
            size, name = (suite.size, suite.size), f"statistics-{fingerprint[:16]}"
            return DataIdentity(config=config, identity=name, images=count, size=size, pixels_sha256=fingerprint)
        source = choose(self._source, min(count, len(self._source)), seed=suite.seed)
        loader = EvalLoader(source, preprocessing=ImagePreprocessing(size=suite.size), batch_size=suite.batch_size)
        loader.report = SkipReport(source.skipped, keep=sys.maxsize)
        first = 0
        earlier = unfinished.reference.load(0) if unfinished else None
        if earlier is not None:
            first = earlier.position
            loader.report.update(earlier.skips)
            self._real.load_state(earlier.states)
        for batch in loader.batches(range(first, len(source))):
            self._real.update(to_uint8(batch.signals.values), batch.indices)
            position = min(first + (batch.step + 1) * suite.batch_size, len(source))
            progress(position)
            if unfinished and unfinished.reference.is_due:
                unfinished.reference.store(0, Progress(position, loader.report.kept, self._real.state()))
        return self._real.pictures.identity(suite.reference, source, loader.report)
