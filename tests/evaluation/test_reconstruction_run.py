import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches, GrayPatchesConfig
from PIL import Image
from two_processes import sharded_by_two

from visiontok.base.errors import EvaluationError
from visiontok.data import EvalLoader, open_source
from visiontok.evaluation import FunctionExtractor, Result, Suite, evaluate_suite
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.fidelity import mse, psnr
from visiontok.evaluation.metrics.frechet import frechet_distance_of_features
from visiontok.signals import ImagePreprocessing

ALL = ("mse", "psnr", "ssim", "codebook", "rate", "frechet", "classifier")
SUITE = Suite.parse(
    {"name": "small", "data": {"name": "digits", "split": "test"}, "metrics": ALL, "extractors": ["digit-classifier", "downsampled-pixels"]}
)


@pytest.fixture(scope="module")
def result() -> Result:
    return evaluate_suite(SUITE, GrayPatches(), name="gray")


def originals_and_reconstructions() -> tuple[torch.Tensor, torch.Tensor]:
    loader = EvalLoader(open_source("digits:test"), preprocessing=ImagePreprocessing(size=16), batch_size=355)
    (batch,) = loader
    model = GrayPatches()
    reference = to_uint8(batch.signals.values)
    return reference, to_uint8(model.decode(model.encode(reference)))


def test_numbers_equal_the_metrics_on_all_images_at_once(result: Result) -> None:
    reference, reconstruction = originals_and_reconstructions()
    errors, decibels = mse(reference, reconstruction), psnr(reference, reconstruction, data_range=255)
    assert result.data.samples == 355
    assert result.value("mse").value == pytest.approx(float(errors.mean()) / 255**2, rel=1e-12)
    assert result.value("psnr.mean_db").value == pytest.approx(float(decibels[torch.isfinite(decibels)].mean()), rel=1e-12)
    assert result.value("psnr.pooled").value == pytest.approx(10 * math.log10(255**2 / float(errors.mean())), rel=1e-12)
    indices = GrayPatches().encode(reference).indices
    assert result.value("codebook.usage").value == len(indices.unique()) / 17
    assert result.value("codebook.entropy.plugin").details["tokens"] == indices.numel()
    assert result.value("tokens_per_sample").value == 64
    assert result.value("bits_per_sample.nominal").value == pytest.approx(64 * math.log2(17))
    assert result.value("bits_per_pixel.nominal").value == pytest.approx(64 * math.log2(17) / 256)
    pixels = [torch.nn.functional.adaptive_avg_pool2d(images.double() / 255, 8).flatten(1).numpy() for images in (reconstruction, reference)]
    assert result.value("FD[downsampled-pixels]").value == pytest.approx(frechet_distance_of_features(*pixels), rel=1e-9)


def test_every_value_says_what_it_means(result: Result) -> None:
    for value in result.values:
        assert value.count == 355
        assert value.protocol
        assert value.interval is None or value.interval.low <= value.value <= value.interval.high
    assert "FID" not in json.dumps(result.to_dict())
    assert result.value("FD[digit-classifier]").details["reference_count"] == 355
    assert set(result.extractors) == {"digit-classifier", "downsampled-pixels"}
    assert 0.9 < result.value("accuracy[digit-classifier].originals").value <= 1


def test_a_second_run_differs_only_in_its_times(result: Result) -> None:
    again = evaluate_suite(SUITE, GrayPatches(), name="gray")
    assert again.reproducible() == result.reproducible()
    assert set(result.to_dict()) - set(result.reproducible()) == {"run"}


def test_the_identity_follows_weights_and_pixels(result: Result) -> None:
    other = GrayPatches()
    other.unused.data += 1
    changed = evaluate_suite(SUITE.replace(size=16, interpolation="bilinear", metrics=["mse"], extractors=[]), other, name="gray")
    assert changed.model is not None
    assert result.model is not None
    assert changed.model.weights_sha256 != result.model.weights_sha256
    assert changed.data.samples_sha256 != result.data.samples_sha256
    assert changed.data.identity == result.data.identity


def test_json_round_trip(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path / "a" / "result.json")
    assert Result.load(tmp_path / "a" / "result.json") == result
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["result.json"]


def test_some_samples_are_always_the_same_ones() -> None:
    suite = SUITE.replace(num_samples=20, metrics=["mse"], extractors=[])
    first, second = (evaluate_suite(suite.replace(seed=seed), GrayPatches(), name="gray") for seed in (1, 2))
    assert first.data.samples == second.data.samples == 20
    assert first.data.samples_sha256 != second.data.samples_sha256
    assert evaluate_suite(suite.replace(seed=1), GrayPatches(), name="gray").reproducible() == first.reproducible()


def test_tiles_keep_the_resolution() -> None:
    suite = Suite.parse(
        {"name": "tiles", "data": {"name": "photos", "split": "heldout"}, "crop": "tiles", "size": 128, "metrics": ["psnr", "ms_ssim"]}
    )
    suite = suite.replace(metrics=["psnr", "ssim"])
    model = GrayPatches(GrayPatchesConfig(size=128, levels=256))
    result = evaluate_suite(suite, model, name="gray")
    assert result.data.samples == 2 * 3 + 3 * 5 + 3 * 4 + 4 * 4
    assert result.data.size == (128, 128)


def test_models_that_take_any_size_are_evaluated_at_the_size_of_the_suite() -> None:
    model = GrayPatches(GrayPatchesConfig(any_size=True))
    suite = SUITE.replace(num_samples=10, size=32, metrics=["psnr", "codebook", "rate"], extractors=[])
    assert evaluate_suite(suite, model, name="gray").value("tokens_per_sample").value == 256
    with pytest.raises(EvaluationError, match=r"33 pixels.* multiples of 2"):
        evaluate_suite(suite.replace(size=33), model, name="gray")


def test_images_at_their_own_sizes_share_batches(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number, size in enumerate([(16, 24), (9, 30), (16, 24), (40, 12), (11, 11)]):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    values = {"name": "folder", "data": {"name": "folder", "path": str(tmp_path)}, "crop": "none", "metrics": ["mse", "psnr", "rate", "codebook"]}
    model = GrayPatches(GrayPatchesConfig(any_size=True))
    results = [evaluate_suite(Suite.parse({**values, "batch_size": size}), model, name="gray") for size in (1, 5)]
    together = {value.name: value.value for value in results[1].values}
    assert {value.name: value.value for value in results[0].values} == pytest.approx(together, rel=1e-6)
    assert together["tokens_per_sample"] == (8 * 12 + 5 * 15 + 8 * 12 + 20 * 6 + 6 * 6) / 5
    with pytest.raises(EvaluationError, match=r"\(16, 16\)"):
        evaluate_suite(Suite.parse(values), GrayPatches(), name="gray")


def test_own_features_beside_those_of_the_suite() -> None:
    own = FunctionExtractor(lambda images: images.float().mean(dim=(2, 3)), name="mean-color", identity="1")
    result = evaluate_suite(SUITE.replace(num_samples=200, metrics=["frechet"]), GrayPatches(), name="gray", extractors=[own])
    assert result.extractors["mean-color"] == "1"
    assert [value.name for value in result.values] == ["FD[digit-classifier]", "FD[downsampled-pixels]", "FD[mean-color]"]
    own.name = "digit-classifier"
    with pytest.raises(EvaluationError, match="one name"):
        evaluate_suite(SUITE, GrayPatches(), name="gray", extractors=[own])


def test_skipped_files_are_named(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (16, 16), (number * 50, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    suite = Suite.parse({"name": "folder", "data": {"name": "folder", "path": str(tmp_path)}, "metrics": ["mse"]})
    result = evaluate_suite(suite, GrayPatches(), name="gray")
    assert (result.data.samples, result.data.skipped_count) == (3, 1)
    assert "broken.png" in result.data.skipped[0]


def test_refusals() -> None:
    model = GrayPatches()
    with pytest.raises(EvaluationError, match=r"32 pixels.*\(16, 16\)"):
        evaluate_suite(SUITE.replace(size=32), model, name="gray")
    with pytest.raises(EvaluationError, match=r"32 x 32.* 16 x 16"):
        evaluate_suite(SUITE, GrayPatches(GrayPatchesConfig(broken_size=True)), name="gray")
    with pytest.raises(EvaluationError, match="20 samples cannot estimate the covariance of the 64 features"):
        evaluate_suite(SUITE.replace(num_samples=20), model, name="gray")
    few = evaluate_suite(SUITE.replace(num_samples=20, allow_few_samples=True), model, name="gray")
    assert few.value("FD[digit-classifier]").details["more_samples_than_dimensions"] is False
    with pytest.raises(EvaluationError, match="classifier: the data has no classes"):
        evaluate_suite(
            SUITE.replace(data={"name": "photos", "split": "heldout"}, metrics=["classifier"], extractors=["digit-classifier"]), model, name="gray"
        )


def test_evaluation_leaves_the_training_mode_alone() -> None:
    model = GrayPatches().train()
    evaluate_suite(SUITE.replace(num_samples=4, metrics=["mse"], extractors=[]), model, name="gray")
    assert model.training


def test_two_processes_give_the_numbers_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = SUITE.replace(num_samples=301)
    single = evaluate_suite(suite, GrayPatches(), name="gray")
    sharded = sharded_by_two(suite, GrayPatches, name="gray", tmp_path=tmp_path, monkeypatch=monkeypatch)
    assert sharded.run.processes == 2
    assert sharded.data == single.data
    for ours, theirs in zip(sharded.values, single.values, strict=True):
        if ours.name.startswith("FD"):
            assert ours.value == pytest.approx(theirs.value, rel=1e-12, abs=1e-12)
            assert (ours.interval is None) == (theirs.interval is None)
            if ours.interval is not None and theirs.interval is not None:
                ends = [(value.interval.low, value.interval.high) for value in (ours, theirs)]
                assert ends[0] == pytest.approx(ends[1], rel=1e-6)  # features of single images are kept in float32
            assert ours.replace(value=0.0, interval=None) == theirs.replace(value=0.0, interval=None)
        else:
            assert ours == theirs


def test_all_images_identical() -> None:
    class Perfect(GrayPatches):
        def encode_latents(self, signal):
            self.kept = signal
            return super().encode_latents(signal)

        def decode_tokens(self, tokens, options):
            return self.kept

    result = evaluate_suite(SUITE.replace(num_samples=5, metrics=["psnr", "ssim"], extractors=[]), Perfect(), name="perfect")
    assert result.value("psnr.mean_db").value is None
    assert result.value("psnr.mean_db").details["identical_images"] == 5
    assert result.value("psnr.pooled").value is None
    assert result.value("ssim").value == pytest.approx(1)
    assert np.isfinite(result.value("ssim").interval.low)
