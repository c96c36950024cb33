"""Tokens as one stream of ids for a language model, and back; the delay pattern of models that emit all codebooks at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.tokens.layout import TokenLayout
from visiontok.tokens.tokens import PAD, Tokens


class TokenStream:
    """Gives every id of a layout its own number in one vocabulary, and every sample one row of numbers.

    The vocabulary holds the special ids, then one range per codebook of every segment; segments with the same `codebook` label share theirs.
    A row reads: "bos" if there is such a special, the ids in the layout's visiting order, "eos" if there is one, then "pad". Specials of
    other names only get a number.

    Args:
        layout: of the tokens; its ids, not continuous latents.
        specials: names of the special ids, in the order of their numbers.
        first_id: the first number of the stream's vocabulary, for streams that extend the vocabulary of a text model.

    Attributes:
        vocab_size: one more than the largest number, so the rows that an embedding table needs (those below `first_id` included).
        offsets: (L,) int64: what is added to the id at each storage place.
    """

    def __init__(self, layout: TokenLayout, *, specials: Sequence[str] = ("bos", "eos", "pad"), first_id: int = 0) -> None:
        if len(set(specials)) != len(specials):
            raise TokenError(f"names of special ids must differ, got {list(specials)}")
        if first_id < 0:
            raise TokenError(f"first_id is {first_id}; ids start at 0")
        self.layout = layout
        self.specials = tuple(specials)
        self.first_id = first_id
        self.offsets = first_id + len(specials) + torch.from_numpy(layout.code_offsets)
        self.vocab_size = first_id + len(specials) + layout.num_codes

    def special_id(self, name: str) -> int:
        """The number of a special id.

        Raises:
            TokenError: if this stream has none of that name.
        """
        if name not in self.specials:
            raise TokenError(f"this stream has no special id {name!r}; it has {list(self.specials)}")
        return self.first_id + self.specials.index(name)

    def flatten(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Tokens as rows of ids.

        Returns:
            ids: (B, S) int64, S being the longest row.
            lengths: (B,) int64 ids per row, "bos" and "eos" counted, "pad" not.

        Raises:
            TokenError: if the tokens have another layout or wrong ids, if they keep a subset at its places (a row of ids cannot say which
                places were dropped), or if their lengths differ and there is no "pad".
        """
        if tokens.layout != self.layout:
            raise TokenError(f"this stream was built for {self.layout}, the tokens have {tokens.layout}")
        tokens.validate()
        held = tokens.sample_lengths
        if tokens.positions is not None:
            self._refuse_gaps(tokens.positions, tokens.mask)
        lengths = held + self._head + self._tail
        if "pad" not in self.specials and len(held) and bool((held != held[0]).any()):
            raise TokenError(f"samples hold {int(held.min())} to {int(held.max())} ids; rows of different lengths need a special id 'pad'")
        width = int(lengths.max()) if len(lengths) else self.layout.length + self._head + self._tail
        ids = torch.full((len(tokens), width), self._number("pad"), dtype=torch.int64, device=held.device)
        for rows, places in self._alike(held):
            ids[rows, self._head : self._head + len(places)] = tokens.indices[rows][:, places] + self.offsets.to(held.device)[places]
        if self._head:
            ids[:, 0] = self.special_id("bos")
        if self._tail:
            ids.scatter_(1, lengths[:, None] - 1, self.special_id("eos"))
        return ids, lengths

    def unflatten(self, ids: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Rows of ids (B, S) int64 as tokens; the inverse of `flatten`.

        Args:
            ids: rows as `flatten` gives them or a model writes them.
            lengths: (B,) int64 ids per row; without them a row ends at its first "eos", else before its first "pad", else at S.

        Raises:
            TokenError: naming the sample and the place of an id that cannot stand there, or of a missing "bos" or "eos".
        """
        if ids.ndim != 2 or ids.dtype != torch.int64:
            raise TokenError(f"a stream is int64 of shape (B, S), got {ids.dtype} {tuple(ids.shape)}")
        lengths = self._find_lengths(ids) if lengths is None else lengths
        held = lengths - self._head - self._tail
        self._check_frame(ids, lengths, held)
        offsets = self.offsets.to(ids.device)
        sizes = torch.as_tensor(self.layout.vocab_sizes, device=ids.device)
        longest = int(held.max()) if len(held) else self.layout.length
        indices = torch.full((len(ids), longest), PAD, dtype=torch.int64, device=ids.device)
        for rows, places in self._alike(held):
            local = ids[rows, self._head : self._head + len(places)] - offsets[places]
            wrong = torch.nonzero((local < 0) | (local >= sizes[places]))
            if len(wrong):
                row, step = (int(value) for value in wrong[0])
                self._refuse_id(int(rows[row]), self._head + step, int(places[step]), int(ids[rows[row], self._head + step]))
            indices[rows[:, None], places] = local
        return Tokens(indices, self.layout, lengths=None if bool((held == longest).all()) else held)

    @property
    def _head(self) -> int:
        return int("bos" in self.specials)

    @property
    def _tail(self) -> int:
        return int("eos" in self.specials)

    def _number(self, name: str) -> int:
        return self.special_id(name) if name in self.specials else PAD

    def _alike(self, held: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of samples of one length, with the storage places they hold in visiting order."""
        order = torch.arange(self.layout.length) if self.layout.order is None else torch.tensor(self.layout.order)
        order = order.to(held.device)
        for length in torch.unique(held):
            yield torch.nonzero(held == length).flatten(), order[order < length]

    def _refuse_gaps(self, positions: Tensor, mask: Tensor) -> None:
        gaps = torch.nonzero((positions != torch.arange(positions.shape[1], device=positions.device)) & mask)
        if len(gaps):
            row, column = (int(value) for value in gaps[0])
            raise TokenError(
                f"sample {row} leaves out storage place {column}: a stream of ids cannot say at which places kept ids lie. "
                "Keep prefixes, or write the positions beside the stream"
            )

    def _find_lengths(self, ids: Tensor) -> Tensor:
        end = "eos" if self._tail else "pad"
        found = ids == self._number(end)
        missing = torch.nonzero(~found.any(dim=1)).flatten()
        if self._tail and len(missing):
            raise TokenError(f"sample {int(missing[0])} has no 'eos' (id {self.special_id('eos')}) among its {ids.shape[1]} ids: it is not finished")
        # argmax needs one column at least; a row without an end is as long as the batch is wide
        ends = torch.cat([found, torch.ones_like(found[:, :1])], dim=1).long().argmax(dim=1) if ids.shape[1] else found.sum(dim=1)
        return ends + self._tail

    def _check_frame(self, ids: Tensor, lengths: Tensor, held: Tensor) -> None:
        """Lengths that the layout allows; "bos", "eos" and "pad" where they belong and nothing else there."""
        if lengths.shape != ids.shape[:1] or lengths.dtype != torch.int64:
            raise TokenError(f"lengths must be int64 of shape ({len(ids)},), got {lengths.dtype} {tuple(lengths.shape)}")
        least = 0 if self.layout.ragged or self.layout.prefix_decodable else self.layout.length
        wrong = torch.nonzero((held < least) | (held > self.layout.length) | (lengths > ids.shape[1])).flatten()
        if len(wrong):
            row = int(wrong[0])
            needed = self.layout.length if least else f"0 to {self.layout.length}"
            raise TokenError(
                f"sample {row} has length {int(lengths[row])} in a stream of {ids.shape[1]} columns, "
                f"so {int(held[row])} ids without 'bos' and 'eos'; the layout needs {needed}"
            )
        columns = torch.arange(ids.shape[1], device=ids.device)
        for name, where in (
            ("bos", columns == 0 if self._head else columns < 0),
            ("eos", columns == lengths[:, None] - 1 if self._tail else columns < 0),
            ("pad", columns >= lengths[:, None]),
        ):
            stray = torch.nonzero((ids != self._number(name)) & where)
            if len(stray):
                row, column = (int(value) for value in stray[0])
                expected = f"{name!r} ({self.special_id(name)})" if name in self.specials else "the end of the row"
                raise TokenError(f"sample {row} has id {int(ids[row, column])} in column {column} where {expected} was expected")

    def _refuse_id(self, row: int, column: int, place: int, value: int) -> None:
        low = int(self.offsets[place])
        names = {self.special_id(name): f"the special id {name!r}" for name in self.specials}
        what = f", which is {names[value]}," if value in names else ""
        raise TokenError(
            f"id {value}{what} of sample {row} in column {column} stands for {self.layout.describe(place)} "
            f"and is outside that place's range [{low}, {low + int(self.layout.vocab_sizes[place])})"
        )


def delay_codebooks(codes: Tensor, fill: int) -> Tensor:
    """The delay pattern of MusicGen (arXiv 2306.05284): codebook c lags c steps, so that a model that emits all codebooks at once still
    reads the coarser ids of a position before it writes the finer ones.

    Args:
        codes: (B, T, C) int64.
        fill: the id that stands where a codebook has not begun or has ended; one that no codebook uses.

    Returns:
        (B, T + C - 1, C) int64.

    Raises:
        TokenError: if the shape is wrong or `fill` is among the codes.
    """
    if codes.ndim != 3:
        raise TokenError(f"codes must have shape (B, T, C), got {tuple(codes.shape)}")
    used = torch.nonzero(codes == fill)
    if len(used):
        raise TokenError(f"the fill id {fill} is a code of sample {int(used[0, 0])}, step {int(used[0, 1])}, codebook {int(used[0, 2])}")
    batch, steps, codebooks = codes.shape
    delayed = codes.new_full((batch, steps + codebooks - 1, codebooks), fill)
    for codebook in range(codebooks):
        delayed[:, codebook : codebook + steps, codebook] = codes[:, :, codebook]
    return delayed


def undelay_codebooks(delayed: Tensor, fill: int) -> Tensor:
    """Inverse of `delay_codebooks`: (B, T + C - 1, C) -> (B, T, C).

    Raises:
        TokenError: if there are too few steps, or naming the place where `fill` is missing or stands among the codes.
    """
    if delayed.ndim != 3 or delayed.shape[1] < delayed.shape[2] - 1:
        raise TokenError(f"delayed codes must have shape (B, T + C - 1, C), got {tuple(delayed.shape)}")
    codebooks = delayed.shape[2]
    steps = delayed.shape[1] - codebooks + 1
    lag = torch.arange(delayed.shape[1], device=delayed.device)[:, None] - torch.arange(codebooks, device=delayed.device)
    wrong = torch.nonzero((delayed == fill) == ((lag >= 0) & (lag < steps)))
    if len(wrong):
        row, step, codebook = (int(value) for value in wrong[0])
        expected = "a code" if 0 <= step - codebook < steps else f"the fill id {fill}"
        raise TokenError(f"id {int(delayed[row, step, codebook])} of sample {row}, step {step}, codebook {codebook}: expected {expected}")
    return torch.stack([delayed[:, codebook : codebook + steps, codebook] for codebook in range(codebooks)], dim=2)
