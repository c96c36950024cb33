"""The tokenizer contract: signal -> encoder -> quantizer -> Tokens -> decoder -> signal."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visiontok.errors import TokenError
from visiontok.layers.bfloat16 import products_for
from visiontok.model import ConfigT, Model
from visiontok.preprocessing import ImagePreprocessing, SignalLike
from visiontok.quantizers.base import Quantizer
from visiontok.tokens import Latents, TokenLayout, Tokens


@dataclass(frozen=True)
class TokenizerOutput:
    """What `Tokenizer.forward` returns, for training.

    Attributes:
        reconstruction: the signal's shape; not clamped.
        tokens: the ids (or the continuous latents) of the batch.
        latents: (B, ..., D) what the decoder read.
        losses: the quantizer's weighted terms.
        stats: numbers to watch.
    """

    reconstruction: Tensor
    tokens: Tokens | Latents
    latents: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)


class Tokenizer(Model[ConfigT]):
    """Base of every tokenizer. A family sets `encoder`, `quantizer`, `decoder`, `preprocessing`, `layout` and two methods.

    Attributes:
        layout: the arrangement of its tokens.
        preprocessing: what happens to a signal before `encode_latents`.
    """

    quantizer: Quantizer
    layout: TokenLayout
    preprocessing: ImagePreprocessing

    @abstractmethod
    def encode_latents(self, signal: Tensor) -> Tensor:
        """Encoder only: preprocessed signal (B, 3, H, W) in [0, 1] -> latents (B, *shape, D) for the quantizer."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decoder only: quantized latents (B, *shape, D) -> signal, not clamped."""

    def forward(self, signal: Tensor) -> TokenizerOutput:
        """Training pass over a preprocessed signal (B, 3, H, W) in [0, 1]; gradients flow, nothing is clamped."""
        quantized = self.quantizer(self.encode_latents(signal))
        return TokenizerOutput(
            reconstruction=self.decode_latents(quantized.latents),
            tokens=self._wrap(quantized.latents, quantized.indices),
            latents=quantized.latents,
            losses=quantized.losses,
            stats=quantized.stats,
        )

    @torch.no_grad()
    def encode(self, signal: SignalLike | Sequence[SignalLike], *, generator: torch.Generator | None = None) -> Tokens | Latents:
        """Signal -> tokens. Deterministic unless a generator is given.

        Args:
            signal: a batch (B, 3, H, W) in [0, 1], one image (3, H, W), a PIL image, a uint8 array (H, W, 3), a path, or a list of them.
            generator: makes quantizers that draw (posteriors) sample with it; without it they give their mode.

        Raises:
            SignalError: if an image cannot be read, or has a shape or range that the model cannot take.
        """
        prepared = self.prepare(signal)
        with products_for(next(self.parameters())):
            latents = self.encode_latents(prepared)
            quantized = self.quantizer(latents) if generator is None else self.quantizer.sample(latents, generator)
        return self._wrap(quantized.latents, quantized.indices)

    @torch.no_grad()
    def decode(self, tokens: Tokens | Latents) -> Tensor:
        """Tokens -> signal (B, 3, H, W) clamped to [0, 1].

        Raises:
            TokenError: if the tokens have another layout or an id is out of range.
        """
        if tokens.layout != self.layout_for(tokens.layout.segments[0].shape):
            raise TokenError(f"these tokens come from another tokenizer: their layout is {tokens.layout}, this model's is {self.layout}")
        if isinstance(tokens, Tokens):
            latents = self.quantizer.lookup(self._unwrap(tokens.validate().to(str(self.device))))
        else:
            latents = tokens.values.to(self.device)
        with products_for(next(self.parameters())):
            return self.decode_latents(latents.to(self.dtype)).clamp(0, 1)

    def prepare(self, signal: SignalLike | Sequence[SignalLike]) -> Tensor:
        """The batch (B, 3, H, W) that `encode_latents` takes, on the model's device and in its dtype."""
        return self.preprocessing(signal).to(device=self.device, dtype=self.dtype)

    def layout_for(self, shape: tuple[int, ...]) -> TokenLayout:
        """The layout of tokens arranged in `shape`; families that take any image size override this."""
        return self.layout

    def _wrap(self, latents: Tensor, indices: Tensor | None) -> Tokens | Latents:
        layout = self.layout_for(tuple(latents.shape[1:-1]))
        if indices is None:
            return Latents(latents.flatten(1, -2), layout)
        return Tokens(indices.flatten(1), layout)

    def _unwrap(self, tokens: Tokens) -> Tensor:
        return tokens.view()
