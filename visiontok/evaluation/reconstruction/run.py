"""Runs a suite on a tokenizer: streams the samples through it once, updates the metrics, merges them over processes and returns the result."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from visiontok.base.errors import EvaluationError
from visiontok.base.modes import evaluating
from visiontok.core.identity import check_same_tokenizer, identify
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import DataBatch, Source, Texts, open_source, texts_of
from visiontok.evaluation.features import FeatureExtractor, all_extractors, feature_width
from visiontok.evaluation.features.i3d import I3D
from visiontok.evaluation.features.protocol import PROTOCOLS
from visiontok.evaluation.features.sound_networks import SoundEncoder
from visiontok.evaluation.loading import SignalLoader
from visiontok.evaluation.metrics.accumulator import Accumulator, merge_across_processes
from visiontok.evaluation.metrics.entries.frechet import check_enough_samples
from visiontok.evaluation.metrics.metric import EvaluatedBatch, Subject
from visiontok.evaluation.metrics.needs import suitable
from visiontok.evaluation.metrics.registry import reasons, select
from visiontok.evaluation.metrics.running import Outcome, RunningMetrics
from visiontok.evaluation.metrics.value import Cut
from visiontok.evaluation.prefetch import prefetched
from visiontok.evaluation.reconstruction.collapse import CollapseCheck
from visiontok.evaluation.reconstruction.falling_curves import curve_warnings, rate_points
from visiontok.evaluation.reconstruction.reconstructor import Reconstructed, Reconstructor
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.evaluation.results.environment import environment
from visiontok.evaluation.results.identity import Clock, Fingerprint, model_identity, rank_and_world_size
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import ModelIdentity, Result
from visiontok.evaluation.results.seeds import mean_outcome
from visiontok.evaluation.run_state import ProgressCallback, RunState, no_progress, resumed
from visiontok.evaluation.selection import Cropped, Tiles, choose
from visiontok.generators.base import Generator as TokenGenerator
from visiontok.signals import ImagePreprocessing, Preprocessing, SignalSpec

Setting: TypeAlias = tuple[int | None, Cut]
"""Seed of what is drawn, None for the reproducible form; part of the tokens that is decoded."""


@dataclass(frozen=True, eq=False)
class NamedGenerator:
    """A generator, and the name by which it was requested."""

    name: str
    model: TokenGenerator[Any]

    @property
    def identity(self) -> ModelIdentity:
        """For results."""
        return model_identity(self.model, self.name)


def evaluate_suite(
    suite: Suite,
    tokenizer: Tokenizer[Any],
    *,
    name: str,
    source: Source | None = None,
    extractors: Sequence[FeatureExtractor] = (),
    generator: NamedGenerator | None = None,
    allow_other_tokenizer: bool = False,
    progress: ProgressCallback = no_progress,
) -> Result:
    """Evaluate a tokenizer; see `ReconstructionRun`."""
    run = ReconstructionRun(
        suite, tokenizer, name=name, source=source, extractors=extractors, generator=generator, allow_other_tokenizer=allow_other_tokenizer
    )
    return run.run(progress=progress)[0]


class ReconstructionRun:
    """One tokenizer on one suite.

    Under torch.distributed every process evaluates its share of the samples, and all return the result over all of them. Reading, the
    model and the metrics run side by side, each on another batch.

    Attributes:
        suite: what is evaluated.
        tokenizer: as it was given.
        source: the samples.
        loader: reads them, as the suite cuts them.
        extractors: all that are used.
    """

    def __init__(
        self,
        suite: Suite,
        tokenizer: Tokenizer[Any],
        *,
        name: str,
        source: Source | None = None,
        extractors: Sequence[FeatureExtractor] = (),
        generator: NamedGenerator | None = None,
        allow_other_tokenizer: bool = False,
        num_workers: int = 0,
    ) -> None:
        """Open the data and select the metrics.

        Args:
            suite: what to evaluate.
            tokenizer: on the device and in the precision in which it is to be evaluated.
            name: of the model, as it was requested.
            source: of the samples, instead of the suite's.
            extractors: your own, beside those that the suite names.
            generator: a model of the tokenizer's tokens, for metrics under a prior.
            allow_other_tokenizer: also a model of another tokenizer's tokens.
            num_workers: processes that read samples; 0 reads in a thread.

        Raises:
            EvaluationError: if the model does not take samples of the suite's size or cannot be cut to its lengths, or no metric of the suite
                applies to it.
            DataError: if the data cannot be opened, or the tokenizer reads a text and the samples have none.
            CheckpointError: if the weights of an extractor or of a metric's network are missing.
            IdentityError: if the generator was trained on the tokens of another tokenizer, unless allowed.
        """
        self.suite, self.tokenizer = suite, tokenizer
        self._name, self._num_workers, self._generator = name, num_workers, generator
        if generator is not None:
            made_by, what = generator.model.config.tokenizer, f"the generator {generator.name}"
            check_same_tokenizer(made_by, identify(tokenizer, name), what=what, allow_other=allow_other_tokenizer)
        size, preprocessing = _preparation(suite, tokenizer)
        if suite.max_loss is not None and len(tokenizer.lengths_supported) == 1:
            raise EvaluationError(
                f"the suite {suite.name} has the target error {suite.max_loss}, but {name} always writes {tokenizer.lengths_supported[0]} tokens"
            )
        self._protocol = None if suite.protocol is None else PROTOCOLS[suite.protocol]
        self.source = self._selected(source if source is not None else open_source(suite.data), size, suite.num_samples)
        self.loader = SignalLoader(self.source, preprocessing, batch_size=suite.batch_size, num_workers=num_workers)
        encoder = suite.networks.encoder
        own = [*extractors]
        own += [] if encoder is None else [SoundEncoder(encoder, tokenizer.device)]
        own += [] if suite.fvd is None else [I3D(suite.fvd)]
        named = all_extractors(suite.all_extractors, own)
        spec = preprocessing.spec
        if spec.modality == "video" and spec.rate is None:
            spec = spec.replace(rate=suite.frame_rate)
        self.extractors = [extractor.reading(spec).to(tokenizer.device) for extractor in named]
        self._model, self._environment = model_identity(tokenizer, name), environment(tokenizer.device)
        self._texts = (suite.text or texts_of(self.source, name=name)) if tokenizer.text is not None else None
        texts = None if self._texts is None else Texts(self._texts, self.source.class_names)
        self._reconstructor = Reconstructor(tokenizer, name=name, protocol=self._protocol, texts=texts, max_loss=suite.max_loss)
        with evaluating(tokenizer):
            layout = self._reconstructor.layout(size)
        self._subject = Subject(
            task="reconstruction",
            spec=spec,
            extractors=self.extractors,
            count=len(self.source),
            size=size,
            tokenizer=tokenizer,
            layout=layout,
            lengths_vary=layout.ragged or suite.max_loss is not None or (size is None and layout.is_variable),
            is_shortened=suite.cuts != (Cut(),) or suite.max_loss is not None,
            generator=None if generator is None else generator.model,
            device=tokenizer.device,
            perturbations=suite.perturbations,
            probe=suite.probe,
            networks=suite.networks,
            allow_few_samples=suite.allow_few_samples,
        )
        widths = {extractor.name: feature_width(extractor, preprocessing.blank(size)) for extractor in suitable(self._subject)}
        metrics, self._omitted = select(suite.metrics, self._subject)
        if not metrics:
            raise EvaluationError(f"no metric of the suite {suite.name} applies to {name}: {reasons(self._omitted)}")
        if any(metric.name in ("frechet", "perturbed_frechet") for metric in metrics) and not suite.allow_few_samples:
            for extractor in suitable(self._subject):
                if not extractor.reads_windows:  # of which there are more than samples
                    check_enough_samples(len(self.source), extractor, widths[extractor.name])
        self._check_cuts()
        self._seeds: tuple[int | None, ...] = (suite.seeds if tokenizer.is_stochastic else ()) or (None,)
        if suite.seeds and not tokenizer.is_stochastic:
            self._omitted["seeds"] = "this tokenizer draws nothing, so it was evaluated once"
        self._running = {(seed, cut): RunningMetrics(metrics, self._subject, widths=widths) for seed in self._seeds for cut in suite.cuts}
        self._training = self._training_loader(size, preprocessing)
        self._fingerprint, self._collapse = Fingerprint(), CollapseCheck()

    @property
    def spec(self) -> SignalSpec:
        """Of the samples, with the frame rate that the suite gives clips."""
        return self._subject.spec

    @property
    def identity(self) -> dict[str, Any]:
        """Everything on which the numbers depend."""
        return {
            "suite": self.suite.to_dict(),
            "model": self._model.to_dict(),
            "generator": None if self._generator is None else self._generator.identity.to_dict(),
            "data": self.source.identity,
            "extractors": {extractor.name: extractor.identity for extractor in self.extractors},
            "environment": self._environment.to_dict(),
            "processes": rank_and_world_size()[1],
        }

    def run(self, *, progress: ProgressCallback = no_progress, state: RunState | None = None) -> tuple[Result, PerSampleResults]:
        """Evaluate everything, once.

        Args:
            progress: called with the samples this process has evaluated and its share of them.
            state: where an interrupted run of this evaluation left off, and where this one leaves its own state.

        Raises:
            EvaluationError: if the model does not return samples of the size it was given, or a number would not mean what its name says.
            DataError: if the samples cannot be read.
        """
        clock = Clock()
        with evaluating(self.tokenizer):
            if self._training is not None:
                self._encode_training_samples(self._training, state)
            self._evaluate_samples(progress, state)
        accumulators = [part for running in self._running.values() for part in running.accumulators.values()]
        for accumulator in [*accumulators, *self._collapse.accumulators.values()]:
            merge_across_processes(accumulator)
        data = self._fingerprint.identity(self.suite.data, self.source, self.loader.report)
        outcome = self._outcome()
        indices = self._fingerprint.indices()
        keys = [self.source.key(index) for index in indices.tolist()]
        per_sample = PerSampleResults(indices, keys, outcome.per_sample, outcome.code_counts, outcome.resampled)
        if not outcome.values:
            why = reasons({**outcome.omitted, **outcome.failed})
            raise EvaluationError(f"no metric of the suite {self.suite.name} applies to {self._name}: {why}")
        result = Result(
            kind="reconstruction",
            suite=self.suite.to_dict(),
            model=self._model,
            generator=None if self._generator is None else self._generator.identity,
            data=data,
            text=self._texts.to_dict() if self._texts else None,
            extractors={extractor.name: extractor.identity for extractor in self.extractors},
            values=tuple(outcome.values),
            omitted={**self._omitted, **outcome.omitted},
            failed=outcome.failed,
            warnings=(*self._collapse.warnings(), *curve_warnings(rate_points(outcome.values, outcome.per_sample), self.suite.bootstrap)),
            per_sample_sha256=per_sample.sha256,
            environment=self._environment,
            run=clock.run(rank_and_world_size()[1]),
        )
        return result, per_sample

    def reconstruct(self, loaded: DataBatch, cuts: Sequence[Cut] = (Cut(),)) -> Reconstructed:
        """Each part of the tokens of samples from `loader`, and what it decodes to; with the first of several seeds.

        Raises:
            EvaluationError: if the model returns samples of another size.
        """
        return self._reconstructor(loaded, cuts, seed=self._seeds[0])

    def _selected(self, source: Source, size: Sequence[int] | None, count: int | None) -> Source:
        """The samples of a source that the suite evaluates."""
        if self._protocol is not None and size is not None:
            source = Cropped(source, self._protocol, size[-1])
        elif self.suite.crop == "tiles" and size is not None:
            source = Tiles(source, size[-1])
        return choose(source, count, seed=self.suite.seed)

    def _check_cuts(self) -> None:
        for length in self.suite.lengths:
            if length not in self.tokenizer.lengths_supported:
                known = ", ".join(map(str, [*self.tokenizer.lengths_supported][:20]))
                raise EvaluationError(
                    f"the suite {self.suite.name} evaluates {length} tokens, which {self._name} cannot write; its lengths are {known}"
                )
        supported = self.tokenizer.levels_supported
        for count in self.suite.levels:
            if count not in supported:
                known = ", ".join(map(str, supported))
                raise EvaluationError(f"the suite {self.suite.name} evaluates {count} codebook levels of {self._name}; it decodes {known}")

    def _training_loader(self, size: Sequence[int] | None, preprocessing: Preprocessing) -> SignalLoader | None:
        """Of training samples for probes, where a metric asks for them."""
        probe = self.suite.probe
        if probe is None or not next(iter(self._running.values())).training_accumulators:
            return None
        source = self._selected(open_source(probe.data), size, probe.num_samples)
        if "nearest_neighbors" in self.suite.metrics and len(source) < probe.neighbors:
            raise EvaluationError(
                f"probe.neighbors is {probe.neighbors}, but there are {len(source)} training samples: lower it, or take more samples"
            )
        return SignalLoader(source, preprocessing, batch_size=self.suite.batch_size, num_workers=self._num_workers)

    def _encode_training_samples(self, loader: SignalLoader, state: RunState | None) -> None:
        """Their embeddings are the same at every setting."""
        running = list(self._running.values())
        parts, (start, stop) = running[0].training_accumulators, _share(loader.total)
        for _, loaded in resumed(
            lambda position: loader.batches(position, stop), name="training", start=start, parts=parts, skips=loader.report, state=state
        ):
            if loaded is not None:
                running[0].update_training(EvaluatedBatch(loaded.indices, loaded.signals, None, self._reconstructor.encode(loaded), loaded.labels))
        for other in running[1:]:
            for name, part in other.training_accumulators.items():
                part.load_state(parts[name].state())

    def _evaluate_samples(self, progress: ProgressCallback, state: RunState | None) -> None:
        start, stop = _share(len(self.source))
        parts: dict[str, Accumulator] = {
            f"{seed}/{cut.in_words}/{name}": part
            for (seed, cut), running in self._running.items()
            for name, part in {**running.sample_accumulators, **running.reference_accumulators}.items()
        }
        parts["samples"] = self._fingerprint.table
        parts.update({f"collapse/{name}": part for name, part in self._collapse.accumulators.items()})
        whole = self._seeds[0], max(self.suite.cuts)

        def read(position: int) -> Iterator[tuple[int, tuple[EvaluatedBatch, Mapping[Setting, EvaluatedBatch]]]]:
            return prefetched(self._reconstructed(prefetched(self.loader.batches(position, stop))))

        for _, found in resumed(read, name="samples", start=start, parts=parts, skips=self.loader.report, state=state):
            if found is not None:
                original, batches = found
                assert original.reference is not None
                self._fingerprint.update(original.indices, original.reference)
                for setting, running in self._running.items():
                    running.update(batches[setting])
                self._collapse.update(batches[whole])
            if found is not None or self._fingerprint.count:
                progress(self._fingerprint.count, stop - start)

    def _reconstructed(
        self, loaded: Generator[tuple[int, DataBatch], None, None]
    ) -> Generator[tuple[int, tuple[EvaluatedBatch, Mapping[Setting, EvaluatedBatch]]], None, None]:
        """The position after a batch, the batch, and its reconstructions at every setting."""
        try:
            for position, item in loaded:
                batches: dict[Setting, EvaluatedBatch] = {}
                original = EvaluatedBatch(item.indices, item.signals, labels=item.labels, objects=item.objects, texts=item.captions)
                for seed in self._seeds:
                    for cut, (tokens, samples) in self._reconstructor(item, self.suite.cuts, seed=seed).items():
                        batches[seed, cut] = original.reconstructed(tokens, samples)
                yield position, (original, batches)
        finally:
            loaded.close()

    def _outcome(self) -> Outcome:
        """Over all cuts and seeds."""
        by_seed = {seed: self._outcome_of(seed) for seed in self._seeds}
        return by_seed[None] if None in by_seed else mean_outcome({int(seed or 0): outcome for seed, outcome in by_seed.items()})

    def _outcome_of(self, seed: int | None) -> Outcome:
        whole = Outcome()
        for cut in self.suite.cuts:
            outcome = self._running[seed, cut].outcome(self.suite.bootstrap)
            whole.values += [value.replace(**cut._asdict(), protocol=f"{value.protocol}; {self._cutting}") for value in outcome.values]
            whole.omitted.update(outcome.omitted)
            whole.failed.update(outcome.failed)
            for kept, found in (
                (whole.per_sample, outcome.per_sample),
                (whole.resampled, outcome.resampled),
                (whole.code_counts, outcome.code_counts),
            ):
                kept.update({label + cut.suffix: column for label, column in found.items()})
        return whole

    @property
    def _cutting(self) -> str:
        """From files to the samples that are compared, in words."""
        suite, protocol = self.suite, self._protocol
        if protocol is not None:
            steps = f"crop {protocol.crop}, reconstructions to 8 bits by {protocol.cast}"
            return f"images by the protocol {protocol.name} ({protocol.identity[:12]}): {steps}"
        if not self._subject.is_8bit:
            given, made = self.tokenizer.preprocessing.spec, self.tokenizer.spec
            rule = f"resampled by soxr from {made.rate:g} Hz" if made.is_resampled(given) else "clamped to their range"
            compared = ", compared over the frames that both have" if given.modality == "video" else ""
            return f"signals by the tokenizer's own preprocessing, reconstructions {rule}{compared}"
        cut = {
            "tiles": "images cut into tiles",
            "none": "images at their own sizes",
            "center": f"images resized ({suite.interpolation}) and cropped to the center",
        }
        return f"{cut[suite.crop]}, reconstructions rounded to 8 bits"


def _share(total: int) -> tuple[int, int]:
    """Of this process: one contiguous part of the samples."""
    rank, world_size = rank_and_world_size()
    return total * rank // world_size, total * (rank + 1) // world_size


def _preparation(suite: Suite, tokenizer: Tokenizer[Any]) -> tuple[tuple[int, ...] | None, Preprocessing]:
    """The size of every sample, None where they keep their own, and what brings them to it."""
    own = tokenizer.preprocessing
    if own.spec.modality != "image" or not own.spec.is_rgb:
        if suite.size is not None or suite.protocol is not None or suite.crop == "tiles":
            raise EvaluationError(f"the suite {suite.name} cuts RGB images, but this model takes {own.spec.channels}-channel {own.spec.modality}")
        return None, own
    if suite.crop == "none":
        if own.fixed_size is not None:
            raise EvaluationError(
                f"the suite {suite.name} keeps images at their own sizes, but this model takes {own.fixed_size} pixels: set crop=center"
            )
        return None, ImagePreprocessing(size=None)
    if suite.size is not None:
        size = (suite.size, suite.size)
        if not own.fits(size):
            takes = f"images of {own.fixed_size} pixels" if own.fixed_size else f"multiples of {own.multiples[-1]} pixels"
            raise EvaluationError(
                f"the suite {suite.name} evaluates images of {suite.size} pixels, but this model takes {takes}: set size accordingly"
            )
    else:
        has_own = own.fixed_size is not None or (isinstance(own, ImagePreprocessing) and own.size is not None)
        if not has_own:
            raise EvaluationError(f"the suite {suite.name} takes the model's own image size, but this model takes any: set size=256, for example")
        size = (own.usual_size[-2], own.usual_size[-1])
    return size, ImagePreprocessing(size=size[-1], interpolation=suite.interpolation)
