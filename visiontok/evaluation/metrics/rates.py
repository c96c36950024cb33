"""The cost of tokens: bits at their entropy; bits per pixel and per second; compression ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from visiontok.evaluation.metrics.entropy import plugin_entropy


def entropy_bits(counts: Sequence[ArrayLike], tokens_per_sample: Sequence[float]) -> float:
    """Bits of a sample if each codebook's tokens are coded at their plug-in entropy, neighbors ignored.

    Args:
        counts: one array (K,) per codebook.
        tokens_per_sample: how many tokens of each codebook a sample holds (a mean for samples of varying length).
    """
    return sum(plugin_entropy(count) * tokens for count, tokens in zip(counts, tokens_per_sample, strict=True))


def per_pixel(amount: ArrayLike, size: ArrayLike) -> np.ndarray:
    """Bits or tokens of samples (...) over the pixels of their sizes (..., A): (H, W) of images, (T, H, W) of clips."""
    return np.asarray(amount, dtype=np.float64) / np.prod(np.asarray(size, dtype=np.float64), axis=-1)


def per_second(amount: ArrayLike, *, units: ArrayLike, rate: float) -> np.ndarray:
    """Bits or tokens of recordings or clips (...) over their seconds.

    Args:
        amount: of the samples.
        units: their audio samples or video frames.
        rate: of those per second.
    """
    return np.asarray(amount, dtype=np.float64) * rate / np.asarray(units, dtype=np.float64)


def compression_ratio(bits: ArrayLike, size: ArrayLike) -> np.ndarray:
    """How many times smaller than plain RGB at 24 bits per pixel."""
    return 24 / per_pixel(bits, size)
