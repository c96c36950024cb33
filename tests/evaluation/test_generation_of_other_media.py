"""Generated sounds and clips: the same suites, without the size of images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from visiontok.base.errors import EvaluationError
from visiontok.data import SkipReport, open_source
from visiontok.evaluation import GenerationSuite, Result, SamplePlan, evaluate_samples, find_extractor, open_samples, write_samples
from visiontok.evaluation.generation.report import write_generation_report
from visiontok.evaluation.generation.run import GenerationRun
from visiontok.evaluation.generation.samples import Samples
from visiontok.evaluation.results.result import ModelIdentity
from visiontok.signals import AudioPreprocessing, ImagePreprocessing, SignalSpec, VideoPreprocessing
from visiontok.signals.audio_writing import save_audio

TONES = {"name": "tones", "split": "test", "sample_rate": 8000, "seconds": 0.16}
SOUND = AudioPreprocessing(sample_rate=8000)
MOVING = {"name": "moving-shapes", "split": "test", "size": 16, "frames": 4, "num_samples": 24}
CLIPS = VideoPreprocessing(frames=ImagePreprocessing())


def samples(data: dict[str, Any], preprocessing: Any, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    config = GenerationSuite.parse({"reference": {**data, "num_samples": count, "split": "train"}, "extractors": ["note-classifier"]}).reference
    assert config is not None
    source = open_source(config)
    read = [source.read(index) for index in range(count)]
    return preprocessing([sample.signal for sample in read]).values, torch.tensor([sample.label for sample in read])


def suite(**options: Any) -> GenerationSuite:
    return GenerationSuite.parse({"reference": {**TONES, "num_samples": 60}, "extractors": ["log-mel-statistics", "note-classifier"], **options})


def tones(sounds: torch.Tensor, labels: torch.Tensor | None, **options: Any) -> Result:
    batches = [(sounds[rows], None if labels is None else labels[rows]) for rows in (slice(40), slice(40, None))]
    return evaluate_samples(suite(**options), batches, spec=SOUND.spec)


def test_generated_sounds_are_compared_with_real_ones() -> None:
    sounds, labels = samples(TONES, SOUND, 60)
    good = tones(sounds, labels)
    wrong, noise = tones(sounds, (labels + 1) % 12), tones(torch.rand(60, 1, 1280, generator=torch.Generator().manual_seed(0)) - 0.5, labels)
    assert good.value("conditional_accuracy[note-classifier]").value == 1
    assert wrong.value("conditional_accuracy[note-classifier]").value == 0
    assert noise.value("conditional_accuracy[note-classifier]").value < 0.2
    assert good.value("FD[log-mel-statistics]").value < noise.value("FD[log-mel-statistics]").value / 4
    assert good.data.size == (1280,)
    assert good.value("FD[log-mel-statistics]").title.endswith("log-mel-statistics")


def test_generated_clips_are_compared_with_real_ones() -> None:
    clips, labels = samples(MOVING, CLIPS, 24)
    given = GenerationSuite.parse(
        {"reference": MOVING, "extractors": ["downsampled-clips"], "metrics": ["frechet", "manifold"], "allow_few_samples": True}
    )
    good = evaluate_samples(given, [(clips, labels)], spec=CLIPS.spec)
    gray = evaluate_samples(given, [(clips * 0 + 0.5, labels)], spec=CLIPS.spec)
    assert good.value("FD[downsampled-clips]").value < gray.value("FD[downsampled-clips]").value / 2
    assert good.value("coverage[downsampled-clips]").value > gray.value("coverage[downsampled-clips]").value
    smaller = given.replace(size=8)
    with pytest.raises(EvaluationError, match="8 x 8 pixels"):
        evaluate_samples(smaller, [(clips, labels)], spec=CLIPS.spec)
    assert evaluate_samples(smaller, [(clips[..., ::2, ::2], labels)], spec=CLIPS.spec).data.size == (4, 8, 8)


def test_sizes_and_shapes_that_do_not_fit_are_refused() -> None:
    sounds, labels = samples(TONES, SOUND, 12)
    with pytest.raises(EvaluationError, match="set size"):
        GenerationRun(suite())
    with pytest.raises(EvaluationError, match="omit size"):
        GenerationRun(suite(size=16), spec=SOUND.spec)
    with pytest.raises(EvaluationError, match="features"):
        GenerationRun(suite(), spec=SignalSpec(modality="features", channels=4))
    run = GenerationRun(suite(), spec=SOUND.spec)
    with pytest.raises(EvaluationError, match=r"\(12, 2, 1280\).*\(B, 1, time\)|\(12, 2, 1280\)"):
        run.update(sounds.expand(-1, 2, -1), labels)
    run.update(sounds, labels)
    assert "12 samples" in run.finish(SkipReport())[0].failed["frechet"]


def test_the_note_classifier_hears_notes_and_their_absence() -> None:
    sounds, labels = samples({**TONES, "seconds": 0.3}, SOUND, 48)
    classifier = find_extractor("note-classifier").reading(SOUND.spec)
    assert (classifier.classify(sounds) == labels).all()
    assert classifier.classify(torch.zeros(2, 1, 2400)).tolist() == [12, 12]
    assert classifier(sounds[:1, :, :200]).tolist() == [[0, 0]]  # too short for a pitch
    octave = torch.sin(2 * torch.pi * 220 * torch.arange(2400, dtype=torch.float64) / 8000).float()[None, None]
    assert classifier.classify(octave).tolist() == [9]  # A, whatever the octave


# Samples on disk.


def test_sounds_in_a_folder_and_clips_in_a_file(tmp_path: Path) -> None:
    sounds, labels = samples(TONES, SOUND, 60)
    for row, (sound, label) in enumerate(zip(sounds, labels.tolist(), strict=True)):
        save_audio(sound[:, : 1280 if row else 900], tmp_path / f"{row:05d}-class-{label:04d}.wav", rate=8000)
    found = open_samples(tmp_path)
    assert found.spec == SOUND.spec
    assert list(found.classes or ()) == labels.tolist()
    result, _ = evaluated(suite(batch_size=16), found)
    assert result.value("conditional_accuracy[note-classifier]").value > 0.95
    write_generation_report(tmp_path / "page.html", result, found)
    assert (tmp_path / "page.html").read_text().count("<audio") == 10  # of the first ten classes
    save_audio(sounds[30], tmp_path / f"00030-class-{int(labels[30]):04d}.wav", rate=16000)
    with pytest.raises(EvaluationError, match=r"00030-class-\d+\.wav has 16000 Hz"):
        evaluated(suite(batch_size=16), open_samples(tmp_path))

    clips, kinds = samples(MOVING, CLIPS, 24)
    np.savez(tmp_path / "clips.npz", arr_0=(clips * 255).round().byte().movedim(1, -1).numpy(), arr_1=kinds.numpy())
    given = GenerationSuite.parse({"reference": MOVING, "extractors": ["downsampled-clips"], "metrics": ["frechet"], "allow_few_samples": True})
    of_file, _ = evaluated(given, open_samples(tmp_path / "clips.npz"))
    in_memory = evaluate_samples(given, [(clips, kinds)], spec=CLIPS.spec)
    assert of_file.values[0].value == pytest.approx(in_memory.values[0].value, abs=1e-4)
    write_generation_report(tmp_path / "page.html", of_file, open_samples(tmp_path / "clips.npz"))
    assert (tmp_path / "page.html").read_text().count("data:image/webp") == 10  # likewise


def evaluated(given: GenerationSuite, found: Samples) -> tuple[Result, Any]:
    return GenerationRun(given, spec=found.spec, count=len(found)).run(found)


class Decoder(torch.nn.Module):
    """Decodes every token to a signal of its value."""

    def __init__(self, spec: SignalSpec, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        return (tokens / 12).reshape(-1, *(1 for _ in self.shape)).expand(-1, *self.shape)


class Classes(torch.nn.Module):
    """Writes the class that is requested, as the only token."""

    num_classes = 12
    layout = SimpleNamespace(signal_shape=(2, 4, 4))

    def sampler(self) -> None:
        return None

    def check_sampler(self, sampler: None, *, unconditional: bool) -> None:
        return None

    def generate(self, condition: torch.Tensor, **options: Any) -> torch.Tensor:
        return condition


@pytest.mark.parametrize(("spec", "shape", "name"), [(SOUND.spec, (1, 400), "sounds"), (CLIPS.spec, (3, 2, 4, 4), "clips.npz")])
def test_samples_are_written_in_files_that_hold_them(spec: SignalSpec, shape: tuple[int, ...], name: str, tmp_path: Path) -> None:
    identity = ModelIdentity(name="a", family=None, weights_sha256="0" * 64, parameters=0, config={})
    plan = SamplePlan(num_samples=24, generator=identity, tokenizer=identity)
    write_samples(plan, Classes(), Decoder(spec, shape), tmp_path / name, batch_size=7)  # type: ignore[arg-type]
    found = open_samples(tmp_path / name)
    assert found.spec.replace(rate=None) == spec.replace(rate=None)
    values = torch.cat([batch.values.float() for batch, _ in found.batches(10)])
    expected = (torch.arange(24) % 12 / 12).reshape(-1, *(1 for _ in shape)).expand(-1, *shape) * (255 if name == "clips.npz" else 1)
    torch.testing.assert_close(values, expected, atol=0.51 if name == "clips.npz" else 1e-4, rtol=0)
    other = tmp_path / ("other" if name == "clips.npz" else "other.npz")
    with pytest.raises(EvaluationError, match="name an .npz file" if name == "clips.npz" else "name a folder"):
        write_samples(plan, Classes(), Decoder(spec, shape), other)  # type: ignore[arg-type]
