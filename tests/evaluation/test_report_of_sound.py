"""Sounds in a report: what is drawn and played is what was given."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from visiontok.evaluation.results.report import write_report
from visiontok.evaluation.results.report.sections import ImageGrid, SoundGrid, Spectrogram, Waveform
from visiontok.evaluation.results.report.side_by_side import seconds_shown, side_by_side
from visiontok.evaluation.results.report.sounds import MOST_SAMPLES, codes_image, sound_grid
from visiontok.signals import SignalSpec
from visiontok.tokenizers.shared.codec import codec_layout, multi_rate_layout
from visiontok.tokens import Tokens

RATE = 8000
SPEC = SignalSpec(modality="audio", channels=1, low=-1.0, high=1.0, rate=float(RATE))


def tone(hertz: float, seconds: float = 1.0, *, peak: float = 0.5) -> torch.Tensor:
    times = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    return (peak * torch.sin(2 * torch.pi * hertz * times)).float()[None]


def panels(grid: SoundGrid, row: int) -> tuple[Waveform, Spectrogram, Spectrogram]:
    wave, *spectra = grid.rows[row].panels
    assert isinstance(wave, Waveform)
    first, *rest = spectra
    assert isinstance(first, Spectrogram)
    return wave, first, rest[0] if rest else first  # type: ignore[return-value]


def test_a_spectrogram_is_bright_at_the_frequency_of_a_tone() -> None:
    _, spectrum, _ = panels(sound_grid("", tone(1000), {"same": tone(1000)}, rate=RATE), 0)
    levels = np.asarray(spectrum.decibels)
    assert spectrum.kilohertz == 4
    assert levels.argmax(axis=0) / len(levels) * 4 == pytest.approx(1.0, abs=0.1)
    assert levels.max() == pytest.approx(0, abs=1e-4)
    assert levels.min() == pytest.approx(-80, abs=1e-4)
    assert np.median(levels) < -60


def test_a_difference_has_the_sign_and_the_size_of_the_change() -> None:
    half = sound_grid("", tone(1000), {"same": tone(1000), "half": tone(1000) / 2, "other": tone(3000)}, rate=RATE)
    assert not np.asarray(panels(half, 1)[2].decibels).any()
    loudest = np.asarray(panels(half, 0)[1].decibels) > -3
    assert np.asarray(panels(half, 2)[2].decibels)[loudest] == pytest.approx(-6.02, abs=0.01)
    other = np.asarray(panels(half, 3)[2].decibels)
    rows = len(other)
    assert other[rows * 3 // 4].mean() > 60
    assert other[rows // 4].mean() < -60


def test_a_waveform_keeps_every_peak() -> None:
    sound = torch.zeros(2, 30_000)
    sound[0, 12_345], sound[1, 20_000] = 0.75, -0.5
    wave, _, _ = panels(sound_grid("", sound, {}, rate=RATE, seconds=60), 0)
    assert (float(np.max(wave.high)), float(np.min(wave.low)), wave.limit) == (0.75, -0.5, 0.75)
    assert wave.seconds == pytest.approx(30_000 / RATE)


@pytest.mark.parametrize("samples", [1, 3, 200, 8001])
def test_sounds_of_any_length_are_drawn_and_played(samples: int, tmp_path: Path) -> None:
    sound = tone(500, 2.0)[:, :samples]
    grid = sound_grid("tone <b>", sound, {"louder & worse": (3 * sound).clamp(-1, 1)}, rate=RATE)
    write_report(tmp_path / "report.html", "sound", [grid])
    page = (tmp_path / "report.html").read_text()
    files = [base64.b64decode(text) for text in re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)]
    assert len(files) == 2
    played, rate = soundfile.read(io.BytesIO(files[0]), dtype="float32", always_2d=True)
    assert rate == RATE
    assert np.abs(played.T - sound.numpy()).max() <= 0.5 / 2**15 + 1e-7
    assert page.count("<svg") == 5
    assert "louder &amp; worse" in page
    assert "tone &lt;b&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_silence_is_drawn() -> None:
    _, spectrum, difference = panels(sound_grid("", torch.zeros(1, 4000), {"tone": tone(1000)}, rate=RATE), 1)
    assert np.isfinite(np.asarray(spectrum.decibels)).all()
    assert np.asarray(difference.decibels).max() == pytest.approx(80)


def test_long_sounds_are_cut_and_the_page_says_so() -> None:
    layout = codec_layout(sample_rate=RATE, hop=80, vocab_size=16, num_levels=3).at((200,))
    tokens = Tokens(torch.arange(600)[None] % 16, layout)
    whole = tone(440, 2.0)
    grid = sound_grid("", whole, {"same": whole}, rate=RATE, tokens=tokens, seconds=0.5)
    assert all(panel.seconds == 0.5 for row in grid.rows for panel in row.panels)
    assert soundfile.info(io.BytesIO(grid.rows[0].file)).frames == RATE // 2
    assert grid.codes is not None
    assert grid.codes.shape == (3, 50, 3)
    assert "first 0.5 of 2 seconds" in grid.note
    assert "first" not in sound_grid("", whole, {}, rate=RATE).note.replace("coarse first", "")


def test_the_most_that_a_page_plays_is_bounded() -> None:
    stereo = SPEC.replace(channels=2, rate=48_000.0)
    assert seconds_shown(SPEC, sounds=2) == 10
    assert seconds_shown(stereo, sounds=72) * 72 * 2 * 48_000 == pytest.approx(MOST_SAMPLES)


def test_codes_have_one_row_per_level_and_one_color_each() -> None:
    layout = codec_layout(sample_rate=RATE, hop=80, vocab_size=16, num_levels=2).at((4,))
    drawn = codes_image(Tokens(torch.tensor([[0, 1, 2, 1, 0, 1, 3, 3]]), layout))
    assert drawn is not None
    assert drawn.shape == (2, 4, 3)
    assert (drawn[1, :3] == drawn[1, 0]).all()
    assert (drawn[0, 0] == drawn[0, 2]).all()
    assert (drawn[0, 3] == drawn[1, 3]).all()
    assert (drawn[0, 0] != drawn[0, 1]).any()


def test_codes_of_several_rates_share_the_time_axis() -> None:
    layout = multi_rate_layout(sample_rate=RATE, hop=80, strides=[4, 1], vocab_size=16, frames_multiple_of=4).at((2, 8))
    drawn = codes_image(Tokens(torch.arange(10)[None], layout))
    assert drawn is not None
    assert drawn.shape == (2, 8, 3)
    assert (drawn[0, :4] == drawn[0, 0]).all()
    assert (drawn[0, 4:] == drawn[0, 7]).all()
    assert len({tuple(color) for color in drawn[1].tolist()}) == 8


def test_a_comparison_shows_what_the_signal_is() -> None:
    layout = codec_layout(sample_rate=RATE, hop=80, vocab_size=16).at((4,))
    tokens = Tokens(torch.zeros(1, 4, dtype=torch.int64), layout)
    assert isinstance(side_by_side("", tone(440), {"a": tone(440)}, spec=SPEC, tokens=tokens), SoundGrid)
    features = SignalSpec(modality="features", channels=3)
    assert side_by_side("", torch.zeros(3, 5), {}, spec=features, tokens=tokens) is None
    image = SignalSpec(modality="image", channels=3, low=0.0, high=1.0)
    shown = side_by_side("", torch.zeros(3, 8, 8), {"a": torch.ones(3, 8, 8)}, spec=image, tokens=tokens)
    assert isinstance(shown, ImageGrid)
    assert [len(row.images) for row in shown.rows] == [2, 2]
    assert shown.rows[1].images[1].min() == 255
