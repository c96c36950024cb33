"""Suites on tokenizers of sound: metrics, distances of features, rate against quality, reports."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sound_bits import SoundBits, SoundBitsConfig
from voices import voice

from visiontok.base.errors import DependencyError, EvaluationError
from visiontok.evaluation import METRICS, Result, Suite, evaluate_suite, find_extractor
from visiontok.evaluation.features import feature_width
from visiontok.evaluation.metrics import speech_quality
from visiontok.evaluation.metrics.metric import Subject
from visiontok.evaluation.metrics.needs import why_unavailable
from visiontok.evaluation.reconstruction.evaluate import evaluate_models
from visiontok.evaluation.reconstruction.rate_distortion import Settings, evaluate_curve, rate_suite
from visiontok.evaluation.reconstruction.rate_distortion_report import write_rate_distortion_report
from visiontok.signals import SignalSpec
from visiontok.tokenizers.shared.codec import resampled

QUALITIES = ("mse", "stft_distance", "mel_distance", "si_sdr", "stoi", "f0")
BOOTSTRAP = {"resamples": 100}


def spec(rate: float, channels: int = 1) -> SignalSpec:
    return SignalSpec(modality="audio", channels=channels, low=-1, high=1, rate=rate)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Voices of different lengths, of which the last is silent and another one very short."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(6):
        sound = voice(0.8 + 0.1 * number, seed=number) * (number < 5)
        np.save(folder / f"{number}.npy", sound[:, : 600 if number == 1 else None].float().numpy())
    return folder


def suite(recordings: Path, **options: Any) -> Suite:
    data = {"name": "arrays", "modality": "audio", "path": str(recordings), "rate": 16000}
    return Suite.parse({"name": "voices", "data": data, "metrics": [*QUALITIES, "rate", "codebook"], "bootstrap": BOOTSTRAP, **options})


def evaluated(recordings: Path, tokenizer: SoundBits | None = None, **options: Any) -> Result:
    return evaluate_suite(suite(recordings, **options), tokenizer or SoundBits(), name="bits")


def test_every_metric_of_sound_gives_a_number(recordings: Path) -> None:
    result = evaluated(recordings)
    assert result.failed == result.omitted == {}
    values = {value.name: value for value in result.values if value.part is None}
    counted = {"mse": 6, "stft_distance": 4, "mel_distance": 5, "si_sdr": 5, "stoi": 4, "estoi": 4, "f0.correlation": 4}
    assert {name: values[name].count for name in counted} == counted
    assert all(value.value is not None and np.isfinite(value.value) for value in values.values())
    assert values["si_sdr"].details == {"undefined_samples": 1}
    assert values["stoi"].value > 0.8
    assert values["bits_per_second.nominal"].value == pytest.approx(6 * 16000)
    assert values["f0.correlation"].value > 0.9


def test_values_do_not_depend_on_the_batch(recordings: Path) -> None:
    whole, single = (evaluated(recordings, batch_size=size) for size in (6, 1))
    for one, other in zip(whole.values, single.values, strict=True):
        assert other.value == pytest.approx(one.value, rel=1e-9), one.label


def test_stereo_at_another_rate(recordings: Path) -> None:
    stereo = SoundBits(SoundBitsConfig(rate=24000, channels=2))
    mono = SoundBits(SoundBitsConfig(rate=24000))
    first, second = (evaluated(recordings, tokenizer, num_samples=3) for tokenizer in (stereo, mono))
    for name in ("mel_distance", "si_sdr", "stoi"):
        assert first.value(name).value == pytest.approx(second.value(name).value, rel=1e-6)
        assert "24000 Hz" in first.value(name).protocol


def test_recordings_that_all_lack_a_number(tmp_path: Path) -> None:
    np.save(tmp_path / "silence.npy", np.zeros((1, 16000), dtype=np.float32))
    result = evaluated(tmp_path, metrics=["si_sdr", "stoi", "f0", "stft_distance", "mel_distance"])
    assert result.value("mel_distance").value is not None
    for name in ("si_sdr", "stoi", "estoi", "f0.correlation", "f0.voicing", "stft_distance"):
        assert result.value(name).value is None
        assert "there are only recordings" in result.value(name).no_value


def test_images_have_no_metrics_of_sound() -> None:
    image = Subject(task="reconstruction", spec=SignalSpec(modality="image", channels=3, low=0, high=1))
    for name in (*QUALITIES[1:], "pesq.wb", "visqol"):
        assert "sound" in (why_unavailable(METRICS[name], image) or "")
    sound = Subject(task="reconstruction", spec=spec(8000))
    assert "16000" in (why_unavailable(METRICS["pesq.wb"], sound) or "")
    assert why_unavailable(METRICS["pesq.nb"], sound) is None
    assert why_unavailable(METRICS["f0"], Subject(task="reconstruction", spec=spec(1000))) is not None


def test_missing_packages_are_refused_before_the_evaluation(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, *, extra: str) -> None:
        raise DependencyError(f"{module} is not installed: visiontok[{extra}]")

    monkeypatch.setattr(speech_quality, "import_optional", missing)
    monkeypatch.setattr("visiontok.evaluation.metrics.entries.sound.import_optional", missing)
    for metric, extra in (("pesq.wb", "audio-quality"), ("visqol", "audio-quality"), ("stoi", "metrics")):
        with pytest.raises(DependencyError, match=extra):
            evaluated(recordings, metrics=[metric])


class Upsampling(SoundBits):
    """Decodes to one and a half times the rate that it takes."""

    @property
    def spec(self) -> SignalSpec:
        return self.preprocessing.spec.replace(rate=24000.0)

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        sound = super().decode_latents(latents)
        return resampled(sound, self.output_size((sound.shape[-1],))[0])


def test_a_codec_that_gives_another_rate_is_compared_at_the_rate_that_went_in(recordings: Path) -> None:
    metrics = ["si_sdr", "mel_distance", "rate"]
    first, second = (evaluated(recordings, tokenizer, metrics=metrics, batch_size=2) for tokenizer in (Upsampling(), SoundBits()))
    assert first.omitted == {}
    assert "resampled by soxr from 24000 Hz" in first.value("si_sdr").protocol
    assert first.value("si_sdr").value == pytest.approx(second.value("si_sdr").value, abs=2)
    assert first.value("si_sdr").value > 20
    assert first.value("bits_per_second.nominal").value == second.value("bits_per_second.nominal").value


# Distances of features.


def test_a_frechet_distance_is_named_by_its_extractor(recordings: Path) -> None:
    refused = {"metrics": ["frechet"], "extractors": ["log-mel-statistics"]}
    with pytest.raises(EvaluationError, match="48 features of log-mel-statistics"):
        evaluated(recordings, **refused)
    result = evaluated(recordings, **refused, allow_few_samples=True)
    (value,) = result.values
    assert value.name == "FD[log-mel-statistics]"
    assert value.value > 0
    assert set(result.extractors) == {"log-mel-statistics"}


def test_features_hardly_depend_on_the_rate() -> None:
    original = voice(1.0, rate=48000)[None].float()
    extractor = find_extractor("log-mel-statistics")
    with pytest.raises(EvaluationError, match="rate"):
        extractor(original)
    there, here = (extractor.reading(spec(rate)) for rate in (48000, 16000))
    at_its_own = voice(1.0, rate=16000)[None].float()
    assert feature_width(there, torch.zeros(1, 1, 10)) == 48
    torch.testing.assert_close(there(original), here(at_its_own), atol=0.1, rtol=0)
    assert not extractor.takes(SignalSpec(modality="image", channels=3, low=0, high=1))


# Rate against quality.


def curve_of(recordings: Path, tokenizer: SoundBits, **options: Any) -> Any:
    given = rate_suite(suite(recordings, num_samples=4, **options))
    return evaluate_curve(given, tokenizer, Settings(), name="bits", progress=lambda label: nullcontext(lambda done, total: None))


def test_quality_rises_with_the_levels(recordings: Path, tmp_path: Path) -> None:
    curve, gallery = curve_of(recordings, SoundBits(), metrics=["si_sdr", "mel_distance"])
    assert curve.setting == "levels"
    assert [point.label for point in curve.points] == ["1 level", *(f"{count} levels" for count in range(2, 7))]
    assert [point.bits_per_unit for point in curve.points] == pytest.approx([16000 * count for count in range(1, 7)])
    for name, direction in (("si_sdr", 1), ("mel_distance", -1)):
        numbers = [direction * point.qualities[name].value for point in curve.points]
        assert numbers == sorted(numbers)
    assert not curve.warnings
    write_rate_distortion_report(tmp_path / "page.html", [curve], [gallery])
    page = (tmp_path / "page.html").read_text()
    assert "SI-SDR against tokens per sample" in page
    assert "SI-SDR against bits per second" in page
    assert page.count("<audio") == 4 * (1 + 6)


def test_a_level_that_does_harm_is_reported(recordings: Path) -> None:
    curve, _ = curve_of(recordings, SoundBits(SoundBitsConfig(inverted_level=3)), metrics=["si_sdr", "mel_distance"])
    assert {warning.split(": ")[1].split(" is ")[0] for warning in curve.warnings} == {"SI-SDR", "Multi-scale mel distance"}


def test_a_report_of_sound(recordings: Path, tmp_path: Path) -> None:
    evaluate_models(
        suite(recordings, levels=[2, 4, 6], metrics=["si_sdr", "mel_distance", "rate", "codebook"]),
        ["bits"],
        load=lambda name: SoundBits(),
        output=tmp_path,
        progress=lambda name: nullcontext(lambda done, total: None),
    )
    page = (tmp_path / "voices.html").read_text()
    assert "SI-SDR ↑ (dB)" in page
    assert "bits per second, nominal" in page
    assert page.count("<audio") == 3 * (1 + 3)
