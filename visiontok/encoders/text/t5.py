"""T5's encoder (Raffel et al., arXiv 1910.10683), the text encoder of TexTok."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.encoders.text.base import TextEncoder, load_from_transformers


class T5TextConfig(Config):
    """A T5 encoder of transformers.

    Attributes:
        source: hub repository or folder.
    """

    type: Literal["t5"] = "t5"
    source: str = "google/t5-v1_1-xl"

    def build(self, *, length: int, dim: int) -> T5Text:
        """Load it.

        Raises:
            HubError: if the source cannot be had.
            ConfigError: if it has another number of channels.
        """
        network = load_from_transformers("T5EncoderModel", self.source)
        encoder = T5Text(network, load_from_transformers("AutoTokenizer", self.source), length=length)
        if encoder.dim != dim:
            raise ConfigError(f"the text encoder {self.source!r} gives {encoder.dim} channels, but the tokenizer reads {dim}; name the one it needs")
        return encoder


class T5Text(TextEncoder):
    """The encoder's last layer at T positions. Its attention does not see the padding after a text, whose embeddings are zero.

    Args:
        network: transformers' `T5EncoderModel`.
        tokenizer: its tokenizer.
        length: T; longer texts are truncated but keep the end token.
    """

    def __init__(self, network: Any, tokenizer: Any, *, length: int) -> None:
        self.length, self.dim = length, network.config.d_model
        self._network, self._tokenizer = network.eval().requires_grad_(False), tokenizer

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        device = self._network.device
        batch = self._tokenizer(list(texts), truncation=True, padding="max_length", max_length=self.length, return_tensors="pt")
        mask = batch["attention_mask"].to(device)
        embeddings = self._network(input_ids=batch["input_ids"].to(device), attention_mask=mask).last_hidden_state
        return embeddings.float() * mask[:, :, None]

    def to(self, device: torch.device | str) -> Self:
        self._network.to(device)
        return self
