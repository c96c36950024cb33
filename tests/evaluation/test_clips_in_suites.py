"""Suites on tokenizers of clips: metrics with their averages named, rates, distances of features, frames that get lost, reports."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gray_clips import GrayClips, GrayClipsConfig, LosingFrames
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import METRICS, FunctionExtractor, Result, Suite, evaluate_suite
from visiontok.evaluation.features import i3d
from visiontok.evaluation.metrics.metric import Subject
from visiontok.evaluation.metrics.needs import why_unavailable
from visiontok.evaluation.reconstruction.evaluate import evaluate_models
from visiontok.metrics import flicker, frechet_distance
from visiontok.signals import SignalSpec

CLIPS = SignalSpec(modality="video", channels=3, low=0, high=1)
FRAMES = (6, 5, 6, 7)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth noise that moves, of different lengths; the last clip stands still."""
    folder, generator = tmp_path_factory.mktemp("clips"), torch.Generator().manual_seed(0)
    for number, frames in enumerate(FRAMES):
        wide = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=generator), size=(24, 40), mode="bilinear")[0]
        shifted = [wide[:, :, (2 * t if number < 3 else 0) : (2 * t if number < 3 else 0) + 24] for t in range(frames)]
        np.save(folder / f"{number}.npy", torch.stack(shifted, dim=1).numpy())
    return folder


def evaluated(clips: Path, tokenizer: GrayClips | None = None, **options: Any) -> Result:
    data = {"name": "arrays", "modality": "video", "path": str(clips)}
    suite = {"name": "clips", "data": data, "metrics": ["psnr", "ssim", "flicker", "rate"], "bootstrap": {"resamples": 100}, **options}
    return evaluate_suite(Suite.parse(suite), tokenizer or GrayClips(), name="gray")


def pairs(clips: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Originals and reconstructions (T, H, W, 3)."""
    originals = [torch.from_numpy(np.load(clips / f"{number}.npy")) for number in range(len(FRAMES))]
    model = GrayClips().eval()
    return [tuple(side.movedim(0, -1).double().numpy() for side in (clip, model.decode(model.encode(clip[None]))[0])) for clip in originals]


def test_every_average_of_psnr_and_ssim_equals_that_of_scikit_image(clips: Path) -> None:
    result = evaluated(clips)
    decibels = [[peak_signal_noise_ratio(x, y, data_range=1) for x, y in zip(*pair, strict=True)] for pair in pairs(clips)]
    whole = [peak_signal_noise_ratio(*pair, data_range=1) for pair in pairs(clips)]
    pooled = -10 * np.log10(np.mean([np.square(x - y).mean() for x, y in pairs(clips)]))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "channel_axis": 2, "full": True}
    similar = [[structural_similarity(x, y, **options)[1][5:-5, 5:-5].mean() for x, y in zip(*pair, strict=True)] for pair in pairs(clips)]
    expected = {
        "psnr.frames": np.mean([np.mean(each) for each in decibels]),
        "psnr.mean_db": np.mean(whole),
        "psnr.pooled": pooled,
        "ssim": np.mean([np.mean(each) for each in similar]),
    }
    for name, number in expected.items():
        assert result.value(name).value == pytest.approx(number, rel=1e-5), name
        assert result.value(name).interval is not None
    assert result.value("psnr.frames").value > result.value("psnr.mean_db").value
    assert "frames of a clip, then over clips" in result.value("psnr.frames").protocol


def test_flicker_compares_the_changes_from_frame_to_frame(clips: Path) -> None:
    result = evaluated(clips)
    steps = [(np.diff(x, axis=0), np.diff(y, axis=0)) for x, y in pairs(clips)]
    assert result.value("flicker.error").value == pytest.approx(np.mean([np.abs(b - a).mean() for a, b in steps]), rel=1e-6)
    assert result.value("flicker.excess").value == pytest.approx(np.mean([np.abs(b).mean() - np.abs(a).mean() for a, b in steps]), abs=1e-7)
    image = Subject(task="reconstruction", spec=SignalSpec(modality="image", channels=3, low=0, high=1))
    assert "clips" in (why_unavailable(METRICS["flicker"], image) or "")


def test_flicker_of_known_changes() -> None:
    still = torch.full((1, 3, 4, 8, 8), 0.5)
    blinking = still + 0.1 * torch.tensor([0.0, 1, 0, 1])[:, None, None]
    for original, other, error, excess in (
        (still, still + 0.2, 0, 0),  # a constant shift does not flicker
        (still, blinking, 0.1, 0.1),
        (blinking, still, 0.1, -0.1),
        (blinking, 1 - blinking, 0.2, 0),
    ):
        found = flicker(original, other)
        assert (found.error.item(), found.excess.item()) == pytest.approx((error, excess), abs=1e-6)
    assert flicker(still[:, :, :1], still[:, :, :1]).error.isnan().all()
    with pytest.raises(EvaluationError, match=r"\(B, C, T, H, W\)"):
        flicker(still[0], still[0])


def test_identical_frames_are_no_part_of_the_mean(tmp_path: Path) -> None:
    clip = np.full((3, 4, 16, 16), 0.5, dtype=np.float32)  # which is one of the levels
    np.save(tmp_path / "0.npy", clip)
    clip[:, 2:] = 0.51
    np.save(tmp_path / "1.npy", clip)
    found = evaluated(tmp_path, metrics=["psnr"]).value("psnr.frames")
    assert found.value == pytest.approx(40, rel=1e-5)  # of the two frames that differ, by 0.01
    assert found.details == {"identical_clips": 1}


def test_tokens_and_bits_per_second_and_pixel(clips: Path) -> None:
    lengths = [frames + frames % 2 for frames in FRAMES]
    tokens = [frames // 2 * 144 for frames in lengths]
    rated, known, unknown = evaluated(clips, frame_rate=8.0), evaluated(clips, GrayClips(GrayClipsConfig(rate=8.0))), evaluated(clips)
    for result in (rated, known):
        assert result.value("tokens_per_second").value == pytest.approx(np.mean([8 * t / f for t, f in zip(tokens, FRAMES, strict=True)]))
        assert result.value("bits_per_second.nominal").value == pytest.approx(result.value("tokens_per_second").value * np.log2(17))
    assert unknown.value("tokens_per_pixel").value == pytest.approx(np.mean([t / (f * 24 * 24) for t, f in zip(tokens, FRAMES, strict=True)]))
    assert unknown.value("bits_per_pixel.nominal").value == pytest.approx(unknown.value("tokens_per_pixel").value * np.log2(17))
    assert "tokens_per_second" not in {value.name for value in unknown.values}


def test_values_do_not_depend_on_the_batch(clips: Path) -> None:
    one, other = (evaluated(clips, batch_size=size) for size in (4, 1))
    for first, second in zip(one.values, other.values, strict=True):
        assert second.value == pytest.approx(first.value, rel=1e-9), first.label


def test_only_frames_that_both_clips_have_are_compared(clips: Path, tmp_path: Path) -> None:
    whole, cut = evaluated(clips, num_samples=1, batch_size=1), evaluated(clips, LosingFrames(), num_samples=1, batch_size=1)
    assert cut.data == whole.data  # the originals are the same ones
    key = whole.data.size
    assert key is not None
    kept = tmp_path / "kept"
    kept.mkdir()
    for number, frames in enumerate(FRAMES):
        np.save(kept / f"{number}.npy", np.load(clips / f"{number}.npy")[:, : frames + frames % 2 - 2])
    shorter = evaluated(kept, num_samples=1, batch_size=1)
    for name in ("psnr.frames", "psnr.pooled", "ssim", "flicker.error"):
        assert cut.value(name).value == pytest.approx(shorter.value(name).value, rel=1e-6), name
        assert "frames that both have" in cut.value(name).protocol


# Distances of features.


def channel_means(samples: torch.Tensor) -> torch.Tensor:
    return samples.double().mean(dim=(2, 3, 4))


def test_a_distance_of_clips_equals_the_closed_form_and_ignores_their_order(clips: Path) -> None:
    extractor = FunctionExtractor(channel_means, name="means", identity="1", spec=CLIPS)
    suite = {
        "name": "c",
        "data": {"name": "arrays", "modality": "video", "path": str(clips)},
        "metrics": ["frechet"],
        "extractors": ["downsampled-clips"],
    }
    parsed = Suite.parse({**suite, "allow_few_samples": True})
    found = evaluate_suite(parsed, GrayClips(), name="gray", extractors=[extractor]).value("FD[means]").value
    first, second = (np.stack([side.mean(axis=(0, 1, 2)) for side in sides]) for sides in zip(*pairs(clips), strict=True))
    gap, one, two = first.mean(axis=0) - second.mean(axis=0), np.cov(first.T), np.cov(second.T)
    published = gap @ gap + np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert found == pytest.approx(published, rel=1e-3, abs=1e-9)
    order = [2, 0, 3, 1]
    moments = [(side.mean(axis=0), np.cov(side.T)) for side in (first, second)]
    shuffled = [(side[order].mean(axis=0), np.cov(side[order].T)) for side in (first, second)]
    assert frechet_distance(*moments[0], *moments[1]) == pytest.approx(frechet_distance(*shuffled[0], *shuffled[1]), rel=1e-9)


def test_diagonal_gaussians_have_a_closed_form() -> None:
    random = np.random.default_rng(0)
    (mean1, mean2), (deviation1, deviation2) = random.normal(size=(2, 400)), random.uniform(0.1, 3, size=(2, 400))
    expected = np.square(mean1 - mean2).sum() + np.square(deviation1 - deviation2).sum()
    found = frechet_distance(mean1, np.diag(deviation1**2), mean2, np.diag(deviation2**2))
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_pipeline_of_a_suite_names_all_its_choices(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub(i3d.I3D):
        def load(self, weights):
            return torch.nn.Identity(), "0" * 64

        def logits(self, prepared):
            assert prepared.shape[1:] == (3, 10, 224, 224)
            return prepared.mean(dim=(2, 3, 4))

    monkeypatch.setattr("visiontok.evaluation.reconstruction.run.I3D", Stub)
    longer = clips.parent / "longer"
    longer.mkdir()
    for number in range(4):
        np.save(longer / f"{number}.npy", np.tile(np.load(clips / f"{number}.npy"), (1, 3, 1, 1))[:, :12])
    options = {"metrics": ["frechet"], "fvd": {"network": "videogpt", "frames": 10, "resize": "squash", "unbiased": False}}
    with pytest.raises(EvaluationError, match="cannot estimate the covariance of the 3 features"):
        evaluated(longer, num_samples=3, **options)
    (value,) = evaluated(longer, **options).values
    assert value.name == "FVD[i3d-videogpt-10-squash-8bit-biased]"
    assert value.title.startswith("rFVD (")
    for part in ("first 10 frames", "8-bit frames", "squash", "exact square root", "biased (over N)", "000000000000"):
        assert part in value.protocol
    with pytest.raises(EvaluationError, match=r"no metric could be computed.*clips of \d frames are too short"):
        evaluated(clips, **options)


# Reports.


def test_a_report_of_clips(clips: Path, tmp_path: Path) -> None:
    data = {"name": "arrays", "modality": "video", "path": str(clips)}
    suite = Suite.parse({"name": "clips", "data": data, "metrics": ["psnr", "flicker", "rate"], "bootstrap": {"resamples": 100}})
    evaluate_models(suite, ["gray"], load=lambda name: GrayClips(), output=tmp_path, progress=lambda name: nullcontext(lambda done, total: None))
    page = (tmp_path / "clips.html").read_text()
    assert page.count("data:image/webp;base64,") == len(FRAMES) - 1  # the worst, the median and the best
    for part in ("Flicker: difference of frame differences ↓", "PSNR, mean over frames ↑ (dB)", "prefers-reduced-motion", "Tokens per pixel"):
        assert part in page
    assert "<script" not in page
