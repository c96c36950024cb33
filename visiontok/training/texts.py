"""Text embeddings of training batches, for tokenizers that read a text."""

from __future__ import annotations

from torch import Tensor

from visiontok.data import DataBatch, Texts
from visiontok.encoders.text import TextEncoder


class EmbeddedTexts:
    """The texts of a batch, through a frozen text encoder.

    The encoder stays outside of the tokenizer: its average, its checkpoints and what is exported do not hold it.
    """

    def __init__(self, texts: Texts, encoder: TextEncoder) -> None:
        self._texts, self._encoder = texts, encoder

    def of(self, batch: DataBatch) -> Tensor:
        """(B, T, E), on the encoder's device."""
        return self._encoder(self._texts.of(batch))
