"""How a suite asks a tokenizer for reconstructions: of how many tokens, drawn with which seed, beside which texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.base.noise import SampleNoise
from visiontok.core.text_tokenizer import TextTokenizer
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import DataBatch, Texts
from visiontok.evaluation.features.protocol import Protocol as PictureProtocol
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.tokens import Latents, TokenLayout, Tokens

Reconstructed: TypeAlias = dict[int | None, tuple[Tokens | Latents, Tensor]]
"""Number of tokens, None for all -> the tokens, on the CPU, and what they decode to, uint8 (B, 3, H, W)."""


class Reconstructor:
    """A tokenizer with everything that a suite says about its reconstructions.

    Without a seed it gives its reproducible form: the mode of a posterior, noise that follows from the tokens. With one, every picture has draws
    of its own, which follow from the seed and from the picture's place in the source; pictures are then encoded and decoded one by one, so that
    neither the batch size nor the number of processes changes a draw, and every length of a picture starts from the same noise.
    """

    def __init__(self, tokenizer: Tokenizer[Any], *, name: str, protocol: PictureProtocol | None, texts: Texts | None) -> None:
        """Take a tokenizer that is in evaluation mode whenever it is asked.

        Args:
            tokenizer: as it is to be measured.
            name: of the model, for errors.
            protocol: rounds what it decodes; None for the nearest level.
            texts: of the pictures, for tokenizers that read one; None for others.
        """
        self._tokenizer, self._name, self._protocol, self._texts = tokenizer, name, protocol, texts

    def __call__(self, loaded: DataBatch, lengths: Sequence[int | None], *, seed: int | None) -> Reconstructed:
        """Reconstruct a batch. The model sees the originals as they would lie in a file: in 8 bits.

        Raises:
            EvaluationError: if the model returns pictures of another size.
            DataError: if a picture has no text.
        """
        images = to_uint8(loaded.signals.values)
        texts = None if self._texts is None else self._texts.of(loaded)
        if seed is None:
            return self._reconstruct(images, texts, lengths, draw=None)
        single = [
            self._reconstruct(images[row : row + 1], texts and texts[row : row + 1], lengths, draw=(seed, number))
            for row, number in enumerate(loaded.indices.tolist())
        ]
        return {length: _joined([parts[length] for parts in single]) for length in lengths}

    @property
    def draws(self) -> bool:
        """Whether a seed changes anything."""
        return self._tokenizer.is_stochastic

    def layout(self, size: int) -> TokenLayout:
        """Of the tokens of an image of `size` pixels: models that take any size arrange them by it."""
        text = "" if isinstance(self._tokenizer, TextTokenizer) else None
        return self._tokenizer.encode(self._tokenizer.preprocessing.blank((size, size)), text=text).layout

    def _reconstruct(
        self, images: Tensor, texts: Sequence[str] | None, lengths: Sequence[int | None], *, draw: tuple[int, int] | None
    ) -> Reconstructed:
        tokenizer = self._tokenizer
        whole = _encode(tokenizer, images, None, texts, draw)
        found: Reconstructed = {}
        for length in lengths:
            if length is None:
                tokens = whole
            elif whole.layout.prefixes != "none":
                tokens = whole.prefix(length)
            else:
                tokens = _encode(tokenizer, images, length, texts, draw)
            decoded = tokenizer.decode(tokens, text=texts, noise=None if draw is None else _noise(*draw, "decode"))
            found[length] = tokens.to("cpu"), self._pixels(decoded, images)
        return found

    def _pixels(self, decoded: Tensor, images: Tensor) -> Tensor:
        pixels = (to_uint8(decoded.float()) if self._protocol is None else self._protocol.pixels(decoded)).cpu()
        if pixels.shape != images.shape:
            raise EvaluationError(f"{self._name} returned pictures of {_sides(pixels)} for pictures of {_sides(images)}; set size to what it returns")
        return pixels


def _encode(
    tokenizer: Tokenizer[Any], images: Tensor, length: int | None, texts: Sequence[str] | None, draw: tuple[int, int] | None
) -> Tokens | Latents:
    return tokenizer.encode(images, num_tokens=length, text=texts, noise=None if draw is None else _noise(*draw, "encode"))


def _noise(seed: int, number: int, stage: Literal["encode", "decode"]) -> SampleNoise:
    """Of one image."""
    return SampleNoise((seed, int(stage == "decode")), [number])


def _joined(parts: Sequence[tuple[Tokens | Latents, Tensor]]) -> tuple[Tokens | Latents, Tensor]:
    tokens: Any = [tokens for tokens, _ in parts]
    return type(tokens[0]).cat(tokens), torch.cat([pixels for _, pixels in parts])


def _sides(images: Tensor) -> str:
    return f"{images.shape[2]} x {images.shape[3]}"
