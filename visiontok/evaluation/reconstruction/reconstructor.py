"""How a suite asks a tokenizer for reconstructions: of how many tokens, drawn with which seed, beside which texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.core.text_tokenizer import TextTokenizer
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import Batch as LoadedBatch
from visiontok.data import Texts
from visiontok.evaluation.features.protocol import Protocol as PictureProtocol
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.tokens import Latents, TokenLayout, Tokens

Reconstructed: TypeAlias = dict[int | None, tuple[Tokens | Latents, Tensor]]
"""Number of tokens, None for all -> the tokens, on the CPU, and what they decode to, uint8 (B, 3, H, W)."""


@runtime_checkable
class NoisyDecoder(Protocol):
    """A tokenizer whose decoder turns noise into the picture."""

    @property
    def starts_from_noise(self) -> bool:
        """Whether it does, in this configuration."""

    def decode(self, tokens: Tokens | Latents, *, generator: torch.Generator | None = None) -> Tensor:
        """With noise of the generator; without one, with noise that follows from the tokens."""


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

    def __call__(self, loaded: LoadedBatch, lengths: Sequence[int | None], *, seed: int | None) -> Reconstructed:
        """Reconstruct a batch. The model sees the originals as they would lie in a file: in 8 bits.

        Raises:
            EvaluationError: if the model returns pictures of another size.
            DataError: if a picture has no text.
        """
        images = to_uint8(loaded.images)
        texts = None if self._texts is None else self._texts.of(loaded)
        if seed is None:
            return self._reconstruct(images, texts, lengths, draw=None)
        single = [
            self._reconstruct(images[row : row + 1], texts and texts[row : row + 1], lengths, draw=(seed, number))
            for row, number in enumerate(loaded.indices.tolist())
        ]
        return {length: _joined([parts[length] for parts in single]) for length in lengths}

    def draws(self, size: int) -> bool:
        """Whether a seed changes anything. Asked with a black picture of `size` pixels."""
        if isinstance(self._tokenizer, NoisyDecoder) and self._tokenizer.starts_from_noise:
            return True
        generator = torch.Generator()
        before = generator.get_state()
        self._with_any_text().encode(torch.zeros(1, 3, size, size), generator=generator)
        return not torch.equal(before, generator.get_state())

    def layout(self, size: int) -> TokenLayout:
        """Of the tokens of a picture of `size` pixels: models that take any size arrange them by it."""
        return self._with_any_text().encode(torch.zeros(1, 3, size, size)).layout

    def _with_any_text(self) -> Tokenizer[Any]:
        return self._tokenizer.given("") if isinstance(self._tokenizer, TextTokenizer) else self._tokenizer

    def _reconstruct(
        self, images: Tensor, texts: Sequence[str] | None, lengths: Sequence[int | None], *, draw: tuple[int, int] | None
    ) -> Reconstructed:
        tokenizer = self._tokenizer
        if texts is not None:
            assert isinstance(tokenizer, TextTokenizer)
            tokenizer = tokenizer.given(texts)
        whole = _encode(tokenizer, images, None, draw)
        found: Reconstructed = {}
        for length in lengths:
            if length is None:
                tokens = whole
            elif isinstance(whole, Tokens) and whole.layout.prefix_decodable:
                tokens = whole.prefix(length)
            else:
                tokens = _encode(tokenizer, images, length, draw)
            found[length] = tokens.to("cpu"), self._pixels(_decode(tokenizer, tokens, draw), images)
        return found

    def _pixels(self, decoded: Tensor, images: Tensor) -> Tensor:
        pixels = (to_uint8(decoded.float()) if self._protocol is None else self._protocol.pixels(decoded)).cpu()
        if pixels.shape != images.shape:
            raise EvaluationError(f"{self._name} returned pictures of {_sides(pixels)} for pictures of {_sides(images)}; set size to what it returns")
        return pixels


def _encode(tokenizer: Tokenizer[Any], images: Tensor, length: int | None, draw: tuple[int, int] | None) -> Tokens | Latents:
    if draw is None:
        return tokenizer.encode(images) if length is None else tokenizer.encode(images, num_tokens=length)
    return tokenizer.encode(images, num_tokens=length, generator=_generator(*draw, "encode"))


def _decode(tokenizer: Tokenizer[Any], tokens: Tokens | Latents, draw: tuple[int, int] | None) -> Tensor:
    if draw is not None and isinstance(tokenizer, NoisyDecoder) and tokenizer.starts_from_noise:
        return tokenizer.decode(tokens, generator=_generator(*draw, "decode"))
    return tokenizer.decode(tokens)


def _generator(seed: int, number: int, stage: Literal["encode", "decode"]) -> torch.Generator:
    """Of one picture. Hashed, because torch's generator on the CPU reads the lower 32 bits of its seed alone."""
    entropy = np.random.SeedSequence((seed, number, stage == "decode")).generate_state(1)
    return torch.Generator().manual_seed(int(entropy[0]))


def _joined(parts: Sequence[tuple[Tokens | Latents, Tensor]]) -> tuple[Tokens | Latents, Tensor]:
    tokens: Any = [tokens for tokens, _ in parts]
    return type(tokens[0]).cat(tokens), torch.cat([pixels for _, pixels in parts])


def _sides(images: Tensor) -> str:
    return f"{images.shape[2]} x {images.shape[3]}"
