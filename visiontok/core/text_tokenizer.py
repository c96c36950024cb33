"""Tokenizers that read a text beside the picture: the tokenizer contract, with `text=`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias, TypeGuard

import torch
from torch import Tensor
from typing_extensions import Self

from visiontok.base.errors import TextError
from visiontok.core.model import ConfigT
from visiontok.core.quality import QualityTarget
from visiontok.core.tokenizer import Tokenizer, TokenizerOutput
from visiontok.encoders.text import TextConfig, TextEncoder
from visiontok.signals import SignalLike
from visiontok.tokens import Latents, Tokens

TextLike: TypeAlias = Tensor | str | Sequence[str]
"""Embeddings (B, T, E), or (1, T, E) for all samples; or, where a text encoder is attached, one text per sample or one for all."""


class TextTokenizer(Tokenizer[ConfigT]):
    """A tokenizer whose decoder, and perhaps whose encoder, reads text embeddings.

    `tokenizer.given(text)` is a plain tokenizer: the same weights, one text. `encode`, `decode` and `forward` take the text directly.

    Attributes:
        text: the embeddings it reads.
        encoder_reads_text: whether its encoder does, or the decoder alone.
        text_encoder: makes them from strings; None until one is attached. It is neither trained nor saved with the tokenizer.
    """

    text: TextConfig
    encoder_reads_text: ClassVar[bool]
    text_encoder: TextEncoder | None = None
    _embeddings: Tensor | None = None

    def attach_text_encoder(self, encoder: TextEncoder | None = None) -> Self:
        """Make strings acceptable as text.

        Args:
            encoder: gives (B, T, E); None loads the one that the configuration names.

        Raises:
            ConfigError: if the configuration names none.
            HubError: if it cannot be had.
            TextError: if it gives embeddings of another shape than the tokenizer reads.
        """
        encoder = encoder or self.text.build()
        if (encoder.length, encoder.dim) != self.text.shape:
            raise TextError(f"this text encoder gives {(encoder.length, encoder.dim)} numbers per text; the tokenizer reads {self.text.shape}")
        self.text_encoder = encoder.to(self.device)
        return self

    def given(self, text: TextLike) -> Self:
        """This tokenizer, with the same weights, reading `text` in whatever it encodes and decodes.

        Raises:
            TextError: if embeddings have another shape than (B, T, E), or strings come without a text encoder.
        """
        reader = copy.copy(self)  # shares every parameter and submodule; only the text below is its own
        reader._embeddings = self._embedded(text).to(device=self.device, dtype=self.dtype)
        return reader

    def forward(self, signal: Tensor, text: Tensor | None = None) -> TokenizerOutput:
        """Training pass over a preprocessed signal (B, 3, H, W) in [0, 1] and its text embeddings (B, T, E)."""
        return Tokenizer.forward(self._reader(text), signal)

    def encode(
        self,
        signal: SignalLike | Sequence[SignalLike],
        *,
        text: TextLike | None = None,
        num_tokens: int | Tensor | None = None,
        target: QualityTarget | None = None,
        generator: torch.Generator | None = None,
    ) -> Tokens | Latents:
        """Signal -> tokens; see `Tokenizer.encode`.

        Args:
            signal: pictures.
            text: needed by families whose encoder reads it, and where a target is sought, since that decodes; otherwise without effect.
            num_tokens, target, generator: as for every tokenizer.

        Raises:
            TextError: if a needed text is missing or has another shape.
        """
        return Tokenizer.encode(self._reader(text), signal, num_tokens=num_tokens, target=target, generator=generator)

    def decode(self, tokens: Tokens | Latents, *, text: TextLike | None = None) -> Tensor:
        """Tokens and the text of their pictures -> signal (B, 3, H, W) clamped to [0, 1].

        Raises:
            TextError: if the text is missing or has another shape.
            TokenError: if the tokens have another layout or an id is out of range.
        """
        return Tokenizer.decode(self._reader(text), tokens)

    def text_for(self, samples: int) -> Tensor:
        """The embeddings (B, T, E) that encoder and decoder read with a batch of so many samples.

        Raises:
            TextError: if there is no text, or one of another number of samples.
        """
        embeddings, (length, dim) = self._embeddings, self.text.shape
        if embeddings is None:
            raise TextError(
                f"{type(self).__name__} reads a text beside the picture: pass text= (--text on the command line): embeddings of shape "
                f"({samples}, {length}, {dim}), or strings after attach_text_encoder()"
            )
        if len(embeddings) not in (1, samples):
            raise TextError(f"{len(embeddings)} texts for {samples} samples; give one for each, or one for all")
        return embeddings.expand(samples, -1, -1)

    def _reader(self, text: TextLike | None) -> Self:
        return self if text is None else self.given(text)

    def _embedded(self, text: TextLike) -> Tensor:
        if isinstance(text, Tensor):
            if text.ndim != 3 or text.shape[1:] != self.text.shape or not text.is_floating_point():
                wanted = f"(B, {self.text.length}, {self.text.dim})"
                raise TextError(f"text embeddings must be floats of shape {wanted}, got {tuple(text.shape)} of {text.dtype}")
            return text
        if self.text_encoder is None:
            raise TextError("strings need a text encoder: call attach_text_encoder() first, or pass embeddings")
        return self.text_encoder([text] if isinstance(text, str) else list(text))


def encodes_with_text(tokenizer: Tokenizer[Any]) -> TypeGuard[TextTokenizer[Any]]:
    """Whether its encoder reads a text: without one it cannot encode."""
    return isinstance(tokenizer, TextTokenizer) and tokenizer.encoder_reads_text
