import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_children import Child, evaluate_given_samples

from visiontok.base.errors import CheckpointError, ConfigError, EvaluationError
from visiontok.data import EvalLoader, open_source
from visiontok.evaluation import FunctionExtractor, GenerationSuite, Result, evaluate_samples, find_extractor, write_statistics
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.features.statistics import Statistics
from visiontok.signals import ImagePreprocessing

SUITE = GenerationSuite.parse({"reference": {"name": "digits", "split": "test"}, "size": 16, "extractors": ["digit-classifier"]})


def real_digits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    loader = EvalLoader(open_source("digits:train"), preprocessing=ImagePreprocessing(size=16), batch_size=count)
    batch = next(iter(loader))
    return batch.signals.values, batch.labels


def test_real_digits_pass_for_generated_ones() -> None:
    images, classes = real_digits(300)
    batches = [(images[:100], classes[:100]), (images[100:], classes[100:])]
    good = evaluate_samples(SUITE, batches)
    wrong = evaluate_samples(SUITE, [(images, (classes + 1) % 10)])
    noise = evaluate_samples(SUITE, [(torch.rand(300, 3, 16, 16, generator=torch.Generator().manual_seed(0)), classes)])
    agreement = good.value("conditional_accuracy[digit-classifier]")
    assert agreement.value > 0.95
    assert len(agreement.details["by_class"]) == 10
    assert wrong.value("conditional_accuracy[digit-classifier]").value < 0.05
    assert noise.value("FD[digit-classifier]").value > 10 * good.value("FD[digit-classifier]").value
    assert good.kind == "generation"
    assert good.data.samples == 300
    assert good.value("FD[digit-classifier]").count == good.value("FD[digit-classifier]").details["reference_count"] == 300
    assert evaluate_samples(SUITE, batches).reproducible() == good.reproducible()
    assert good.generated_sha256 == wrong.generated_sha256 != noise.generated_sha256


def test_without_classes_there_is_only_the_distance() -> None:
    images, _ = real_digits(80)
    result = evaluate_samples(SUITE, [(images, None)])
    assert [value.name for value in result.values] == ["FD[digit-classifier]"]


def test_refusals() -> None:
    images, classes = real_digits(400)
    with pytest.raises(EvaluationError, match="400 samples were given against a reference of 355"):
        evaluate_samples(SUITE.replace(num_samples=400), [])
    late = evaluate_samples(SUITE, [(images, classes)])  # whose number nobody knew before
    assert "400 samples were given against a reference of 355" in late.failed["frechet"]
    assert {value.metric for value in late.values} == {"classifier"}
    allowed = evaluate_samples(SUITE.replace(allow_unequal_counts=True), [(images, classes)])
    assert allowed.value("FD[digit-classifier]").details["reference_count"] == 355
    assert "64 features of digit-classifier" in evaluate_samples(SUITE, [(images[:30], classes[:30])]).failed["frechet"]
    with pytest.raises(EvaluationError, match="only some samples have a requested class"):
        evaluate_samples(SUITE, [(images[:100], classes[:100]), (images[100:200], None)])
    with pytest.raises(EvaluationError, match=r"\(90, 3, 8, 8\).*16 x 16 pixels"):
        evaluate_samples(SUITE, [(torch.zeros(90, 3, 8, 8), None)])
    with pytest.raises(EvaluationError, match="no samples"):
        evaluate_samples(SUITE, [])


def test_all_metrics_over_sets_read_every_sample_once() -> None:
    images, classes = real_digits(200)
    seen = []

    def features(samples: torch.Tensor) -> torch.Tensor:
        seen.append(len(samples))
        return samples.float().mean(dim=1).flatten(1)[:, ::40] / 255

    own = FunctionExtractor(features, name="some-pixels", identity="1")
    metrics = ["frechet", "kernel_distance", "cmmd", "manifold", "inception_score"]
    suite = SUITE.replace(metrics=metrics, num_samples=200, batch_size=70)
    result = evaluate_samples(suite, [(images[:90], classes[:90]), (images[90:], classes[90:])], extractors=[own])
    assert seen == [1, 90, 110, 70, 70, 60]  # one black image for the number of features; both sides once
    assert list(result.omitted) == ["inception_score"]
    names = [value.name.partition("[")[0] for value in result.values if "some-pixels" in value.name]
    assert names == ["FD", "MMD", "RBF-MMD", "precision", "recall", "density", "coverage"]
    distance = result.value("FD[some-pixels]")
    assert distance.interval.low < distance.value < distance.interval.high
    assert not distance.no_interval
    assert "drawn twice" in result.value("recall[some-pixels]").no_interval
    real = evaluate_samples(suite.replace(reference={"split": "train"}, metrics=["manifold"]), [(images, None)])
    assert 0.7 < real.value("precision[digit-classifier]").value <= 1
    with pytest.raises(ConfigError, match="manifold"):
        SUITE.replace(reference=None, statistics=[{"path": "x.npz", "extractor": "digit-classifier"}], metrics=["manifold"])


def test_what_must_be_refused_is_refused_before_the_first_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONTOK_WEIGHTS", str(tmp_path))

    def never():
        raise AssertionError("samples were requested")
        yield

    with pytest.raises(EvaluationError, match="400 samples were given against a reference of 355"):
        evaluate_samples(SUITE.replace(num_samples=400), never())
    with pytest.raises(EvaluationError, match="50 samples cannot estimate"):
        evaluate_samples(SUITE.replace(num_samples=50), never())
    with pytest.raises(CheckpointError, match="are missing"):
        evaluate_samples(SUITE.replace(extractors=["digit-classifier", "inception-v3-compat"]), never())
    narrow = Statistics(np.zeros(3), np.eye(3), 500)
    write_statistics(tmp_path / "narrow.npz", narrow, split="train", extractor=find_extractor("digit-classifier").identity)
    files = [{"path": str(tmp_path / "narrow.npz"), "extractor": "digit-classifier"}]
    with pytest.raises(EvaluationError, match="the reference has 3 features, digit-classifier has 64"):
        evaluate_samples(SUITE.replace(reference=None, statistics=files), never())


def test_killed_and_killed_again_gives_the_result_of_an_uninterrupted_run(tmp_path: Path) -> None:
    images, classes = real_digits(160)
    arrays = {"arr_0": to_uint8(images).permute(0, 2, 3, 1).numpy(), "arr_1": classes.numpy()}
    np.savez(tmp_path / "samples.npz", **arrays)
    suite = SUITE.replace(num_samples=160, batch_size=16, metrics=["frechet", "manifold"], extractors=["downsampled-pixels"], allow_few_samples=True)
    folders = [tmp_path / "whole", tmp_path / "parts"]
    arguments = (suite.to_dict(), tmp_path / "samples.npz")
    assert Child(*arguments, folders[0], target=evaluate_given_samples).finish() == [*range(0, 321, 16)]
    first = Child(*arguments, folders[1], target=evaluate_given_samples).kill_after(5)  # among the samples
    second = Child(*arguments, folders[1], target=evaluate_given_samples).kill_after(13)  # among the real samples
    assert second[0] in (first[-2], first[-1])
    assert second[-1] > 160
    third = Child(*arguments, folders[1], target=evaluate_given_samples).finish()
    assert third[:2] in ([160, second[-1]], [160, second[-1] + 16], [160, second[-2]])
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [["r.html", "r.json", "r.samples.parquet"]] * 2
    results = [Result.load(folder / "r.json") for folder in folders]
    assert json.dumps(results[0].reproducible()) == json.dumps(results[1].reproducible())
    assert (folders[0] / "r.samples.parquet").read_bytes() == (folders[1] / "r.samples.parquet").read_bytes()
