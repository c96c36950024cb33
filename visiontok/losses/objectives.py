"""What a tokenizer is trained for: objectives that turn a forward pass into weighted terms, summed by the trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.losses.adversarial import GENERATOR_LOSSES, LeCam, discriminator_hinge
from visiontok.losses.discriminator import DiscriminatorConfig
from visiontok.losses.patchgan import PatchGanConfig
from visiontok.losses.perceptual import PerceptualLoss, PerceptualTerm


class GanConfig(Config):
    """The adversarial part.

    Attributes:
        weight: of the generator's term.
        generator_loss: the generator's term, "hinge" or "non_saturating"; the discriminator's is always hinge.
        start_step: first step at which both sides count.
        lecam_weight: of the LeCam regularization of the discriminator; 0 for none.
        lecam_decay: of the moving averages of the mean logits.
        discriminator: which, by its sizes.
    """

    weight: float = Field(default=0.1, gt=0)
    generator_loss: Literal["hinge", "non_saturating"] = "hinge"
    start_step: int = Field(default=0, ge=0)
    lecam_weight: float = Field(default=0.001, ge=0)
    lecam_decay: float = Field(default=0.999, ge=0, lt=1)
    discriminator: DiscriminatorConfig | PatchGanConfig = DiscriminatorConfig()


class ReconstructionConfig(Config):
    """Pixels, perception, discriminator and the quantizer's own losses (TiTok's second stage and single stage).

    Attributes:
        reconstruction: distance of pixels: "l2" or "l1".
        reconstruction_weight: its weight.
        log_variance: fixed log-variance of the pixels; the distance is divided by its exponential (variational models).
        quantizer_weight: multiplies the quantizer's terms, which carry weights of their own.
        perceptual: distances on frozen networks, averaged by their weights; empty for none.
        perceptual_weight: of their mean.
        gan: None for none.
    """

    name: Literal["reconstruction"] = "reconstruction"
    reconstruction: Literal["l2", "l1"] = "l2"
    reconstruction_weight: float = Field(default=1.0, ge=0)
    log_variance: float = 0.0
    quantizer_weight: float = Field(default=1.0, ge=0)
    perceptual: tuple[PerceptualTerm, ...] = ()
    perceptual_weight: float = Field(default=0.1, ge=0)
    gan: GanConfig | None = None

    def build(self) -> ReconstructionObjective:
        """The objective; reads perceptual weights from their files."""
        return ReconstructionObjective(self, perceptual=PerceptualLoss(self.perceptual) if self.perceptual else None)


class ProxyCodesConfig(Config):
    """Cross-entropy on the ids of a frozen teacher tokenizer, and the quantizer's losses (TiTok's first stage).

    Attributes:
        teacher: released or bundled checkpoint, or folder, of the teacher.
        quantizer_weight: multiplies the quantizer's terms.
    """

    name: Literal["proxy_codes"] = "proxy_codes"
    teacher: str
    quantizer_weight: float = Field(default=1.0, ge=0)

    def build(self) -> ProxyCodesObjective:
        """The objective; the trainer loads the teacher and gives its ids."""
        return ProxyCodesObjective(self)


class OwnTermsConfig(Config):
    """The terms that the model itself defines, with their weights: for decoders that learn to denoise (flow, diffusion)."""

    name: Literal["own"] = "own"

    def build(self) -> OwnTermsObjective:
        """The objective; it has no weights."""
        return OwnTermsObjective()


ObjectiveConfig = Annotated[ReconstructionConfig | ProxyCodesConfig | OwnTermsConfig, Field(discriminator="name")]


class Objective(nn.Module, ABC):
    """Weighted loss terms of a tokenizer; `discriminator` is trained against it where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator: nn.Module | None = None

    @abstractmethod
    def generator_terms(self, prediction: Tensor, target: Tensor, quantizer_losses: dict[str, Tensor], *, step: int) -> dict[str, Tensor]:
        """Terms whose sum the tokenizer minimises.

        Args:
            prediction: what `decode_latents` gave: images (B, 3, H, W), or logits (B, K, h, w).
            target: images (B, 3, H, W) in [0, 1], or the teacher's ids (B, h, w).
            quantizer_losses: weighted terms of the quantizer, and of the model where it defines its own.
            step: training step, from 0.
        """

    def discriminator_terms(self, prediction: Tensor, target: Tensor, *, step: int) -> dict[str, Tensor]:
        """Terms whose sum the discriminator minimises; empty when it does not train at this step."""
        return {}


class ReconstructionObjective(Objective):
    """See `ReconstructionConfig`.

    Args:
        config: weights.
        perceptual: a module of two batches in [0, 1] to a scalar, or None.
    """

    def __init__(self, config: ReconstructionConfig, *, perceptual: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.perceptual = perceptual
        self.discriminator = config.gan.discriminator.build() if config.gan else None
        self.lecam = LeCam(config.gan.lecam_decay) if config.gan and config.gan.lecam_weight else None

    def generator_terms(self, prediction: Tensor, target: Tensor, quantizer_losses: dict[str, Tensor], *, step: int) -> dict[str, Tensor]:
        config = self.config
        distance = F.mse_loss(prediction, target) if config.reconstruction == "l2" else F.l1_loss(prediction, target)
        scale = config.reconstruction_weight * torch.exp(torch.tensor(-config.log_variance)).item()
        terms = {"reconstruction": scale * distance}
        terms.update({name: config.quantizer_weight * loss for name, loss in quantizer_losses.items()})
        if self.perceptual is not None:
            terms["perceptual"] = config.perceptual_weight * self.perceptual(target, prediction)
        if self.discriminator is not None and config.gan is not None and step >= config.gan.start_step:
            self.discriminator.requires_grad_(False)
            terms["gan"] = config.gan.weight * GENERATOR_LOSSES[config.gan.generator_loss](self.discriminator(prediction))
            self.discriminator.requires_grad_(True)
        return terms

    def discriminator_terms(self, prediction: Tensor, target: Tensor, *, step: int) -> dict[str, Tensor]:
        config = self.config.gan
        if self.discriminator is None or config is None or step < config.start_step:
            return {}
        real, fake = self.discriminator(target.detach()), self.discriminator(prediction.detach())
        terms = {"discriminator": discriminator_hinge(real, fake)}
        if self.lecam is not None:
            terms["lecam"] = config.lecam_weight * self.lecam(real, fake)
        return terms


class ProxyCodesObjective(Objective):
    """See `ProxyCodesConfig`."""

    def __init__(self, config: ProxyCodesConfig) -> None:
        super().__init__()
        self.config = config

    def generator_terms(self, prediction: Tensor, target: Tensor, quantizer_losses: dict[str, Tensor], *, step: int) -> dict[str, Tensor]:
        terms = {"proxy_codes": F.cross_entropy(prediction, target)}
        terms.update({name: self.config.quantizer_weight * loss for name, loss in quantizer_losses.items()})
        return terms


class OwnTermsObjective(Objective):
    """See `OwnTermsConfig`. Looks at neither prediction nor target.

    Raises:
        ConfigError: if the model defines no terms.
    """

    def generator_terms(self, prediction: Tensor, target: Tensor, quantizer_losses: dict[str, Tensor], *, step: int) -> dict[str, Tensor]:
        if not quantizer_losses:
            raise ConfigError('this tokenizer defines no loss of its own; train it with the objective "reconstruction"')
        return dict(quantizer_losses)
