"""LARP (Wang et al. 2024, arXiv 2410.21264): a ViT writes a clip into holistic latent tokens, whose order a prior shapes in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.errors import SignalError, TokenError
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.core.tokenizer import DecodeOptions, Tokenizer, TokenizerOutput
from visiontok.layers.vit import ViTConfig
from visiontok.quantizers.base import CodebookQuantizer
from visiontok.quantizers.stochastic_vector import StochasticVectorQuantizerConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.tokenizers.video.larp.networks import ClipDecoder, ClipEncoder
from visiontok.tokenizers.video.larp.prior import ContinuousPrior, PriorConfig
from visiontok.tokenizers.video.larp.reference import KEY_MAP, convert_weights, read_config
from visiontok.tokens import Latents, Tokens
from visiontok.tokens.batch import SIGNAL_SIZE
from visiontok.tokens.grid import latents_layout

TokenType = Literal["patches", "latent_queries", "latents", "patch_queries"]


class LarpConfig(Config):
    """Sizes; the defaults of the flags are the published ones.

    Attributes:
        image_size: side of the square frames in pixels; the position tables are absolute, so no other size is taken.
        num_frames: of a clip. Shorter clips are taken too, and have as many tokens.
        frames_per_patch: frames of a patch.
        num_latent_tokens: tokens per clip.
        encoder, decoder: sizes of the two ViTs, with patches of one size.
        quantizer: stochastic ("svq", as published) or nearest-code ("vq").
        learned_patch_positions, learned_query_positions, learned_latent_positions: positions of the encoder's patches and of the decoder's queries
            and latents that are learned, instead of sines and cosines.
        token_types: kinds of tokens with a learned row that is added to all of them: the encoder's "patches" and "latent_queries", the decoder's
            "latents" and "patch_queries".
        prior: of the training; None trains without.
    """

    image_size: Positive = 128
    num_frames: Positive = 16
    frames_per_patch: Positive = 4
    num_latent_tokens: Positive = 1024
    encoder: ViTConfig
    decoder: ViTConfig
    quantizer: Annotated[StochasticVectorQuantizerConfig | VectorQuantizerConfig, Field(discriminator="type")]
    learned_patch_positions: bool = False
    learned_query_positions: bool = False
    learned_latent_positions: bool = False
    token_types: tuple[TokenType, ...] = ("patch_queries",)
    prior: PriorConfig | None = PriorConfig()

    @model_validator(mode="after")
    def _check(self) -> LarpConfig:
        size = self.encoder.patch_size
        if self.decoder.patch_size != size:
            raise ValueError(f"the decoder writes the encoder's patches, but theirs have {self.decoder.patch_size} and {size} pixels")
        if self.image_size % size or self.num_frames % self.frames_per_patch:
            patch, clip = (self.frames_per_patch, size, size), (self.num_frames, self.image_size, self.image_size)
            raise ValueError(f"patches of {patch} do not divide clips of {clip}")
        for vit in (self.encoder, self.decoder):
            if vit.dim % 4:
                raise ValueError(f"dim {vit.dim} is no multiple of 4, which the positions need")
        if self.prior is not None and not 1 < self.num_latent_tokens <= self.prior.max_length + 1:
            raise ValueError(f"a prior of max_length {self.prior.max_length} reads 2 to {self.prior.max_length + 1} tokens: set it, or prior null")
        return self

    @property
    def clip(self) -> tuple[int, int, int]:
        """Frames, height and width of a whole clip."""
        return (self.num_frames, self.image_size, self.image_size)


class LarpTokenizer(Tokenizer[LarpConfig]):
    """Latent-query ViT encoder, (stochastic) vector quantizer over N tokens, patch-query ViT decoder, and the prior of its training.

    `encode` takes the code with the largest cosine unless noise is given; the authors' encoder draws unless it is told not to.
    """

    config_class = LarpConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: LarpConfig) -> None:
        super().__init__(config)
        side = config.image_size // config.encoder.patch_size
        sizes: dict[str, Any] = {
            "frames_per_patch": config.frames_per_patch,
            "grid": (config.num_frames // config.frames_per_patch, side, side),
            "num_latent_tokens": config.num_latent_tokens,
            "latent_dim": config.quantizer.dim,
            "types": frozenset(config.token_types),
        }
        self.encoder = ClipEncoder(config.encoder, **sizes, learned_positions=config.learned_patch_positions)
        self.quantizer = config.quantizer.build()
        self.decoder = ClipDecoder(
            config.decoder,
            **sizes,
            learned_positions=config.learned_query_positions,
            learned_latent_positions=config.learned_latent_positions,
        )
        self.prior = None if config.prior is None else ContinuousPrior(config.prior, latent_dim=config.quantizer.dim)
        self.preprocessing = VideoPreprocessing(
            frames=ImagePreprocessing(size=config.image_size),
            num_frames=config.num_frames,
            max_frames=config.num_frames,
            frames_multiple_of=config.frames_per_patch,
        )
        self.layout = latents_layout(config.num_latent_tokens, vocab_size=config.quantizer.codebook_size, signal_shape=config.clip)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1], of the clip's size or fewer frames -> (B, N, D).

        Raises:
            SignalError: if it has more frames or another height or width.
        """
        frames, *sides = signal.shape[2:]
        if frames > self.config.num_frames or tuple(sides) != self.config.clip[1:]:
            raise SignalError(
                f"this model takes clips of at most {self.config.clip} (frames, height, width), got {tuple(signal.shape[2:])}: cut them first"
            )
        return self.encoder(signal)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, N, D) -> a whole clip (B, 3, T, H, W), not clamped."""
        return self._decode(latents, self.config.num_frames)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """Tokens of clips of any number of frames, which is among their extras; of whole clips where it is not."""
        assert isinstance(tokens, Tokens)
        codes, sizes = self.lookup(self.unwrap(tokens)), tokens.extras.get(SIGNAL_SIZE)
        if sizes is None:
            return self.decode_latents(codes)
        frames = sizes[:, 0].cpu()
        if not bool(((frames >= 1) & (frames <= self.config.num_frames)).all()):
            raise TokenError(f"the tokens say that their clips have {frames.tolist()} frames; this model writes 1 to {self.config.num_frames}")
        step = self.config.frames_per_patch
        padded = (frames + step - 1) // step * step
        clips = codes.new_zeros(len(codes), 3, int(padded.max()), *self.config.clip[1:])
        for count in padded.unique().tolist():
            rows = torch.nonzero(padded == count).flatten().to(codes.device)
            clips[rows, :, :count] = self._decode(codes[rows], count)
        return clips

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """A training pass, with the loss of the prior in training."""
        noise = as_noise(noise, signal.device) if self.training else noise
        quantized = self.quantize(self.encode_latents(signal), step=step, noise=noise)
        output = self.output(self._decode(quantized.latents, signal.shape[2]), quantized)
        if self.prior is None or not self.training:
            return output
        assert isinstance(self.quantizer, CodebookQuantizer)
        assert quantized.indices is not None
        codebook = self.quantizer.codes().detach().float()
        loss = self.prior.loss(quantized.latents, quantized.indices, codebook, step=step, noise=as_noise(noise, signal.device))
        return replace(
            output, losses={**output.losses, "prior": self.prior.config.weight * loss}, stats={**output.stats, "prior_loss": loss.detach()}
        )

    def _decode(self, latents: Tensor, frames: int) -> Tensor:
        """(B, N, D) -> (B, 3, frames, H, W)."""
        return self.decoder(latents, frames // self.config.frames_per_patch)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> LarpConfig:
        """From the authors' constructor arguments, as in `config.json` of the released repository; sizes of the prior from its weights."""
        return LarpConfig.parse(read_config(config, state_dict), source="the LARP reference configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return convert_weights(state_dict)
