"""Streaming counts of tokens, for every codebook of a layout and for codebooks taken together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.accumulator import Accumulator, State
from visiontok.tokens import PAD, Segment, TokenLayout, Tokens

JOINT_LIMIT = 2**24
"""Largest joint vocabulary that is counted; no data set could fill a larger one, so its usage would be meaningless."""


@dataclass(frozen=True, eq=False)
class CodeUse:
    """Counts of one codebook, or of several taken together.

    Attributes:
        name: the segment's codebook label or name, with the index of the codebook where a position holds several, or "... joint".
        vocab_size: K.
        counts: (K,) int64, or only the counts above zero for a joint vocabulary.
        samples: how many samples were counted.
        is_joint: whether an entry stands for all codebooks of a position.
    """

    name: str
    vocab_size: int
    counts: np.ndarray
    samples: int
    is_joint: bool = False


class CodeCounts(Accumulator):
    """Counts tokens exactly, whatever the sharding, for full, shortened and ragged samples, also of different extents or of fewer codebook levels.

    Segments that share a codebook label are counted together. Where positions hold several tokens, their joint index is counted too, if the
    joint vocabulary has at most 2^24 entries and only at positions that hold all of them.
    """

    def __init__(self, layout: TokenLayout) -> None:
        if layout.is_continuous:
            raise EvaluationError("continuous latents have no codebook to count")
        self._layout = layout
        self._counts: dict[str, np.ndarray] = {}
        self._joint: dict[str, dict[int, int]] = {}
        for segment in layout.segments:
            for codebook, size in enumerate(segment.vocab_sizes):
                counts = self._counts.setdefault(_name(segment, codebook), np.zeros(size, dtype=np.int64))
                if len(counts) != size:
                    label = segment.codebook or segment.name
                    raise EvaluationError(f"segments that share the codebook {label!r} have vocabularies of {len(counts)} and {size}")
            if segment.codebooks > 1 and math.prod(segment.vocab_sizes) <= JOINT_LIMIT:
                self._joint[segment.name] = {}
        self._samples = 0

    def update(self, tokens: Tokens) -> None:
        """Add a batch.

        Raises:
            EvaluationError: if the tokens have another layout.
            TokenError: if an index is out of range.
        """
        if not self._layout.accepts(tokens.layout):
            raise EvaluationError("these tokens have another layout than those counted so far")
        for _, group in tokens.validate().groups():
            self._count(stored_indices(group), group.layout)
        self._samples += len(tokens)

    def _count(self, indices: np.ndarray, layout: TokenLayout) -> None:
        """Of samples (n, L) of one extent, `PAD` where one holds no token."""
        for segment in layout.segments:
            own = self._layout.segment(segment.name)
            positions = indices[:, layout.slice(segment.name)].reshape(-1, segment.codebooks)
            for codebook in range(segment.codebooks):
                held, counts = positions[:, codebook], self._counts[_name(own, codebook)]
                counts += np.bincount(held[held != PAD], minlength=len(counts))
            if segment.name in self._joint and segment.codebooks == own.codebooks:
                complete = positions[(positions != PAD).all(axis=1)]
                keys, counts = np.unique(
                    np.ravel_multi_index(complete.T, segment.vocab_sizes), return_counts=True
                )  # the last codebook varies fastest
                _add(self._joint[segment.name], keys, counts)

    def merge(self, other: CodeCounts) -> None:
        if not self._layout.accepts(other._layout):
            raise EvaluationError("counts of different layouts cannot be merged")
        for name, counts in other._counts.items():
            self._counts[name] += counts
        for name, joint in other._joint.items():
            _add(self._joint[name], list(joint), list(joint.values()))
        self._samples += other._samples

    def state(self) -> State:
        state = {"samples": np.asarray(self._samples)}
        state.update({f"counts.{name}": counts.copy() for name, counts in self._counts.items()})
        for name, joint in self._joint.items():
            keys = sorted(joint)
            state[f"joint.{name}.codes"] = np.asarray(keys, dtype=np.int64)
            state[f"joint.{name}.counts"] = np.asarray([joint[key] for key in keys], dtype=np.int64)
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._samples = int(state["samples"])
        self._counts = {name: state[f"counts.{name}"].copy() for name in self._counts}
        for name in self._joint:
            self._joint[name] = dict(zip(state[f"joint.{name}.codes"].tolist(), state[f"joint.{name}.counts"].tolist(), strict=True))

    def compute(self) -> list[CodeUse]:
        """One entry per codebook in the order of the layout, then the joint ones."""
        single = [CodeUse(name, len(counts), counts.copy(), self._samples) for name, counts in self._counts.items()]
        joint = []
        for name, counted in self._joint.items():
            counts, size = np.asarray([counted[key] for key in sorted(counted)], dtype=np.int64), math.prod(self._layout.segment(name).vocab_sizes)
            joint.append(CodeUse(f"{name} joint", size, counts, self._samples, is_joint=True))
        return single + joint


def _name(segment: Segment, codebook: int) -> str:
    label = segment.codebook or segment.name
    return label if segment.codebooks == 1 else f"{label}[{codebook}]"


def stored_indices(tokens: Tokens) -> np.ndarray:
    """(B, L) int64 indices at the storage positions of one extent, `PAD` where a sample holds none."""
    indices = tokens.indices.cpu().numpy()
    full = np.full((len(indices), tokens.layout.length), PAD, dtype=np.int64)
    if tokens.positions is None:
        full[:, : indices.shape[1]] = indices
    else:
        rows, columns = np.nonzero(tokens.mask.cpu().numpy())
        full[rows, tokens.positions.cpu().numpy()[rows, columns]] = indices[rows, columns]
    return full


def _add(joint: dict[int, int], keys: np.ndarray | list[int], counts: np.ndarray | list[int]) -> None:
    for key, count in zip(map(int, keys), map(int, counts), strict=True):
        joint[key] = joint.get(key, 0) + count
