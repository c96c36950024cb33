"""What tokens cost: nominal bits (log2 K each), bits at the ids' entropy, per pixel, per second and against plain pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from visiontok.evaluation.metrics.entropy import plugin_entropy


def nominal_bits(vocab_sizes: ArrayLike) -> float:
    """Sum of log2 K over the ids of a sample; `vocab_sizes` (L,) holds each id's K (`layout.vocab_sizes`)."""
    return float(np.log2(np.asarray(vocab_sizes, dtype=np.float64)).sum())


def entropy_bits(counts: Sequence[ArrayLike], ids_per_sample: Sequence[float]) -> float:
    """Bits of a sample if each codebook's ids are coded at their plug-in entropy, neighbours ignored.

    Args:
        counts: one array (K,) per codebook.
        ids_per_sample: how many ids of each codebook a sample holds (a mean for samples of varying length).
    """
    return sum(plugin_entropy(count) * ids for count, ids in zip(counts, ids_per_sample, strict=True))


def bits_per_pixel(bits: float, size: tuple[int, int]) -> float:
    """Bits of an image over its (H, W) pixels."""
    return bits / (size[0] * size[1])


def bits_per_second(bits: float, *, units: float, rate: float) -> float:
    """Bits of a sound or a clip over its seconds.

    Args:
        bits: of the sample.
        units: its audio samples or video frames.
        rate: of those per second (`layout.rate`).
    """
    return bits * rate / units


def compression_ratio(bits: float, size: tuple[int, int]) -> float:
    """How many times smaller than plain RGB at 24 bits per pixel."""
    return 24 / bits_per_pixel(bits, size)
