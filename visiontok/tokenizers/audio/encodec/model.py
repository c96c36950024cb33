"""EnCodec (Défossez et al. 2022, arXiv 2210.13438) with transformers' `EncodecModel`: SEANet networks with LSTMs, residual Euclidean codebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.errors import TokenError
from visiontok.base.noise import NoiseLike
from visiontok.core.chunks import Chunking
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, TokenizerOutput
from visiontok.layers.carry import Carry
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.encodec.chunks import Chunks
from visiontok.tokenizers.audio.encodec.reference import IGNORED, KEY_MAP
from visiontok.tokenizers.shared.codec import codec_layout, fitted
from visiontok.tokenizers.shared.library_codec import LibraryCodec, LibraryResidualQuantizer, levels_of_bandwidth
from visiontok.tokenizers.shared.library_model import LibraryConfig
from visiontok.tokenizers.shared.library_seanet import carried, mirrored_frames
from visiontok.tokens import Latents, Tokens, join_chunks

SCALE = "scale"
"""The name among the extras of the loudness (B, chunks) that was taken out of every chunk."""


class EncodecConfig(LibraryConfig):
    """Fields of transformers' `EncodecConfig`, by its names; the number of codebooks follows from the largest of `target_bandwidths`."""

    target_bandwidths: tuple[float, ...] = Field(default=(1.5, 3.0, 6.0, 12.0, 24.0), min_length=1)
    sampling_rate: Positive = 24000
    audio_channels: Literal[1, 2] = 1
    normalize: bool = False
    chunk_length_s: float | None = Field(default=None, gt=0)
    overlap: float | None = Field(default=None, ge=0, lt=1)
    hidden_size: Positive = 128
    num_filters: Positive = 32
    num_residual_layers: Positive = 1
    upsampling_ratios: tuple[Positive, ...] = (8, 5, 4, 2)
    norm_type: Literal["weight_norm", "time_group_norm"] = "weight_norm"
    kernel_size: Positive = 7
    last_kernel_size: Positive = 7
    residual_kernel_size: Positive = 3
    dilation_growth_rate: Positive = 2
    use_causal_conv: bool = True
    pad_mode: Literal["reflect", "constant", "replicate"] = "reflect"
    compress: Positive = 2
    num_lstm_layers: Positive = 2
    trim_right_ratio: float = Field(default=1.0, ge=0, le=1)
    codebook_size: Positive = 1024
    codebook_dim: Positive | None = None
    use_conv_shortcut: bool = True

    @model_validator(mode="after")
    def _check(self) -> EncodecConfig:
        if (self.chunk_length_s is None) != (self.overlap is None):
            raise ValueError("chunk_length_s and overlap belong together: give both or neither")
        if self.num_levels < 1:
            raise ValueError(f"target_bandwidths {self.target_bandwidths} do not hold one codebook of {self.codebook_size} codes")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsampling_ratios)

    @property
    def num_levels(self) -> int:
        """Codebooks that the largest bandwidth holds."""
        return levels_of_bandwidth(self.target_bandwidths[-1], sample_rate=self.sampling_rate, hop=self.hop, codebook_size=self.codebook_size)

    @property
    def chunks(self) -> Chunks | None:
        """How sound is cut; None for models that take it whole."""
        if self.chunk_length_s is None or self.overlap is None:
            return None
        length = int(self.chunk_length_s * self.sampling_rate)
        return Chunks(length=length, stride=max(1, int((1.0 - self.overlap) * length)), hop=self.hop)


class Encodec(LibraryCodec[EncodecConfig]):
    """Sound of any length. The models of 24 and 32 kHz take it whole; that of 48 kHz cuts it into chunks of a second and takes their loudness out."""

    config_class = EncodecConfig
    network_class: ClassVar = "EncodecModel"
    network_config_class: ClassVar = "EncodecConfig"
    reference_keys: ClassVar = KEY_MAP
    ignored_settings: ClassVar = IGNORED

    encoder: Any
    decoder: Any
    quantizer: LibraryResidualQuantizer

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__(config)
        network = self.new_network(config.library_arguments())
        self.encoder, self.decoder = network.encoder, network.decoder
        self.quantizer = LibraryResidualQuantizer(network.quantizer)
        self.chunks = config.chunks
        self.preprocessing = AudioPreprocessing(sample_rate=config.sampling_rate, channels=config.audio_channels)
        self.layout = codec_layout(sample_rate=config.sampling_rate, hop=config.hop, vocab_size=config.codebook_size, num_levels=config.num_levels)

        self.decoder_extras = (SCALE,) if config.normalize else ()

    @property
    def _is_whole(self) -> bool:
        """Whether it takes sounds as they are: neither cut into chunks of its own nor without their loudness."""
        return self.chunks is None and not self.config.normalize

    @property
    def frames_per_second(self) -> float:
        """Of a long sound; frames in the overlap of two chunks are there twice."""
        if self.chunks is None:
            return super().frames_per_second
        return self.chunks.frames * self.config.sampling_rate / self.chunks.stride

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`; a state is carried where the networks are causal.

        Raises:
            TokenError: for models that take the loudness of sounds out, or cut them into chunks of their own.
        """
        config = self.config
        if not self._is_whole:
            raise TokenError("this EnCodec takes loudness out, or cuts chunks of its own: give the whole sound to encode, and all tokens to decode")
        if not config.use_causal_conv or config.norm_type != "weight_norm" or config.trim_right_ratio != 1.0:
            return super().chunking
        return Chunking(unit=config.hop, is_carried=True, is_exact=True, first=mirrored_frames(config))

    @property
    def windows_matter(self) -> bool:
        """See `Codec`."""
        return self._is_whole and super().windows_matter

    def encode_next(self, signal: Tensor, carry: Carry) -> Tensor:
        return carried(self.encoder.layers, signal, carry).transpose(1, 2)

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        return carried(self.decoder.layers, latents.transpose(1, 2), carry)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, C, T) -> (B, ceil(T / hop), D)."""
        latents: Tensor = self.encoder(signal)
        return latents.transpose(1, 2)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, C, frames * hop)."""
        return fitted(self.decoder(latents.transpose(1, 2)), latents.shape[1] * self.hop)

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        if self._is_whole:
            return super().encode_prepared(signal, options)
        latents, scales = self._encode_chunks(signal)
        parts = (self.quantizer(part) for part in self._parts(latents))  # not at once: the distances of all frames from all codes may be GiB
        return _with_scales(join_chunks([self.wrap(part.latents, part.indices) for part in parts]), scales)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        if self._is_whole:
            return super().decode_tokens(tokens, options)
        assert isinstance(tokens, Tokens)
        return self._decode_chunks(self.lookup(self.unwrap(tokens)), tokens.extras.get(SCALE))

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        latents, scales = self._encode_chunks(signal)
        quantized = self.quantize(latents, step=step, noise=noise)
        decoded = fitted(self._decode_chunks(quantized.latents, scales), signal.shape[-1])
        return replace(self.output(decoded, quantized), tokens=_with_scales(self.wrap(quantized.latents, quantized.indices), scales))

    def _encode_chunks(self, signal: Tensor) -> tuple[Tensor, Tensor | None]:
        """The latents (B, frames, D) of all chunks in turn, and their loudness (B, chunks) where it is taken out."""
        latents, scales = [], []
        for chunk in [signal] if self.chunks is None else self.chunks.cut(signal):
            if self.config.normalize:
                scale = chunk.mean(dim=1).square().mean(dim=1).sqrt() + 1e-8
                scales.append(scale)
                chunk = chunk / scale[:, None, None]
            latents.append(self.encode_latents(chunk))
        return torch.cat(latents, dim=1), torch.stack(scales, dim=1) if scales else None

    def _decode_chunks(self, latents: Tensor, scales: Tensor | None) -> Tensor:
        """The inverse of `_encode_chunks`: (B, C, T)."""
        parts = self._parts(latents)
        if scales is not None and scales.shape[1] < len(parts):
            raise TokenError(f"the extra {SCALE!r} has {scales.shape[1]} values per sample; these tokens are of {len(parts)} chunks")

        def decoded(number: int) -> Tensor:
            sound = self.decode_latents(parts[number])
            return sound if scales is None else sound * scales[:, number, None, None].to(sound.dtype)

        return decoded(0) if self.chunks is None else self.chunks.join(map(decoded, range(len(parts))), frames=latents.shape[1])

    def _parts(self, latents: Tensor) -> Sequence[Tensor]:
        """The frames of every chunk."""
        return [latents] if self.chunks is None else self.chunks.of_frames(latents)


def _with_scales(tokens: Tokens | Latents, scales: Tensor | None) -> Tokens | Latents:
    return tokens if scales is None else tokens.with_data(tokens.data, extras={SCALE: scales.detach()})
