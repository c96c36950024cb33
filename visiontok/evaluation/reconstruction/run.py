"""Runs a suite: streams the pictures through a tokenizer once, feeds every measure, merges the processes' parts and writes down the result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from visiontok.base.errors import EvaluationError
from visiontok.core.model import evaluating
from visiontok.core.text_tokenizer import TextTokenizer
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import DataBatch, EvalLoader, SkipReport, Texts, open_source, texts_of
from visiontok.data.batch import make_batch
from visiontok.evaluation.features import FeatureExtractor, all_extractors
from visiontok.evaluation.features.protocol import PROTOCOLS, to_uint8
from visiontok.evaluation.metrics.accumulator import Accumulator, load_states, merge_across_processes, states_of
from visiontok.evaluation.metrics.entries.frechet_sides import check_enough_samples, feature_width
from visiontok.evaluation.metrics.registry import Batch, Measure, build_measures
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.prefetch import ahead
from visiontok.evaluation.reconstruction.reconstructor import Reconstructed, Reconstructor
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.evaluation.results.environment import environment
from visiontok.evaluation.results.identity import Clock, Pictures, model_identity, processes
from visiontok.evaluation.results.per_sample import Evidence
from visiontok.evaluation.results.result import Result
from visiontok.evaluation.results.seeds import mean_evidence, mean_values
from visiontok.evaluation.run_state import Progress, Unfinished
from visiontok.evaluation.selection import Cropped, Tiles, choose
from visiontok.signals import ImagePreprocessing

Report = Callable[[int, int], None]
Setting = tuple[int | None, int | None]
"""Seed of what is drawn, None for the reproducible form; number of tokens, None for all."""


def evaluate_suite(
    suite: Suite,
    tokenizer: Tokenizer[Any],
    *,
    name: str,
    extractors: Sequence[FeatureExtractor] = (),
    progress: Report = lambda done, total: None,
) -> Result:
    """Measure the reconstructions of a tokenizer; see `Measurement`."""
    return Measurement(suite, tokenizer, name=name, extractors=extractors).run(progress=progress)[0]


class Measurement:
    """One tokenizer on one suite.

    Under torch.distributed every process measures its share of the pictures, and all return the result over all of them. Reading, the
    model and the metrics run side by side, each on another batch.

    Attributes:
        suite: what is measured.
        tokenizer: as it was given.
        source: the pictures.
        resizing: brings each to the size of the suite.
        extractors: all that take part.
    """

    def __init__(
        self, suite: Suite, tokenizer: Tokenizer[Any], *, name: str, extractors: Sequence[FeatureExtractor] = (), num_workers: int = 0
    ) -> None:
        """Open the data and build the measures.

        Args:
            suite: what to measure.
            tokenizer: on the device and in the precision in which it is to be measured.
            name: of the model, as it was asked for.
            extractors: your own, beside those that the suite names.
            num_workers: processes that read pictures; 0 reads in a thread.

        Raises:
            EvaluationError: if the model does not take pictures of the suite's size or cannot be cut to its lengths, or nothing that the
                suite measures applies to it.
            DataError: if the data cannot be opened, or the tokenizer reads a text and the pictures have none.
        """
        self.suite, self.tokenizer = suite, tokenizer
        self._name, self._num_workers = name, num_workers
        size = _agreed_size(suite, tokenizer)
        whole = open_source(suite.data)
        self._protocol = None if suite.protocol is None else PROTOCOLS[suite.protocol]
        if self._protocol is not None:
            whole = Cropped(whole, self._protocol, size)
        elif suite.crop == "tiles":
            whole = Tiles(whole, size)
        self.source = choose(whole, suite.num_samples, seed=suite.seed)
        self.resizing = ImagePreprocessing(size=size, interpolation=suite.interpolation)
        self.extractors = [extractor.to(tokenizer.device) for extractor in all_extractors(suite.all_extractors, extractors)]
        self._rank, self._world_size = processes()
        self._model = model_identity(tokenizer, name)
        self._environment = environment(tokenizer.device)
        self._texts = (suite.text or texts_of(self.source, name=name)) if isinstance(tokenizer, TextTokenizer) else None
        texts = None if self._texts is None else Texts(self._texts, self.source.class_names)
        self._reconstructor = Reconstructor(tokenizer, name=name, protocol=self._protocol, texts=texts)
        with evaluating(tokenizer):
            layout = self._reconstructor.layout(size)
            drawn = suite.seeds if suite.seeds and self._reconstructor.draws else ()
        self._lengths: tuple[int | None, ...] = suite.lengths or (None,)
        self._seeds: tuple[int | None, ...] = drawn or (None,)
        self._measures: dict[Setting, dict[str, Measure]] = {}
        for seed in self._seeds:
            for length in self._lengths:
                if length is not None and length not in tokenizer.lengths_supported:
                    known = ", ".join(map(str, [*tokenizer.lengths_supported][:20]))
                    raise EvaluationError(f"the suite {suite.name} asks for {length} tokens, which {name} cannot write; its lengths are {known}")
                measures, self._omitted = build_measures(suite, layout, self.extractors, tokenizer=tokenizer, samples=len(self.source))
                self._measures[seed, length] = measures
        if suite.seeds and not drawn:
            self._omitted["seeds"] = "this tokenizer draws nothing, so it was measured once"
        if suite.measures_frechet and not suite.allow_few_samples:
            for extractor in self.extractors:
                check_enough_samples(len(self.source), extractor, feature_width(extractor, size))
        if not any(self._measures.values()):
            raise EvaluationError(f"nothing that the suite {suite.name} measures applies to {name}: {'; '.join(self._omitted.values())}")
        self._pictures = Pictures()

    @property
    def identity(self) -> dict[str, Any]:
        """Everything on which the numbers depend."""
        return {
            "suite": self.suite.to_dict(),
            "model": self._model.to_dict(),
            "data": self.source.identity,
            "extractors": {extractor.name: extractor.identity for extractor in self.extractors},
            "environment": self._environment.to_dict(),
            "processes": self._world_size,
        }

    def run(self, *, progress: Report = lambda done, total: None, unfinished: Unfinished | None = None) -> tuple[Result, Evidence]:
        """Measure everything, once.

        Args:
            progress: called with the pictures this process has measured and its share of them.
            unfinished: where an interrupted run of this measurement left its state, and where this one leaves its own.

        Raises:
            EvaluationError: if the model does not return pictures of the size it was given, or a measurement would not mean what its name says.
            DataError: if the pictures cannot be read.
        """
        clock = Clock()
        total = len(self.source)
        start, stop = total * self._rank // self._world_size, total * (self._rank + 1) // self._world_size
        loader = EvalLoader(self.source, preprocessing=self.resizing, batch_size=self.suite.batch_size, num_workers=self._num_workers)
        loader.report = SkipReport(self.source.skipped, keep=sys.maxsize)
        position = start
        earlier = unfinished.load(self._rank) if unfinished else None
        if earlier is not None:
            position = earlier.position
            loader.report.update(earlier.skips)
            load_states(self._parts(), earlier.states)
            progress(self._pictures.count, stop - start)
        first = position
        with evaluating(self.tokenizer):
            for step, batches in ahead(self._reconstructed(ahead(loader.batches(range(first, stop))))):
                self._measure(batches)
                position = min(first + (step + 1) * self.suite.batch_size, stop)
                progress(self._pictures.count, stop - start)
                if unfinished and unfinished.is_due:
                    unfinished.store(self._rank, self._progress(position, loader.report))
        if unfinished and self._world_size > 1:
            unfinished.store(self._rank, self._progress(stop, loader.report))  # another process may still be killed
        for accumulator in self._accumulators().values():
            merge_across_processes(accumulator)
        data = self._pictures.identity(self.suite.data, self.source, loader.report)
        values, evidence = self._outcome()
        result = Result(
            kind="reconstruction",
            suite=self.suite.to_dict(),
            model=self._model,
            data=data,
            text=self._texts.to_dict() if self._texts else None,
            extractors={extractor.name: extractor.identity for extractor in self.extractors},
            values=tuple(values),
            omitted=self._omitted,
            evidence_sha256=evidence.sha256,
            environment=self._environment,
            run=clock.run(self._world_size),
        )
        return result, evidence

    def load(self, places: Sequence[int]) -> DataBatch:
        """Some pictures of the source, as the suite cuts them."""
        samples = [self.source.read(place) for place in places]
        return make_batch(self.resizing([sample.signal for sample in samples]), samples, places, step=0, skipped=())

    def reconstruct(self, loaded: DataBatch, lengths: Sequence[int | None] = (None,)) -> Reconstructed:
        """Each number of tokens (None for all) of pictures from `load`, and what they decode to, uint8; with the first of several seeds.

        Raises:
            EvaluationError: if the model returns pictures of another size.
        """
        return self._reconstructor(loaded, lengths, seed=self._seeds[0])

    def _reconstructed(self, loaded: Generator[DataBatch, None, None]) -> Generator[tuple[int, dict[Setting, Batch]], None, None]:
        """Number of the batch, and what became of it at every setting."""
        try:
            for item in loaded:
                batches: dict[Setting, Batch] = {}
                batch: Batch | None = None
                for seed in self._seeds:
                    for length, (tokens, pictures) in self._reconstructor(item, self._lengths, seed=seed).items():
                        if batch is None:
                            batch = Batch(item.indices, to_uint8(item.signals.values), pictures, tokens, item.labels, item.objects)
                        else:
                            batch = batch.reconstructed(tokens, pictures)
                        batches[seed, length] = batch
                yield item.step, batches
        finally:
            loaded.close()

    def _measure(self, batches: dict[Setting, Batch]) -> None:
        batch = next(iter(batches.values()))
        self._pictures.update(batch.numbers, batch.reference)
        for setting, measures in self._measures.items():
            for measure in measures.values():
                measure.update(batches[setting])

    def _outcome(self) -> tuple[list[MetricValue], Evidence]:
        """Over all seeds."""
        if self._seeds == (None,):
            return list(self._values(None)), self._evidence(None)
        values = {seed: list(self._values(seed)) for seed in self._seeds if seed is not None}
        return mean_values(values), mean_evidence([self._evidence(seed) for seed in self._seeds])

    def _values(self, seed: int | None) -> Iterator[MetricValue]:
        for length in self._lengths:
            for measure in self._measures[seed, length].values():
                for value in measure.values(self.suite.bootstrap):
                    yield value.model_copy(update={"length": length, "protocol": f"{value.protocol}; {self._cutting}"})

    @property
    def _cutting(self) -> str:
        """From files to the pixels that are compared, in words."""
        suite, protocol = self.suite, self._protocol
        if protocol is not None:
            steps = f"crop {protocol.crop}, reconstructions to 8 bits by {protocol.cast}"
            return f"pictures by the protocol {protocol.name} ({protocol.identity[:12]}): {steps}"
        if suite.crop == "tiles":
            return "pictures cut into tiles, reconstructions rounded to 8 bits"
        return f"pictures resized ({suite.interpolation}) and cropped to the centre, reconstructions rounded to 8 bits"

    def _evidence(self, seed: int | None) -> Evidence:
        per_image, counts, resampled = {}, {}, {}
        for length in self._lengths:
            suffix = "" if length is None else f" at {length} tokens"
            for measure in self._measures[seed, length].values():
                per_image.update({name + suffix: column for name, column in measure.per_image().items()})
                counts.update({name + suffix: column for name, column in measure.code_counts().items()})
                resampled.update({name + suffix: column for name, column in measure.resampled(self.suite.bootstrap).items()})
        return Evidence(self._pictures.numbers(), per_image, counts, resampled)

    def _accumulators(self) -> dict[str, Accumulator]:
        return {
            f"{seed}/{length}/{metric}/{name}": accumulator
            for (seed, length), measures in self._measures.items()
            for metric, measure in measures.items()
            for name, accumulator in measure.accumulators.items()
        }

    def _progress(self, position: int, report: SkipReport) -> Progress:
        return Progress(position, list(report.kept), states_of(self._parts()))

    def _parts(self) -> dict[str, Accumulator]:
        """Everything that grows with the pictures."""
        return {**self._accumulators(), "pictures": self._pictures.table}


def _agreed_size(suite: Suite, tokenizer: Tokenizer[Any]) -> int:
    preprocessing = tokenizer.preprocessing
    if suite.size is None:
        own = preprocessing.fixed_size or (preprocessing.usual_size if getattr(preprocessing, "size", None) is not None else None)
        if own is None:
            raise EvaluationError(f"the suite {suite.name} takes the model's own image size, but this model takes any: set size=256, for example")
        return own[-1]
    if not preprocessing.fits((suite.size, suite.size)):
        takes = f"images of {preprocessing.fixed_size} pixels" if preprocessing.fixed_size else f"multiples of {preprocessing.multiples[-1]} pixels"
        raise EvaluationError(f"the suite {suite.name} evaluates images of {suite.size} pixels, but this model takes {takes}: set size accordingly")
    return suite.size
