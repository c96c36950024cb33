"""The codes of every sample in storage order, for statistics of neighbors and of growth; samples may hold different numbers of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.accumulator import Accumulator, State
from visiontok.evaluation.metrics.code_counts import stored_indices
from visiontok.evaluation.metrics.per_sample import rising_once
from visiontok.tokens import PAD, Segment, TokenLayout, Tokens

Sequences: TypeAlias = np.ndarray | Sequence[ArrayLike]
"""(N, L) int codes, or N rows of different lengths; one row may come without the outer list."""


def flattened(sequences: Sequences) -> tuple[np.ndarray, np.ndarray, int]:
    """All codes one after the other, (T,) int64; the row that each belongs to, (T,) int64; and the number N of rows."""
    rows = [np.asarray(row, dtype=np.int64) for row in sequences]
    if rows and rows[0].ndim == 0:
        rows = [np.stack(rows)]
    codes = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    return codes, np.repeat(np.arange(len(rows), dtype=np.int64), [len(row) for row in rows]), len(rows)


@dataclass(frozen=True, eq=False)
class CodeSequences:
    """The codes of one codebook of one segment.

    Attributes:
        name: of the segment, with the index of the codebook where a position holds several.
        vocab_size: K.
        rows: the codes of every sample that holds any, by rising sample index.
    """

    name: str
    vocab_size: int
    rows: list[np.ndarray]


class _Part(NamedTuple):
    """Of one codebook: (N,) sample indices, (N,) lengths and (T,) codes."""

    indices: np.ndarray
    lengths: np.ndarray
    codes: np.ndarray


class CodeSequenceTable(Accumulator):
    """Keeps all tokens, 8 bytes each, of full, shortened and ragged samples, also of different extents."""

    def __init__(self, layout: TokenLayout) -> None:
        self._layout = layout
        self._sizes = {_name(segment, codebook): size for segment in layout.segments for codebook, size in enumerate(segment.vocab_sizes)}
        self._parts: dict[str, list[_Part]] = {name: [] for name in self._sizes}

    def update(self, indices: ArrayLike, tokens: Tokens) -> None:
        """Add a batch.

        Args:
            indices: (B,) of the samples in the data set.
            tokens: of the samples, of the layout or of its first codebook levels.

        Raises:
            EvaluationError: if the tokens have another layout.
            TokenError: if an index is out of range.
        """
        if not self._layout.accepts(tokens.layout):
            raise EvaluationError("these tokens have another layout than those kept so far")
        samples = np.asarray(indices, dtype=np.int64)
        for rows, group in tokens.validate().groups():
            stored = stored_indices(group)
            for segment in group.layout.segments:
                codes = stored[:, group.layout.slice(segment.name)]
                for codebook in range(segment.codebooks):
                    column = codes[:, codebook :: segment.codebooks]
                    held, name = column != PAD, _name(self._layout.segment(segment.name), codebook)
                    self._parts[name].append(_Part(samples[rows.cpu().numpy()], held.sum(axis=1), column[held]))

    def merge(self, other: CodeSequenceTable) -> None:
        for name in self._sizes:
            self._parts[name].append(other._joined(name))

    def state(self) -> State:
        return {f"{kind}.{name}": array for name in self._sizes for kind, array in self._joined(name)._asdict().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        for name in self._sizes:
            self._parts[name] = [_Part(*(state[f"{kind}.{name}"] for kind in _Part._fields))]

    def compute(self) -> list[CodeSequences]:
        """Of every codebook of which a sample holds a code, in storage order.

        Raises:
            EvaluationError: if a sample was seen twice.
        """
        found = []
        for name, size in self._sizes.items():
            indices, lengths, codes = self._joined(name)
            rows = np.split(codes, np.cumsum(lengths)[:-1])
            held = [rows[row] for row in rising_once(indices) if lengths[row]]
            if held:
                found.append(CodeSequences(name, size, held))
        return found

    def _joined(self, name: str) -> _Part:
        """In the order of the updates."""
        empty = np.empty(0, dtype=np.int64)
        return _Part(*map(np.concatenate, zip(_Part(empty, empty, empty), *self._parts[name], strict=True)))


def _name(segment: Segment, codebook: int) -> str:
    return segment.name if segment.codebooks == 1 else f"{segment.name}[{codebook}]"
