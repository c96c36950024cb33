"""What a tokenizer's decoder is asked to predict for an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import Tokenizer
from visiontok.tokens import Tokens


class Target(ABC):
    """Pairs what the decoder should give with how that looks."""

    @abstractmethod
    def of(self, images: Tensor) -> Tensor:
        """The target for images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def picture(self, prediction: Tensor) -> Tensor:
        """What a prediction looks like: (B, 3, H, W)."""


class Pixels(Target):
    """The image itself."""

    def of(self, images: Tensor) -> Tensor:
        return images

    def picture(self, prediction: Tensor) -> Tensor:
        return prediction


class TeacherCodesTarget(Target):
    """The ids (B, h, w) that a frozen teacher gives the image; predictions are logits (B, K, h, w) over them.

    Raises:
        ConfigError: if the teacher has no codebook.
    """

    def __init__(self, teacher: Tokenizer[Any]) -> None:
        if teacher.layout.is_continuous:
            raise ConfigError("the teacher of an objective on codes must have a codebook; this one has continuous latents")
        self.teacher = teacher.eval().requires_grad_(False)

    def of(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # the same ids in every precision
            tokens = self.teacher.encode(images)
        assert isinstance(tokens, Tokens)
        return tokens.view()

    def picture(self, prediction: Tensor) -> Tensor:
        ids = prediction.argmax(dim=1)
        return self.teacher.decode(Tokens(ids.flatten(1), self.teacher.layout.at(ids.shape[1:])))
