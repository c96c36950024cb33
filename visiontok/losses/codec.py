"""The objective of codecs of sound: waveforms, mel spectrograms, discriminators and their features, a teacher, and the quantizer's own losses."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike
from visiontok.losses.adversarial import (
    FEATURE_MATCHING,
    constant,
    discriminator_hinge,
    discriminator_least_squares,
    generator_clipped_hinge,
    generator_least_squares,
)
from visiontok.losses.balancer import BalancerConfig, LossBalancer
from visiontok.losses.distillation import DistillationConfig, DistillationLoss
from visiontok.losses.mel import MelConfig, MelDistance
from visiontok.losses.objectives import Objective, named_part
from visiontok.losses.sound_discriminators import AnyDiscriminatorConfig, PeriodsConfig, SoundDiscriminators, SpectraConfig
from visiontok.signals.spec import SignalSpec

_GAN_LOSSES = {
    "least_squares": (generator_least_squares, discriminator_least_squares),
    "hinge": (generator_clipped_hinge, discriminator_hinge),
}
"""Of the generator and of the discriminator."""


class CodecGanConfig(Config):
    """The adversarial part: sums over all discriminators by their weights.

    Attributes:
        loss: of both sides.
        weight: of the generator's term.
        feature_matching: "absolute" sums the differences of all feature maps (HiFi-GAN, DAC); "relative" takes the mean of their shares (EnCodec).
        feature_weight: of that term.
        discriminator_weight: of the discriminators' loss.
        start_step: first step at which both sides count.
        discriminators: which, and their sizes; the default is DAC's.
    """

    loss: Literal["least_squares", "hinge"] = "least_squares"
    weight: float = Field(default=1.0, gt=0)
    feature_matching: Literal["absolute", "relative"] = "absolute"
    feature_weight: float = Field(default=2.0, gt=0)
    discriminator_weight: float = Field(default=1.0, gt=0)
    start_step: int = Field(default=0, ge=0)
    discriminators: tuple[AnyDiscriminatorConfig, ...] = Field(default=(PeriodsConfig(), SpectraConfig()), min_length=1)


class CodecConfig(Config):
    """Weighted terms; the defaults, with `gan: {}`, are DAC's.

    Attributes:
        waveform: distance of samples: "l1" or "l2".
        waveform_weight: its weight; 0 for none.
        mel: of the distance of mel spectrograms.
        mel_weight: its weight; 0 for none.
        gan: None for none.
        quantizer_weight: multiplies the quantizer's terms, which carry weights of their own.
        distillation: of a frozen encoder of speech into the first level of residual codes; None for none.
        balancer: makes the weights of the terms that compare sounds shares of the gradient, as in EnCodec; None for plain weights.
    """

    name: Literal["codec"] = "codec"
    waveform: Literal["l1", "l2"] = "l1"
    waveform_weight: float = Field(default=0.0, ge=0)
    mel: MelConfig = MelConfig()
    mel_weight: float = Field(default=15.0, ge=0)
    gan: CodecGanConfig | None = None
    quantizer_weight: float = Field(default=1.0, ge=0)
    distillation: DistillationConfig | None = None
    balancer: BalancerConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.waveform_weight and not self.mel_weight:
            raise ValueError("waveform_weight and mel_weight are both 0: nothing compares the reconstruction with the sound")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Of the terms that compare sounds."""
        gan = {} if self.gan is None else {"gan": self.gan.weight, "feature_matching": self.gan.feature_weight}
        every = {"waveform": self.waveform_weight, "mel": self.mel_weight, **gan}
        return {name: weight for name, weight in every.items() if weight}

    def build(self, signal: SignalSpec) -> CodecObjective:
        """The objective for such sound; reads the weights of a teacher from its folder.

        Raises:
            ConfigError: if the signal is no sound.
            CheckpointError: if the teacher is missing, or another one.
        """
        if signal.modality != "audio" or signal.rate is None:
            raise ConfigError(f"the objective 'codec' compares sounds; this tokenizer's signal is {signal.modality}: use 'reconstruction'")
        return CodecObjective(self, channels=signal.channels, sample_rate=round(signal.rate))


class CodecObjective(Objective):
    """See `CodecConfig`.

    Args:
        config: weights.
        channels: of the sound.
        sample_rate: in Hz.
    """

    def __init__(self, config: CodecConfig, *, channels: int, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.mel = MelDistance(config.mel, sample_rate=sample_rate) if config.mel_weight else None
        self.discriminator = None if config.gan is None else SoundDiscriminators(config.gan.discriminators, channels=channels)
        self.balancer = None if config.balancer is None else LossBalancer(config.balancer, config.weights)
        self.distillation = None
        if config.distillation is not None:
            self.distillation = DistillationLoss(config.distillation, teacher=config.distillation.teacher.build(), sample_rate=sample_rate)

    @property
    def is_adversarial(self) -> bool:
        return self.discriminator is not None

    def attach(self, model: nn.Module) -> None:
        if self.config.distillation is not None:
            projection = named_part(self.config.distillation.projection, dict(model.named_modules()), "distillation.projection")
            self.handles.projection = projection.requires_grad_(True)

    def generator_terms(
        self,
        prediction: Tensor,
        target: Tensor,
        quantizer_losses: dict[str, Tensor],
        *,
        step: int,
        latents: Tensor | None = None,
        first_level: Tensor | None = None,
        noise: NoiseLike = None,
    ) -> dict[str, Tensor]:
        distances, gan = self._distances(prediction, target), self.config.gan
        if gan is not None and step >= gan.start_step:
            distances |= self._adversarial(gan, prediction, target)
        if self.balancer is None:
            terms = self._weighted(distances)
        else:
            terms, self.stats = self.balancer(distances, prediction, scale=self.loss_scale)
        terms |= {name: self.config.quantizer_weight * loss for name, loss in quantizer_losses.items()}
        if self.distillation is not None:
            terms["distillation"] = self.distillation.config.weight * self.distillation(self._projected(first_level), target)
        return terms

    def validation_terms(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return self._weighted(self._distances(prediction, target))

    def discriminator_terms(self, prediction: Tensor, target: Tensor, *, step: int, noise: NoiseLike = None) -> dict[str, Tensor]:
        gan = self.config.gan
        if gan is None or step < gan.start_step:
            return {}
        assert self.discriminator is not None
        real, fake = self.discriminator(target.detach()), self.discriminator(prediction.detach())
        loss = _GAN_LOSSES[gan.loss][1]
        losses = [weight * loss(a[-1], b[-1]) for weight, a, b in zip(self.discriminator.weights, real, fake, strict=True)]
        return {"discriminator": gan.discriminator_weight * torch.stack(losses).sum()}

    def _distances(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Those without a discriminator."""
        found = {}
        if self.config.waveform_weight:
            found["waveform"] = F.l1_loss(prediction, target) if self.config.waveform == "l1" else F.mse_loss(prediction, target)
        if self.mel is not None:
            found["mel"] = self.mel(prediction, target)
        return found

    def _adversarial(self, gan: CodecGanConfig, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        assert self.discriminator is not None
        with constant(self.discriminator):
            fake = self.discriminator(prediction)
            with torch.no_grad():
                real = self.discriminator(target)
        weights = self.discriminator.weights
        losses = [weight * _GAN_LOSSES[gan.loss][0](maps[-1]) for weight, maps in zip(weights, fake, strict=True)]
        return {"gan": torch.stack(losses).sum(), "feature_matching": FEATURE_MATCHING[gan.feature_matching](fake, real, weights)}

    def _projected(self, first_level: Tensor | None) -> Tensor:
        """What the first level says of the teacher's features, (B, L, D)."""
        if first_level is None:
            raise ConfigError("this tokenizer's quantizer has no first level to distill a teacher into: remove `distillation` from the objective")
        if self.handles.projection is None:
            raise ConfigError("distillation needs the tokenizer's projection: call objective.attach(tokenizer) before training")
        features: Tensor = self.handles.projection(first_level)
        return features

    def _weighted(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.config.weights[name] * loss for name, loss in losses.items()}
