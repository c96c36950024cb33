"""The adversarial part of an objective: a discriminator, its losses, and when they count."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike
from visiontok.losses.adversarial import DISCRIMINATOR_LOSSES, GENERATOR_LOSSES, LECAMS, constant, matched_features
from visiontok.losses.augmentation import DiffAugmentConfig, diff_augment
from visiontok.losses.blur_pool_discriminator import BlurPoolDiscriminatorConfig
from visiontok.losses.clip_vit import ClipVitConfig
from visiontok.losses.dino_discriminator import DinoDiscriminatorConfig
from visiontok.losses.discriminator import Discriminator
from visiontok.losses.patchgan import PatchGan3dConfig, PatchGanConfig
from visiontok.losses.pixels import from_signed, to_signed
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
        feature_weight: of the mean |difference| of feature maps of real and generated signals, summed over the maps, from `start_step` on; for the
            patch discriminators. 0 for none.
        discriminator_loss: the discriminator's: "hinge", "logistic" (the "vanilla" loss of VQGANs), or "smoothed" (that with drawn targets, LARP's).
        discriminator_every: steps between two updates of the discriminator.
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
    feature_weight: float = Field(default=0.0, ge=0)
    discriminator_loss: Literal["hinge", "logistic", "smoothed"] = "hinge"
    discriminator_every: Positive = 1
    start_step: int = Field(default=0, ge=0)
    lecam: Literal["means", "logits"] = "means"
    lecam_weight: float = Field(default=0.001, ge=0)
    lecam_decay: float = Field(default=0.999, ge=0, lt=1)
    augmentation: DiffAugmentConfig | None = None
    discriminator: Annotated[BlurPoolDiscriminatorConfig | PatchGanConfig | DinoDiscriminatorConfig, Field(discriminator="type")] = (
        BlurPoolDiscriminatorConfig()
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.feature_weight and not isinstance(self.discriminator, PatchGanConfig | PatchGan3dConfig):
            raise ValueError(f"feature_weight matches features, which the discriminator {self.discriminator.type!r} does not give: set it to 0")
        return self


class ClipGanConfig(GanConfig):
    """The same for discriminators that read whole clips. They see no images, nor clips of one frame, nor augmentations of single frames.

    Attributes:
        discriminator: which, and its sizes.
        augmentation: none.
    """

    augmentation: None = None
    discriminator: Annotated[PatchGan3dConfig | ClipVitConfig, Field(discriminator="type")] = PatchGan3dConfig()  # type: ignore[assignment]


class Adversary(nn.Module):
    """A discriminator with its losses, and what the tokenizer is to lose against it.

    Args:
        config: weights.
        discriminator: built for the signal.
        signal: what it judges.
    """

    def __init__(self, config: GanConfig, discriminator: Discriminator, *, signal: SignalSpec) -> None:
        super().__init__()
        self.config, self.signal = config, signal
        self.discriminator = discriminator
        self.lecam = LECAMS[config.lecam](config.lecam_decay) if config.lecam_weight else None

    def generator_terms(self, prediction: Tensor, target: Tensor, *, step: int, noise: NoiseLike) -> tuple[dict[str, Tensor], Tensor | None]:
        """Weighted terms that do not depend on others, and the generator's loss, not weighted; None where it does not count.

        Args:
            prediction, target: (B, C, *axes).
            step: of training.
            noise: of augmentations and discriminators.
        """
        if not self._counts(prediction, step):
            return {}, None
        with constant(self.discriminator):
            fake = self._features(prediction, noise)
            if not self.config.feature_weight:
                return {}, GENERATOR_LOSSES[self.config.generator_loss](fake[-1])
            with torch.no_grad():
                real = self._features(target, noise)
        matched = self.config.feature_weight * matched_features([fake], [real])
        return {"feature_matching": matched}, GENERATOR_LOSSES[self.config.generator_loss](fake[-1])

    def discriminator_terms(self, prediction: Tensor, target: Tensor, *, step: int, noise: NoiseLike) -> dict[str, Tensor]:
        """Weighted terms that the discriminator minimizes; empty where it does not train."""
        config = self.config
        if not self._counts(prediction, step) or step % config.discriminator_every:
            return {}
        real, fake = self._features(target.detach(), noise)[-1], self._features(prediction.detach(), noise)[-1]
        terms = {"discriminator": config.discriminator_weight * DISCRIMINATOR_LOSSES[config.discriminator_loss](real, fake, noise)}
        if self.lecam is not None:
            terms["lecam"] = config.lecam_weight * self.lecam(real, fake)
        return terms

    def _counts(self, signal: Tensor, step: int) -> bool:
        return step >= self.config.start_step and self.discriminator.reads(signal)

    def _features(self, signal: Tensor, noise: NoiseLike) -> list[Tensor]:
        """Feature maps, and the logits as the last one, of what the discriminator sees."""
        seen, noise = self.discriminator.seen(signal, noise)
        if self.config.augmentation is not None:
            seen = from_signed(diff_augment(to_signed(seen, self.signal), self.config.augmentation, noise), self.signal)
        return self.discriminator.features(seen, noise)
