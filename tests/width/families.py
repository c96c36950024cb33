"""Small tokenizers of kinds that no family of the zoo has: what the contracts are wide enough for, whoever comes next.

`every_case` parametrizes a test over all of them: each comes with signals of different sizes. They are registered by the fixture of `conftest.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, Tokenizer, TokenizerOutput
from visiontok.quantizers import VectorQuantizerConfig
from visiontok.registry import Family
from visiontok.signals import AudioPreprocessing, FeaturePreprocessing, ImagePreprocessing, VideoPreprocessing
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


class SmallConfig(Config):
    """Of all of them.

    Attributes:
        dim: width of a latent.
        codebook_size: codes of a codebook.
    """

    dim: int = 3
    codebook_size: int = 8

    def quantizer(self) -> nn.Module:
        """A codebook wide enough for latents of random weights."""
        quantizer = VectorQuantizerConfig(codebook_size=self.codebook_size, dim=self.dim).build()
        nn.init.normal_(quantizer.codebook, std=0.5)
        return quantizer


class StereoCodec(Tokenizer[SmallConfig]):
    """Sound of two channels and any length: a residual quantizer whose three levels have 1, 2 and 4 frames for every 16 samples."""

    config_class = SmallConfig
    factors = (4, 2, 1)

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        self.preprocessing = AudioPreprocessing(sample_rate=800, channels=2, multiple_of=16)
        self.encoder = nn.Conv1d(2, config.dim, 4, stride=4)
        self.quantizers = nn.ModuleList(config.quantizer() for _ in self.factors)
        self.decoder = nn.ConvTranspose1d(config.dim, 2, 4, stride=4)
        names = ("coarse", "middle", "fine")
        segments = tuple(
            Segment(name=name, shape=(8 // factor,), vocab_size=config.codebook_size, stride=(4 * factor,), free_axes=(0,))
            for name, factor in zip(names, self.factors, strict=True)
        )
        self.layout = TokenLayout(modality="audio", segments=segments, signal_shape=(32,), rate=800, levels="any", order="depth-first")

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens:
        return self._quantized(signal)[1]

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        assert isinstance(tokens, Tokens)
        total: Tensor | float = 0.0
        for segment, factor, quantizer in zip(tokens.layout.segments, self.factors, self.quantizers, strict=False):
            total = total + quantizer.lookup(tokens.view(segment.name)).repeat_interleave(factor, dim=1)
        return self.decoder(total.transpose(1, 2))

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: Any = None) -> TokenizerOutput:
        latents, tokens, losses = self._quantized(signal)
        return TokenizerOutput(self.decoder(latents.transpose(1, 2)), tokens, latents, losses)

    def _quantized(self, signal: Tensor) -> tuple[Tensor, Tokens, dict[str, Tensor]]:
        """Latents (B, T, D), their tokens, and losses."""
        rest = self.encoder(signal).transpose(1, 2)
        total, indices, losses = torch.zeros_like(rest), [], {}
        for number, (factor, quantizer) in enumerate(zip(self.factors, self.quantizers, strict=True)):
            found = quantizer(rest.unflatten(1, (-1, factor)).mean(dim=2))
            level = found.latents.repeat_interleave(factor, dim=1)
            total, rest = total + level, rest - level.detach()
            indices.append(found.indices)
            losses |= {f"{name}_{number}": loss for name, loss in found.losses.items()}
        layout = self.layout.at([part.shape[1] for part in indices])
        return total, Tokens(torch.cat(indices, dim=1), layout), losses


class MelFrontEnd(Tokenizer[SmallConfig]):
    """Logarithmic energies of four bands of every 16 samples, and back without phases. Has no parameter."""

    config_class = SmallConfig

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        self.preprocessing = AudioPreprocessing(sample_rate=800, multiple_of=16)
        segment = Segment(name="frames", shape=(4,), channels=4, stride=(16,), free_axes=(0,))
        self.layout = TokenLayout(modality="audio", segments=(segment,), signal_shape=(64,), rate=800)

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Latents:
        return self._latents(signal)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        assert isinstance(tokens, Latents)
        return self._signal(tokens.view())

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: Any = None) -> TokenizerOutput:
        latents = self._latents(signal)
        return TokenizerOutput(self._signal(latents.view()), latents, latents.view())

    def _latents(self, signal: Tensor) -> Latents:
        energies = torch.fft.rfft(signal[:, 0].unflatten(1, (-1, 16))).abs()[..., :8].unflatten(-1, (4, 2)).sum(dim=-1)
        return Latents((energies + 1e-3).log(), self.layout.at([energies.shape[1]]))

    def _signal(self, latents: Tensor) -> Tensor:
        energies = F.pad(latents.exp().repeat_interleave(2, dim=-1) / 2, (0, 1))
        return torch.fft.irfft(energies.to(torch.complex64), n=16).flatten(1)[:, None]


class DepthTokenizer(Tokenizer[SmallConfig]):
    """Depth maps in meters, one channel, any size: one token for every 4 x 4 pixels."""

    config_class = SmallConfig

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        self.preprocessing = ImagePreprocessing(channels=1, low=0.0, high=80.0, multiple_of=4)
        self.encoder = nn.Conv2d(1, config.dim, 4, stride=4)
        self.quantizer = config.quantizer()
        self.decoder = nn.ConvTranspose2d(config.dim, 1, 4, stride=4)
        segment = Segment(name="grid", shape=(2, 2), vocab_size=config.codebook_size, stride=(4, 4), free_axes=(0, 1))
        self.layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(8, 8))

    def encode_latents(self, signal: Tensor) -> Tensor:
        return self.encoder(signal / 40 - 1).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        return (self.decoder(latents.permute(0, 3, 1, 2)) + 1) * 40


class ImageOrClip(Tokenizer[SmallConfig]):
    """Images and clips of any size and length: the first frame by itself, then pairs of frames; one token for 4 x 4 pixels of each."""

    config_class = SmallConfig

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        frames = ImagePreprocessing(multiple_of=4)
        self.preprocessing = VideoPreprocessing(frames=frames, num_frames=3, frames_multiple_of=2, first_frame_alone=True)
        self.encoder = nn.Conv2d(3, config.dim, 4, stride=4)
        self.quantizer = config.quantizer()
        self.decoder = nn.ConvTranspose2d(config.dim, 3, 4, stride=4)
        segment = Segment(name="grid", shape=(2, 2, 2), vocab_size=config.codebook_size, stride=(2, 4, 4), free_axes=(0, 1, 2))
        self.layout = TokenLayout(modality="video", segments=(segment,), signal_shape=(3, 8, 8))

    def encode_latents(self, signal: Tensor) -> Tensor:
        frames = self.encoder(signal.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(signal), -1))
        pairs = frames[:, 1:].unflatten(1, (-1, 2)).mean(dim=2) if frames.shape[1] > 1 else frames[:, 1:]
        return torch.cat([frames[:, :1], pairs], dim=1).permute(0, 1, 3, 4, 2)

    def decode_latents(self, latents: Tensor) -> Tensor:
        frames = torch.cat([latents[:, :1], latents[:, 1:].repeat_interleave(2, dim=1)], dim=1)
        decoded = self.decoder(frames.flatten(0, 1).permute(0, 3, 1, 2))
        return decoded.unflatten(0, (len(latents), -1)).transpose(1, 2)


class ClipCodebook(Tokenizer[SmallConfig]):
    """Mono sound of any length that brings its own codebook: of a clip's blocks of four samples, those whose energies lie evenly spread."""

    config_class = SmallConfig
    decoder_extras = ("codebook",)

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        self.preprocessing = AudioPreprocessing(sample_rate=800, multiple_of=4)
        self.gain = nn.Parameter(torch.ones(()))
        segment = Segment(name="blocks", shape=(4,), vocab_size=config.codebook_size, stride=(4,), free_axes=(0,))
        self.layout = TokenLayout(modality="audio", segments=(segment,), signal_shape=(16,), rate=800)

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens:
        return self._tokens(signal)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        assert isinstance(tokens, Tokens)
        return self._signal(tokens)[:, None]

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: Any = None) -> TokenizerOutput:
        tokens = self._tokens(signal)
        decoded = self._signal(tokens)
        return TokenizerOutput(decoded[:, None], tokens, decoded.unflatten(1, (-1, 4)))

    def _tokens(self, signal: Tensor) -> Tokens:
        blocks = signal[:, 0].unflatten(1, (-1, 4))
        order = blocks.square().sum(dim=-1).argsort(dim=1, stable=True)
        chosen = torch.linspace(0, blocks.shape[1] - 1, self.config.codebook_size, dtype=torch.float64).round().long()
        codebook = blocks.gather(1, order[:, chosen, None].expand(-1, -1, 4))
        indices = (blocks[:, :, None] - codebook[:, None]).square().sum(dim=-1).argmin(dim=-1)
        return Tokens(indices, self.layout.at([blocks.shape[1]]), extras={"codebook": codebook})

    def _signal(self, tokens: Tokens) -> Tensor:
        """(B, T)."""
        codebook = tokens.extras["codebook"].to(self.dtype)
        return self.gain * codebook.gather(1, tokens.indices[..., None].expand(-1, -1, 4)).flatten(1)


class FeatureTokenizer(Tokenizer[SmallConfig]):
    """Sequences of six features, any number of them, to tokens that nothing decodes."""

    config_class = SmallConfig
    can_decode = False

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        self.preprocessing = FeaturePreprocessing(channels=6, rate=50)
        self.encoder = nn.Linear(6, config.dim)
        self.quantizer = config.quantizer()
        segment = Segment(name="steps", shape=(4,), vocab_size=config.codebook_size, stride=(1,), free_axes=(0,))
        self.layout = TokenLayout(modality="features", segments=(segment,), signal_shape=(4,), rate=50)

    def encode_latents(self, signal: Tensor) -> Tensor:
        return self.encoder(signal.transpose(1, 2))


@dataclass(frozen=True)
class Case:
    """A family with signals (C, *axes) of different sizes, in its range.

    Attributes:
        name: of the family, as in the registry.
        model: its class.
        sizes: of the signals.
    """

    name: str
    model: type[Tokenizer[Any]]
    sizes: tuple[tuple[int, ...], ...]

    def build(self) -> Tokenizer[Any]:
        """With random weights, always the same, in evaluation mode."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.model(SmallConfig()).eval()

    def signals(self) -> list[Tensor]:
        """Noise within the range of its spec, standard normal where there is none."""
        spec = self.build().preprocessing.spec
        generator = torch.Generator().manual_seed(1)
        if spec.low is None or spec.high is None:
            return [torch.randn(spec.channels, *size, generator=generator) for size in self.sizes]
        return [torch.rand(spec.channels, *size, generator=generator) * (spec.high - spec.low) + spec.low for size in self.sizes]

    @property
    def modality(self) -> str:
        return self.build().preprocessing.spec.modality


CASES = (
    Case("stereo-codec", StereoCodec, ((32,), (77,), (5,), (32,), (48,))),
    Case("mel-front-end", MelFrontEnd, ((64,), (50,), (3,), (100,), (64,))),
    Case("depth-tokenizer", DepthTokenizer, ((8, 8), (7, 13), (12, 5), (8, 8), (3, 3))),
    Case("image-or-clip", ImageOrClip, ((1, 8, 8), (3, 7, 9), (4, 6, 5), (1, 8, 8), (6, 4, 4))),
    Case("clip-codebook", ClipCodebook, ((40,), (37,), (90,), (40,), (6,))),
    Case("feature-tokenizer", FeatureTokenizer, ((4,), (9,), (1,), (4,), (7,))),
)
CAN_DECODE = tuple(case for case in CASES if case.model.can_decode)
DISCRETE = tuple(case for case in CASES if not case.build().layout.is_continuous)


def _over(cases: tuple[Case, ...]) -> Callable[..., Any]:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


every_case = _over(CASES)
every_decoding_case = _over(CAN_DECODE)
every_discrete_case = _over(DISCRETE)

FAMILIES = tuple(
    Family(
        name=case.name,
        kind="tokenizer",
        modalities=(case.modality,),  # type: ignore[arg-type]
        class_name=case.model.__name__,
        module="families",
        title=case.model.__name__,
        summary=(case.model.__doc__ or "").splitlines()[0],
        verified="against nothing",
        paper="https://example.org/paper",
        code="https://example.org/code",
        systems=(),
    )
    for case in CASES
)
