"""How a codebook is used, from the counts of its codes (K,). Report the samples over which they were counted: usage grows with their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visiontok.evaluation.metrics.entropy import observed, plugin_entropy


def usage(counts: ArrayLike) -> float:
    """Share of codes that occur at all."""
    return len(observed(counts)[0]) / np.size(counts)


def perplexity(counts: ArrayLike) -> float:
    """2^H with the plug-in entropy H: the number of equally likely codes that would be as uncertain."""
    return float(2 ** plugin_entropy(counts))


def gini(counts: ArrayLike) -> float:
    """Gini coefficient of the counts over the whole codebook: 0 for equal use, near 1 if a few codes account for nearly all tokens."""
    values = np.sort(np.asarray(counts, dtype=np.float64).ravel())
    observed(values)
    ranks = np.arange(1, len(values) + 1)
    return float(((2 * ranks - len(values) - 1) * values).sum() / (len(values) * values.sum()))


def divergence_from_uniform(counts: ArrayLike) -> float:
    """Kullback-Leibler divergence from equal use, log2 K - H, in bits: how much longer a fixed-length code is than the entropy, per token."""
    entropy = plugin_entropy(counts)
    return float(np.log2(np.size(counts))) - entropy
