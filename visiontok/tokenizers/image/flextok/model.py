"""FlexTok (Bachmann, Allardice, Mizrahi et al. 2025, arXiv 2502.13967): 1 to 256 ordered tokens, decoded by a rectified flow.

An autoencoder brings the picture to a small grid of features;
a transformer writes the grid into registers, which are quantized to the tokens; a second transformer turns noise into a grid again, led by
as many of the tokens as it is given. Registers see only those before them and, in training, the decoder sees only a prefix of them: so what
matters most stands first, and any prefix decodes to a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, Tokenizer, TokenizerOutput
from visiontok.decoders.flow.guidance import AdaptiveProjected, Guidance
from visiontok.decoders.flow.sampling import Velocity, euler, guided, seeded_noise, starting_noise
from visiontok.decoders.flow.training import FlowTimes, ModeTimes, estimate, flow_loss, mix
from visiontok.encoders.text import TextLike
from visiontok.layers.nested_dropout import NestedDropout, UniformLengths
from visiontok.quantizers.finite_scalar import FiniteScalarConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.flextok.decoder import FlowCondition, RegisterFlowDecoder
from visiontok.tokenizers.image.flextok.encoder import RegisterEncoder
from visiontok.tokenizers.image.flextok.reference import KEY_MAP, convert_weights, read_config
from visiontok.tokenizers.image.flextok.trunk import RegisterTrunkConfig
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


class FlowSampling(Config):
    """How tokens are decoded unless the caller says otherwise.

    Attributes:
        steps: of the flow; each is one pass of the decoder.
        guidance: how far to exaggerate what the tokens say; None for not at all.
    """

    steps: int = Field(default=20, gt=0)
    guidance: Guidance | None = AdaptiveProjected(scale=7.5)


@dataclass(frozen=True)
class FlowOptions(DecodeOptions):
    """What a caller asks of a decoder that follows a flow.

    Attributes:
        sampling: steps and guidance; None for those of the configuration.
    """

    sampling: FlowSampling | None = None


class FlexTokConfig(Config):
    """Sizes of a FlexTok.

    Attributes:
        image_size: side of the square image in pixels; positions are absolute, so no other size is taken.
        vae: the autoencoder whose latents are tokenized, never trained here; None to tokenize the pixels themselves, as values in [-1, 1].
        sample_posterior: whether training reads samples of the autoencoder's posterior instead of its mode.
        patch_size: side of a patch on the grid of features (of latents, or of pixels).
        num_registers: the longest sequence of tokens N.
        quantizer: finite scalars; their product is the vocabulary.
        encoder, decoder: sizes of the two transformers.
        time_features, time_scale: how the decoder is told the time, see `TimestepEmbedding`.
        nested_dropout: how many tokens the decoder sees at a training step.
        null_probability: share of the training samples whose tokens it does not see at all, which is what guidance guides away from.
        flow_times: at which times it is trained.
        sampling: how tokens are decoded.
    """

    image_size: int = Field(default=256, gt=0)
    vae: KlVaeConfig | None
    sample_posterior: bool = False
    patch_size: int = Field(default=2, gt=0)
    num_registers: int = Field(default=256, gt=0)
    quantizer: FiniteScalarConfig = FiniteScalarConfig(levels=(8, 8, 8, 5, 5, 5))
    encoder: RegisterTrunkConfig
    decoder: RegisterTrunkConfig
    time_features: int = Field(default=256, gt=0, multiple_of=2)
    time_scale: float = Field(default=1.0, gt=0)
    nested_dropout: NestedDropout = UniformLengths()
    null_probability: float = Field(default=0.2, ge=0, le=1)
    flow_times: FlowTimes = ModeTimes()
    sampling: FlowSampling = FlowSampling()

    @model_validator(mode="after")
    def _check(self) -> FlexTokConfig:
        stride = self.patch_size * (1 if self.vae is None else self.vae.stride)
        if self.image_size % stride:
            raise ValueError(f"patches of {stride} pixels do not divide an image of {self.image_size}")
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """(H, W, C) of the features that are tokenized and that the flow makes."""
        side = self.image_size // (1 if self.vae is None else self.vae.stride)
        return side, side, 3 if self.vae is None else self.vae.bottleneck.dim


class FlexTok(Tokenizer[FlexTokConfig]):
    """Autoencoder, register encoder, finite scalars, flow decoder."""

    config_class = FlexTokConfig

    @property
    def is_stochastic(self) -> bool:
        return True

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__(config)
        height, _, channels = config.grid
        shared = {"channels": channels, "grid_size": height, "patch_size": config.patch_size, "num_registers": config.num_registers}
        self.vae = None if config.vae is None else KlVae(config.vae).requires_grad_(False)
        self.encoder = RegisterEncoder(config.encoder, **shared, latent_dim=config.quantizer.dim)
        self.quantizer = config.quantizer.build()
        self.decoder = RegisterFlowDecoder(
            config.decoder, **shared, latent_dim=config.quantizer.dim, time_features=config.time_features, time_scale=config.time_scale
        )
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="bilinear")
        self.layout = TokenLayout(
            modality="image",
            segments=(Segment(name="registers", shape=(config.num_registers,), vocab_size=config.quantizer.codebook_size),),
            signal_shape=(config.image_size, config.image_size),
            prefixes="any",
        )

    # Between pictures and the grid of features.

    @torch.no_grad()
    def features(self, signal: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> what is tokenized (B, H, W, C): the mode of the autoencoder's posterior, or its mean + deviation * noise."""
        if self.vae is None:
            return (signal * 2 - 1).permute(0, 2, 3, 1)
        posterior = self.vae.encode_latents(signal)
        return self.vae.quantizer.with_noise(posterior, torch.zeros(()).to(posterior) if noise is None else noise).latents

    def pictures(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, 3, S, S), about [0, 1]."""
        return (features.permute(0, 3, 1, 2) + 1) / 2 if self.vae is None else self.vae.decode_latents(features)

    # Encoding.

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, N, D), before quantization."""
        return self.encoder(self.features(signal))

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """Tokens of images; noise draws from the autoencoder's posterior, as the authors do."""
        drawn = None if options.noise is None else as_noise(options.noise, signal.device).normal(len(signal), *self.config.grid).to(signal)
        indices = self.quantizer(self.encoder(self.features(signal, noise=drawn))).indices
        assert indices is not None
        whole = Tokens(indices, self.layout)
        return whole if options.lengths is None else whole.prefix(options.lengths)

    # Decoding.

    @torch.no_grad()
    def decode(
        self,
        tokens: Tokens | Latents,
        *,
        sampling: FlowSampling | None = None,
        text: TextLike | None = None,
        noise: NoiseLike = None,
    ) -> Tensor:
        """Tokens of any lengths -> images (B, 3, S, S) clamped to [0, 1].

        The flow starts from noise. Without noise given, a sample's noise follows from its first token: the same tokens, and all of their prefixes,
        meet the same noise, whatever else is in the batch.

        Args:
            tokens: what `encode` gave, perhaps shortened.
            sampling: steps and guidance; None for those of the configuration.
            text: is refused; see `Tokenizer.decode`.
            noise: one normal draw (B, H, W, C).

        Raises:
            TokenError: if the tokens have another layout, or an index is out of range.
        """
        text = self._text_for(text, samples=len(tokens), needed=False)
        return self.decode_with(tokens, FlowOptions(text=text, noise=noise, sampling=sampling))

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """Checked tokens -> images (B, 3, S, S), not clamped."""
        assert isinstance(tokens, Tokens)
        sampling = options.sampling if isinstance(options, FlowOptions) else None
        start = starting_noise(tokens.indices, self.config.grid, options.noise)
        codes = self.codes_of(tokens)
        return self.pictures(self.denoise(codes, tokens.sample_lengths, start.to(codes), sampling or self.config.sampling))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, N, D) -> images (B, 3, S, S), not clamped, all from one noise: codes alone do not tell the ids that seed it."""
        return self.decode_prefix(latents, torch.full((len(latents),), latents.shape[1], device=latents.device))

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """The first codes of every sample -> images, not clamped, all from one noise."""
        noise = seeded_noise([0] * len(latents), self.config.grid)
        return self.pictures(self.denoise(latents, lengths, noise.to(latents), self.config.sampling))

    def denoise(self, codes: Tensor, lengths: Tensor, noise: Tensor, sampling: FlowSampling) -> Tensor:
        """Follow the flow.

        Args:
            codes: (B, L <= N, D).
            lengths: (B,), how many of its codes a sample keeps.
            noise: (B, H, W, C).
            sampling: steps and guidance.

        Returns:
            features (B, H, W, C).
        """
        velocity: Velocity = partial(self.decoder, condition=self.decoder.condition(codes, lengths))
        if sampling.guidance is not None:
            # Not one batch of both: without tokens a sample has one register, and would be padded to as many as it has with them.
            nothing = self.decoder.condition(codes, torch.zeros_like(lengths), dropped=torch.ones_like(lengths, dtype=torch.bool))
            velocity = guided(velocity, partial(self.decoder, condition=nothing), sampling.guidance)
        return euler(velocity, noise, steps=sampling.steps)

    # Training.

    def forward(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """Training pass: the loss `flow` of one noisy sample per image, seen at a random time with a random prefix.

        In training the reconstruction is the flow's estimate of the features (B, H, W, C) from that sample; in evaluation mode it is the decoded
        image. Draws in training, in this order: normal (B, H, W, C) for the posterior where it is sampled, the times, normal (B, H, W, C) for the
        noise, the lengths, uniform (B,) for the samples without tokens.
        """
        config, source = self.config, as_noise(noise, signal.device)
        posterior_noise = source.normal(len(signal), *config.grid).to(signal) if self.training and config.sample_posterior else None
        data = self.features(signal, noise=posterior_noise)
        quantized = self.quantizer(self.encoder(data))
        assert quantized.indices is not None
        tokens = Tokens(quantized.indices, self.layout)
        losses, stats = quantized.losses, quantized.stats
        if self.training:
            times, drawn = config.flow_times.draw(len(data), source), source.normal(*data.shape).to(data)
            noisy = mix(data, drawn, times)
            velocity = self.decoder(noisy, times, self._training_condition(quantized.latents, source))
            losses = {**losses, "flow": flow_loss(velocity, data, drawn).mean()}
            reconstruction = estimate(noisy, velocity, times)
        else:
            reconstruction = self.decode_tokens(tokens, DecodeOptions(noise=noise))
        return TokenizerOutput(reconstruction, tokens, quantized.latents, losses, stats)

    def _training_condition(self, codes: Tensor, noise: Noise) -> FlowCondition:
        lengths = self.config.nested_dropout.draw(len(codes), codes.shape[1], device=codes.device)
        dropped = noise.uniform(len(codes)) < self.config.null_probability
        return self.decoder.condition(codes, lengths, dropped=dropped)

    # The authors' checkpoints.

    reference_keys: ClassVar = KEY_MAP

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return convert_weights(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> FlexTokConfig:
        """From the authors' tree of `_target_` entries, none of which is imported. Where there is no tree, from `sizes`, which has our fields."""
        return FlexTokConfig.parse(read_config(config), source="the FlexTok reference configuration")
