"""Streaming counts of token ids, for every codebook of a layout and for codebooks taken together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.accumulator import Accumulator, State
from visiontok.tokens import PAD, Segment, TokenLayout, Tokens

JOINT_LIMIT = 2**24
"""Largest joint vocabulary that is counted; above, no data set could fill it and its usage would say nothing."""


@dataclass(frozen=True, eq=False)
class CodeUse:
    """Counts of one codebook, or of several taken together.

    Attributes:
        name: the segment's codebook label or name, with the codebook's number where a position holds several, or "... joint".
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
    """Counts ids exactly, whatever the sharding, for full, shortened and ragged samples.

    Segments that share a codebook label are counted together. Where positions hold several ids, their joint id is counted too, if the
    joint vocabulary has at most 2^24 entries and only at positions that hold all of them.
    """

    def __init__(self, layout: TokenLayout) -> None:
        if layout.is_continuous:
            raise EvaluationError("continuous latents have no codebook to count")
        self._layout = layout
        self._places: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._joint: dict[str, dict[int, int]] = {}
        for segment in layout.segments:
            label = segment.codebook or segment.name
            places = np.arange(layout.length)[layout.slice(segment.name)].reshape(-1, segment.codebooks)
            for codebook, size in enumerate(segment.vocab_sizes):
                name = label if segment.codebooks == 1 else f"{label}[{codebook}]"
                counts = self._counts.setdefault(name, np.zeros(size, dtype=np.int64))
                if len(counts) != size:
                    raise EvaluationError(f"segments that share the codebook {label!r} have vocabularies of {len(counts)} and {size}")
                self._places[name] = np.concatenate([self._places.get(name, np.zeros(0, dtype=np.int64)), places[:, codebook]])
            if segment.codebooks > 1 and math.prod(segment.vocab_sizes) <= JOINT_LIMIT:
                self._joint[segment.name] = {}
        self._samples = 0

    def update(self, tokens: Tokens) -> None:
        """Add a batch.

        Raises:
            EvaluationError: if the tokens have another layout.
            TokenError: if an id is out of range.
        """
        if tokens.layout != self._layout:
            raise EvaluationError("these tokens have another layout than those counted so far")
        ids = _storage(tokens.validate())
        for name, counts in self._counts.items():
            held = ids[:, self._places[name]]
            counts += np.bincount(held[held != PAD], minlength=len(counts))
        for name, joint in self._joint.items():
            keys, counts = np.unique(_joint_ids(ids, self._layout, self._layout.segment(name)), return_counts=True)
            _add(joint, keys, counts)
        self._samples += len(tokens)

    def merge(self, other: CodeCounts) -> None:
        if other._layout != self._layout:
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
            state[f"joint.{name}.ids"] = np.asarray(keys, dtype=np.int64)
            state[f"joint.{name}.counts"] = np.asarray([joint[key] for key in keys], dtype=np.int64)
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._samples = int(state["samples"])
        self._counts = {name: state[f"counts.{name}"].copy() for name in self._counts}
        for name in self._joint:
            self._joint[name] = dict(zip(state[f"joint.{name}.ids"].tolist(), state[f"joint.{name}.counts"].tolist(), strict=True))

    def compute(self) -> list[CodeUse]:
        """One entry per codebook in the order of the layout, then the joint ones."""
        single = [CodeUse(name, len(counts), counts.copy(), self._samples) for name, counts in self._counts.items()]
        joint = []
        for name, counted in self._joint.items():
            size = math.prod(self._layout.segment(name).vocab_sizes)
            joint.append(
                CodeUse(f"{name} joint", size, np.asarray([counted[key] for key in sorted(counted)], dtype=np.int64), self._samples, is_joint=True)
            )
        return single + joint


def _storage(tokens: Tokens) -> np.ndarray:
    """(B, L) ids at their storage places, `PAD` where a sample holds none."""
    ids = tokens.indices.cpu().numpy()
    full = np.full((len(ids), tokens.layout.length), PAD, dtype=np.int64)
    if tokens.positions is None:
        full[:, : ids.shape[1]] = ids
    else:
        rows, columns = np.nonzero(tokens.mask.cpu().numpy())
        full[rows, tokens.positions.cpu().numpy()[rows, columns]] = ids[rows, columns]
    return full


def _joint_ids(ids: np.ndarray, layout: TokenLayout, segment: Segment) -> np.ndarray:
    """One number per position of the segment that holds all of its ids; the last codebook counts fastest."""
    positions = ids[:, layout.slice(segment.name)].reshape(-1, segment.codebooks)
    complete = positions[(positions != PAD).all(axis=1)]
    return np.ravel_multi_index(complete.T, segment.vocab_sizes)


def _add(joint: dict[int, int], keys: np.ndarray | list[int], counts: np.ndarray | list[int]) -> None:
    for key, count in zip(map(int, keys), map(int, counts), strict=True):
        joint[key] = joint.get(key, 0) + count
