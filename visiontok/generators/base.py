"""The generator contract: built from a token layout and a condition; knows no tokenizer family."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.noise import Noise, NoiseLike
from visiontok.core.model import Model
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.tokens import TokenLayout, Tokens


class GeneratorConfig(Config):
    """What every generator's configuration holds.

    Attributes:
        layout: the arrangement of the tokens that it models.
        num_classes: classes of the condition; 0 for unconditional.
        class_names: one name per class, in order; empty where they have none.
        sampling: how `generate` samples unless told otherwise; families narrow the type.
    """

    layout: TokenLayout
    num_classes: Annotated[int, Field(ge=0)] = 0
    class_names: tuple[str, ...] = ()
    sampling: SamplingConfig

    @model_validator(mode="after")
    def _check_layout(self) -> GeneratorConfig:
        if self.layout.is_continuous:
            raise ValueError("the layout holds continuous latents; a token generator needs ids")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.num_classes} classes")
        return self


GeneratorConfigT = TypeVar("GeneratorConfigT", bound=GeneratorConfig)


class Generator(Model[GeneratorConfigT]):
    """Base of every token generator. `forward` is the training loss, so that wrappers for several processes see one call.

    Wherever something is drawn, `generator` says from where: a `torch.Generator`; None for torch's global state; or a source of `sampling.Noise`.
    `SampleNoise(seed, sample_numbers)` gives every sample its own stream, so that the draws depend neither on the batch size nor on
    how a global batch is divided among processes. (Dropout inside the network is torch's own and always draws from its global state.)
    """

    config_class: ClassVar[type[GeneratorConfig]]

    @property
    def layout(self) -> TokenLayout:
        return self.config.layout

    @abstractmethod
    def loss(self, tokens: Tokens, condition: Tensor | None = None, *, generator: NoiseLike = None) -> dict[str, Tensor]:
        """Training loss.

        Args:
            tokens: a batch of the model's layout.
            condition: (B,) int64 classes, or None for unconditional models.
            generator: source of the random draws (condition dropout in training mode, masking).

        Returns:
            "loss" (scalar, to minimise) and numbers to watch.
        """

    @abstractmethod
    def generate(
        self, condition: Tensor | None = None, *, num_samples: int | None = None, generator: NoiseLike = None, sampler: Any = None
    ) -> Tokens:
        """Sample tokens: one sample per entry of `condition` (B,), or `num_samples` without a condition.

        Args:
            condition: (B,) int64 classes.
            num_samples: how many, where no condition is given.
            generator: source of the random draws.
            sampler: strategy objects; None for those of the configuration, `sampler(...)` for those with some numbers changed.
        """

    def forward(self, tokens: Tokens, condition: Tensor | None = None, *, generator: NoiseLike = None) -> dict[str, Tensor]:
        return self.loss(tokens, condition, generator=generator)

    def sampler(self, **changes: Any) -> Any:
        """The configuration's sampler, with some of its numbers changed: `sampler(temperature=0.9)`.

        Raises:
            ConfigError: for a number that this family's sampler does not have, or that is out of range.
        """
        return self.config.sampling.replace(**changes).sampler()

    def condition_classes(self, condition: Tensor | None, *, num_samples: int | None) -> Tensor:
        """(B,) int64 on the model's device; `num_classes`, one past the last, stands for no condition.

        Raises:
            ConfigError: if neither or both of the arguments are given, they ask for nothing, or a class does not exist.
        """
        classes = self.config.num_classes
        if (condition is None) == (num_samples is None):
            raise ConfigError("give a condition or num_samples, one of the two")
        if num_samples is not None:
            if num_samples < 1:
                raise ConfigError(f"num_samples is {num_samples}; at least one sample must be asked for")
            return torch.full((num_samples,), classes, dtype=torch.int64, device=self.device)
        assert condition is not None
        if classes == 0:
            raise ConfigError("this generator is unconditional: give no condition")
        if condition.ndim != 1 or len(condition) == 0 or condition.dtype != torch.int64:
            raise ConfigError(f"a condition is int64 of shape (B,), at least one class, got {condition.dtype} {tuple(condition.shape)}")
        wrong = condition[(condition < 0) | (condition >= classes)]
        if len(wrong):
            raise ConfigError(f"class {int(wrong[0])} is outside [0, {classes})")
        return condition.to(self.device)

    def training_classes(self, tokens: Tokens, condition: Tensor | None) -> Tensor:
        """(B,) int64: the classes of a training batch, checked.

        Raises:
            TokenError: if the tokens have another layout, or an id is out of range.
            ConfigError: if a class-conditional model gets no classes, or not one per sample.
        """
        if tokens.layout != self.layout:
            raise TokenError(f"these tokens have another layout than this generator: {tokens.layout} instead of {self.layout}")
        tokens.validate()
        if condition is None and self.config.num_classes:
            raise ConfigError(f"this generator has {self.config.num_classes} classes: give one class per sample")
        if condition is not None and len(condition) != len(tokens):
            raise ConfigError(f"{len(condition)} classes for {len(tokens)} samples")
        return self.condition_classes(condition, num_samples=len(tokens) if condition is None else None)

    def drop_classes(self, classes: Tensor, probability: float, noise: Noise) -> Tensor:
        """(B,) int64: classes, each replaced by "no condition" with some probability; one uniform draw (B,)."""
        return classes.masked_fill(noise.uniform(len(classes)).to(classes.device) < probability, self.config.num_classes)
