"""Sequences of neighboring tokens: their frequencies, and how far a token predicts the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.code_sequences import Sequences, flattened
from visiontok.evaluation.metrics.entropy import LN2, plugin_entropy


def ngram_counts(sequences: Sequences, length: int) -> np.ndarray:
    """Counts of the distinct runs of `length` tokens within each sequence.

    Args:
        sequences: (N, L) int or N rows of different lengths, in the order that defines neighbors (raster for grids).
        length: of the runs.

    Returns:
        (types,) int64 in the lexical order of the runs.

    Raises:
        EvaluationError: if no sequence has so many tokens.
    """
    codes, rows, _ = flattened(sequences)
    within = rows[: len(rows) - length + 1] == rows[length - 1 :] if 1 <= length <= len(codes) else np.zeros(0, dtype=bool)
    if not within.any():
        raise EvaluationError(f"sequences of at most {np.max(np.bincount(rows), initial=0)} tokens have no runs of {length}")
    runs = np.lib.stride_tricks.sliding_window_view(codes, length)[within]
    return np.unique(runs, axis=0, return_counts=True)[1]


def bigram_joint_entropy(sequences: Sequences) -> float:
    """Plug-in entropy of adjacent pairs in bits."""
    return plugin_entropy(ngram_counts(sequences, 2))


def bigram_conditional_entropy(sequences: Sequences) -> float:
    """Entropy of a token given its left neighbor, in bits.

    Biased low when pairs are few compared with K^2: compare with the same tokens shuffled.
    """
    left, _ = _neighbors(sequences)
    return bigram_joint_entropy(sequences) - plugin_entropy(np.unique(left, return_counts=True)[1])


def bigram_mutual_information(sequences: Sequences) -> float:
    """Mutual information of neighbors in nats."""
    _, right = _neighbors(sequences)
    return (plugin_entropy(np.unique(right, return_counts=True)[1]) - bigram_conditional_entropy(sequences)) * LN2


def _neighbors(sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) left and right tokens of all adjacent pairs."""
    codes, rows, _ = flattened(sequences)
    within = rows[:-1] == rows[1:]
    return codes[:-1][within], codes[1:][within]


def first_digit_counts(frequencies: ArrayLike) -> np.ndarray:
    """(9,) how many frequencies begin with 1 ... 9, for comparison with Benford's law log10(1 + 1/d)."""
    values = np.asarray(frequencies, dtype=np.int64)
    values = values[values > 0]
    digits = np.asarray([int(str(value)[0]) for value in values], dtype=np.int64)
    return np.bincount(digits, minlength=10)[1:]
