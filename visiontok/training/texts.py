"""Text embeddings of training batches, for tokenizers that read a text and generators that are conditioned on one."""

from __future__ import annotations

from torch import Tensor

from visiontok.data import DataBatch, Texts
from visiontok.data.token_dataset import TokenBatch
from visiontok.encoders.text import TextEncoder


class EmbeddedTexts:
    """The texts of a batch, through a frozen text encoder.

    The encoder stays outside of the model: its average, its checkpoints and what is exported do not hold it.

    Attributes:
        encoder: frozen.
    """

    def __init__(self, texts: Texts, encoder: TextEncoder) -> None:
        self._texts, self.encoder = texts, encoder

    def of(self, batch: DataBatch) -> Tensor:
        """(B, T, E), on the encoder's device."""
        return self.encoder(self._texts.of(batch))

    def of_tokens(self, batch: TokenBatch) -> Tensor:
        """(B, T, E) of samples of a token set, on the encoder's device."""
        labels = [None] * len(batch.keys) if batch.labels is None else batch.labels.tolist()
        samples = zip(batch.keys, batch.captions, labels, strict=True)
        return self.encoder([self._texts.text(key, caption=caption, label=label) for key, caption, label in samples])
