"""Long signals in chunks along their first axis, time: chunks in, tokens out, and back, in memory that does not depend on the signal's length.

Causal networks carry a state from chunk to chunk, and the chunks give what the whole gives. Others read some of the signal on both sides of every
chunk besides, and what they give there is dropped: exact where they read no further, near the whole otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from visiontok.base.errors import SignalError, TokenError
from visiontok.base.finite import check_finite
from visiontok.base.noise import NoiseLike
from visiontok.core.model import ConfigT
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, Tokenizer
from visiontok.layers.bfloat16 import products_for
from visiontok.layers.carry import Carry
from visiontok.signals.batch import cropped
from visiontok.tokens import Latents, Tokens, join_chunks, split_chunks
from visiontok.tokens.batch import CLIPS, SIGNAL_SIZE


@dataclass(frozen=True)
class Chunking:
    """How a tokenizer takes a long signal.

    Attributes:
        unit: samples or frames of the signal between the places where it may be cut.
        positions: latents along the first axis per unit.
        lead: samples or frames before the first unit, which are one latent: 1 where the first frame of a clip stands by itself, in causal models.
        is_carried: whether a state is carried from chunk to chunk.
        overlap: units that are read besides on both sides of a chunk, unless the caller chooses; 0 where a state is carried.
        is_exact: whether chunks then give what the whole gives, up to rounding.
        first: units that the first chunk has at least.
        decoder_waits: whether the decoder looks ahead: it then gives the end of a chunk with later ones, and has to know which chunk is the last
            (`Carry.is_last`). Where a state is carried.
        encoder_waits: the same of the encoder. Where there is no lead.
    """

    unit: int
    positions: int = 1
    lead: int = 0
    is_carried: bool = False
    overlap: int = 0
    is_exact: bool = False
    first: int = 1
    decoder_waits: bool = False
    encoder_waits: bool = False


class Chunked(Tokenizer[ConfigT]):
    """Base of tokenizers whose signals may come in chunks. A family defines `chunking`, and where a state is carried both `..._next` methods.

    Attributes:
        chunk_values: samples or pixels of the chunks in which `encode` and `decode` take signals that have more.
    """

    chunk_values: ClassVar[int] = 2**20

    @property
    def chunking(self) -> Chunking:
        """How signals are cut."""
        raise NotImplementedError

    def encode_next(self, signal: Tensor, carry: Carry) -> Tensor:
        """`encode_latents` of the next chunk: (B, C, T, ...) -> (B, T', ..., D). Only the last is no multiple of the unit.

        Of latents that wait (`encoder_waits`), those that are known now; perhaps none.
        """
        raise NotImplementedError

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        """`decode_latents` of the next chunk: (B, T', ..., D) -> (B, C, T, ...), of which the end may come with later ones (`decoder_waits`)."""
        raise NotImplementedError

    def chunk_length(self, size: Sequence[int]) -> int | None:
        """Samples or frames of the chunks in which `encode` and `decode` take a signal of that size, so that memory hardly grows with its length.

        Where chunks give what the whole gives, whole units of about `chunk_values`; None where they take it whole. Overridden by families that take
        long signals in chunks in any case.
        """
        plan = self.chunking
        length = max(self.chunk_values // prod(size[1:]) // plan.unit, 1) * plan.unit
        return length if plan.is_exact and size[0] > plan.lead + length else None

    def near_in_words(self) -> str:
        """What a warning says where `encode` and `decode` take a signal in chunks that give only nearly what the whole gives."""
        return f"{type(self).__name__} takes long signals in chunks, which gives nearly what the whole would give"

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """See `Tokenizer`; long signals come in chunks, one signal after the other, unless noise is drawn."""
        length = self.chunk_length(signal.shape[2:])
        if length is None or self._draws(options.noise):
            return super().encode_prepared(signal, options)
        self._warn_where_near()
        parts = [join_chunks(list(self.encode_chunks(each.split(length, dim=2)))) for each in signal.split(1)]
        tokens: Tokens | Latents = type(parts[0]).cat(parts)  # type: ignore[arg-type]
        return tokens.with_data(tokens.data, extras={})

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """See `Tokenizer`; long signals come in chunks, one signal after the other, unless noise is drawn."""
        covered = tokens.layout.signal_shape
        length = self.chunk_length(covered)
        if length is not None:  # the last unit may be padding: what was whole stays whole
            length = self.chunk_length((covered[0] - self.chunking.unit, *covered[1:]))
        if length is None or self._draws(options.noise):
            return super().decode_tokens(tokens, options)
        self._warn_where_near()
        plain = tokens.with_data(tokens.data, extras={})
        return torch.cat([torch.cat(list(self.decode_chunks(split_chunks(plain[row : row + 1], length))), dim=2) for row in range(len(plain))])

    def _draws(self, noise: NoiseLike) -> bool:
        return noise is not None and self.is_stochastic

    def _warn_where_near(self) -> None:
        if not self.chunking.is_exact:
            warnings.warn(self.near_in_words(), stacklevel=1)  # from one place, so that Python says it once

    def fit(self, signal: Tensor, length: int) -> Tensor:
        """The end of a decoded signal (B, C, T, ...) at its exact length."""
        return signal[:, :, :length]

    @torch.no_grad()
    def encode_chunks(self, chunks: Iterable[Tensor], *, num_levels: int | None = None, overlap: int | None = None) -> Iterator[Tokens | Latents]:
        """Tokens of one batch of long signals that come in chunks; `tokens.join_chunks` makes one batch of them.

        Chunks of any length are gathered to whole units, so that the first tokens may need several, and the last ones come at the end.

        Args:
            chunks: (B, C, T, ...) in the range of `preprocessing.spec`, of any T, in turn.
            num_levels: codebook levels; None for all.
            overlap: units of `chunking`, where no state is carried; None for its own.

        Raises:
            SignalError: if a chunk has another shape or range than the model takes, or there is none.
            TokenError: for levels or an overlap that it does not have.
            NonFiniteError: if a weight or a latent is NaN or infinite.
        """
        self.check_weights()
        if num_levels is not None:
            self.layout.with_levels(num_levels)
        plan, carry = self.chunking, Carry()
        sides: tuple[int, ...] = ()
        given = made = 0

        def prepared() -> Iterator[Tensor]:
            nonlocal sides
            for number, chunk in enumerate(chunks):
                batch = self.prepare(chunk)
                if not batch.is_even:
                    raise SignalError(f"the signals of chunk {number} have different lengths {batch.sizes[:, 0].tolist()}: give one for each")
                sides = tuple(batch.values.shape[3:])
                yield self._with_padded_sides(batch.values)

        waits = int(plan.encoder_waits)
        for piece in windows(prepared(), dim=2, unit=plan.unit, lead=plan.lead, overlap=self._overlap(overlap), first=plan.first, waits=waits):
            carry.is_last = piece.is_last
            given += piece.values.shape[2] - piece.before * plan.unit if piece.is_last else piece.lead + piece.count * plan.unit
            with products_for(self._anchor):
                if plan.is_carried and not piece.is_whole:
                    latents = self.encode_next(piece.values, carry)
                else:
                    latents = self.encode_latents(self.preprocessing.pad(piece.values))
                first = piece.before * plan.positions
                last = latents.shape[1] if piece.is_last or waits else first + bool(piece.lead) + piece.count * plan.positions
                if first == last:
                    continue
                quantized = self.quantizer(latents[:, first:last])
            known = piece.lead + (last - first - bool(piece.lead)) * plan.unit // plan.positions
            size = (given - made if piece.is_last else known, *sides)
            made += size[0]
            tokens = self.wrap(quantized.latents, quantized.indices)
            if isinstance(tokens, Latents):
                check_finite(tokens.values, stage="the latents of encode_chunks")
            yield self._with_size(tokens if num_levels is None else tokens.levels(num_levels), torch.tensor(size).expand(len(latents), -1))

    @torch.no_grad()
    def decode_chunks(self, chunks: Iterable[Tokens | Latents], *, overlap: int | None = None) -> Iterator[Tensor]:
        """The signal of tokens that come in chunks, as `encode_chunks` gives them or `tokens.split_chunks` makes them; together as long as it was.

        Args:
            chunks: of one batch, in turn; full, and of one extent.
            overlap: units of `chunking`, where no state is carried; None for its own.

        Returns:
            (B, C, T, ...), one after the other, in the range of `spec`.

        Raises:
            TokenError: if tokens are of another tokenizer, or sounds of the batch differ in length, or the overlap is none that it has.
            NonFiniteError: if a weight or a decoded value is NaN or infinite.
        """
        if not self.can_decode:
            raise TokenError(f"{type(self).__name__} only encodes: it has no decoder")
        self.check_weights()
        plan, carry = self.chunking, Carry()
        size, given = list(self.preprocessing.usual_size), 0

        def looked_up() -> Iterator[Tensor]:
            nonlocal given
            for chunk in chunks:
                tokens = self.checked(chunk)
                if CLIPS in tokens.extras:
                    raise TokenError("these are tokens of several clips, not of one long signal: decode them, or take them apart by split_clips")
                latents = tokens.view().to(self.dtype) if isinstance(tokens, Latents) else self.lookup(self.unwrap(tokens))
                known = tokens.extras.get(SIGNAL_SIZE)
                if known is not None and not bool((known == known[:1]).all()):
                    raise TokenError(f"the signals of one batch of chunks have different sizes {known.tolist()}: decode them one by one")
                lead_latents = bool(plan.lead and not given)
                covered = plan.lead * lead_latents + (latents.shape[1] - lead_latents) * plan.unit // plan.positions
                own = [covered, *tokens.layout.signal_shape[1:]] if known is None else known[0].tolist()
                given, size[1:] = given + own[0], own[1:]
                yield latents

        made = 0
        lead = int(plan.lead > 0)
        waits = int(plan.decoder_waits)
        for piece in windows(looked_up(), dim=1, unit=plan.positions, lead=lead, overlap=self._overlap(overlap), first=plan.first, waits=waits):
            carry.is_last = piece.is_last
            per_unit = self.output_size((plan.unit, *size[1:]))[0]
            with products_for(self._anchor):
                carried = plan.is_carried and not piece.is_whole
                decoded = self.decode_next(piece.values, carry) if carried else self.decode_latents(piece.values)
            if not decoded.shape[2]:
                continue
            check_finite(decoded, stage="the decoded signal")
            part = self.spec.clamp(decoded)[:, :, piece.before * per_unit :]
            total = self.output_size((given, *size[1:]))
            left = max(total[0] - made, 0)
            own_length = self.output_size((plan.lead * piece.lead, *size[1:]))[0] + piece.count * per_unit
            part = self.fit(part, left) if piece.is_last else part[:, :, : min(own_length, left)]
            made += part.shape[2]
            yield cropped(part, (part.shape[2], *total[1:]))

    def _with_padded_sides(self, values: Tensor) -> Tensor:
        """A chunk (B, C, T, ...) whose axes behind the first have sizes that the network takes."""
        sides = self.preprocessing.padded_size(values.shape[2:])[1:]
        if tuple(values.shape[3:]) == sides:
            return values
        amounts = [(0, padded - own) for padded, own in zip(sides, values.shape[3:], strict=True)]
        return pad(values, [amount for pair in reversed([(0, 0), *amounts]) for amount in pair], mode="replicate")

    def _overlap(self, overlap: int | None) -> int:
        plan = self.chunking
        if overlap is None:
            return plan.overlap
        if plan.is_carried or overlap < 1:
            why = "it carries a state from chunk to chunk" if plan.is_carried else "at least 1 unit is read on both sides of a chunk"
            raise TokenError(f"{type(self).__name__} does not take chunks with an overlap of {overlap} units: {why}")
        return overlap


@dataclass(frozen=True)
class Window:
    """A chunk with what is read around it.

    Attributes:
        values: `before` units, the chunk, and units behind it.
        before: units that precede the chunk.
        count: units of the chunk; of the last one, those that are whole.
        lead: of the first chunk, what it has before its units.
        is_last: whether the chunk reaches to the end, whole units or not.
        is_whole: whether it is all there is.
    """

    values: Tensor
    before: int
    count: int
    lead: int = 0
    is_last: bool = False
    is_whole: bool = False


def windows(chunks: Iterable[Tensor], *, dim: int, unit: int, lead: int, overlap: int, first: int, waits: int = 0) -> Iterator[Window]:
    """Tensors in turn along an axis, gathered to whole units.

    Where windows overlap, the next tensor is read before a window is given, and the last window has all that is left: it is no shorter than others.

    Args:
        chunks: equal but for their size along the axis.
        dim: the axis.
        unit: its size.
        lead: what comes before the first unit; 0 where there is an overlap.
        overlap: units before and behind every chunk, as far as there are any.
        first: units that the first chunk has at least.
        waits: units that wait for the next chunk, so that it is known which one is the last; 0 where there is an overlap.

    Raises:
        SignalError: if nothing came.
    """
    held, before, started = None, 0, False
    for chunk, is_last in _marked(chunks) if overlap else ((chunk, False) for chunk in chunks):
        held = chunk if held is None else torch.cat([held, chunk], dim=dim)
        if is_last:
            break
        count = (held.shape[dim] - lead) // unit - before - overlap - waits
        if count < (1 if started else first):
            continue
        yield Window(held.narrow(dim, 0, lead + (before + count + overlap) * unit), before, count, lead)
        passed = lead + max(0, before + count - overlap) * unit
        before, started, lead = min(overlap, before + count), True, 0
        held = held.narrow(dim, passed, held.shape[dim] - passed).clone()
    if held is None or not prod(held.shape):
        if not started:
            raise SignalError("no chunk was given")
        return
    rest = held.shape[dim] - before * unit
    if rest:
        yield Window(held, before, rest // unit, lead, is_last=True, is_whole=not started)


def _marked(chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    """Every chunk, and whether it is the last, for which the next one is read first."""
    held = None
    for chunk in chunks:
        if held is not None:
            yield held, False
        held = chunk
    if held is not None:
        yield held, True
