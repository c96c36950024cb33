"""What a tokenizer is trained for: objectives turn a forward pass into weighted terms, which the trainer sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.names import close_names
from visiontok.base.noise import NoiseLike
from visiontok.losses.pixels import RGB
from visiontok.signals.spec import SignalSpec


@dataclass
class Handles:
    """Parts of the tokenizer in training that an objective reads; in an object of their own, so that they are no parts of the objective.

    Attributes:
        last_layers: by the names of adversarial terms whose weights follow gradients.
        projection: to the features of a teacher.
    """

    last_layers: dict[str, nn.Parameter] = field(default_factory=dict)
    projection: nn.Module | None = None


class Objective(nn.Module, ABC):
    """Weighted loss terms of a tokenizer.

    Attributes:
        handles: what `attach` found.
        stats: values to log, of the latest `generator_terms`.
        loss_scale: what a gradient scaler multiplies the loss with, for terms that read gradients; whoever trains sets it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.handles = Handles()
        self.stats: dict[str, Tensor] = {}
        self.loss_scale = 1.0

    @property
    def is_adversarial(self) -> bool:
        """Whether its own parameters, those of discriminators, are trained against the tokenizer."""
        return False

    def attach(self, model: nn.Module) -> None:
        """Keep references to the parameters and modules of the tokenizer in training that the terms read, in `handles`.

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
        first_level: Tensor | None = None,
        noise: NoiseLike = None,
    ) -> dict[str, Tensor]:
        """Terms whose sum the tokenizer minimizes.

        Args:
            prediction: what `decode_latents` gave: a signal, such as images (B, C, H, W), or logits (B, K, h, w).
            target: the signal, or the teacher's codes (B, h, w).
            quantizer_losses: weighted terms of the quantizer, and of the model where it defines its own.
            step: training step, from 0.
            latents: (B, ..., D) what the decoder read; for terms on them.
            first_level: (B, ..., D) what the first level of a residual quantizer gives by itself, where there is one; for distillation.
            noise: source of the draws of augmentations.
        """

    def validation_terms(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Those of the terms that score a prediction on samples that are not trained on: without discriminator, and without any state.

        Args:
            prediction, target: as in `generator_terms`, of a model in evaluation mode.

        Returns:
            nothing for objectives whose terms exist in training only.
        """
        return {}

    def discriminator_terms(self, prediction: Tensor, target: Tensor, *, step: int, noise: NoiseLike = None) -> dict[str, Tensor]:
        """Terms whose sum the discriminator minimizes; empty when it does not train at this step."""
        return {}


def named_part(name: str, parts: dict[str, Any], setting: str) -> Any:
    """The part of the tokenizer that a setting names.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in parts:
        close = close_names(name, parts) or list(parts)[-5:]
        raise ConfigError(f"{setting} names {name!r}, which the tokenizer does not have; did you mean {', '.join(close)}?")
    return parts[name]


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
        first_level: Tensor | None = None,
        noise: NoiseLike = None,
    ) -> dict[str, Tensor]:
        terms = self.validation_terms(prediction, target)
        terms.update({name: self.config.quantizer_weight * loss for name, loss in quantizer_losses.items()})
        return terms

    def validation_terms(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"teacher_codes": F.cross_entropy(prediction, target)}


class ModelLossesObjective(Objective):
    """See `ModelLossesConfig`. Reads neither prediction nor target.

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
        first_level: Tensor | None = None,
        noise: NoiseLike = None,
    ) -> dict[str, Tensor]:
        if not quantizer_losses:
            raise ConfigError('this tokenizer defines no loss of its own; train it with the objective "reconstruction"')
        return dict(quantizer_losses)
