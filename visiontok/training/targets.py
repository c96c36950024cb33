"""What a tokenizer's decoder is asked to predict for a signal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import Tokenizer
from visiontok.tokens import Tokens


class Target(ABC):
    """Pairs what the decoder should give with the signal that it stands for."""

    @abstractmethod
    def of(self, signals: Tensor) -> Tensor:
        """The target for signals (B, C, *axes)."""

    @abstractmethod
    def signal(self, prediction: Tensor) -> Tensor:
        """What a prediction stands for: (B, C, *axes)."""


class Signal(Target):
    """The signal itself."""

    def of(self, signals: Tensor) -> Tensor:
        return signals

    def signal(self, prediction: Tensor) -> Tensor:
        return prediction


class TeacherCodes(Target):
    """The codes (B, h, w) that a frozen teacher gives the signal; predictions are logits (B, K, h, w) over them.

    Raises:
        ConfigError: if the teacher has no codebook.
    """

    def __init__(self, teacher: Tokenizer[Any]) -> None:
        if teacher.layout.is_continuous:
            raise ConfigError("the teacher of an objective on codes must have a codebook; this one has continuous latents")
        self.teacher = teacher.eval().requires_grad_(False)

    def of(self, signals: Tensor) -> Tensor:
        with torch.autocast(signals.device.type, enabled=False):  # the same codes in every precision
            tokens = self.teacher.encode(signals)
        assert isinstance(tokens, Tokens)
        return tokens.view()

    def signal(self, prediction: Tensor) -> Tensor:
        codes = prediction.argmax(dim=1)
        layout = self.teacher.layout
        return self.teacher.decode(Tokens(codes.flatten(1), layout.at(codes.shape[1:]) if layout.is_variable else layout))
