"""A metric or an extractor that fails at some batch ends neither a run nor the other metrics, and stays failed when the run is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches

from visiontok.base.errors import EvaluationError
from visiontok.data import open_source
from visiontok.evaluation import METRICS, FunctionExtractor, GenerationSuite, Suite, evaluate_suite
from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.generation.run import GenerationRun
from visiontok.evaluation.generation.samples import open_samples
from visiontok.evaluation.metrics import registry
from visiontok.evaluation.metrics.failures import Failures
from visiontok.evaluation.run_state import RunState
from visiontok.signals import ImagePreprocessing

NAMES = ["frechet", "classifier"]
SUITE = GenerationSuite.parse(
    {
        "reference": {"name": "digits", "split": "test"},
        "size": 16,
        "batch_size": 16,
        "num_samples": 80,
        "metrics": NAMES,
        "extractors": ["digit-classifier", "downsampled-pixels"],
        "allow_few_samples": True,
    }
)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    source, preprocessing = open_source("digits:train"), ImagePreprocessing(size=16)
    images = torch.cat([preprocessing([source.read(index).signal]).values for index in range(80)])
    labels = np.asarray([source.read(index).label for index in range(80)])
    np.savez(tmp_path / "samples.npz", arr_0=(images * 255).byte().permute(0, 2, 3, 1).numpy(), arr_1=labels)
    return tmp_path / "samples.npz"


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, *, call: int) -> None:
    """Let a metric run out of memory at one of its batches."""
    metric, calls = METRICS[name], []

    def compute(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise torch.OutOfMemoryError("of the accelerator")
        return metric.compute(*arguments)

    monkeypatch.setattr(registry, "METRICS", {**METRICS, name: replace(metric, compute=compute)})


def numbers(values) -> dict[str, float | None]:
    return {value.label: value.value for value in values}


def test_a_metric_fails_in_the_middle_of_generated_samples(samples: Path, monkeypatch: pytest.MonkeyPatch):
    whole, _ = GenerationRun(SUITE).run(open_samples(samples))
    fail_at(monkeypatch, "classifier", call=3)
    result, _ = GenerationRun(SUITE).run(open_samples(samples))
    assert "OutOfMemoryError: of the accelerator" in result.failed["classifier"]
    assert numbers(result.values) == {label: value for label, value in numbers(whole.values).items() if not label.startswith("conditional")}


def test_a_metric_that_failed_before_an_interruption_has_failed_after_it(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(RunState, "is_due", True)

    def stop(done: int, total: int) -> None:
        if done == 64:
            raise KeyboardInterrupt

    state = RunState(tmp_path / "state", {"of": "this test"})
    with monkeypatch.context() as patch:
        fail_at(patch, "classifier", call=2)
        with pytest.raises(KeyboardInterrupt):
            GenerationRun(SUITE).run(open_samples(samples), state=state, progress=stop)
    result, _ = GenerationRun(SUITE).run(open_samples(samples), state=state)
    assert list(result.failed) == ["classifier"]


def test_an_extractor_fails_and_the_others_keep_their_distances(samples: Path):
    def features(images: torch.Tensor) -> torch.Tensor:
        found = images.float().mean(dim=1).flatten(1)[:, ::40] / 255
        return found.fill_(torch.nan) if len(images) > 1 else found

    broken: FeatureExtractor = FunctionExtractor(features, name="broken", identity="1")
    result, _ = GenerationRun(SUITE, extractors=[broken]).run(open_samples(samples))
    assert "the features of broken" in result.failed["frechet"]
    assert {"FD[digit-classifier]", "FD[downsampled-pixels]"} <= set(numbers(result.values))
    assert "FD[broken]" not in numbers(result.values)


def test_a_run_ends_early_where_nothing_is_left_to_compute(samples: Path, monkeypatch: pytest.MonkeyPatch):
    fail_at(monkeypatch, "classifier", call=1)
    with pytest.raises(EvaluationError, match="of the accelerator"):
        GenerationRun(SUITE.replace(metrics=["classifier"])).run(open_samples(samples))


def test_a_metric_fails_in_the_middle_of_reconstructions(monkeypatch: pytest.MonkeyPatch):
    data = {"name": "shapes", "size": 16, "num_samples": 8, "max_objects": 1}
    suite = Suite.parse({"name": "s", "data": data, "metrics": ["psnr", "mse", "codebook"], "size": 16, "batch_size": 2})
    whole = evaluate_suite(suite, GrayPatches(), name="gray")
    fail_at(monkeypatch, "psnr", call=2)
    result = evaluate_suite(suite, GrayPatches(), name="gray")
    assert list(result.failed) == ["psnr"]
    assert numbers(result.values) == {label: value for label, value in numbers(whole.values).items() if not label.startswith("psnr")}


def test_failures_of_all_processes_are_kept():
    first, second, third = Failures(), Failures(), Failures()
    for failures, name in ((first, "psnr"), (second, "ssim"), (second, "psnr")):
        with failures.kept_of(name):
            raise ZeroDivisionError(f"{name} \udc80")
    third.load_state(second.state())
    assert third.compute() == {"ssim": "ZeroDivisionError: ssim \\udc80", "psnr": "ZeroDivisionError: psnr \\udc80"}
    first.merge(third)
    assert list(first.compute()) == ["ssim", "psnr"]
    assert "psnr" in first
    assert "mse" not in first
