"""Tokens as one stream of ids for a language model, and back; the delay pattern of models that emit all codebooks at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.tokens.batch import PAD
from visiontok.tokens.layout import TokenLayout
from visiontok.tokens.tokens import Tokens


class TokenStream:
    """Gives every code of a layout its own id in one vocabulary, and every sample one row of ids.

    The vocabulary holds the special ids, then one range per codebook of every segment; segments with the same `codebook` label share theirs.
    It is the same for every extent of a layout. A row reads: "bos" if there is such a special, the tokens in the layout's generation order, "eos"
    if there is one, then "pad". Specials of other names only get an id.

    Args:
        layout: of the tokens; not of continuous latents.
        specials: names of the special ids, in their order.
        first_id: the first id of the stream's vocabulary, for streams that extend the vocabulary of a text model.

    Attributes:
        vocab_size: one more than the largest id, so the rows that an embedding table needs (those below `first_id` included).
        offsets: (L,) int64: what is added to the code index at each storage position of the layout's own extent.
    """

    def __init__(self, layout: TokenLayout, *, specials: Sequence[str] = ("bos", "eos", "pad"), first_id: int = 0) -> None:
        if len(set(specials)) != len(specials):
            raise TokenError(f"names of special ids must differ, got {list(specials)}")
        if first_id < 0:
            raise TokenError(f"first_id is {first_id}; ids start at 0")
        self.layout = layout
        self.specials = tuple(specials)
        self.first_id = first_id
        self.offsets = self.offsets_of(layout)
        self.vocab_size = first_id + len(specials) + layout.num_codes

    def offsets_of(self, layout: TokenLayout) -> Tensor:
        """(L,) int64: `offsets` at the extent of `layout`, which is of the stream's kind."""
        return self.first_id + len(self.specials) + torch.from_numpy(layout.code_offsets)

    def special_id(self, name: str) -> int:
        """The id of a special.

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
            TokenError: if the tokens have another kind of layout or wrong indices, if they keep a subset at its positions (a row of ids cannot say
                which positions were dropped), or if their lengths differ and there is no "pad".
        """
        if not self.layout.is_same_kind(tokens.layout):
            raise TokenError(f"this stream was built for {self.layout}, the tokens have {tokens.layout}")
        tokens.validate()
        held = tokens.sample_lengths
        if tokens.positions is not None:
            self._refuse_gaps(tokens.positions, tokens.mask)
        lengths = held + self._head + self._tail
        if "pad" not in self.specials and len(held) and bool((held != held[0]).any()):
            raise TokenError(f"samples hold {int(held.min())} to {int(held.max())} tokens; rows of different lengths need a special id 'pad'")
        width = int(lengths.max()) if len(lengths) else self.layout.length + self._head + self._tail
        ids = torch.full((len(tokens), width), self._id("pad"), dtype=torch.int64, device=held.device)
        for rows, layout in tokens._extent_groups():
            offsets = self.offsets_of(layout).to(held.device)
            for some, columns in self._alike(held[rows], layout):
                ids[rows[some], self._head : self._head + len(columns)] = tokens.indices[rows[some]][:, columns] + offsets[columns]
        if self._head:
            ids[:, 0] = self.special_id("bos")
        if self._tail:
            ids.scatter_(1, lengths[:, None] - 1, self.special_id("eos"))
        return ids, lengths

    def unflatten(self, ids: Tensor, lengths: Tensor | None = None, extents: Tensor | None = None) -> Tokens:
        """Rows of ids (B, S) int64 as tokens; the inverse of `flatten`.

        Args:
            ids: rows as `flatten` gives them or a model writes them.
            lengths: (B,) int64 ids per row; without them a row ends at its first "eos", else before its first "pad", else at S.
            extents: (B, E) int64 extents of every sample; without them, those of the layout, or, where it is variable, those that the number of
                tokens tells.

        Raises:
            TokenError: naming the sample and the column of an id that cannot stand there, or of a missing "bos" or "eos".
        """
        if ids.ndim != 2 or ids.dtype != torch.int64:
            raise TokenError(f"a stream is int64 of shape (B, S), got {ids.dtype} {tuple(ids.shape)}")
        lengths = self._find_lengths(ids) if lengths is None else lengths
        held = lengths - self._head - self._tail
        if lengths.shape != ids.shape[:1] or lengths.dtype != torch.int64:
            raise TokenError(f"lengths must be int64 of shape ({len(ids)},), got {lengths.dtype} {tuple(lengths.shape)}")
        layouts = self._layouts(held, extents)
        self._check_frame(ids, lengths, held, layouts)
        longest = int(held.max()) if len(held) else self.layout.length
        indices = torch.full((len(ids), longest), PAD, dtype=torch.int64, device=ids.device)
        for layout in dict.fromkeys(layouts):
            rows = torch.tensor([row for row, own in enumerate(layouts) if own == layout], device=ids.device)
            offsets, sizes = self.offsets_of(layout).to(ids.device), torch.as_tensor(layout.vocab_sizes, device=ids.device)
            for some, columns in self._alike(held[rows], layout):
                local = ids[rows[some], self._head : self._head + len(columns)] - offsets[columns]
                wrong = torch.nonzero((local < 0) | (local >= sizes[columns]))
                if len(wrong):
                    row, step = (int(value) for value in wrong[0])
                    sample = int(rows[some][row])
                    self._refuse_id(sample, self._head + step, int(columns[step]), int(ids[sample, self._head + step]), layout)
                indices[rows[some][:, None], columns] = local
        found = None
        largest = self.layout
        if any(layout.extents != self.layout.extents for layout in layouts):
            found = torch.tensor([layout.extents for layout in layouts], dtype=torch.int64, device=ids.device)
            largest = self.layout.at(found.amax(dim=0).tolist())
        tokens = Tokens(indices, largest, lengths=None if bool((held == longest).all()) else held, extents=found)
        return tokens if found is None else tokens._tight()

    @property
    def _head(self) -> int:
        return int("bos" in self.specials)

    @property
    def _tail(self) -> int:
        return int("eos" in self.specials)

    def _id(self, name: str) -> int:
        return self.special_id(name) if name in self.specials else PAD

    def _alike(self, held: Tensor, layout: TokenLayout) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of samples of one length, with the storage positions they hold in generation order."""
        order = torch.from_numpy(layout.generation_order).to(held.device)
        for length in torch.unique(held):
            yield torch.nonzero(held == length).flatten(), order[order < length]

    def _layouts(self, held: Tensor, extents: Tensor | None) -> list[TokenLayout]:
        """The layout of every sample at its own extent."""
        if extents is not None:
            return [self.layout.at(row) for row in extents.tolist()]
        if not self.layout.is_variable or self.layout.ragged or self.layout.prefixes != "none":
            return [self.layout] * len(held)
        return [self.layout.at_length(length) for length in held.tolist()]

    def _refuse_gaps(self, positions: Tensor, mask: Tensor) -> None:
        gaps = torch.nonzero((positions != torch.arange(positions.shape[1], device=positions.device)) & mask)
        if len(gaps):
            row, column = (int(value) for value in gaps[0])
            raise TokenError(
                f"sample {row} does not hold storage position {column}: a stream of ids cannot say which positions are kept. "
                "Keep prefixes, or write the positions beside the stream"
            )

    def _find_lengths(self, ids: Tensor) -> Tensor:
        end = "eos" if self._tail else "pad"
        found = ids == self._id(end)
        missing = torch.nonzero(~found.any(dim=1)).flatten()
        if self._tail and len(missing):
            raise TokenError(f"sample {int(missing[0])} has no 'eos' (id {self.special_id('eos')}) among its {ids.shape[1]} ids: it is not finished")
        # argmax needs one column at least; a row without an end is as long as the batch is wide
        ends = torch.cat([found, torch.ones_like(found[:, :1])], dim=1).long().argmax(dim=1) if ids.shape[1] else found.sum(dim=1)
        return ends + self._tail

    def _check_frame(self, ids: Tensor, lengths: Tensor, held: Tensor, layouts: Sequence[TokenLayout]) -> None:
        """Lengths that the layout allows; "bos", "eos" and "pad" where they belong and nothing else there."""
        full = torch.tensor([layout.length for layout in layouts], dtype=torch.int64, device=ids.device)
        least = torch.zeros_like(full) if self.layout.ragged or self.layout.prefixes != "none" else full
        wrong = torch.nonzero((held < least) | (held > full) | (lengths > ids.shape[1])).flatten()
        if len(wrong):
            row = int(wrong[0])
            needed = int(full[row]) if int(least[row]) else f"0 to {int(full[row])}"
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
            stray = torch.nonzero((ids != self._id(name)) & where)
            if len(stray):
                row, column = (int(value) for value in stray[0])
                expected = f"{name!r} ({self.special_id(name)})" if name in self.specials else "the end of the row"
                raise TokenError(f"sample {row} has id {int(ids[row, column])} in column {column} where {expected} was expected")

    def _refuse_id(self, row: int, column: int, position: int, value: int, layout: TokenLayout) -> None:
        low = int(self.offsets_of(layout)[position])
        names = {self.special_id(name): f"the special id {name!r}" for name in self.specials}
        what = f", which is {names[value]}," if value in names else ""
        raise TokenError(
            f"id {value}{what} of sample {row} in column {column} is at {layout.describe(position)} "
            f"and outside its range [{low}, {low + int(layout.vocab_sizes[position])})"
        )


def delay_codebooks(codes: Tensor, fill: int) -> Tensor:
    """The delay pattern of MusicGen (arXiv 2306.05284): codebook c lags c steps, so that a model that emits all codebooks at once still
    reads the coarser codes of a position before it writes the finer ones.

    Args:
        codes: (B, T, C) int64.
        fill: where a codebook has not begun or has ended; a number that no codebook uses.

    Returns:
        (B, T + C - 1, C) int64.

    Raises:
        TokenError: if the shape is wrong or `fill` is among the codes.
    """
    if codes.ndim != 3:
        raise TokenError(f"codes must have shape (B, T, C), got {tuple(codes.shape)}")
    used = torch.nonzero(codes == fill)
    if len(used):
        raise TokenError(f"the fill {fill} is a code of sample {int(used[0, 0])}, step {int(used[0, 1])}, codebook {int(used[0, 2])}")
    batch, steps, codebooks = codes.shape
    delayed = codes.new_full((batch, steps + codebooks - 1, codebooks), fill)
    for codebook in range(codebooks):
        delayed[:, codebook : codebook + steps, codebook] = codes[:, :, codebook]
    return delayed


def undelay_codebooks(delayed: Tensor, fill: int) -> Tensor:
    """Inverse of `delay_codebooks`: (B, T + C - 1, C) -> (B, T, C).

    Raises:
        TokenError: if there are too few steps, or naming the position where `fill` is missing or is among the codes.
    """
    if delayed.ndim != 3 or delayed.shape[1] < delayed.shape[2] - 1:
        raise TokenError(f"delayed codes must have shape (B, T + C - 1, C), got {tuple(delayed.shape)}")
    codebooks = delayed.shape[2]
    steps = delayed.shape[1] - codebooks + 1
    lag = torch.arange(delayed.shape[1], device=delayed.device)[:, None] - torch.arange(codebooks, device=delayed.device)
    wrong = torch.nonzero((delayed == fill) == ((lag >= 0) & (lag < steps)))
    if len(wrong):
        row, step, codebook = (int(value) for value in wrong[0])
        expected = "a code" if 0 <= step - codebook < steps else f"the fill {fill}"
        raise TokenError(f"code {int(delayed[row, step, codebook])} of sample {row}, step {step}, codebook {codebook}: expected {expected}")
    return torch.stack([delayed[:, codebook : codebook + steps, codebook] for codebook in range(codebooks)], dim=2)
