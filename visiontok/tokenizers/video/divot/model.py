"""Divot (Ge et al. 2024, arXiv 2412.04432): 64 continuous tokens of a clip of two seconds, which a video diffusion model decodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike, SampleNoise, as_noise
from visiontok.core.building import build_with_weights
from visiontok.core.tokenizer import DecodeOptions, Tokenizer, TokenizerOutput
from visiontok.quantizers.continuous import IdentityBottleneckConfig
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokenizers.video.divot.clip import ClipConfig, ClipFeatures
from visiontok.tokenizers.video.divot.detokenizer import Detokenizer, DetokenizerConfig, DiffusionSampling
from visiontok.tokenizers.video.divot.encoder import EncoderConfig, FeatureEncoder
from visiontok.tokenizers.video.divot.reference import SOURCE, convert_weights, read_config
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

GRAY = 0.5
"""Of the clip whose tokens stand for no tokens."""


class DivotConfig(Config):
    """Sizes; the defaults are the published ones, of an encoder alone.

    Attributes:
        image_size: side of the square frames.
        num_frames: of a clip.
        frame_stride: of the frames that the encoder looks at, beside the last one.
        fps: frames per second of the clips that it was made for.
        clip: the frozen CLIP whose features it reads.
        encoder: of the features.
        detokenizer: makes clips from tokens; None for an encoder alone.
        vae: the frozen autoencoder whose latents the de-tokenizer makes; None without one.
    """

    image_size: Positive = 256
    num_frames: Positive = 16
    frame_stride: Positive = 4
    fps: float = 8.0
    clip: ClipConfig = ClipConfig()
    encoder: EncoderConfig = EncoderConfig()
    detokenizer: DetokenizerConfig | None = None
    vae: KlVaeConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> DivotConfig:
        count = len(range(0, self.num_frames, self.frame_stride)) + 1
        if count != self.encoder.num_frames:
            raise ValueError(
                f"of {self.num_frames} frames, every {self.frame_stride}th and the last are read: {count}, but the encoder takes "
                f"{self.encoder.num_frames}"
            )
        if (self.detokenizer is None) != (self.vae is None):
            raise ValueError("a de-tokenizer makes latents of a vae: give both or neither")
        if self.vae is not None and self.image_size % self.vae.stride:
            raise ValueError(f"frames of {self.image_size} pixels are no multiple of the stride {self.vae.stride} of the vae")
        return self

    @property
    def frames_read(self) -> tuple[int, ...]:
        """The frames that the encoder looks at."""
        return (*range(0, self.num_frames, self.frame_stride), self.num_frames - 1)


@dataclass(frozen=True)
class DiffusionOptions(DecodeOptions):
    """Options of the diffusion, for `Tokenizer.decode_with`.

    Attributes:
        sampling: steps and guidance; None for those of the configuration.
    """

    sampling: DiffusionSampling | None = None


class Divot(Tokenizer[DivotConfig]):
    """CLIP, transformers over time and space, a perceiver resampler; and a diffusion model as decoder, where the configuration has one.

    Gives `Latents` (B, N, D) of clips (B, 3, T, H, W) of one size. Decoding draws; without noise it decodes reproducibly.
    """

    config_class = DivotConfig

    def __init__(self, config: DivotConfig) -> None:
        super().__init__(config)
        self.clip = ClipFeatures(config.clip)
        self.encoder = FeatureEncoder(config.encoder, feature_dim=config.clip.hidden_size)
        tokens = config.encoder.resampler
        self.quantizer = IdentityBottleneckConfig(dim=tokens.output_dim).build()
        self.detokenizer: Detokenizer | None = None
        self.vae: KlVae | None = None
        if config.detokenizer is not None and config.vae is not None:
            latent_channels = config.vae.bottleneck.dim
            self.detokenizer = Detokenizer(config.detokenizer, token_dim=tokens.output_dim, latent_channels=latent_channels)
            self.vae = KlVae(config.vae).requires_grad_(False)
            side = config.image_size // config.vae.stride
            self.latent_shape = (latent_channels, config.num_frames, side, side)
        self.can_decode = self.detokenizer is not None
        self.preprocessing = VideoPreprocessing(
            frames=ImagePreprocessing(size=config.image_size, interpolation="bilinear"),
            num_frames=config.num_frames,
            fixed_length=True,
            rate=config.fps,
        )
        self.layout = TokenLayout(
            modality="video",
            segments=(Segment(name="latents", shape=(tokens.num_latents,), channels=tokens.output_dim),),
            signal_shape=(config.num_frames, config.image_size, config.image_size),
        )

    @property
    def is_stochastic(self) -> bool:
        """The diffusion starts from noise."""
        return self.can_decode

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, N, D)."""
        frames = signal[:, :, list(self.config.frames_read)].transpose(1, 2)
        features = self.clip(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return self.encoder(features)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """Latents -> clips (B, 3, T, H, W), not clamped. See `Detokenizer.sample` for the draws."""
        assert isinstance(tokens, Latents)
        sampling = options.sampling if isinstance(options, DiffusionOptions) else None
        return self._sample(tokens.values.to(self.dtype), options.noise, sampling)

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """Training pass: the loss `denoising` of the de-tokenizer, through which the encoder is trained too; in evaluation mode, the decoded clip.

        Raises:
            ConfigError: in training, without a de-tokenizer: there is nothing to train for.
        """
        quantized = self.quantizer(self.encode_latents(signal))
        if not self.training:
            return self.output(self._sample(quantized.latents, noise) if self.can_decode else None, quantized)
        if self.detokenizer is None or self.vae is None:
            raise ConfigError("a Divot encoder is trained through its de-tokenizer: set detokenizer and vae in the configuration")
        with torch.no_grad():
            frames = self.vae.quantizer.mode(self.vae.encode_latents(signal.transpose(1, 2).flatten(0, 1)))
        latents = frames.unflatten(0, (len(signal), -1)).permute(0, 4, 1, 2, 3)
        loss = self.detokenizer.loss(quantized.latents, latents, as_noise(noise, signal.device))
        output = self.output(None, quantized)
        return TokenizerOutput(None, output.tokens, output.latents, {"denoising": loss})

    def _sample(self, tokens: Tensor, noise: NoiseLike, sampling: DiffusionSampling | None = None) -> Tensor:
        """(B, N, D) -> (B, 3, T, H, W)."""
        assert self.detokenizer is not None
        assert self.vae is not None
        assert self.config.detokenizer is not None
        source = SampleNoise(0, [0] * len(tokens)) if noise is None else as_noise(noise, tokens.device)
        gray = tokens.new_full((1, 3, *self.layout.signal_shape), GRAY)
        sampling = sampling or self.config.detokenizer.sampling
        latents = self.detokenizer.sample(tokens, self.encode_latents(gray), self.latent_shape, sampling, source)
        frames = self.vae.decode_latents(latents.permute(0, 2, 3, 4, 1).flatten(0, 1))
        return frames.unflatten(0, (len(tokens), -1)).transpose(1, 2)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> DivotConfig:
        """From the authors' files for the encoder and the de-tokenizer, under `visual_encoder` and `video_detokenizer`; see `read_config`."""
        return DivotConfig.parse(read_config(config), source=SOURCE)

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """The tensors of CLIP, encoder and de-tokenizer, under the prefixes `clip.`, `video_tokenizer.` and those of the authors' de-tokenizer."""
        ours = cls.config_from_reference(config, state_dict)
        weights = convert_weights(state_dict, ours.detokenizer, frame_rate=config.get("video_detokenizer", {}).get("fs", 3))
        return build_with_weights(lambda: cls(ours), weights, source="the reference checkpoint")
