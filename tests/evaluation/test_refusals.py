"""Numbers that would not mean what their name says are refused, at every entrance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches

from visiontok.base.errors import ConfigError, EvaluationError
from visiontok.evaluation import (
    FunctionExtractor,
    GenerationSuite,
    Suite,
    compare_results,
    evaluate_samples,
    evaluate_suite,
    read_statistics,
    write_statistics,
)
from visiontok.evaluation.features.statistics import Statistics
from visiontok.evaluation.metrics.entries.frechet import distance_of_sides
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.reconstruction.run import ReconstructionRun

EXTRACTOR = FunctionExtractor(lambda images: images.flatten(1), name="pixels", identity="pixels/1")
DIGITS = {"name": "x", "data": {"name": "digits", "split": "test"}, "metrics": ["frechet"], "extractors": ["downsampled-pixels"]}


def statistics(count: int = 40, width: int = 3) -> Statistics:
    moments = Moments()
    moments.update(np.random.default_rng(count).normal(size=(count, width)))
    return moments.compute()


def samples(count: int) -> list[tuple[torch.Tensor, None]]:
    return [(torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)), None)]


def generation(**changes) -> GenerationSuite:
    return GenerationSuite.parse({"reference": {"split": "test", "name": "digits"}, "size": 16, "extractors": ["downsampled-pixels"], **changes})


def test_unequal_counts(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="40 samples were given against a reference of 50"):
        distance_of_sides(statistics(40), statistics(50), extractor=EXTRACTOR, reference_side="here")
    write_statistics(tmp_path / "val.npz", statistics(50), split="val", extractor=EXTRACTOR.identity)
    with pytest.raises(EvaluationError, match="40 samples were given against a reference of 50"):
        distance_of_sides(statistics(40), read_statistics(tmp_path / "val.npz"), extractor=EXTRACTOR, are_reconstructions=True)
    with pytest.raises(EvaluationError, match="400 samples were given against a reference of 355"):
        evaluate_samples(generation(), samples(400))
    with pytest.raises(EvaluationError, match=r"199 samples .* 200"):
        evaluate_samples(generation(num_samples=200, metrics=["manifold"]), samples(199))


@pytest.mark.parametrize("name", ["train.npz", "VIRTUAL_imagenet256_labeled.npz", "adm_in256_stats.npz"])
def test_training_statistics_for_reconstructions(tmp_path: Path, name: str) -> None:
    """ADM's files do not say their split, but are known by name."""
    side, path = statistics(), tmp_path / name
    if name == "train.npz":
        write_statistics(path, side, split="train", extractor=EXTRACTOR.identity)
        stored = read_statistics(path)
    else:
        np.savez(path, mu=side.mean, sigma=side.covariance)
        stored = read_statistics(path, count=40)
        with pytest.raises(EvaluationError, match="says that its split is train, not val"):
            read_statistics(path, split="val")
    with pytest.raises(EvaluationError, match="not with statistics of the training set"):
        distance_of_sides(side, stored, extractor=EXTRACTOR, are_reconstructions=True)
    assert distance_of_sides(side, stored, extractor=EXTRACTOR, are_reconstructions=False).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("metric", ["frechet", "perturbed_frechet"])
@pytest.mark.parametrize("data", [{"name": "digits"}, {"name": "digits", "split": "all"}, {"name": "photos", "split": "train"}])
def test_training_samples_for_reconstructions(data: dict, metric: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.split"):
        Suite.parse({**DIGITS, "data": data, "metrics": [metric]})
    Suite.parse({**DIGITS, "data": data, "metrics": [metric], "allow_training_split": True})
    Suite.parse({**DIGITS, "data": data, "metrics": ["psnr"]})


def test_fewer_samples_than_features(tmp_path: Path) -> None:
    message = "samples cannot estimate the covariance of the"
    with pytest.raises(EvaluationError, match=f"20 {message} 192 features of downsampled-pixels"):
        ReconstructionRun(Suite.parse({**DIGITS, "num_samples": 20}), GrayPatches(), name="gray")
    with pytest.raises(EvaluationError, match=f"20 {message} 192"):
        evaluate_samples(generation(), samples(20))
    with pytest.raises(EvaluationError, match=f"3 {message} 3 features of pixels"):
        distance_of_sides(statistics(3), statistics(3), extractor=EXTRACTOR, reference_side="here")
    write_statistics(tmp_path / "val.npz", statistics(3), split="val", extractor=EXTRACTOR.identity)
    for reconstructions in (True, False):
        with pytest.raises(EvaluationError, match=f"3 {message} 3"):
            distance_of_sides(statistics(3), read_statistics(tmp_path / "val.npz"), extractor=EXTRACTOR, are_reconstructions=reconstructions)


def test_different_protocols_in_one_comparison() -> None:
    suite = Suite.parse({**DIGITS, "num_samples": 20, "metrics": ["psnr"], "extractors": []})
    plain = evaluate_suite(suite, GrayPatches(), name="gray")
    for changes, message in (
        ({"protocol": "titok"}, r"suite\.protocol"),
        ({"crop": "tiles", "size": 8}, "samples that were evaluated"),
        ({"seeds": [0, 1]}, r"suite\.seeds"),
    ):
        tokenizer = GrayPatches(GrayPatches().config.replace(size=changes.get("size", 16)))
        with pytest.raises(EvaluationError, match=message):
            compare_results(plain, evaluate_suite(suite.replace(**changes), tokenizer, name="gray"))
    generated = evaluate_samples(generation(metrics=["manifold"]), samples(200))
    with pytest.raises(EvaluationError, match="kind: reconstruction and generation"):
        compare_results(plain, generated)
