"""Continuous tokens of sound without a weight: mel spectra in groups, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.core.identity import identify
from visiontok.core.tokenizer import Tokenizer
from visiontok.data.sounds import SoundsConfig, SoundsSource
from visiontok.data.tokenizing import tokenize_source
from visiontok.layers.mel import mel_filters
from visiontok.tokens import Latents
from visiontok.training import parse_recipe, train

SMALL = {"sample_rate": 8000, "n_fft": 256, "hop": 64, "num_bins": 40, "group": 2}


def build(**config: object) -> Tokenizer:
    return visiontok.create("mel-frames", **{**SMALL, **config}).eval()


def tone(samples: int = 4096, frequency: float = 440.0) -> Tensor:
    return 0.5 * torch.sin(2 * np.pi * frequency * torch.arange(samples) / 8000)[None, None]


def test_tokens_are_standardized_logarithms_of_mel_spectra_in_groups() -> None:
    model, sound = build(mean=-2.0, std=3.0), torch.rand(2, 1, 1280, generator=torch.Generator().manual_seed(0)) - 0.5
    values = model.encode(sound).view()
    assert values.shape == (2, 10, 80)
    padded = torch.nn.functional.pad(sound[:, 0], (96, 96), mode="reflect")
    spectra = torch.stft(padded, 256, 64, window=torch.hann_window(256), center=False, return_complex=True).abs().transpose(1, 2)
    logarithms = (spectra @ mel_filters(sample_rate=8000, n_fft=256, num_bins=40, scale="htk").to(spectra)).clamp_min(1e-7).log()
    torch.testing.assert_close(values, ((logarithms + 2) / 3).reshape(2, 10, 80), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 1000])
def test_lengths_come_back_and_silence_is_finite(length: int) -> None:
    model = build()
    tokens = model.encode(torch.zeros(1, 1, length))
    assert isinstance(tokens, Latents)
    assert tokens.layout.positions_per_second("frames") == 8000 / 128
    decoded = model.decode(tokens)
    assert decoded.shape == (1, 1, length)
    assert decoded.abs().max() < 1e-4


def test_sounds_of_a_batch_have_the_tokens_that_they_have_alone() -> None:
    model, sounds = build(), [tone(700)[0], tone(1500, 900.0)[0]]
    for tokens, sound in zip((model.encode(sounds)[row : row + 1] for row in (0, 1)), sounds, strict=True):
        alone = model.encode([sound])
        torch.testing.assert_close(tokens.values[:, : alone.layout.length], alone.values)


def test_a_decoded_tone_has_its_pitch_its_loudness_and_its_spectra() -> None:
    model, sound = build(), tone()
    decoded = model.decode(model.encode(sound))
    middle = decoded[0, 0, 1000:3000]
    spectrum = torch.fft.rfft(middle * torch.hann_window(2000)).abs()
    assert spectrum.argmax() * 4 == pytest.approx(440, abs=40), "a bin of the mel scale is 60 Hz wide there"
    assert middle.square().mean().sqrt() == pytest.approx(0.5 / 2**0.5, rel=0.15)
    again, silent = (model.encode(each).values for each in (decoded, torch.zeros_like(sound)))
    own = model.encode(sound).values
    assert (again - own).abs().mean() < 0.1 * (silent - own).abs().mean()
    torch.testing.assert_close(model.decode(model.encode(sound)), decoded, rtol=0, atol=0)


def test_more_iterations_give_spectra_that_agree_better() -> None:
    sound = torch.from_numpy(SoundsSource(SoundsConfig(name="vowels", sample_rate=8000, seconds=0.5)).read(0).signal.samples)[None]
    errors = []
    for iterations in (1, 30):
        model = build(iterations=iterations)
        errors.append((model.encode(model.decode(model.encode(sound))).values - model.encode(sound).values).abs().mean())
    assert errors[1] < 0.7 * errors[0]


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="63"):
        build(hop=63)


def test_a_gpt_learns_its_tokens_with_a_flow_head(tmp_path: Path) -> None:
    """As Flow-Omni would: latents of several frames, each by a flow that the backbone conditions, by class."""
    model = build(group=4)
    visiontok.save_pretrained(model, tmp_path / "mel")
    source = SoundsSource(SoundsConfig(name="tones", sample_rate=8000, min_seconds=0.1, seconds=0.2, num_samples=24))
    tokenize_source(source, model, tmp_path / "tokens", identity=identify(model, str(tmp_path / "mel")))
    config = {"dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8, "flow_head": {"dim": 16, "depth": 1}}
    recipe = {
        "kind": "generator",
        "output": str(tmp_path / "run"),
        "steps": 3,
        "batch_size": 8,
        "tokenizer": str(tmp_path / "mel"),
        "data": {"tokens": str(tmp_path / "tokens")},
        "model": {"family": "gpt", "config": config},
        "validation": None,
        "sample_images": {"every": 0},
        "logging": {"tensorboard": False},
    }
    train(parse_recipe(recipe), cpu=True)
    generator = visiontok.from_pretrained(tmp_path / "run" / "final")
    tokens = generator.generate(torch.tensor([0, 11]), layout=model.layout.at([5]), noise=torch.Generator().manual_seed(0))
    assert tokens.values.shape == (2, 5, 160)
    assert model.decode(tokens).shape == (2, 1, 5 * 256)
