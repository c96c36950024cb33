"""Sequences of neighboring tokens: their frequencies, and how far a token predicts the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.entropy import LN2, plugin_entropy


def ngram_counts(sequences: ArrayLike, length: int) -> np.ndarray:
    """Counts of the distinct runs of `length` tokens within each sequence.

    Args:
        sequences: (N, L) int, in the order that defines neighbors (raster for grids).

    Returns:
        (types,) int64 in the lexical order of the runs.
    """
    tokens = np.atleast_2d(np.asarray(sequences, dtype=np.int64))
    if not 1 <= length <= tokens.shape[1]:
        raise EvaluationError(f"sequences of {tokens.shape[1]} tokens have no runs of {length}")
    runs = np.lib.stride_tricks.sliding_window_view(tokens, length, axis=1).reshape(-1, length)
    return np.unique(runs, axis=0, return_counts=True)[1]


def bigram_joint_entropy(sequences: ArrayLike) -> float:
    """Plug-in entropy of adjacent pairs in bits."""
    return plugin_entropy(ngram_counts(sequences, 2))


def bigram_conditional_entropy(sequences: ArrayLike) -> float:
    """Entropy of a token given its left neighbor, in bits.

    Biased low when pairs are few compared with K^2: compare with the same tokens shuffled.
    """
    left = np.atleast_2d(np.asarray(sequences, dtype=np.int64))[:, :-1]
    return bigram_joint_entropy(sequences) - plugin_entropy(np.unique(left, return_counts=True)[1])


def bigram_mutual_information(sequences: ArrayLike) -> float:
    """Mutual information of neighbors in nats."""
    right = np.atleast_2d(np.asarray(sequences, dtype=np.int64))[:, 1:]
    return (plugin_entropy(np.unique(right, return_counts=True)[1]) - bigram_conditional_entropy(sequences)) * LN2


def first_digit_counts(frequencies: ArrayLike) -> np.ndarray:
    """(9,) how many frequencies begin with 1 ... 9, for comparison with Benford's law log10(1 + 1/d)."""
    values = np.asarray(frequencies, dtype=np.int64)
    values = values[values > 0]
    digits = np.asarray([int(str(value)[0]) for value in values], dtype=np.int64)
    return np.bincount(digits, minlength=10)[1:]
