"""Results, statistics of features, and generated samples."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from fuzzing.entries.sources import encoded
from fuzzing.entries.tokens import written
from fuzzing.entry import Entry, Files
from visiontok.base.resources import suites_folder
from visiontok.evaluation.features.statistics import Statistics, read_statistics, write_statistics
from visiontok.evaluation.generation.samples import open_samples
from visiontok.evaluation.results.comparison import compare_results
from visiontok.evaluation.results.leaderboard import leaderboard
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import Result

_RESULTS = suites_folder().parent / "results"


def _results() -> list[Files]:
    return [{path.name: path.read_bytes() for path in sorted(_RESULTS.glob("photos--*"))}]


def _read_result(folder: Path) -> None:
    for path in sorted(folder.glob("*.json")):
        result = Result.load(path)
        per_sample = PerSampleResults.load_beside(path, result.per_sample_sha256)
        compare_results(result, result, (per_sample, per_sample))


def _read_leaderboard(folder: Path) -> None:
    assert leaderboard(folder).encode()


def _statistics() -> list[Files]:
    statistics = Statistics(np.arange(4.0), np.eye(4), 10)
    spatial = Statistics(np.arange(3.0), np.eye(3), 10)
    return [
        written(lambda folder: write_statistics(folder / "x.npz", statistics, split="train", extractor="e", spatial=spatial)),
        written(lambda folder: write_statistics(folder / "x.pt", statistics, split="val", extractor="e")),
    ]


def _read_statistics(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        found = read_statistics(path)
        assert found.covariance.shape == (len(found.mean), len(found.mean))
        assert bool(np.isfinite(found.mean).all()), "the mean is not finite"
        assert bool(np.isfinite(found.covariance).all()), "the covariance is not finite"
        assert found.count is None or found.count > 0, found.count


def _samples() -> list[Files]:
    buffer = io.BytesIO()
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(buffer, arr_0=images, arr_1=np.array([0, 1, 2, 3]))
    folder: Files = {f"samples/{row:05d}-class-{row % 2:04d}.png": encoded(row, size=(8, 8)) for row in range(3)}
    return [{"x.npz": buffer.getvalue()}, folder]


def _read_samples(folder: Path) -> None:
    path = folder / "samples" if (folder / "samples").exists() else folder / "x.npz"
    samples = open_samples(path)
    assert samples.identity
    unnamed = len(samples.report)  # files whose names cannot be shown, which are no samples
    images = [images for images, _ in samples.batches(2)]
    count = sum(map(len, images))
    skipped = len(samples.report) - unnamed
    assert count + skipped == len(samples), f"{count} read and {skipped} skipped of {len(samples)}"
    assert all(batch.values.dtype == torch.uint8 for batch in images)
    assert samples.classes is None or (len(samples.classes) == len(samples) and all(0 <= label < 2**63 for label in samples.classes)), samples.classes


ENTRIES = (
    Entry("result", _results, _read_result, cases=20),
    Entry("leaderboard", _results, _read_leaderboard, cases=60, mutable=lambda name: name.endswith(".json")),
    Entry("feature-statistics", _statistics, _read_statistics, cases=200),
    Entry("generated-samples", _samples, _read_samples, cases=150),
)
