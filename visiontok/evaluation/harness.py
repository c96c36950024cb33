"""Runs a suite: streams the pictures through a tokenizer once, feeds every measure, merges the processes' parts and writes down the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from visiontok.data import Batch as LoadedBatch
from visiontok.data import EvalLoader, open_source
from visiontok.errors import EvaluationError
from visiontok.evaluation.environment import environment
from visiontok.evaluation.features import FeatureExtractor, all_extractors
from visiontok.evaluation.identity import Clock, Pictures, model_identity, processes
from visiontok.evaluation.measures import Batch, build_measures
from visiontok.evaluation.metrics.accumulator import merge_across_processes
from visiontok.evaluation.pictures import Tiles, choose
from visiontok.evaluation.protocol import to_uint8
from visiontok.evaluation.result import Result
from visiontok.evaluation.suite import Suite
from visiontok.preprocessing import ImagePreprocessing
from visiontok.tokenizer import Tokenizer

Progress = Callable[[int, int], None]


def evaluate_suite(
    suite: Suite,
    tokenizer: Tokenizer[Any],
    *,
    name: str,
    extractors: Sequence[FeatureExtractor] = (),
    progress: Progress = lambda done, total: None,
) -> Result:
    """Measure the reconstructions of a tokenizer.

    Under torch.distributed every process measures its share of the pictures, and all return the result over all of them.

    Args:
        suite: what to measure.
        tokenizer: on the device and in the precision in which it is to be measured.
        name: of the model, as it was asked for.
        extractors: your own, beside those that the suite names.
        progress: called with the pictures this process has measured and its share of them.

    Raises:
        EvaluationError: if the model does not take pictures of the suite's size or does not return them in that size, or a measurement
            would not mean what its name says.
        DataError: if the pictures cannot be read.
    """
    clock = Clock()
    size = _agreed_size(suite, tokenizer)
    whole = open_source(suite.data)
    source = choose(Tiles(whole, size) if suite.crop == "tiles" else whole, suite.num_samples, seed=suite.seed)
    extractors = all_extractors(suite.extractors, extractors)
    rank, world_size = processes()
    resizing = ImagePreprocessing(size=size, interpolation=suite.interpolation)
    loader = EvalLoader(source, preprocessing=resizing, batch_size=suite.batch_size, rank=rank, world_size=world_size)
    share = len(source) * (rank + 1) // world_size - len(source) * rank // world_size
    pictures = Pictures()
    with _evaluating(tokenizer):
        layout = tokenizer.encode(torch.zeros(1, 3, size, size)).layout  # models that take any size arrange their tokens by it
        measures, omitted = build_measures(suite, layout, extractors)
        if not measures:
            raise EvaluationError(f"nothing that the suite {suite.name} measures applies to {name}: {'; '.join(omitted.values())}")
        for loaded in loader:
            batch = _reconstruct(tokenizer, loaded, name)
            pictures.update(batch.numbers, batch.reference)
            for measure in measures.values():
                measure.update(batch)
            progress(pictures.count, share)
    for measure in measures.values():
        for accumulator in measure.accumulators.values():
            merge_across_processes(accumulator)
    return Result(
        kind="reconstruction",
        suite=suite.to_dict(),
        model=model_identity(tokenizer, name),
        data=pictures.identity(suite.data, source, loader.report),
        extractors={extractor.name: extractor.identity for extractor in extractors},
        values=tuple(value for measure in measures.values() for value in measure.values(suite.bootstrap)),
        omitted=omitted,
        environment=environment(tokenizer.device),
        run=clock.run(world_size),
    )


def _reconstruct(tokenizer: Tokenizer[Any], loaded: LoadedBatch, name: str) -> Batch:
    """Both sides as 8-bit pictures: the model sees the original as it would lie in a file."""
    reference = to_uint8(loaded.images)
    tokens = tokenizer.encode(reference)
    reconstruction = to_uint8(tokenizer.decode(tokens).float()).cpu()
    if reconstruction.shape != reference.shape:
        raise EvaluationError(
            f"{name} returned pictures of {_sides(reconstruction)} for pictures of {_sides(reference)}; set size to what it returns"
        )
    return Batch(loaded.indices, reference, reconstruction, tokens.to("cpu"), loaded.labels)


@contextmanager
def _evaluating(tokenizer: Tokenizer[Any]) -> Iterator[None]:
    was_training = tokenizer.training
    tokenizer.eval()
    try:
        yield
    finally:
        tokenizer.train(was_training)


def _agreed_size(suite: Suite, tokenizer: Tokenizer[Any]) -> int:
    preprocessing = tokenizer.preprocessing
    own = None if preprocessing.tensors_keep_size else preprocessing.size
    if suite.size is None:
        if preprocessing.size is None:
            raise EvaluationError(f"the suite {suite.name} takes the model's own picture size, but this model takes any: set size=256, for example")
        return preprocessing.size
    if own is not None and own != suite.size:
        raise EvaluationError(f"the suite {suite.name} measures pictures of {suite.size} pixels, but this model takes {own}: set size={own}")
    if own is None and suite.size % preprocessing.multiple_of:
        raise EvaluationError(f"this model takes multiples of {preprocessing.multiple_of} pixels, not {suite.size}: set size accordingly")
    return suite.size


def _sides(images: Tensor) -> str:
    return f"{images.shape[2]} x {images.shape[3]}"
