"""Studies of sounds and clips: the same definitions, other samples."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from visiontok.signals import AudioPreprocessing, ImagePreprocessing, SignalSpec, VideoPreprocessing
from visiontok.studies import load_study, run_study
from visiontok.studies.report import write_study
from visiontok.studies.samples import SHOWN, SOUNDS, kept_samples, save_samples


def test_a_study_of_sounds_runs_from_training_to_report(tmp_path: Path) -> None:
    study = load_study(Path(__file__).parent / "tiny_sound_study.yaml")
    result = run_study(study, name="tiny", root=tmp_path / "runs", console=Console(file=io.StringIO()))
    codec, delay = result.runs
    assert {"si_sdr", "accuracy[note-classifier].originals"} <= set(codec.values)
    assert {"bits_per_token.ar", "generated conditional_accuracy[note-classifier]", "generator parameters"} <= set(delay.values)
    assert codec.weights_sha256["tokenizer"] == delay.weights_sha256["tokenizer"]
    assert result.findings[0].count == 1
    write_study(tmp_path / "page.html", result, root=tmp_path / "runs")
    assert (tmp_path / "page.html").read_text().count("<audio") == SOUNDS


def test_the_first_samples_are_kept_in_the_form_of_their_medium(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    sounds = torch.rand(8, 1, 400, generator=generator) - 0.5
    save_samples(sounds, AudioPreprocessing(sample_rate=8000).spec, tmp_path / "sounds")
    kept = kept_samples(tmp_path / "sounds").sounds
    assert [sound.rate for sound in kept] == [8000] * SOUNDS
    np.testing.assert_allclose(kept[5].samples, sounds[5].numpy(), atol=1e-4)

    clips = torch.rand(SHOWN + 2, 3, 4, 8, 8, generator=generator)
    (tmp_path / "clips").mkdir()
    save_samples(clips, VideoPreprocessing(frames=ImagePreprocessing(), rate=5.0).spec, tmp_path / "clips")
    animation = kept_samples(tmp_path / "clips").animation
    assert animation is not None
    with Image.open(io.BytesIO(animation)) as image:
        assert (image.n_frames, image.size) == (4, (10 * 10 + 2, 4 * 10 + 2))

    (tmp_path / "images").mkdir()
    save_samples(clips[:, :, 0], ImagePreprocessing().spec, tmp_path / "images")
    assert kept_samples(tmp_path / "images").images is not None
    save_samples(torch.zeros(2, 4, 7), SignalSpec(modality="features", channels=4), tmp_path / "nothing")
    assert not kept_samples(tmp_path / "nothing").sounds
