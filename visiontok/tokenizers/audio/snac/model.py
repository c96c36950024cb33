"""SNAC (Siuzdak et al. 2024, arXiv 2410.14411): residual codes whose coarse levels have fewer frames per second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from operator import mul
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike, RecordedNoise, as_noise
from visiontok.core.chunks import Chunking, windows
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, TokenizerOutput
from visiontok.core.weight_norm import folded
from visiontok.layers.receptive_field import reach
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.snac.networks import HEAD_DIM, SnacDecoder, SnacEncoder
from visiontok.tokenizers.audio.snac.quantizer import MultiRateQuantizer
from visiontok.tokenizers.audio.snac.reference import KEY_MAP, REFERENCE_KEYS, REQUIRED
from visiontok.tokenizers.shared.codec import Codec, multi_rate_layout
from visiontok.tokens import Latents, Tokens


class SnacConfig(Config):
    """Fields of the authors' configuration, by its names; the defaults are those of `snac-24khz`.

    Attributes:
        encoder_dim: channels before the first stride; they double with every stride.
        encoder_rates: strides of the encoder, whose product is the hop.
        latent_dim: D of the latents; None for what the encoder ends with, which it always is.
        decoder_dim: channels before the decoder's first stride; they halve with every stride.
        decoder_rates: strides of the decoder.
        attn_window_size: frames of a window of attention; None for none.
        vq_strides: frames of a code at every level, coarse first.
        noise: whether the decoder reads noise.
        depthwise: whether most convolutions are depthwise.
    """

    sampling_rate: Positive = 24000
    encoder_dim: Positive = 48
    encoder_rates: tuple[Positive, ...] = Field(default=(2, 4, 8, 8), min_length=1)
    latent_dim: Positive | None = None
    decoder_dim: Positive = 1024
    decoder_rates: tuple[Positive, ...] = Field(default=(8, 8, 4, 2), min_length=1)
    attn_window_size: Positive | None = None
    codebook_size: Positive = 4096
    codebook_dim: Positive = 8
    vq_strides: tuple[Positive, ...] = Field(default=(4, 2, 1), min_length=1)
    noise: bool = True
    depthwise: bool = True

    @model_validator(mode="after")
    def _check(self) -> SnacConfig:
        if self.hop != math.prod(self.decoder_rates):
            raise ValueError(f"encoder_rates {self.encoder_rates} and decoder_rates {self.decoder_rates} have different products")
        if self.latent_dim not in (None, self.dim):
            raise ValueError(f"latent_dim {self.latent_dim} is not what the encoder ends with, {self.dim}")
        if self.decoder_dim % 2 ** len(self.decoder_rates):
            raise ValueError(f"decoder_dim {self.decoder_dim} cannot be halved {len(self.decoder_rates)} times")
        if self.attn_window_size is not None and (self.dim % HEAD_DIM or self.decoder_dim % HEAD_DIM):
            raise ValueError(f"attention needs multiples of {HEAD_DIM} channels, not {self.dim} and {self.decoder_dim}")
        if any(coarse % fine for coarse, fine in zip(self.vq_strides, self.vq_strides[1:], strict=False)) or self.vq_strides[-1] != 1:
            raise ValueError(f"vq_strides {self.vq_strides} must end with 1, and each must be a multiple of the next")
        return self

    @property
    def dim(self) -> int:
        """D of the latents."""
        return self.encoder_dim * 2 ** len(self.encoder_rates)

    @property
    def hop(self) -> int:
        """Samples of a frame of the finest level."""
        return math.prod(self.encoder_rates)

    @property
    def frames_multiple_of(self) -> int:
        """Frames of the finest level come in multiples of it."""
        return math.lcm(self.vq_strides[0], self.attn_window_size or 1)


class Snac(Codec[SnacConfig]):
    """Mono. Sound is padded with silence to whole codes of the coarsest level, and to whole windows of attention.

    The decoder was trained with noise, which it draws where `decode` is given some; without it, it gives the same sound every time.
    """

    config_class = SnacConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: SnacConfig) -> None:
        super().__init__(config)
        window, depthwise = config.attn_window_size, config.depthwise
        self.encoder = SnacEncoder(config.encoder_dim, config.encoder_rates, window=window, depthwise=depthwise)
        self.quantizer = MultiRateQuantizer(
            strides=config.vq_strides, dim=config.dim, codebook_size=config.codebook_size, codebook_dim=config.codebook_dim
        )
        self.decoder = SnacDecoder(config.dim, config.decoder_dim, config.decoder_rates, window=window, noise=config.noise, depthwise=depthwise)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sampling_rate, multiple_of=config.hop * config.frames_multiple_of)
        self.layout = multi_rate_layout(
            sample_rate=config.sampling_rate,
            hop=config.hop,
            strides=config.vq_strides,
            vocab_size=config.codebook_size,
            frames_multiple_of=config.frames_multiple_of,
        )

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the authors' `config.json`."""
        source = "SNAC's configuration"
        REFERENCE_KEYS.check(config, source=source)
        missing = [name for name in REQUIRED if name not in config]
        if missing:
            raise ConfigError(f"{source} lacks {', '.join(missing)}")
        return cls.config_class.parse(config, source=source)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weight normalization is folded, and pointwise projections of codes become matrices.

        Queries and keys are turned in pairs of neighbors here, and in pairs of halves there: their rows are reordered.
        """
        weights = super().weights_from_reference(folded(state_dict))
        for name, tensor in weights.items():
            if name.endswith(("project_in.weight", "project_out.weight")):
                weights[name] = tensor.squeeze(-1)
            elif name.endswith("wqkv.weight"):
                queries_and_keys, values = tensor.tensor_split([2 * len(tensor) // 3])
                pairs = queries_and_keys.unflatten(0, (-1, 2, HEAD_DIM // 2)).transpose(1, 2).flatten(0, 2)
                weights[name] = torch.cat([pairs, values])
        return weights

    @property
    def is_stochastic(self) -> bool:
        return self.config.noise

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`; convolutions read so far and no further, and attention to the end of its window, of which a unit holds whole ones."""
        frames = self.config.frames_multiple_of
        overlap = max(-(-reach(self.encoder) // (self.hop * frames)), -(-reach(self.decoder) // frames))
        return Chunking(unit=self.hop * frames, positions=frames, overlap=overlap + 1, is_exact=True)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, frames, D) at the finest rate."""
        latents: Tensor = self.encoder(signal)
        return latents.transpose(1, 2)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop), without noise."""
        return self.decode_with_noise(latents, None)

    def decode_with_noise(self, latents: Tensor, noise: NoiseLike) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop); None for no noise."""
        source = None if noise is None else as_noise(noise, latents.device)
        decoded: Tensor = self.decoder(latents.transpose(1, 2), source)
        return decoded

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """See `Chunked`; only the decoder draws."""
        return super().encode_prepared(signal, replace(options, noise=None))

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        if options.noise is None:
            return super().decode_tokens(tokens, options)
        assert isinstance(tokens, Tokens)
        latents, length = self.lookup(self.unwrap(tokens)), self.chunk_length(tokens.layout.signal_shape)
        return self.decode_with_noise(latents, options.noise) if length is None else self._decode_long(latents, options.noise, length // self.hop)

    def _decode_long(self, latents: Tensor, noise: NoiseLike, length: int) -> Tensor:
        """`decode_with_noise` of windows of so many frames, beside which the draws for the whole are cut."""
        source, plan = as_noise(noise, latents.device), self.chunking
        rates = [*accumulate(self.config.decoder_rates, mul)] if self.config.noise else []
        draws = [source.normal(len(latents), 1, latents.shape[1] * rate).unflatten(-1, (-1, rate))[:, 0] for rate in rates]
        beside, sound = torch.cat([latents, *draws], dim=2).split(length, dim=1), []
        for each in windows(beside, dim=1, unit=plan.positions, lead=0, overlap=plan.overlap, first=1):
            own, *cut = each.values.split([latents.shape[2], *rates], dim=2)
            recorded = RecordedNoise(normal=[part.flatten(1)[:, None] for part in cut])
            decoded = self.decode_with_noise(own.to(latents), recorded)[..., each.before * plan.unit :]
            sound.append(decoded if each.is_last else decoded[..., : each.count * plan.unit])
        return torch.cat(sound, dim=-1)

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        noise = as_noise(noise, signal.device) if self.training else noise
        quantized = self.quantize(self.encode_latents(signal), step=step, noise=noise)
        return self.output(self.decode_with_noise(quantized.latents, noise), quantized)

    def wrap(self, latents: Tensor, indices: Tensor | None) -> Tokens | Latents:
        """Indices (B, frames, K), of which a level keeps one for each of its codes."""
        assert indices is not None
        levels = [indices[:, ::stride, level] for level, stride in enumerate(self.config.vq_strides)]
        return Tokens(torch.cat(levels, dim=1), self.layout.at([level.shape[1] for level in levels]))

    def unwrap(self, tokens: Tokens) -> Tensor:
        """(B, frames, k) at the finest rate: codes of coarser levels are repeated."""
        levels = zip(tokens.layout.segments, self.config.vq_strides, strict=False)
        return torch.stack([tokens.view(segment.name).repeat_interleave(stride, dim=1) for segment, stride in levels], dim=-1)
