"""What a tokenizer is trained for: objectives turn a forward pass into weighted terms, which the trainer sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike
from visiontok.losses.discriminator import Discriminator
<<<<<<< HEAD
from visiontok.losses.pixels import RGB
from visiontok.signals.spec import SignalSpec
=======
from visiontok.losses.patchgan import PatchGanConfig
from visiontok.losses.perceptual import PerceptualLoss, PerceptualTerm
from visiontok.losses.pixels import UNIT_RANGE, PixelRange, as_images
from visiontok.losses.semantic import SemanticConfig, SemanticLoss


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
        semantic: ties latents to what a frozen DINOv2 sees; None for none.
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

    def build(self, *, channels: int = 3, pixels: PixelRange = UNIT_RANGE) -> ReconstructionObjective:
        """The objective for signals of `channels` channels with values in `pixels`; reads weights of frozen networks from their files.

        Raises:
            ConfigError: if a frozen network cannot look at such signals.
            CheckpointError: if its weights are missing or another network's.
        """
        signal: dict[str, Any] = {"channels": channels, "pixels": pixels}
        return ReconstructionObjective(
            self,
            perceptual=PerceptualLoss(self.perceptual, **signal) if self.perceptual else None,
            semantic=SemanticLoss(self.semantic, teacher=self.semantic.teacher.build(), **signal) if self.semantic else None,
            discriminator=self.gan.discriminator.build(in_channels=channels, pixels=pixels) if self.gan else None,
            pixels=pixels,
        )


class TeacherCodesConfig(Config):
    """Cross-entropy on the ids of a frozen teacher tokenizer, and the quantizer's losses (TiTok's first stage).

    Attributes:
        teacher: released or bundled checkpoint, or folder, of the teacher.
        quantizer_weight: multiplies the quantizer's terms.
    """

    name: Literal["teacher_codes"] = "teacher_codes"
    teacher: str
    quantizer_weight: float = Field(default=1.0, ge=0)

    def build(self, *, channels: int = 3, pixels: PixelRange = UNIT_RANGE) -> TeacherCodesObjective:
        """The objective; the trainer loads the teacher and gives its ids."""
        return TeacherCodesObjective(self)


class OwnTermsConfig(Config):
    """The terms that the model itself defines, with their weights: for decoders that learn to denoise (flow, diffusion)."""

    name: Literal["own"] = "own"

    def build(self, *, channels: int = 3, pixels: PixelRange = UNIT_RANGE) -> OwnTermsObjective:
        """The objective; it has no weights."""
        return OwnTermsObjective()


ObjectiveConfig = Annotated[ReconstructionConfig | TeacherCodesConfig | OwnTermsConfig, Field(discriminator="name")]
>>>>>>> main


class Objective(nn.Module, ABC):
    """Weighted loss terms of a tokenizer.

    Attributes:
        discriminator: trained against the tokenizer, where there is one.
        stats: numbers to watch, of the latest `generator_terms`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.discriminator: Discriminator | None = None
        self.stats: dict[str, Tensor] = {}

    def attach(self, model: nn.Module) -> None:
        """Take hold of those parameters and modules of the tokenizer in training that the terms read.

        Raises:
            ConfigError: if the model has none of that name.
        """

    @abstractmethod
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
        """Terms whose sum the tokenizer minimizes.

        Args:
            prediction: what `decode_latents` gave: a signal, such as images (B, C, H, W), or logits (B, K, h, w).
            target: the signal, or the teacher's codes (B, h, w).
            quantizer_losses: weighted terms of the quantizer, and of the model where it defines its own.
            step: training step, from 0.
            latents: (B, ..., D) what the decoder read; for terms on them.
            noise: source of the draws of augmentations.
        """

    def discriminator_terms(self, prediction: Tensor, target: Tensor, *, step: int, noise: NoiseLike = None) -> dict[str, Tensor]:
        """Terms whose sum the discriminator minimizes; empty when it does not train at this step."""
        return {}


class TeacherCodesConfig(Config):
    """Cross-entropy on the token indices of a frozen teacher tokenizer, and the quantizer's losses (TiTok's first stage).

    Attributes:
        teacher: released or bundled checkpoint, or folder, of the teacher.
        quantizer_weight: multiplies the quantizer's terms.
    """

    name: Literal["teacher_codes"] = "teacher_codes"
    teacher: str
    quantizer_weight: float = Field(default=1.0, ge=0)

    def build(self, signal: SignalSpec = RGB) -> TeacherCodesObjective:
        """The objective; the trainer loads the teacher and gives its token indices."""
        return TeacherCodesObjective(self)


class ModelLossesConfig(Config):
    """The terms that the model itself defines, with their weights: for decoders that learn to denoise (flow, diffusion)."""

    name: Literal["model_losses"] = "model_losses"

    def build(self, signal: SignalSpec = RGB) -> ModelLossesObjective:
        """The objective; it has no weights."""
        return ModelLossesObjective()


class TeacherCodesObjective(Objective):
    """See `TeacherCodesConfig`."""

<<<<<<< HEAD
=======

class TeacherCodesObjective(Objective):
    """See `TeacherCodesConfig`."""

>>>>>>> main
    def __init__(self, config: TeacherCodesConfig) -> None:
        super().__init__()
        self.config = config

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
        terms = {"teacher_codes": F.cross_entropy(prediction, target)}
        terms.update({name: self.config.quantizer_weight * loss for name, loss in quantizer_losses.items()})
        return terms


class ModelLossesObjective(Objective):
    """See `ModelLossesConfig`. Looks at neither prediction nor target.

    Raises:
        ConfigError: if the model defines no terms.
    """

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
        if not quantizer_losses:
            raise ConfigError('this tokenizer defines no loss of its own; train it with the objective "reconstruction"')
        return dict(quantizer_losses)
