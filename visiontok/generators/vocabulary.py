"""The ids of a layout as rows of one table, for embeddings and output heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visiontok.layout import TokenLayout


@dataclass(frozen=True)
class Codebook:
    """One codebook of a layout and the steps of a generator that emit its ids.

    Attributes:
        offset: its first row in the table.
        size: number of its ids.
        steps: the steps, in visiting order, that emit its ids.
    """

    offset: int
    size: int
    steps: tuple[int, ...]


class Vocabulary:
    """Rows for the ids of every codebook, one after the other; segments with the same `codebook` label share their rows.

    Attributes:
        size: rows of the table: the sum of the codebook sizes.
        places: (L,) the storage place that every step visits.
        offsets: (L,) the first row of the codebook of every step.
        sizes: (L,) the vocabulary size of every step.
        codebooks: in order of storage.
    """

    def __init__(self, layout: TokenLayout) -> None:
        first_rows: dict[tuple[bool, str, int], int] = {}
        offsets = []
        self.size = 0
        for segment in layout.segments:
            rows = []
            for number, size in enumerate(segment.vocab_sizes):
                key = (segment.codebook is None, segment.codebook or segment.name, number)
                if key not in first_rows:
                    first_rows[key] = self.size
                    self.size += size
                rows.append(first_rows[key])
            offsets.append(np.tile(rows, segment.num_positions))
        self.places = np.arange(layout.length) if layout.order is None else np.asarray(layout.order)
        self.offsets = np.concatenate(offsets)[self.places]
        self.sizes = layout.vocab_sizes[self.places]
        self.codebooks = tuple(
            Codebook(offset, int(self.sizes[steps[0]]), tuple(steps.tolist()))
            for offset in first_rows.values()
            for steps in [np.flatnonzero(self.offsets == offset)]
        )
