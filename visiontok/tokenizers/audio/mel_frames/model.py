"""Continuous tokens of sound: mel spectra in groups of frames, without a codebook and without a weight.

The proposal for speech of Flow-Omni (Yuan et al. 2024, arXiv 2412.04917): an autoregressive model writes mel spectra as continuous tokens, each by
a small flow that it conditions; `gpt` with its flow head is such a model. No code and no weights of it are public, and the paper leaves the constants
open: those here are Vocos' (24 kHz, 1024 samples, hop 256, 100 bins), and sound comes back by Griffin and Lim's algorithm instead of a vocoder.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.griffin_lim import griffin_lim
from visiontok.layers.mel import MelScale, MelSpectrogram
from visiontok.quantizers import IdentityBottleneckConfig
from visiontok.signals import AudioPreprocessing
from visiontok.tokens import Segment, TokenLayout

_USUAL_FRAMES = 16


class MelFramesConfig(Config):
    """Constants.

    Attributes:
        sample_rate: in Hz.
        n_fft: samples of a window (Hann).
        hop: samples between windows; n_fft differs from it by an even number.
        num_bins: of the mel scale.
        scale: of frequencies.
        floor: the least magnitude, under the natural logarithm.
        group: frames of a token, which has `group * num_bins` numbers.
        mean, std: of the logarithms, here those of the built-in sounds; tokens are (logarithm - mean) / std, about as large as the noise that flows
            start from.
        iterations: of Griffin and Lim's algorithm.
    """

    sample_rate: Positive = 24000
    n_fft: Positive = 1024
    hop: Positive = 256
    num_bins: Positive = 100
    scale: MelScale = "htk"
    floor: float = Field(default=1e-7, gt=0)
    group: Positive = 4
    mean: float = -1.2
    std: float = Field(default=3.7, gt=0)
    iterations: Positive = 32

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_fft < self.hop or (self.n_fft - self.hop) % 2 or self.n_fft % 2:
            raise ValueError(f"n_fft {self.n_fft} and the hop {self.hop} must be even, and n_fft not smaller")
        return self


class MelFrames(Tokenizer[MelFramesConfig]):
    """Mono. Sound is padded with silence to whole tokens; phases are not kept."""

    config_class = MelFramesConfig

    inverse: Tensor

    def __init__(self, config: MelFramesConfig) -> None:
        super().__init__(config)
        self.spectrogram = MelSpectrogram(
            sample_rate=config.sample_rate, n_fft=config.n_fft, hop=config.hop, num_bins=config.num_bins, scale=config.scale, frames="whole"
        )
        self.register_buffer("inverse", torch.linalg.pinv(self.spectrogram.filters.double()).float(), persistent=False)
        channels, stride = config.group * config.num_bins, config.group * config.hop
        self.quantizer = IdentityBottleneckConfig(dim=channels).build()
        self.preprocessing = AudioPreprocessing(sample_rate=config.sample_rate, multiple_of=stride)
        segment = Segment(name="frames", shape=(_USUAL_FRAMES,), channels=channels, stride=(stride,), free_axes=(0,))
        self.layout = TokenLayout(modality="audio", segments=(segment,), signal_shape=(_USUAL_FRAMES * stride,), rate=float(config.sample_rate))

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, T / (hop * group), group * num_bins)."""
        logarithms = self.spectrogram(signal)[:, 0].clamp_min(self.config.floor).log()
        return ((logarithms - self.config.mean) / self.config.std).unflatten(1, (-1, self.config.group)).flatten(2).to(signal.dtype)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, tokens, group * num_bins) -> (B, 1, tokens * group * hop): magnitudes by the pseudo-inverse of the mel filters, phases by iteration."""
        config = self.config
        logarithms = latents.float().unflatten(-1, (config.group, config.num_bins)).flatten(1, 2) * config.std + config.mean
        magnitudes = (logarithms.clamp_max(_LOUDEST).exp() @ self.inverse.float()).clamp_min(0)
        return griffin_lim(magnitudes, self.spectrogram.window.float(), hop=config.hop, iterations=config.iterations).to(latents.dtype)


_LOUDEST = 10.0
"""The largest logarithm that is decoded: far above full scale, so that what a generator draws stays finite."""
