"""Perturbed inputs: codes that are replaced at random, so that a generator learns to go on from tokens that sampling got wrong."""

from __future__ import annotations

from torch import Tensor

from visiontok.base.noise import Noise


def perturbed(codes: Tensor, sizes: Tensor, *, probability: float, noise: Noise) -> Tensor:
    """Codes of which each is replaced with some probability.

    Args:
        codes: (B, T, K) int64.
        sizes: (B or 1, T, K) int64 codes of the codebook of each.
        probability: that a code is replaced by one of its codebook, all equally likely.
        noise: source of one uniform draw (B, T, K, 2).
    """
    chance, choice = noise.uniform(*codes.shape, 2).to(codes.device).unbind(-1)
    drawn = (choice.double() * sizes).long()
    return drawn.where(chance < probability, codes)
