"""The text that a tokenizer reads: how many embeddings of how many channels, and of which encoder."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.encoders.text.base import TextEncoder
from visiontok.encoders.text.clip import ClipTextConfig
from visiontok.encoders.text.hashed_words import HashedWordsConfig
from visiontok.encoders.text.t5 import T5TextConfig


class TextConfig(Config):
    """Text embeddings (B, T, E).

    Attributes:
        length: T, padding included.
        dim: E.
        encoder: makes them from strings; None where only embeddings are passed. It is not part of the tokenizer's weights.
    """

    length: Positive = 77
    dim: Positive = 768
    encoder: Annotated[ClipTextConfig | T5TextConfig | HashedWordsConfig, Field(discriminator="type")] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(T, E)."""
        return self.length, self.dim

    def build(self) -> TextEncoder:
        """Load the text encoder.

        Raises:
            ConfigError: if the configuration names none, or one that does not fit.
            HubError: if it cannot be had.
        """
        if self.encoder is None:
            raise ConfigError("the configuration names no text encoder: set text.encoder, or attach one of your own that gives (B, T, E)")
        return self.encoder.build(length=self.length, dim=self.dim)
