"""KARL (Duggal et al. 2025, "Single-pass Adaptive Image Tokenization for Minimum Program Search"): as many tokens as an image needs.

A ViT distills the grid of a base tokenizer into latent tokens, given a target error of the
reconstruction, and predicts of every token whether it is needed; a second ViT writes the grid from those that are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.errors import TokenError
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.core.quality import MeanAbsoluteError, shortest_lengths
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, Tokenizer, TokenizerOutput
from visiontok.layers.vit import ViTConfig
from visiontok.quantizers.base import Quantized
from visiontok.quantizers.continuous import IdentityBottleneckConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.karl.base import BaseConfig, KlVaeBase
from visiontok.tokenizers.image.karl.decoder import LatentDistillationDecoder
from visiontok.tokenizers.image.karl.encoder import LatentDistillationEncoder
from visiontok.tokenizers.image.karl.reference import KEY_MAP, convert_weights, read_config
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

QUALITIES = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.09, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.24, 0.28, 0.32, 0.38)
"""Mean absolute errors that can be requested; one in between means the next larger one."""

_FIRST_PASS_LIMIT = 0.04
"""The first pass of training requests qualities up to this one."""


class KarlConfig(Config):
    """Sizes of a KARL, and how it is trained.

    Attributes:
        image_size: side of the square image in pixels.
        num_latent_tokens: the most tokens that an image gets, T.
        max_latent_tokens: rows of the token tables; training also uses more than T.
        position_side: of the tables of grid positions, which a grid of another size reads at its nearest entries.
        base: the grid tokenizer; see `karl_base`.
        encoder, decoder: sizes of the two ViTs; their patches are the positions of the base.
        quantizer: a codebook ("vq") or none ("continuous").
        halting_dim: hidden dimension of the head that predicts which tokens are needed.
        halting_threshold: a token is dropped if its halting probability exceeds this.
        halting_weight: multiplies the loss terms of halting. 1 suits a cross-entropy; squared errors of pixels are a hundred times smaller, and 1
            would let halting dominate them.
        default_max_loss: target mean absolute error on [0, 1] where a call gives none.
        training_lengths: token counts that the first pass of training draws from.
        stage: what training compares: "distillation" predictions with the frozen base's own tokens, "pixels" images, by the recipe's objective.
    """

    image_size: Positive = 256
    num_latent_tokens: Positive = 256
    max_latent_tokens: Positive = 512
    position_side: Positive = 64
    base: BaseConfig
    encoder: ViTConfig
    decoder: ViTConfig
    quantizer: Annotated[VectorQuantizerConfig | IdentityBottleneckConfig, Field(discriminator="type")]
    halting_dim: Positive = 512
    halting_threshold: float = Field(default=0.75, gt=0, lt=1)
    halting_weight: float = Field(default=1.0, ge=0)
    default_max_loss: float = Field(default=0.05, ge=0)
    training_lengths: tuple[Positive, ...] = Field(default=tuple(range(16, 369, 16)), min_length=1)
    stage: Literal["distillation", "pixels"] = "distillation"

    @model_validator(mode="after")
    def _check(self) -> KarlConfig:
        longest = max(self.num_latent_tokens, *self.training_lengths)
        if longest > self.max_latent_tokens:
            raise ValueError(f"{longest} tokens are requested, but max_latent_tokens is {self.max_latent_tokens}")
        for name, vit in (("encoder", self.encoder), ("decoder", self.decoder)):
            if vit.patch_size != self.base.stride:
                raise ValueError(f"{name}: a patch of {vit.patch_size} pixels must be a position of the base, {self.base.stride} pixels")
        if self.image_size % self.base.stride:
            raise ValueError(f"positions of {self.base.stride} pixels do not divide an image of {self.image_size}")
        if self.encoder.dim <= self.base.channels:
            raise ValueError(f"an encoder of dim {self.encoder.dim} has no channels for patches beside the {self.base.channels} channels of the base")
        return self


@dataclass(frozen=True)
class Pass:
    """Encoder, quantizer and decoder over a batch.

    Attributes:
        quantized: of all T tokens.
        halting: (B, T) logits.
        kept: (B, T) bool, what the decoder saw.
        predicted: (B, C, h, w) for the base.
    """

    quantized: Quantized
    halting: Tensor
    kept: Tensor
    predicted: Tensor


class Karl(Tokenizer[KarlConfig]):
    """Base tokenizer, latent-distillation encoder with halting, quantizer, latent-distillation decoder.

    State:
        quality_odds: (19,) how likely training requests each quality.
    """

    config_class = KarlConfig
    reference_keys: ClassVar = KEY_MAP
    quality_odds: Tensor

    def __init__(self, config: KarlConfig) -> None:
        super().__init__(config)
        self.base = config.base.build()
        sizes = {"max_latent_tokens": config.max_latent_tokens, "latent_dim": config.quantizer.dim, "position_side": config.position_side}
        self.encoder = LatentDistillationEncoder(
            config.encoder, grid_channels=config.base.channels, num_conditions=len(QUALITIES), halting_dim=config.halting_dim, **sizes
        )
        self.quantizer = config.quantizer.build()
        self.decoder = LatentDistillationDecoder(config.decoder, out_channels=self.base.prediction_channels, **sizes)
        self.register_buffer("quality_odds", _even_odds())
        self.preprocessing = ImagePreprocessing(size=config.image_size)
        shape, bottleneck = (config.num_latent_tokens,), config.quantizer
        segment = (
            Segment(name="latents", shape=shape, channels=bottleneck.dim)
            if isinstance(bottleneck, IdentityBottleneckConfig)
            else Segment(name="latents", shape=shape, vocab_size=bottleneck.codebook_size)
        )
        self.layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(config.image_size, config.image_size), ragged=True)

    @property
    def is_stochastic(self) -> bool:
        """A VAE base samples its posterior."""
        return isinstance(self.base, KlVaeBase)

    @property
    def lengths_supported(self) -> range:
        """Any number of tokens up to all; without halting, an image gets exactly so many."""
        return range(1, self.layout.length + 1)

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """As many tokens as each image needs for `default_max_loss`, or exactly as many as requested, without halting."""
        features = self.base.features(signal, options.noise)
        if options.lengths is not None:
            return self._encode(signal, features, options.lengths)
        return self._encode(signal, features, self._all_tokens(len(signal)), self.config.default_max_loss)

    def encode_to_target(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """As many tokens as the target needs: for a mean absolute error found in one pass, for other targets by encoding at about log2(T) lengths.

        The model was trained for the errors in `QUALITIES`; one in between means the next larger one.
        """
        target = options.target
        assert target is not None
        features = self.base.features(signal, options.noise)
        most = self._all_tokens(len(signal)) if options.lengths is None else options.lengths
        if isinstance(target, MeanAbsoluteError):
            if isinstance(target.error, Tensor) and target.error.shape not in ((), (len(signal),)):
                raise TokenError(f"{len(target.error)} target errors for {len(signal)} images; give one for each, or one for all")
            return self._encode(signal, features, most, target.error)

        def reached(lengths: Tensor) -> Tensor:
            tokens = self._encode(signal, features, lengths)
            return target.reached(signal, self.spec.clamp(self.decode_tokens(tokens, DecodeOptions())))

        found = shortest_lengths(reached, self.lengths_supported, batch=len(signal))
        return self._encode(signal, features, torch.minimum(found, most))

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> all T latents (B, T, D) at the default quality."""
        quality = torch.full((len(signal),), self.config.default_max_loss, dtype=torch.float32)
        return self.distill(signal, self.base.features(signal), quality, num_tokens=self.layout.length)[0]

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, T, D) -> image (B, 3, S, S)."""
        return self.base.pixels(self.predict(latents))

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """Images of different counts may share a batch."""
        kept, positions = tokens.mask, None if tokens.positions is None else tokens.positions.clamp_min(0)
        latents = tokens.values.to(self.dtype) if isinstance(tokens, Latents) else self.codes_of(tokens)
        return self.base.pixels(self.predict(latents, positions=positions, kept=None if bool(kept.all()) else kept))

    def distill(self, images: Tensor, features: Tensor, quality: Tensor, *, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Images with their base's features, with a requested quality (B,) each -> latents (B, num_tokens, D) and halting logits (B, num_tokens)."""
        known = torch.tensor(QUALITIES, dtype=torch.float32, device=images.device)
        condition = torch.searchsorted(known, quality.to(known)).clamp_max(len(QUALITIES) - 1)
        return self.encoder(images, features, condition, num_tokens=num_tokens)

    def keeps(self, halting: Tensor) -> Tensor:
        """Halting logits (B, T) -> bool (B, T): which tokens stay."""
        return halting.detach().sigmoid() <= self.config.halting_threshold

    def predict(self, latents: Tensor, *, positions: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        """Latents (B, n, D) at their `positions` (B, n), where `kept` (B, n) -> predictions for the base (B, C, h, w)."""
        side = self.config.image_size // self.config.base.stride
        return self.decoder(latents, grid=(side, side), positions=positions, kept=kept)

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """In training, the two passes of one iteration; in evaluation one, at the default quality."""
        if self.training:
            lengths = self.config.training_lengths
            source = as_noise(noise, signal.device)
            num_tokens = lengths[int(source.permutation(len(signal), len(lengths))[0, 0])]
            odds = self.quality_odds.cumsum(dim=0).to(torch.float32)
            rows = torch.searchsorted(odds, source.uniform(len(signal)), right=True).clamp_max(len(QUALITIES) - 1)
            quality = torch.tensor(QUALITIES, dtype=torch.float32)[rows.cpu()]
            return self.two_passes(signal, num_tokens=num_tokens, quality=quality, step=step, noise=source)
        quality = torch.full((len(signal),), self.config.default_max_loss, dtype=torch.float32)
        only = self._pass(signal, self.base.features(signal), quality, self.layout.length, halts=True, step=step)
        tokens, quantized = self._kept(only.quantized, only.kept), only.quantized
        return TokenizerOutput(self.base.pixels(only.predicted), tokens, quantized.latents, quantized.losses, quantized.stats)

    def two_passes(self, signal: Tensor, *, num_tokens: int, quality: Tensor, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """One iteration of training: compute the error with some number of tokens, then request that error and expect that number.

        Args:
            signal: (B, 3, S, S) in [0, 1].
            num_tokens: of the first pass, in which none is dropped. The second has T, of which those from `num_tokens` on should be.
            quality: (B,) requested in the first pass. The second requests the error that the first one made.
            step: of training, for what changes over it.
            noise: of the base and the quantizer; without it a base that draws gives its mode.
        """
        features = self.base.features(signal, noise)
        target = self.base.target(features)
        first = self._pass(signal, features, quality, num_tokens, halts=False, step=step, noise=noise)
        with torch.set_grad_enabled(self.config.stage == "pixels"):
            images = self.base.pixels(first.predicted)
        lost = (signal - images.detach()).abs().flatten(1).mean(dim=1)
        self._lower_odds(lost)
        second = self._pass(signal, features, lost, self.layout.length, halts=True, step=step, noise=noise)
        losses = {
            "estimate.halting.needed": _halting_loss(first.halting, halt=False),
            "tokenize.halting.needed": _halting_loss(second.halting[:, :num_tokens], halt=False),
            "tokenize.halting.unneeded": _halting_loss(second.halting[:, num_tokens:], halt=True),
        }
        losses = {name: self.config.halting_weight * loss for name, loss in losses.items()}
        for name, each in (("estimate", first), ("tokenize", second)):
            terms = {**each.quantized.losses, **(self.base.losses(each.predicted, target) if self.config.stage == "distillation" else {})}
            losses |= {f"{name}.{term}": loss for term, loss in terms.items()}
        if self.config.stage == "pixels":
            images, signal = torch.cat([images, self.base.pixels(second.predicted)]), torch.cat([signal, signal])
        stats = {**second.quantized.stats, "tokens": second.kept.sum(dim=1).float().mean(), "lost": lost.mean()}
        tokens = self.wrap(second.quantized.latents, second.quantized.indices)  # the dropped ones too
        passed_through = second.quantized.passed_through
        return TokenizerOutput(images, tokens, second.quantized.latents, losses, stats, target=signal, passed_through=passed_through)

    def _pass(self, images: Tensor, features: Tensor, quality: Tensor, num_tokens: int, *, halts: bool, step: int, noise: NoiseLike = None) -> Pass:
        latents, halting = self.distill(images, features, quality, num_tokens=num_tokens)
        quantized = self.quantize(latents, step=step, noise=noise)
        kept = self.keeps(halting) if halts else torch.ones_like(halting, dtype=torch.bool)
        return Pass(quantized, halting, kept, self.predict(quantized.latents, kept=kept if halts else None))

    def _all_tokens(self, samples: int) -> Tensor:
        return torch.full((samples,), self.layout.length, dtype=torch.int64)

    def _encode(self, images: Tensor, features: Tensor, lengths: Tensor, max_loss: float | Tensor | None = None) -> Tokens | Latents:
        """Encode with `lengths` (B,) queries; images of one number of queries together, since queries see each other.

        Without `max_loss`, a number or (B,), nothing halts.
        """
        quality = torch.as_tensor(0.0 if max_loss is None else max_loss, dtype=torch.float32, device="cpu").expand(len(images))
        all_latents = features.new_zeros(len(images), self.layout.length, self.config.quantizer.dim)
        all_kept = torch.zeros(all_latents.shape[:2], dtype=torch.bool, device=self.device)
        for length in lengths.unique().tolist():
            rows = torch.nonzero(lengths == length).flatten()
            latents, halting = self.distill(images[rows], features[rows], quality[rows], num_tokens=length)
            all_latents[rows, :length] = latents
            all_kept[rows, :length] = True if max_loss is None else self.keeps(halting)
        return self._kept(self.quantizer(all_latents), all_kept)

    def _kept(self, quantized: Quantized, kept: Tensor) -> Tokens | Latents:
        """The kept ones of all T tokens of every image where `kept` (B, T)."""
        positions = [torch.nonzero(row).flatten() for row in kept]
        if quantized.indices is None:
            values = [sample[row] for sample, row in zip(quantized.latents.detach(), kept, strict=True)]
            return Latents.from_samples(values, self.layout, positions=positions)
        return Tokens.from_samples([sample[row] for sample, row in zip(quantized.indices, kept, strict=True)], self.layout, positions=positions)

    @torch.no_grad()
    def _lower_odds(self, lost: Tensor) -> None:
        """Request less often the qualities that this batch already reaches."""
        known = torch.tensor(QUALITIES, dtype=torch.float32, device=lost.device)
        self.quality_odds[known >= lost.min()] *= 0.99
        self.quality_odds /= self.quality_odds.sum()

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names; their training does not save how likely each quality is."""
        return {**convert_weights(state_dict), "quality_odds": _even_odds()}

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> KarlConfig:
        """From the authors' sizes, in the sections `base_tokenizer` and `karl`."""
        return KarlConfig.parse(read_config(config, state_dict), source="the KARL reference configuration")


def _even_odds() -> Tensor:
    """(19,): the qualities that training requests, equally likely at first."""
    requested = torch.tensor(QUALITIES, dtype=torch.float32) <= _FIRST_PASS_LIMIT
    return requested / requested.sum()


def _halting_loss(logits: Tensor, *, halt: bool) -> Tensor:
    """Binary cross-entropy of logits (B, n) that should all halt, or all stay; 0 for none."""
    target = torch.full_like(logits, float(halt))
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / max(logits.numel(), 1)
