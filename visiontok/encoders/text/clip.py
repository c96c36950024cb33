"""CLIP's text tower (Radford et al., arXiv 2103.00020) as TA-TiTok reads it: every position of the last layer, padding included."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.encoders.text.base import TextEncoder, load_from_transformers


class ClipTextConfig(Config):
    """A CLIP text tower of transformers.

    Attributes:
        source: hub repository or folder.
    """

    type: Literal["clip"] = "clip"
    source: str = "openai/clip-vit-large-patch14-336"

    def build(self, *, length: int, dim: int) -> ClipText:
        """Load it.

        Raises:
            HubError: if the source cannot be had.
            ConfigError: if it has another number of channels, or reads fewer positions.
        """
        network = load_from_transformers("CLIPTextModel", self.source)
        encoder = ClipText(network, load_from_transformers("CLIPTokenizer", self.source), length=length)
        if encoder.dim != dim:
            raise ConfigError(f"the text encoder {self.source!r} gives {encoder.dim} channels, but the tokenizer reads {dim}; name the one it needs")
        return encoder


class ClipText(TextEncoder):
    """The output of the final layer norm at all T positions: neither pooled nor projected.

    Token ids after the end of a text are 0, as in OpenAI's code, and no mask hides them. (transformers' own tokenizer pads with the id of the end
    token, and its pipelines pass a mask; both change the embeddings of the padding, which tokenizers read.)

    Args:
        network: transformers' `CLIPTextModel`.
        tokenizer: its `CLIPTokenizer`.
        length: T; longer texts are truncated but keep the end token.
    """

    def __init__(self, network: Any, tokenizer: Any, *, length: int) -> None:
        positions = network.config.max_position_embeddings
        if length > positions:
            raise ConfigError(f"this CLIP text tower reads {positions} positions; {length} were requested")
        self.length, self.dim = length, network.config.hidden_size
        self._network, self._tokenizer = network.eval().requires_grad_(False), tokenizer

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        """(B, T) int64, padded with 0. Case and runs of spaces are ignored; HTML entities become the characters that they mean."""
        cleaned = [" ".join(html.unescape(html.unescape(text)).split()).lower() for text in texts]
        rows = self._tokenizer(cleaned, truncation=True, max_length=self.length)["input_ids"]
        return torch.tensor([row + [0] * (self.length - len(row)) for row in rows], dtype=torch.int64)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        return self._network(input_ids=self.token_ids(texts).to(self._network.device)).last_hidden_state.float()

    def to(self, device: torch.device | str) -> Self:
        self._network.to(device)
        return self
