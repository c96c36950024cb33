"""Evaluates generated samples: reads each once, then as many real ones, and feeds the metrics with both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from pydantic import JsonValue
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.data import SkipReport, open_source
from visiontok.evaluation.features import FeatureExtractor, all_extractors, feature_width
from visiontok.evaluation.features.i3d import I3D
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.features.statistics import read_statistics
from visiontok.evaluation.generation.samples import RGB_IMAGES, Samples
from visiontok.evaluation.generation.sampling import SamplePlan
from visiontok.evaluation.generation.suite import GenerationSuite
from visiontok.evaluation.loading import SignalLoader
from visiontok.evaluation.metrics.entries.frechet import check_enough_samples, check_equal_counts, check_same_features
from visiontok.evaluation.metrics.metric import EvaluatedBatch, Subject
from visiontok.evaluation.metrics.needs import suitable
from visiontok.evaluation.metrics.registry import reasons, select
from visiontok.evaluation.metrics.running import RunningMetrics
from visiontok.evaluation.results.environment import environment
from visiontok.evaluation.results.identity import Clock, Fingerprint
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import DataIdentity, ModelIdentity, Result
from visiontok.evaluation.run_state import ProgressCallback, RunState, no_progress, resumed
from visiontok.evaluation.selection import choose
from visiontok.signals import AudioPreprocessing, ImagePreprocessing, Preprocessing, SignalBatch, SignalSpec, VideoPreprocessing


def evaluate_samples(
    suite: GenerationSuite,
    samples: Iterable[tuple[Tensor | SignalBatch, Tensor | None]],
    *,
    spec: SignalSpec = RGB_IMAGES,
    model: ModelIdentity | None = None,
    plan: SamplePlan | None = None,
    skips: SkipReport | None = None,
    extractors: Sequence[FeatureExtractor] = (),
    device: torch.device | str = "cpu",
) -> Result:
    """Evaluate generated samples that come in batches; see `GenerationRun`, which also continues after an interruption.

    Args:
        suite: what to evaluate.
        samples: batches of (samples (B, C, *axes) as `GenerationRun.update` takes them; the requested classes (B,) int64, or None throughout).
        spec: of the samples.
        model: what made them, see `model_identity`.
        plan: how they were sampled, where that is known.
        skips: where whoever reads the samples reports those that cannot be read.
        extractors: your own, beside those that the suite names.
        device: of the extractors' networks.

    Raises:
        EvaluationError, DataError: see `GenerationRun`.
    """
    run = GenerationRun(suite, spec=spec, model=model, plan=plan, extractors=extractors, device=device)
    for signals, classes in samples:
        run.update(signals, classes)
    return run.finish(skips or SkipReport())[0]


class GenerationRun:
    """Generated samples on one suite, in one process. Reads every sample once, and holds no more than a batch of them.

    Moments are streamed; features of single samples are kept only for metrics that need them, and for intervals. Where the reference holds
    more samples than were generated, as many are drawn from it, since the Fréchet distance depends on N.
    """

    def __init__(
        self,
        suite: GenerationSuite,
        *,
        spec: SignalSpec = RGB_IMAGES,
        count: int | None = None,
        model: ModelIdentity | None = None,
        plan: SamplePlan | None = None,
        extractors: Sequence[FeatureExtractor] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        """Open the reference and the extractors, and refuse now what would be refused after all the work.

        Args:
            suite: what to evaluate.
            spec: of the samples, as the tokenizer that decodes them gives it.
            count: how many samples there will be, if the suite does not determine it.
            model, plan: what made them and how, where that is known.
            extractors: your own, beside those that the suite names.
            device: of the extractors' networks.

        Raises:
            EvaluationError: if the suite's size does not go with such samples, no metric of the suite applies to them, or a distance would not mean
                what its name says: fewer real than generated samples, no more samples than features, statistics of another extractor.
            CheckpointError: if an extractor's weights are missing.
            DataError: if the reference cannot be opened.
        """
        self._clock = Clock()
        self.suite, self._model, self._plan, self._device = suite, model, plan, torch.device(device)
        self._count = suite.num_samples or count
        self._preprocessing = _preprocessing(suite, spec)
        own = [*extractors, *([] if suite.fvd is None else [I3D(suite.fvd)])]
        self._extractors = [extractor.reading(spec).to(device) for extractor in all_extractors(suite.extractors, own)]
        self._source = None if suite.reference is None else open_source(suite.reference)
        self._statistics = {file.extractor: read_statistics(file.path, split=file.split, count=file.count) for file in suite.statistics}
        reference = "" if suite.reference is None else suite.reference.name
        subject = Subject(
            task="generation",
            spec=spec,
            extractors=self._extractors,
            count=self._count,
            reference_count=None if self._source is None or self._count is None else min(self._count, len(self._source)),
            size=self._size,
            device=self._device,
            reference=f"samples of {reference}, drawn with seed {suite.seed} where there are more",
            has_reference_samples=self._source is not None,
            paired=False,
            allow_unequal_counts=suite.allow_unequal_counts,
            allow_few_samples=suite.allow_few_samples,
        )
        widths = {extractor.name: feature_width(extractor, self._preprocessing.blank()) for extractor in suitable(subject)}
        if "frechet" in suite.metrics:
            self._refuse_early(suitable(subject), widths)
        metrics, self._omitted = select(suite.metrics, subject)
        if not metrics:
            raise EvaluationError(f"no metric of the suite {suite.name} applies to these samples: {reasons(self._omitted)}")
        self._running = RunningMetrics(metrics, subject, widths=widths, statistics=self._statistics)
        self._generated, self._real = Fingerprint(), Fingerprint()
        self._have_classes: bool | None = None

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Everything but the samples on which the numbers depend."""
        return {
            "suite": self.suite.to_dict(),
            "model": self._model.to_dict() if self._model else None,
            "plan": self._plan.to_dict() if self._plan else None,
            "reference": self._source.identity if self._source else self._statistics_sha256(),
            "extractors": {extractor.name: extractor.identity for extractor in self._extractors},
            "environment": environment(self._device).to_dict(),
        }

    @property
    def _size(self) -> tuple[int, ...] | None:
        """Of every sample; None where samples keep their own."""
        side = self.suite.size
        return (side, side) if side is not None and self._preprocessing.spec.modality == "image" else None

    def update(self, signals: Tensor | SignalBatch, classes: Tensor | None) -> None:
        """Add samples (B, C, *axes) in the range of their spec, images and clips also as uint8, and the requested classes (B,).

        Raises:
            EvaluationError: if they are of another shape than the reference, or only some samples have a class.
        """
        samples = self._as_compared(signals if isinstance(signals, SignalBatch) else SignalBatch.of(signals))
        spec, side, shape = self._preprocessing.spec, self.suite.size, samples.values.shape
        fits = len(shape) == 2 + len(spec.axes) and shape[1] == spec.channels
        if not fits or (side is not None and shape[-2:] != (side, side)):
            expected = f"{spec.shape}{'' if side is None else f' of {side} x {side} pixels'}"
            raise EvaluationError(f"samples have shape {tuple(shape)}; the reference is {expected}")
        if self._have_classes is not None and self._have_classes != (classes is not None):
            raise EvaluationError("only some samples have a requested class; give one for all or for none")
        self._have_classes = classes is not None
        indices = torch.arange(self._generated.count, self._generated.count + len(samples))
        self._generated.update(indices, samples)
        self._running.update(EvaluatedBatch(indices, samples=samples, labels=classes))

    def _as_compared(self, signals: SignalBatch) -> SignalBatch:
        """RGB images in 8 bits, other signals as floats, on the CPU."""
        spec, values = self._preprocessing.spec, signals.values
        is_8bit = values.dtype == torch.uint8
        if spec.modality == "image" and spec.is_rgb:
            values = values if is_8bit else to_uint8(values.float())
        else:
            values = values.float() / 255 if is_8bit else spec.clamp(values.float())
        return SignalBatch(values.cpu(), signals.sizes, signals.fills)

    def run(self, samples: Samples, *, progress: ProgressCallback = no_progress, state: RunState | None = None) -> tuple[Result, PerSampleResults]:
        """Evaluate samples on disk.

        Args:
            samples: all of them.
            progress: called with the samples of both sides evaluated so far, and their number.
            state: where an interrupted run of this evaluation left off, and where this one leaves its own state.

        Raises:
            EvaluationError: if there are no samples, or another number than the suite requires, or only some have a class.
            DataError: if the reference cannot be read.
        """
        total = len(samples) + (0 if self._source is None else min(len(samples), len(self._source)))

        def read(start: int) -> Iterator[tuple[int, tuple[SignalBatch, Tensor | None]]]:
            for signals, classes in samples.batches(self.suite.batch_size, start=start):
                yield samples.position, (signals, classes)

        parts = {**self._running.sample_accumulators, "samples": self._generated.table}
        for position, batch in resumed(read, name="samples", start=0, parts=parts, skips=samples.report, state=state):
            if batch is not None:
                self.update(*batch)
            progress(position, total)
        return self.finish(samples.report, progress=lambda done: progress(len(samples) + done, total), state=state)

    def finish(
        self, skips: SkipReport, *, progress: Callable[[int], None] = lambda done: None, state: RunState | None = None
    ) -> tuple[Result, PerSampleResults]:
        """The result over all samples added; see `run`.

        Args:
            skips: samples that could not be read.
            progress: called with the real samples evaluated so far.
            state: see `run`.
        """
        suite, count = self.suite, self._generated.count
        broken = f" ({len(skips)} could not be read: {'; '.join(f'{skip.key}: {skip.reason}' for skip in skips.kept)})" if skips else ""
        if not count:
            raise EvaluationError(f"there are no samples to evaluate{broken}")
        if suite.num_samples is not None and count + len(skips) != suite.num_samples:
            raise EvaluationError(f"{count} samples were given{broken}, but the suite {suite.name} requires {suite.num_samples}")
        data = self._read_reference(count, progress, state)
        outcome = self._running.outcome(suite.bootstrap)
        if not outcome.values:
            why = reasons({**self._omitted, **outcome.omitted, **outcome.failed})
            raise EvaluationError(f"no metric of the suite {suite.name} applies to these samples: {why}")
        per_sample = PerSampleResults(self._generated.indices(), (), outcome.per_sample, outcome.code_counts, outcome.resampled)
        result = Result(
            kind="generation",
            suite=suite.to_dict(),
            model=self._model,
            data=data,
            generated_sha256=self._generated.samples_sha256(),
            generated_skipped=tuple(f"{skip.key}: {skip.reason}" for skip in skips.kept),
            sampling=self._plan.to_dict() if self._plan else None,
            extractors={extractor.name: extractor.identity for extractor in self._extractors},
            values=tuple(outcome.values),
            omitted={**self._omitted, **outcome.omitted},
            failed=outcome.failed,
            per_sample_sha256=per_sample.sha256,
            environment=environment(self._device),
            run=self._clock.run(1),
        )
        return result, per_sample

    def _refuse_early(self, extractors: Sequence[FeatureExtractor], widths: dict[str, int]) -> None:
        suite = self.suite
        for extractor in extractors:
            width, count = widths[extractor.name], self._count
            if extractor.name in self._statistics:
                check_same_features(self._statistics[extractor.name], extractor, width)
                others = self._statistics[extractor.name].count
            else:
                others = None if self._source is None else len(self._source)
            if count is not None and self._source is not None and not suite.allow_unequal_counts:
                check_equal_counts(count, min(count, len(self._source)))
            known = [number for number in (count, others) if number is not None]
            if known and not suite.allow_few_samples and not extractor.reads_windows:
                check_enough_samples(min(known), extractor, width)

    def _read_reference(self, count: int, progress: Callable[[int], None], state: RunState | None) -> DataIdentity:
        """Which real samples the generated ones are compared with, or which files."""
        suite = self.suite
        if suite.reference is None or self._source is None:
            config: dict[str, JsonValue] = {"statistics": [file.to_dict() for file in suite.statistics]}
            sha256 = self._statistics_sha256()
            return DataIdentity(config=config, identity=f"statistics-{sha256[:16]}", samples=count, size=self._size, samples_sha256=sha256)
        source = choose(self._source, min(count, len(self._source)), seed=suite.seed)
        loader = SignalLoader(source, self._preprocessing, batch_size=suite.batch_size)
        parts = {**self._running.reference_accumulators, "reference": self._real.table}
        for position, loaded in resumed(
            lambda start: loader.batches(start, len(source)), name="reference", start=0, parts=parts, skips=loader.report, state=state
        ):
            if loaded is not None:
                self._real.update(loaded.indices, loaded.signals)
                self._running.update(EvaluatedBatch(loaded.indices, reference=loaded.signals))
            if position:
                progress(position)
        return self._real.identity(suite.reference, source, loader.report)

    def _statistics_sha256(self) -> str:
        return hashlib.sha256("".join(file.sha256 for file in self._statistics.values()).encode()).hexdigest()


def _preprocessing(suite: GenerationSuite, spec: SignalSpec) -> Preprocessing:
    """What brings real samples to the form of the generated ones.

    Raises:
        EvaluationError: if the suite's size does not go with such samples.
    """
    if spec.modality == "image" and suite.size is None:
        raise EvaluationError(f"the suite {suite.name} does not say to which size real images are resized: set size, for example size=256")
    frames = ImagePreprocessing(size=suite.size, channels=spec.channels, low=spec.low, high=spec.high)
    if spec.modality == "image":
        return frames
    if spec.modality == "video":
        return VideoPreprocessing(frames=frames, rate=spec.rate)
    if suite.size is not None:
        raise EvaluationError(f"the suite {suite.name} has the size of images, {suite.size} pixels, but these samples are {spec.modality}: omit size")
    if spec.modality == "audio" and spec.rate is not None:
        return AudioPreprocessing(sample_rate=round(spec.rate), channels=spec.channels)
    raise EvaluationError(f"generated samples of {spec.channels}-channel {spec.modality} cannot be evaluated: images, clips and sound can")
