"""The optimal prefix code of a distribution of codes (Huffman, 1952)."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import ArrayLike

from visiontok.evaluation.metrics.checks import at_least
from visiontok.evaluation.metrics.entropy import observed


def huffman_total_bits(counts: ArrayLike) -> int:
    """Length of all counted tokens in their optimal prefix code, without the code table; 0 if only one code occurs.

    The total is unique although codes with ties are not: it is the sum of the weights of all merged nodes.
    """
    heap = [int(count) for count in observed(counts)[0]]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        heapq.heappush(heap, merged)
        total += merged
    return total


def huffman_bits_per_token(counts: ArrayLike) -> float:
    """Mean code length; between the entropy H and H + 1."""
    return huffman_total_bits(counts) / observed(counts)[1]


def huffman_saving(counts: ArrayLike, *, bits_per_token: float) -> float:
    """Share of a fixed length that the code saves: against log2 K, or against ceil(log2 K) bits as they are stored."""
    return 1 - huffman_bits_per_token(counts) / bits_per_token if bits_per_token else 0.0


def fixed_bits_per_token(vocab_size: int) -> int:
    """Bits of a fixed-length code, ceil(log2 K)."""
    at_least(1, vocab_size=vocab_size)
    return int(np.ceil(np.log2(vocab_size)))
