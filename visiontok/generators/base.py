"""The generator contract: built from a token layout and a condition; knows no tokenizer family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from visiontok.config import Config
from visiontok.keymap import KeyMap
from visiontok.tokens import TokenLayout, Tokens


class GeneratorConfig(Config):
    """What every generator's configuration holds.

    Attributes:
        layout: the arrangement of the tokens that it models.
        num_classes: classes of the condition; 0 for unconditional.
    """

    layout: TokenLayout
    num_classes: int = 0


ConfigT = TypeVar("ConfigT", bound=GeneratorConfig)


class Generator(nn.Module, ABC, Generic[ConfigT]):
    """Base of every token generator. `forward` is the training loss, so that wrappers for several processes see one call."""

    config_class: ClassVar[type[GeneratorConfig]]
    reference_keys: ClassVar[KeyMap]

    def __init__(self, config: ConfigT) -> None:
        super().__init__()
        self.config = config

    @property
    def layout(self) -> TokenLayout:
        return self.config.layout

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @classmethod
    @abstractmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GeneratorConfig:
        """Our configuration from the authors' (and, where theirs leaves sizes out, from the shapes of the weights)."""

    @abstractmethod
    def loss(self, tokens: Tokens, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Training loss.

        Args:
            tokens: a batch of the model's layout.
            condition: (B,) int64 classes, or None for unconditional models.
            generator: source of the random draws (condition dropout, masking); None draws from torch's global state.

        Returns:
            "loss" (scalar, to minimise) and numbers to watch.
        """

    @abstractmethod
    def generate(self, condition: Tensor | None = None, *, num_samples: int | None = None, generator: torch.Generator | None = None) -> Tokens:
        """Sample tokens: one sample per entry of `condition` (B,), or `num_samples` of them from an unconditional model."""

    def forward(self, tokens: Tokens, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        return self.loss(tokens, condition, generator=generator)
