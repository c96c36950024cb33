"""What FlexTok and Selftok share: tokens of a grid of features, which a decoder makes again along a flow, and images as the features' source."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.core.model import ConfigT
from visiontok.core.tokenizer import DecodeOptions, Tokenizer, TokenizerOutput
from visiontok.decoders.flow.sampling import FlowSampling, seeded_noise, starting_noise
from visiontok.quantizers.base import Quantizer
from visiontok.tokenizers.image.kl_vae.model import KlVae
from visiontok.tokens import Latents, Tokens


@dataclass(frozen=True)
class FlowOptions(DecodeOptions):
    """Options of a decoder that follows a flow, for `Tokenizer.decode_with`.

    Attributes:
        sampling: steps and guidance; None for those of the configuration.
    """

    sampling: FlowSampling | None = None


class FeatureDecoder(Protocol):
    """From codes to a grid of features: a `FlowDecoder`, or a decoder in one step.

    Attributes:
        is_stochastic: whether decoding starts from noise.
        trains_codes: whether encoder and codebook are trained together with it.
    """

    is_stochastic: bool
    trains_codes: bool

    def decode(self, codes: Tensor, lengths: Tensor, start: Tensor | None, sampling: FlowSampling | None = None) -> Tensor:
        """Features (B, H, W, C) from the first `lengths` (B,) codes (B, L, D) of every sample, and from the noise `start` (B, H, W, C)."""

    def training_terms(self, data: Tensor, codes: Tensor, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """An estimate of the features `data` (B, H, W, C), and the losses."""


class FlowTokenizer(Tokenizer[ConfigT]):
    """Autoencoder, encoder of its features, quantizer, decoder of features.

    Attributes:
        vae: the frozen autoencoder between images and features; None where the features are the pixels, in [-1, 1].
        encoder: features (B, H, W, C) -> latents (B, L, D).
        decoder: a `FeatureDecoder`.
    """

    vae: KlVae | None
    encoder: nn.Module

    @property
    @abstractmethod
    def feature_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the features."""

    @property
    def feature_decoder(self) -> FeatureDecoder:
        """The decoder, by what it can do."""
        return self.decoder  # type: ignore[return-value]

    @property
    def is_stochastic(self) -> bool:
        """A flow starts from noise, and a posterior may be sampled."""
        return self.feature_decoder.is_stochastic

    # Between images and features.

    @torch.no_grad()
    def features(self, signal: Tensor, *, noise: NoiseLike = None) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, H, W, C): the mode of the autoencoder's posterior, or where noise is given a sample of it."""
        if self.vae is None:
            return (signal * 2 - 1).permute(0, 2, 3, 1)
        posterior = self.vae.encode_latents(signal)
        return self.vae.quantizer.mode(posterior) if noise is None else self.vae.quantizer(posterior, noise=noise).latents

    def images(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, 3, S, S), about [0, 1]."""
        return (features.permute(0, 3, 1, 2) + 1) / 2 if self.vae is None else self.vae.decode_latents(features)

    # Encoding and decoding.

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, L, D), before quantization."""
        return self.encoder(self.features(signal))

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """Checked tokens -> images (B, 3, S, S), not clamped.

        A flow starts from one normal draw (B, H, W, C) of the given noise. Without noise, a sample's start follows from its first token: the same
        tokens, and all of their prefixes, start from the same noise, whatever else is in the batch.
        """
        assert isinstance(tokens, Tokens)
        codes, decoder = self.codes_of(tokens), self.feature_decoder
        start = starting_noise(tokens.indices, self.feature_shape, options.noise).to(codes) if decoder.is_stochastic else None
        sampling = options.sampling if isinstance(options, FlowOptions) else None
        return self.images(decoder.decode(codes, tokens.sample_lengths, start, sampling))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, L, D) -> images (B, 3, S, S), not clamped, all from the same noise: the tokens that seed it do not follow from the codes."""
        return self.decode_prefix(latents, torch.full((len(latents),), latents.shape[1], dtype=torch.int64, device=latents.device))

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """The first codes of every sample -> images, not clamped, all from the same noise."""
        decoder = self.feature_decoder
        start = seeded_noise([0] * len(latents), self.feature_shape).to(latents) if decoder.is_stochastic else None
        return self.images(decoder.decode(latents, lengths, start))

    # Training.

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """Training pass: the quantizer's losses, and those of the decoder (see its `training_terms`).

        In training the reconstruction is the decoder's estimate of the features (B, H, W, C); in evaluation mode it is the decoded image. Draws in
        training, in this order: those of `training_features`, of the quantizer, and of the decoder's `training_terms`.
        """
        source = as_noise(noise, signal.device)
        data = self.training_features(signal, source) if self.training else self.features(signal)
        decoder, latents = self.feature_decoder, self.encoder(data)
        if decoder.trains_codes:
            quantized = self.quantize(latents, step=step, noise=source if self.training else noise)
            indices, codes, losses, stats = quantized.indices, quantized.latents, quantized.losses, quantized.stats
            passed_through = quantized.passed_through
        else:
            assert isinstance(self.quantizer, Quantizer)
            indices = self.quantizer.search(latents)
            codes, losses, stats, passed_through = self.quantizer.lookup(indices), {}, {}, False
        assert indices is not None
        tokens = Tokens(indices, self.layout)
        if self.training:
            reconstruction, terms = decoder.training_terms(data, codes, source)
            losses = {**losses, **terms}
        else:
            reconstruction = self.decode_tokens(tokens, DecodeOptions(noise=noise))
        return TokenizerOutput(reconstruction, tokens, codes, losses, stats, passed_through=passed_through)

    def training_features(self, signal: Tensor, noise: Noise) -> Tensor:
        """The features that a training step reads; families that sample the posterior override this."""
        return self.features(signal)
