"""FocalCodec (Della Libera et al. 2025, arXiv 2502.04465, arXiv 2509.16195): WavLM's features, compressed to one binary spherical code per frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.config import Config, Positive
from visiontok.core.chunks import Chunking
from visiontok.layers.carry import Carry
from visiontok.quantizers import BinaryEntropyConfig, BinaryQuantizerConfig, LogFloor
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.focalcodec.focal import FocalConfig, FocalDecoder, FocalEncoder
from visiontok.tokenizers.audio.focalcodec.reference import KEY_MAP, fields_of
from visiontok.tokenizers.audio.focalcodec.waveform import WaveformConfig
from visiontok.tokenizers.audio.focalcodec.wavlm import WavLm, WavLmConfig
from visiontok.tokenizers.shared.codec import Codec, codec_layout
from visiontok.tokens import TokenLayout


class FocalCodecConfig(Config):
    """Sizes; the defaults are those of the model of 50 codes per second.

    Attributes:
        sample_rate: of what goes in, in Hz; what comes out has as many samples as the decoder gives per frame of the encoder.
        encoder: gives the features.
        compressor: makes latents of them.
        num_bits: of a code.
        decompressor: restores the features.
        decoder: makes sound of features.
    """

    sample_rate: Positive = 16000
    encoder: WavLmConfig = WavLmConfig()
    compressor: FocalConfig = FocalConfig()
    num_bits: Positive = 13
    decompressor: FocalConfig = FocalConfig(dims=(256, 512, 1024))
    decoder: WaveformConfig = WaveformConfig()

    @model_validator(mode="after")
    def _check(self) -> FocalCodecConfig:
        if math.prod(self.compressor.factors) != math.prod(self.decompressor.factors):
            raise ValueError(f"the factors {self.compressor.factors} and {self.decompressor.factors} have different products")
        if self.sample_rate * self.decoder.hop % self.encoder.hop:
            raise ValueError(f"a decoder of {self.decoder.hop} samples per {self.encoder.hop} at {self.sample_rate} Hz has no whole rate")
        return self

    @property
    def hop(self) -> int:
        """Samples per code."""
        return self.encoder.hop * math.prod(self.compressor.factors)

    @property
    def output_rate(self) -> int:
        """Of the sound that comes out, in Hz."""
        return self.sample_rate * self.decoder.hop // self.encoder.hop


class FocalCodec(Codec[FocalCodecConfig]):
    """Mono. WavLM stays as it is in training. The last sample is repeated where the frames cover less than went in, as published."""

    config_class = FocalCodecConfig
    frozen: ClassVar = ("encoder",)
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: FocalCodecConfig) -> None:
        super().__init__(config)
        self.encoder = WavLm(config.encoder).requires_grad_(False).eval()
        self.compressor = FocalEncoder(config.compressor, in_dim=config.encoder.dim, out_dim=config.num_bits)
        self.quantizer = BinaryQuantizerConfig(
            dim=config.num_bits,
            normalize=True,
            codes="sphere",
            bit_order="msb",
            commitment_weight=0.0,
            entropy=BinaryEntropyConfig(sample_log=LogFloor(kind="max", eps=1e-5), batch_log=LogFloor(kind="max", eps=1e-5)),
        ).build()
        self.decompressor = FocalDecoder(config.decompressor, in_dim=config.num_bits, out_dim=config.encoder.dim)
        self.decoder = config.decoder.build(config.encoder.dim)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sample_rate)
        self.output_rate = config.output_rate
        self.layout: TokenLayout = codec_layout(sample_rate=config.sample_rate, hop=config.hop, vocab_size=2**config.num_bits)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the authors' `config.json`."""
        return cls.config_class.parse(fields_of(config), source="FocalCodec's configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Also from the names of the first release."""
        weights = super().weights_from_reference(state_dict)
        return {name: tensor[None] if name.endswith(".activation.alpha") else tensor for name, tensor in weights.items()}

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`; a state is carried where all networks are causal, over whole chunks of what they look ahead."""
        config = self.config
        if not (config.encoder.causal and config.compressor.causal and config.decompressor.causal and config.decoder.causal):
            return super().chunking
        factor = math.prod(config.compressor.factors)
        frames = math.lcm(factor, 1 + config.encoder.lookahead, 1 + config.decompressor.lookahead)
        return Chunking(unit=config.encoder.hop * frames, positions=frames // factor, is_carried=True, is_exact=True)

    def encode_next(self, signal: Tensor, carry: Carry) -> Tensor:
        latents: Tensor = self.compressor(self.encoder(signal[:, 0], carry), carry)
        return latents

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        sound: Tensor = self.decoder(self.decompressor(latents, carry), carry)
        return sound

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, frames, num_bits)."""
        latents: Tensor = self.compressor(self.encoder(signal[:, 0]))
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, num_bits) -> (B, 1, frames * output_hop)."""
        sound: Tensor = self.decoder(self.decompressor(latents))
        return sound

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes (B, frames, 1) of one level -> (B, frames, num_bits)."""
        return super().lookup(indices[..., 0])

    def fit(self, sound: Tensor, length: int) -> Tensor:
        """See `Codec`; the last sample is repeated."""
        return pad(sound[..., :length], (0, max(length - sound.shape[-1], 0)), mode="replicate")
