"""Extractors of sound: each reads one rate, to which recordings are resampled."""

from __future__ import annotations

import copy
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import Self

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.base import FeatureExtractor, described
from visiontok.layers.mel import mel_filters
from visiontok.layers.spectrogram import magnitudes
from visiontok.signals import SignalSpec
from visiontok.signals.audio_conversion import resampled

_WINDOWS_AT_ONCE = 64
"""Windows that a network reads together, so that memory does not grow with the length of recordings."""


class SoundExtractor(FeatureExtractor):
    """Sounds (B, C, T) -> features, of the mean of their channels.

    Attributes:
        rate: in Hz, at which it reads them; soxr resamples others in its very high quality.
        shortest: samples at that rate; silence is added to shorter sounds.
    """

    rate: int = 16000
    shortest: int = 1025

    _given: int | None = None

    def takes(self, spec: SignalSpec) -> bool:
        return spec.modality == "audio" and spec.rate is not None

    def reading(self, spec: SignalSpec) -> Self:
        ready = copy.copy(self)
        ready._given = None if spec.rate is None else round(spec.rate)
        return ready

    def check(self, samples: Tensor) -> None:
        if samples.ndim != 3 or not samples.is_floating_point():
            raise EvaluationError(f"{self.name} takes sounds (B, C, T) as floats, got {samples.dtype} {tuple(samples.shape)}")
        if self._given is None:
            raise EvaluationError(f"{self.name} does not know the rate of these sounds: use what its `reading(spec)` gives")

    def extract(self, samples: Tensor) -> Tensor:
        assert self._given is not None
        mono = torch.from_numpy(resampled(samples.float().mean(dim=1).cpu().numpy(), self._given, self.rate))
        return self.embed(pad(mono, (0, max(0, self.shortest - mono.shape[1]))))

    @abstractmethod
    def embed(self, sounds: Tensor) -> Tensor:
        """(B, D) of sounds (B, T) at the extractor's own rate, float32 on the CPU."""


class WindowedExtractor(SoundExtractor):
    """One row of features for every window of a recording: (B, R, D). What is left at the end is ignored.

    Attributes:
        length: samples of a window.
        step: samples between the starts of windows.
        span: samples that are needed from the start of a further window on, at least `length`.
    """

    reads_windows = True
    length: int
    step: int
    span: int

    def embed(self, sounds: Tensor) -> Tensor:
        windows = self.windows(sounds)
        features = [self.embed_windows(part) for part in windows.flatten(0, 1).split(_WINDOWS_AT_ONCE)]
        return torch.cat(features).unflatten(0, windows.shape[:2])

    def windows(self, sounds: Tensor) -> Tensor:
        """(B, T) -> (B, R, length); what is shorter is one window."""
        if sounds.shape[1] <= self.length:
            return sounds[:, None]
        return sounds.unfold(1, self.length, self.step)[:, : 1 + max(0, sounds.shape[1] - self.span) // self.step]

    @abstractmethod
    def embed_windows(self, windows: Tensor) -> Tensor:
        """(N, D) of windows (N, length), or of whole sounds that are shorter; float32 on the CPU."""


class LogMelStatistics(SoundExtractor):
    """Means and standard deviations over time of 24 logarithmic mel bands: 48 features without weights, for coarse differences of two sets."""

    name = "log-mel-statistics"
    identity = described("log-mel-statistics", "16 kHz, Hann 1024, hop 256, 24 Slaney bands, ln of at least 1e-5, mean and standard deviation")
    protocol = "means and standard deviations over time of 24 log mel bands at 16 kHz"

    def embed(self, sounds: Tensor) -> Tensor:
        bands = mel_filters(sample_rate=self.rate, n_fft=1024, num_bins=24, scale="slaney").T @ magnitudes(sounds.double(), window=1024, hop=256)
        levels = bands.clamp_min(1e-5).log()
        return torch.cat([levels.mean(dim=2), levels.std(dim=2)], dim=1)
