"""Reconstruction, perception, semantics and a discriminator: the objective of most tokenizers (TiTok's second and single stage, VQGANs)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike
from visiontok.losses.adversarial import gradient_ratio
from visiontok.losses.adversary import Adversary, ClipGanConfig, GanConfig
from visiontok.losses.discriminator import Discriminator
from visiontok.losses.objectives import Objective, named_part
from visiontok.losses.perceptual import PerceptualLoss, PerceptualTerm
from visiontok.losses.pixels import RGB
from visiontok.losses.semantic import SemanticConfig, SemanticLoss
from visiontok.signals.spec import SignalSpec


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
        gan: a discriminator of images, and of clips frame by frame; None for none.
        clip_gan: a discriminator of whole clips; None for none. Its terms are called "clip_gan", "clip_feature_matching" and so on.
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
    clip_gan: ClipGanConfig | None = None

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
            clip_discriminator=self.clip_gan.discriminator.build(signal) if self.clip_gan else None,
            signal=signal,
        )


class ReconstructionObjective(Objective):
    """See `ReconstructionConfig`.

    Args:
        config: weights.
        perceptual: a module of two batches to a scalar, or None.
        semantic: or None.
        discriminator: or None.
        clip_discriminator: or None.
        signal: what is reconstructed.

    Attributes:
        adversaries: by the names of their terms: "gan", "clip_gan".
    """

    def __init__(
        self,
        config: ReconstructionConfig,
        *,
        perceptual: nn.Module | None = None,
        semantic: SemanticLoss | None = None,
        discriminator: Discriminator | None = None,
        clip_discriminator: Discriminator | None = None,
        signal: SignalSpec = RGB,
    ) -> None:
        super().__init__()
        self.config, self.signal = config, signal
        self.perceptual, self.semantic = perceptual, semantic
        self.adversaries = nn.ModuleDict()
        for name, own, judge in (("gan", config.gan, discriminator), ("clip_gan", config.clip_gan, clip_discriminator)):
            if own is not None and judge is not None:
                self.adversaries[name] = Adversary(own, judge, signal=signal)

    @property
    def is_adversarial(self) -> bool:
        return len(self.adversaries) > 0

    def attach(self, model: nn.Module) -> None:
        for name, adversary in self._adversaries():
            if adversary.config.adaptive is not None:
                parameters = dict(model.named_parameters())
                self.handles.last_layers[name] = named_part(adversary.config.adaptive.last_layer, parameters, f"{name}.adaptive.last_layer")
        if self.config.semantic is not None:
            self.handles.projection = named_part(self.config.semantic.projection, dict(model.named_modules()), "semantic.projection")

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
        reconstruction = self.validation_terms(prediction, target)
        terms = reconstruction | {name: self.config.quantizer_weight * loss for name, loss in quantizer_losses.items()}
        self.stats = {}
        for name, adversary in self._adversaries():
            own, loss = adversary.generator_terms(prediction, target, step=step, noise=noise)
            if loss is not None:
                terms[name] = self._weighted(name, adversary.config, loss, torch.stack([*reconstruction.values()]).sum())
            terms |= {f"{name.removesuffix('gan')}{term}": value for term, value in own.items()}
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
        terms: dict[str, Tensor] = {}
        for name, adversary in self._adversaries():
            own = adversary.discriminator_terms(prediction, target, step=step, noise=noise)
            terms |= {f"{name.removesuffix('gan')}{term}": value for term, value in own.items()}
        return terms

    def _adversaries(self) -> Iterator[tuple[str, Adversary]]:
        for name, adversary in self.adversaries.items():
            assert isinstance(adversary, Adversary)
            yield name, adversary

    def _weighted(self, name: str, config: GanConfig, loss: Tensor, reconstruction: Tensor) -> Tensor:
        """A generator's loss with its weight, which follows the gradients where it is adaptive."""
        if config.adaptive is None:
            return config.weight * loss
        if name not in self.handles.last_layers:
            raise ConfigError(f"{name}.adaptive needs the tokenizer's last layer: call objective.attach(tokenizer) before training")
        last_layer, adaptive = self.handles.last_layers[name], config.adaptive
        ratio = gradient_ratio(reconstruction, loss, last_layer, eps=adaptive.eps, maximum=adaptive.maximum, scale=self.loss_scale)
        self.stats[f"{name}_adaptive_weight"] = ratio
        return config.weight * ratio * loss

    def _semantic_term(self, images: Tensor, latents: Tensor | None, step: int) -> Tensor:
        assert self.semantic is not None
        if self.handles.projection is None or latents is None:
            raise ConfigError("the semantic loss needs the tokenizer's latents and projection: call objective.attach(tokenizer) and pass `latents`")
        return self.semantic.config.weight * self.semantic(images, latents, self.handles.projection, step=step)
