"""What every frozen text encoder offers, and how one of transformers is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from typing_extensions import Self

from visiontok.base.errors import HubError
from visiontok.base.offline import is_offline
from visiontok.base.optional import import_optional_class

TextLike: TypeAlias = Tensor | str | Sequence[str]
"""Embeddings (B, T, E), or (1, T, E) for all samples; or, where a text encoder is attached, one text per sample or one for all."""


class TextEncoder(ABC):
    """Texts -> embeddings. It is never trained and never part of a checkpoint, so it is no `nn.Module`.

    Attributes:
        length: T embeddings per text, padding included.
        dim: channels E of an embedding.
    """

    length: int
    dim: int

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """B texts -> (B, T, E) float32, on the encoder's device, without gradients."""

    def to(self, device: torch.device | str) -> Self:
        """Move the encoder's network, where it has one."""
        return self


def load_from_transformers(name: str, source: str) -> Any:
    """`from_pretrained(source)` of a class of transformers; downloads what is not cached.

    Raises:
        HubError: if the source cannot be had.
        DependencyError: if transformers is not installed.
    """
    loader = import_optional_class("transformers", name, extra="zoo")
    try:
        return loader.from_pretrained(source, local_files_only=is_offline())
    except (OSError, ValueError) as error:  # what transformers raises for a missing, unreadable or foreign source
        raise HubError(
            f"the text encoder {source!r} cannot be loaded ({error}); check the name and the connection, name a folder that holds it, or pass "
            "embeddings instead of strings"
        ) from error
