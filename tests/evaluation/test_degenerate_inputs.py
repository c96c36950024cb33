"""Legal input at the edge: every metric of the registry gives finite numbers, or none with a reason; none raises, and none is NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches, GrayPatchesConfig
from torch import Tensor
from torch.nn import functional as F

from visiontok.evaluation import METRICS, BootstrapConfig, find_extractor
from visiontok.evaluation.features import feature_width
from visiontok.evaluation.features.base import FunctionExtractor
from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.metrics.entries import perceptual
from visiontok.evaluation.metrics.metric import EvaluatedBatch, Metric, SampleMetric, Subject
from visiontok.evaluation.metrics.needs import why_unavailable
from visiontok.evaluation.metrics.probes import ProbeConfig
from visiontok.evaluation.metrics.running import Outcome, RunningMetrics
from visiontok.generators.condition import NoCondition
from visiontok.signals import SignalBatch, SignalSpec
from visiontok.tokens import TokenLayout, Tokens

RGB = SignalSpec(modality="image", channels=3, low=0, high=1)
BOOTSTRAP = BootstrapConfig(resamples=100)
SIDE = 16


class TinyInception(InceptionV3Compat):
    """Scores over features of a few pixels, without the network's weights."""

    name, identity, protocol = "tiny-inception", "tiny", "tiny"

    def __init__(self) -> None:
        """No network."""

    def extract(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.double() / 255, 2).flatten(1)

    def logits(self, features: Tensor, *, bias: bool = False) -> Tensor:
        return 3 * features.double()


class MeanSquares(torch.nn.Module):
    """Stands for a perceptual distance."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).square().flatten(1).mean(dim=1)


class UniformPrior(torch.nn.Module):
    """The interface that `ar_bits` reads."""

    def __init__(self, layout: TokenLayout) -> None:
        super().__init__()
        self.layout, self.num_classes, self.config = layout, 0, SimpleNamespace(condition=NoCondition())
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def nll(self, tokens: Tokens, condition: object = None) -> Tensor:
        return tokens.bits * math.log(2)


def metrics() -> list[Metric]:
    """All of the registry; those with networks whose weights are files get another network."""

    def network() -> tuple[torch.nn.Module, str]:
        return MeanSquares(), "0" * 64

    found = []
    for name, metric in METRICS.items():
        if name.startswith("lpips") or name == "dists":
            assert isinstance(metric, SampleMetric)
            compute, aggregate = perceptual._compute(network, 1), perceptual._mean(name, network, "{digest}")
            metric = replace(metric, smallest_side=1, compute=compute, aggregate=aggregate)
        found.append(metric)
    return found


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def flat(count: int, level: int) -> Tensor:
    return torch.full((count, 3, SIDE, SIDE), level, dtype=torch.uint8)


SETS: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {
    "different": lambda n: (noise(n), noise(n, 1)),
    "identical": lambda n: (noise(n), noise(n)),
    "collapsed": lambda n: (noise(n), flat(n, 90)),
    "collapsed but one": lambda n: (noise(n), torch.cat([flat(n - 1, 90), noise(1, 9)])),
    "all equal": lambda n: (flat(n, 40), flat(n, 40)),
    "all equal, apart": lambda n: (flat(n, 40), flat(n, 90)),
    "black": lambda n: (flat(n, 0), flat(n, 0)),
    "white for black": lambda n: (flat(n, 0), flat(n, 255)),
}
"""Originals and samples."""

CODES: dict[str, Callable[[int, int, int], Tensor]] = {
    "drawn": lambda n, length, size: torch.randint(0, size, (n, length), generator=torch.Generator().manual_seed(2)),
    "one code": lambda n, length, size: torch.full((n, length), size - 1),
    "each as often": lambda n, length, size: torch.arange(n * length).view(n, length) % size,
    "all but one": lambda n, length, size: F.one_hot(torch.zeros(n, dtype=torch.int64), length).clamp(max=size - 1),
}
"""Tokens (N, L) of K codes."""

LABELS: dict[str, Callable[[int], Tensor]] = {"two classes": lambda n: torch.arange(n) % 2, "one class": lambda n: torch.full((n,), 7)}


def outcome_of(images: tuple[Tensor, Tensor], codes: str, labels: Tensor, *, levels: int = 17, shards: int = 1) -> tuple[Outcome, set[str]]:
    """Everything that the registry says of some samples, and the metrics that were omitted beforehand."""
    tokenizer = GrayPatches(GrayPatchesConfig(size=SIDE, patch=4, levels=levels))
    reference, samples = images
    count, layout = len(reference), tokenizer.layout
    pixels = FunctionExtractor(lambda values: values[:, :, ::4, ::4].flatten(1).double() / 255, name="pixels", identity="pixels")
    subject = Subject(
        task="reconstruction",
        spec=RGB,
        extractors=[find_extractor("digit-classifier"), TinyInception(), pixels],
        count=count,
        size=(SIDE, SIDE),
        tokenizer=tokenizer,
        layout=layout,
        generator=UniformPrior(layout),  # type: ignore[arg-type]
        probe=ProbeConfig.parse({"data": {"name": "digits"}, "neighbors": 3}),
        allow_few_samples=True,
    )
    chosen = [metric for metric in metrics() if why_unavailable(metric, subject) is None]
    widths = {extractor.name: feature_width(extractor, torch.zeros(1, 3, SIDE, SIDE)) for extractor in subject.extractors}
    tokens = Tokens(CODES[codes](count, layout.length, levels), layout)
    parts = [RunningMetrics(chosen, subject, widths=widths) for _ in range(shards)]
    for number, part in enumerate(parts):
        rows = torch.arange(count)[number::shards]
        if len(rows):
            batch = EvaluatedBatch(rows, SignalBatch.of(reference[rows]), SignalBatch.of(samples[rows]), tokens[rows], labels[rows])
            part.update(batch)
            part.update_training(batch)
    for other in parts[1:]:
        for name, accumulator in parts[0].accumulators.items():
            accumulator.merge(other.accumulators[name])
    return parts[0].outcome(BOOTSTRAP), set(METRICS) - {metric.name for metric in chosen}


def check(outcome: Outcome, omitted: set[str]) -> None:
    assert outcome.failed == {}
    assert {value.metric for value in outcome.values} | omitted | set(outcome.omitted) == set(METRICS)
    for value in outcome.values:
        assert (value.value is None) == bool(value.no_value), value.label
        assert value.value is None or math.isfinite(value.value), value.label
        assert not {"nan", "inf"} & set(value.text.replace("[", " ").replace(",", " ").split()), value.text
        if value.interval is not None:
            assert value.interval.low <= value.interval.high, value.label
    for label, column in outcome.resampled.items():
        assert np.isfinite(column).all(), label


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 30])
@pytest.mark.parametrize("images", SETS)
def test_every_metric_on_images_at_the_edge(images: str, count: int) -> None:
    check(*outcome_of(SETS[images](count), "drawn", LABELS["two classes"](count)))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("levels", [1, 2, 17])
@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("labels", LABELS)
def test_every_metric_on_tokens_and_labels_at_the_edge(codes: str, labels: str, levels: int) -> None:
    check(*outcome_of(SETS["different"](6), codes, LABELS[labels](6), levels=levels))


def test_processes_without_a_sample_add_nothing() -> None:
    alone, shared = (outcome_of(SETS["different"](2), "drawn", LABELS["two classes"](2), shards=shards)[0] for shards in (1, 3))
    assert shared.failed == {}
    assert [value.label for value in shared.values] == [value.label for value in alone.values]
    for ours, theirs in zip(shared.values, alone.values, strict=True):
        assert ours.value == (None if theirs.value is None else pytest.approx(theirs.value, rel=1e-9, abs=1e-9))


def test_a_metric_that_fails_leaves_the_others_their_results() -> None:
    def broken(*_: object) -> list:
        raise ZeroDivisionError("by the number of samples")

    subject = Subject(task="reconstruction", spec=RGB, count=2, size=(SIDE, SIDE))
    running = RunningMetrics([METRICS["mse"], replace(METRICS["psnr"], aggregate=broken)], subject, widths={})
    running.update(EvaluatedBatch(torch.arange(2), SignalBatch.of(noise(2)), SignalBatch.of(noise(2, 1))))
    outcome = running.outcome(BOOTSTRAP)
    assert [value.name for value in outcome.values] == ["mse"]
    assert list(outcome.failed) == ["psnr"]
    assert "ZeroDivisionError" in outcome.failed["psnr"]
