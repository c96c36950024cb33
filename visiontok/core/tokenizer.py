"""The tokenizer contract: signal -> encoder -> quantizer -> Tokens -> decoder -> signal."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.core.model import ConfigT, Model
from visiontok.core.quality import QualityTarget, shortest_lengths
from visiontok.layers.bfloat16 import products_for
from visiontok.layers.nested_dropout import LengthSchedule
from visiontok.quantizers.base import Bottleneck, Quantizer
from visiontok.signals.image_preprocessing import ImagePreprocessing, SignalLike
from visiontok.tokens import Latents, TokenLayout, Tokens


@dataclass(frozen=True)
class TokenizerOutput:
    """What `Tokenizer.forward` returns, for training.

    Attributes:
        reconstruction: the signal's shape; not clamped. Decoders that learn to denoise give, in training, what they make of one noisy sample,
            in the space in which they denoise.
        tokens: the ids (or the continuous latents) of the batch.
        latents: (B, ..., D) what the decoder read.
        losses: the quantizer's weighted terms, and those of a model that defines its own (flow, diffusion).
        stats: numbers to watch.
        target: what the reconstruction is compared with, where that is not the input: models that reconstruct each signal several times.
    """

    reconstruction: Tensor
    tokens: Tokens | Latents
    latents: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)
    target: Tensor | None = None


class Tokenizer(Model[ConfigT]):
    """Base of every tokenizer. A family sets `encoder`, `quantizer`, `decoder`, `preprocessing`, `layout` and two methods.

    Attributes:
        layout: the arrangement of its tokens.
        preprocessing: what happens to a signal before `encode_latents`.
        nested_dropout: how many tokens are kept at a training step, by families that learn an order of their tokens; None for all.
    """

    quantizer: Bottleneck
    layout: TokenLayout
    preprocessing: ImagePreprocessing
    nested_dropout: LengthSchedule | None = None

    @abstractmethod
    def encode_latents(self, signal: Tensor) -> Tensor:
        """Encoder only: preprocessed signal (B, 3, H, W) in [0, 1] -> latents (B, *shape, D) for the quantizer."""

    @abstractmethod
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decoder only: quantized latents (B, *shape, D) -> signal, not clamped."""

    def forward(self, signal: Tensor) -> TokenizerOutput:
        """Training pass over a preprocessed signal (B, 3, H, W) in [0, 1]; gradients flow, nothing is clamped."""
        quantized = self.quantizer(self.encode_latents(signal))
        latents = quantized.latents
        if self.training and self.nested_dropout is not None:
            lengths = self.nested_dropout.draw(len(latents), latents.shape[1], device=latents.device)
            reconstruction = self.decode_prefix(latents, lengths)
        else:
            reconstruction = self.decode_latents(latents)
        return TokenizerOutput(
            reconstruction=reconstruction,
            tokens=self._wrap(latents, quantized.indices),
            latents=latents,
            losses=quantized.losses,
            stats=quantized.stats,
        )

    @torch.no_grad()
    def encode(
        self,
        signal: SignalLike | Sequence[SignalLike],
        *,
        num_tokens: int | Tensor | None = None,
        target: QualityTarget | None = None,
        generator: torch.Generator | None = None,
    ) -> Tokens | Latents:
        """Signal -> tokens. Deterministic unless a generator is given.

        Args:
            signal: a batch (B, 3, H, W) in [0, 1], one image (3, H, W), a PIL image, a uint8 array (H, W, 3), a path, or a list of them.
            num_tokens: ids per sample, one number or (B,) int64, out of `lengths_supported`; None for all.
            target: as few ids per sample as reach it; instead of `num_tokens`.
            generator: makes quantizers that draw (posteriors) sample with it; without it they give their mode.

        Raises:
            SignalError: if an image cannot be read, or has a shape or range that the model cannot take.
            TokenError: if the tokenizer does not have the wanted length, or has only one and a target is given.
        """
        if num_tokens is not None and target is not None:
            raise TokenError("give num_tokens or target, not both: a target finds the number of tokens by itself")
        if target is not None and len(self.lengths_supported) == 1:
            raise TokenError(f"a target needs a tokenizer of flexible length; this one always writes {self.lengths_supported[0]} tokens")
        prepared = self.prepare(signal)
        lengths = None if num_tokens is None else self._checked_lengths(num_tokens, samples=len(prepared))
        with products_for(next(self.parameters())):
            if target is not None:
                return self.encode_to_target(prepared, target, generator)
            return self.encode_prepared(prepared, lengths, generator)

    def encode_prepared(self, prepared: Tensor, lengths: Tensor | None, generator: torch.Generator | None) -> Tokens | Latents:
        """Tokens of a preprocessed batch. Families whose ids depend on the wanted length override this.

        Args:
            prepared: what `prepare` gave.
            lengths: (B,) int64 out of `lengths_supported`, None for all ids.
            generator: see `encode`.
        """
        latents = self.encode_latents(prepared)
        quantized = self.quantizer(latents, noise=generator)
        tokens = self._wrap(quantized.latents, quantized.indices)
        if lengths is None or not isinstance(tokens, Tokens) or not tokens.layout.prefix_decodable:
            return tokens  # the only length there is
        return tokens.prefix(lengths)

    def encode_to_target(self, prepared: Tensor, target: QualityTarget, generator: torch.Generator | None) -> Tokens | Latents:
        """The fewest ids that reach a target, found by decoding at about log2 of the possible lengths; all ids where none reaches it.

        Models that know the length from one pass override this.
        """
        whole = self.encode_prepared(prepared, None, generator)
        assert isinstance(whole, Tokens)

        def reached(lengths: Tensor) -> Tensor:
            return target.reached(prepared, self.decode(whole.prefix(lengths)))

        return whole.prefix(shortest_lengths(reached, self.lengths_supported, batch=len(whole)))

    @property
    def lengths_supported(self) -> Sequence[int]:
        """The numbers of ids per sample that decode, rising: 1 to all for ordered tokens, else only all. Families with a list override this."""
        longest = self.layout.length
        return range(1, longest + 1) if self.layout.prefix_decodable else range(longest, longest + 1)

    @torch.no_grad()
    def decode(self, tokens: Tokens | Latents) -> Tensor:
        """Tokens -> signal (B, 3, H, W) clamped to [0, 1]. Samples of different lengths may share a batch.

        Raises:
            TokenError: if the tokens have another layout or an id is out of range.
        """
        tokens = self.checked(tokens)
        with products_for(next(self.parameters())):
            return self.decode_tokens(tokens).clamp(0, 1)

    def checked(self, tokens: Tokens | Latents) -> Tokens | Latents:
        """The tokens on the model's device, after a look at what they are.

        Raises:
            TokenError: if the tokens have another layout or an id is out of range.
        """
        if tokens.layout != self.layout_for(tokens.layout.segments[0].shape):
            raise TokenError(f"these tokens come from another tokenizer: their layout is {tokens.layout}, this model's is {self.layout}")
        return (tokens.validate() if isinstance(tokens, Tokens) else tokens).to(str(self.device))

    def decode_tokens(self, tokens: Tokens | Latents) -> Tensor:
        """Checked tokens -> signal, not clamped. Families that need more than the codes (where kept ids lie) override this."""
        if isinstance(tokens, Latents):
            return self.decode_latents(tokens.view().to(self.dtype))
        if tokens.is_full:
            return self.decode_latents(self.lookup(self._unwrap(tokens)))
        return self.decode_prefix(self.codes_of(tokens), tokens.sample_lengths)

    def codes_of(self, tokens: Tokens) -> Tensor:
        """(B, L, D) codes of ids, in the model's dtype; where a sample has no token, that of id 0, which says nothing."""
        return self.lookup(tokens.indices.masked_fill(~tokens.mask, 0))

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices as the quantizer takes them -> codes (..., D), in the model's dtype."""
        assert isinstance(self.quantizer, Quantizer)
        return self.quantizer.lookup(indices).to(self.dtype)

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Decoder only, for ordered tokens: the first latents of every sample -> signal, not clamped.

        Args:
            latents: (B, L, D); those beyond a sample's length say nothing.
            lengths: (B,) int64 from 1 to L.

        Raises:
            TokenError: for families whose tokens are not ordered.
        """
        raise TokenError(f"{type(self).__name__} does not decode prefixes: give it every id of its layout")

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

    def _checked_lengths(self, num_tokens: int | Tensor, *, samples: int) -> Tensor:
        """(B,) int64."""
        lengths = torch.as_tensor(num_tokens, device="cpu")
        if lengths.is_floating_point() or lengths.dtype == torch.bool or lengths.shape not in ((), (samples,)):
            raise TokenError(f"num_tokens must be a whole number or have shape ({samples},) and dtype int64, got {num_tokens!r}")
        supported = self.lengths_supported
        wrong = [length for length in lengths.flatten().tolist() if length not in supported]
        if wrong:
            raise TokenError(f"this tokenizer cannot write {wrong[0]} tokens; it can write {_in_words(supported)}")
        return lengths.to(torch.int64).expand(samples)


def _in_words(lengths: Sequence[int]) -> str:
    if len(lengths) == 1:
        return f"{lengths[0]} (it has no other length: its tokens are not ordered)"
    return f"{lengths[0]} to {lengths[-1]}" if isinstance(lengths, range) else ", ".join(map(str, lengths))
