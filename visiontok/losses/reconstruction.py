"""Reconstruction, perception, semantics and a discriminator: the objective of most tokenizers (TiTok's second and single stage, VQGANs)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.names import close_names
from visiontok.base.noise import NoiseLike
from visiontok.losses.adversarial import DISCRIMINATOR_LOSSES, GENERATOR_LOSSES, LECAMS, constant, gradient_ratio
from visiontok.losses.augmentation import DiffAugmentConfig, diff_augment
from visiontok.losses.blur_pool_discriminator import BlurPoolDiscriminatorConfig
from visiontok.losses.dino_discriminator import DinoDiscriminatorConfig
from visiontok.losses.discriminator import Discriminator
from visiontok.losses.objectives import Objective
from visiontok.losses.patchgan import PatchGanConfig
from visiontok.losses.perceptual import PerceptualLoss, PerceptualTerm
from visiontok.losses.pixels import RGB, as_images, from_signed, to_signed
from visiontok.losses.semantic import SemanticConfig, SemanticLoss
from visiontok.signals.spec import SignalSpec


class AdaptiveWeightConfig(Config):
    """A weight of the generator's term that follows the gradients, as in VQGAN (Esser et al. 2021, arXiv 2012.09841).

    Attributes:
        last_layer: name of the tokenizer's parameter at which the gradients of reconstruction and generator's term are compared: the weight of the
            decoder's last layer, such as `decoder.to_pixels.weight`.
        maximum: of the ratio.
        eps: added to the norm that the ratio divides by.
    """

    last_layer: str
    maximum: float = Field(default=1e4, gt=0)
    eps: float = Field(default=1e-4, gt=0)


class GanConfig(Config):
    """The adversarial part.

    Attributes:
        weight: of the generator's term.
        adaptive: multiplies `weight` by a ratio of gradients; None for a fixed weight.
        generator_loss: the generator's term: "hinge" or "non_saturating".
        discriminator_weight: of the discriminator's loss, LeCam apart. Its optimizer all but undoes it: weights count against each other.
        discriminator_loss: the discriminator's: "hinge", or "logistic" (the "vanilla" loss of VQGANs).
        start_step: first step at which both sides count.
        lecam: what the LeCam regularization holds near its averages: the batch's "means" or every one of its "logits".
        lecam_weight: of the LeCam regularization of the discriminator; 0 for none.
        lecam_decay: of the moving averages of the mean logits.
        augmentation: of what the discriminator sees; None for none.
        discriminator: which, and its sizes.
    """

    weight: float = Field(default=0.1, gt=0)
    adaptive: AdaptiveWeightConfig | None = None
    generator_loss: Literal["hinge", "non_saturating"] = "hinge"
    discriminator_weight: float = Field(default=1.0, gt=0)
    discriminator_loss: Literal["hinge", "logistic"] = "hinge"
    start_step: int = Field(default=0, ge=0)
    lecam: Literal["means", "logits"] = "means"
    lecam_weight: float = Field(default=0.001, ge=0)
    lecam_decay: float = Field(default=0.999, ge=0, lt=1)
    augmentation: DiffAugmentConfig | None = None
    discriminator: Annotated[BlurPoolDiscriminatorConfig | PatchGanConfig | DinoDiscriminatorConfig, Field(discriminator="type")] = (
        BlurPoolDiscriminatorConfig()
    )


class ReconstructionConfig(Config):
    """Pixels, perception, discriminator and the quantizer's own losses (TiTok's second stage and single stage).

    Attributes:
        reconstruction: distance of pixels: "l2" or "l1".
        reconstruction_weight: its weight.
        log_variance: fixed log-variance of the pixels; the distance is divided by its exponential (variational models).
        quantizer_weight: multiplies the quantizer's terms, which carry weights of their own.
        perceptual: distances on frozen networks, averaged by their weights; empty for none.
        perceptual_weight: of their mean.
        semantic: aligns latents with the features of a frozen DINOv2; None for none.
        gan: None for none.
    """

    name: Literal["reconstruction"] = "reconstruction"
    reconstruction: Literal["l2", "l1"] = "l2"
    reconstruction_weight: float = Field(default=1.0, ge=0)
    log_variance: float = 0.0
    quantizer_weight: float = Field(default=1.0, ge=0)
    perceptual: tuple[PerceptualTerm, ...] = ()
    perceptual_weight: float = Field(default=0.1, ge=0)
    semantic: SemanticConfig | None = None
    gan: GanConfig | None = None

    def build(self, signal: SignalSpec = RGB) -> ReconstructionObjective:
        """The objective for such signals; reads weights of frozen networks from their files.

        Raises:
            ConfigError: if a network of the objective cannot read such signals.
            CheckpointError: if the weights of a frozen network are missing or another network's.
        """
        return ReconstructionObjective(
            self,
            perceptual=PerceptualLoss(self.perceptual, signal=signal) if self.perceptual else None,
            semantic=SemanticLoss(self.semantic, teacher=self.semantic.teacher.build(), signal=signal) if self.semantic else None,
            discriminator=self.gan.discriminator.build(signal) if self.gan else None,
            signal=signal,
        )


@dataclass
class _Handles:
    """Parts of the tokenizer; in an object of their own, so that they are no parts of the objective."""

    last_layer: nn.Parameter | None = None
    projection: nn.Module | None = None


class ReconstructionObjective(Objective):
    """See `ReconstructionConfig`.

    Args:
        config: weights.
        perceptual: a module of two batches to a scalar, or None.
        semantic: or None.
        discriminator: or None.
        signal: what is reconstructed.
    """

    def __init__(
        self,
        config: ReconstructionConfig,
        *,
        perceptual: nn.Module | None = None,
        semantic: SemanticLoss | None = None,
        discriminator: Discriminator | None = None,
        signal: SignalSpec = RGB,
    ) -> None:
        super().__init__()
        self.config, self.signal = config, signal
        self.perceptual, self.semantic, self.discriminator = perceptual, semantic, discriminator
        self.lecam = LECAMS[config.gan.lecam](config.gan.lecam_decay) if config.gan and config.gan.lecam_weight else None
        self._handles = _Handles()

    def attach(self, model: nn.Module) -> None:
        if self.config.gan is not None and self.config.gan.adaptive is not None:
            self._handles.last_layer = _named(self.config.gan.adaptive.last_layer, dict(model.named_parameters()), "gan.adaptive.last_layer")
        if self.config.semantic is not None:
            self._handles.projection = _named(self.config.semantic.projection, dict(model.named_modules()), "semantic.projection")

    def generator_terms(
        self,
        prediction: Tensor,
        target: Tensor,
        quantizer_losses: dict[str, Tensor],
        *,
        step: int,
        latents: Tensor | None = None,
        noise: NoiseLike = None,
    ) -> dict[str, Tensor]:
        reconstruction = self.validation_terms(prediction, target)
        terms = reconstruction | {name: self.config.quantizer_weight * loss for name, loss in quantizer_losses.items()}
        self.stats = {}
        if self._adversarial_at(step):
            terms["gan"] = self._gan_term(prediction, torch.stack([*reconstruction.values()]).sum(), noise)
        if self.semantic is not None:
            terms["semantic"] = self._semantic_term(target, latents, step)
        return terms

    def validation_terms(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        config = self.config
        distance = F.mse_loss(prediction, target) if config.reconstruction == "l2" else F.l1_loss(prediction, target)
        terms = {"reconstruction": config.reconstruction_weight * math.exp(-config.log_variance) * distance}
        if self.perceptual is not None:
            terms["perceptual"] = config.perceptual_weight * self.perceptual(target, prediction)
        return terms

    def discriminator_terms(self, prediction: Tensor, target: Tensor, *, step: int, noise: NoiseLike = None) -> dict[str, Tensor]:
        config = self.config.gan
        if config is None or not self._adversarial_at(step):
            return {}
        real, fake = self._logits(target.detach(), noise), self._logits(prediction.detach(), noise)
        terms = {"discriminator": config.discriminator_weight * DISCRIMINATOR_LOSSES[config.discriminator_loss](real, fake)}
        if self.lecam is not None:
            terms["lecam"] = config.lecam_weight * self.lecam(real, fake)
        return terms

    def _adversarial_at(self, step: int) -> bool:
        return self.config.gan is not None and step >= self.config.gan.start_step

    def _gan_term(self, prediction: Tensor, reconstruction: Tensor, noise: NoiseLike) -> Tensor:
        config, discriminator = self.config.gan, self.discriminator
        assert config is not None
        assert discriminator is not None
        with constant(discriminator):
            loss = GENERATOR_LOSSES[config.generator_loss](self._logits(prediction, noise))
        if config.adaptive is None:
            return config.weight * loss
        if self._handles.last_layer is None:
            raise ConfigError("gan.adaptive needs the tokenizer's last layer: call objective.attach(tokenizer) before training")
        ratio = gradient_ratio(
            reconstruction, loss, self._handles.last_layer, eps=config.adaptive.eps, maximum=config.adaptive.maximum, scale=self.loss_scale
        )
        self.stats["gan_adaptive_weight"] = ratio
        return config.weight * ratio * loss

    def _semantic_term(self, images: Tensor, latents: Tensor | None, step: int) -> Tensor:
        assert self.semantic is not None
        if self._handles.projection is None or latents is None:
            raise ConfigError("the semantic loss needs the tokenizer's latents and projection: call objective.attach(tokenizer) and pass `latents`")
        return self.semantic.config.weight * self.semantic(images, latents, self._handles.projection, step=step)

    def _logits(self, signal: Tensor, noise: NoiseLike) -> Tensor:
        """The discriminator's view of images or frames."""
        assert self.config.gan is not None
        assert self.discriminator is not None
        images, augmentation = as_images(signal), self.config.gan.augmentation
        if augmentation is not None:
            images = from_signed(diff_augment(to_signed(images, self.signal), augmentation, noise), self.signal)
        return self.discriminator(images, noise)


def _named(name: str, parts: dict[str, Any], setting: str) -> Any:
    if name not in parts:
        close = close_names(name, parts) or list(parts)[-5:]
        raise ConfigError(f"{setting} names {name!r}, which the tokenizer does not have; did you mean {', '.join(close)}?")
    return parts[name]
