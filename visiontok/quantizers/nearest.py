"""Nearest-code search, for every quantizer: among the rows of a codebook, and among sign vectors without a list of all 2^D."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

TILE_SCORES = {"cpu": 2**22, "cuda": 2**26}
"""Scores (rows x codes, float32) in memory at once: 16 MB on the CPU, so that they stay in the cache during the search for their maximum."""

MIN_ROWS = 32
GROUP = 64
"""Codes per group of the two-step search for the maximum."""

Score = Literal["distance", "product"]
"""What makes a code near: a small Euclidean distance, or a large dot product."""


@torch.no_grad()
def nearest_codes(latents: Tensor, codebook: Tensor, *, score: Score = "distance") -> Tensor:
    """Index of the code nearest to each latent; the lowest index among equals.

    The N x K matrix of distances is never built: rows are searched in tiles, in float32 whatever the input's type.
    |z - e|^2 is compared as z.e - |e|^2 / 2, since |z|^2 is the same for every code; the second term is one more column of the product.

    Args:
        latents: (N, D).
        codebook: (K, D).
        score: what makes a code near.

    Returns:
        (N,) int64.

    Raises:
        ValueError: if the widths differ or the codebook is empty.
    """
    _check(latents, codebook)
    device = latents.device
    with torch.autocast(device.type, enabled=False):
        codes = _grouped(codebook.float(), score)
        groups = codes.shape[1] // GROUP
        height = tile_rows(device, codes.shape[1])
        scores = torch.empty(min(height, len(latents)), codes.shape[1], dtype=torch.float32, device=device)
        indices = torch.empty(len(latents), dtype=torch.int64, device=device)
        for start in range(0, len(latents), height):
            rows = F.pad(latents[start : start + height].float(), (0, 1), value=1.0)
            tile = torch.mm(rows, codes, out=scores[: len(rows)]).view(len(rows), GROUP, groups)
            # A maximum over columns runs many times faster than one with its index; the index is then sought in one group only.
            group = tile.amax(dim=1).argmax(dim=1)
            member = tile.gather(2, group[:, None, None].expand(-1, GROUP, 1)).squeeze(2).argmax(dim=1)
            indices[start : start + height] = group * GROUP + member
    return indices


@torch.no_grad()
def nearest_k_codes(latents: Tensor, codebook: Tensor, k: int, *, score: Score = "distance") -> Tensor:
    """The k codes nearest to each latent, nearest first; equally near codes come in any order.

    Like `nearest_codes` in tiles of rows, so that beside the result only one tile of scores is in memory.

    Args:
        latents: (N, D).
        codebook: (K, D).
        k: at most K.
        score: what makes a code near.

    Returns:
        (N, k) int64.

    Raises:
        ValueError: if the widths differ, the codebook is empty or holds fewer than k codes.
    """
    _check(latents, codebook)
    if not 1 <= k <= len(codebook):
        raise ValueError(f"{k} nearest codes were requested; this codebook has {len(codebook)}, so 1 to {len(codebook)} can be found")
    device = latents.device
    with torch.autocast(device.type, enabled=False):
        codes = codebook.float()
        offsets = score_offsets(codes, score)
        height = tile_rows(device, len(codes))
        indices = torch.empty(len(latents), k, dtype=torch.int64, device=device)
        for start in range(0, len(latents), height):
            scores = torch.addmm(offsets, latents[start : start + height].float(), codes.T)
            indices[start : start + height] = scores.topk(k, dim=1).indices
    return indices


@torch.no_grad()
def nearest_k_sign_codes(latents: Tensor, k: int) -> Tensor:
    """The k sign vectors nearest to each latent, nearest first; equally near ones come in any order.

    A flipped sign costs distance in proportion to the channel's absolute value, so the k nearest codes are the k smallest sums over sets of
    flipped channels. Channel after channel, the k best sets so far are continued with and without the channel: no other set can be among the k.

    Args:
        latents: (N, D).
        k: at most 2 ** D.

    Returns:
        (N, k, D) bool, True for plus; zero counts as negative.

    Raises:
        ValueError: if there are fewer than k sign vectors.
    """
    rows, dim = latents.shape
    if not 1 <= k <= 2**dim:
        raise ValueError(f"{k} nearest codes were requested; {dim} signs make {2**dim}")
    prices = latents.float().abs()
    costs = prices.new_zeros(rows, 1)
    flipped = torch.zeros(rows, 1, dim, dtype=torch.bool, device=latents.device)
    for channel in range(dim):
        with_it = flipped.clone()
        with_it[..., channel] = True
        costs, flipped = torch.cat([costs, costs + prices[:, channel, None]], dim=1), torch.cat([flipped, with_it], dim=1)
        if costs.shape[1] > k:
            costs, best = costs.topk(k, dim=1, largest=False)
            flipped = flipped.gather(1, best[..., None].expand(-1, -1, dim))
    nearest_first = costs.argsort(dim=1, stable=True)[..., None].expand(-1, -1, dim)
    return (latents > 0)[:, None] ^ flipped.gather(1, nearest_first)


def tile_rows(device: torch.device, num_codes: int) -> int:
    """Latents whose scores against so many codes are in memory at once."""
    return max(TILE_SCORES.get(device.type, TILE_SCORES["cuda"]) // num_codes, MIN_ROWS)


def score_offsets(codebook: Tensor, score: Score) -> Tensor:
    """What is added to z.e for the codes (K, D): (K,), so that the nearest code has the largest sum."""
    return codebook.square().sum(dim=1) / -2 if score == "distance" else codebook.new_zeros(len(codebook))


def _check(latents: Tensor, codebook: Tensor) -> None:
    if latents.ndim != 2 or codebook.ndim != 2 or latents.shape[1] != codebook.shape[1] or not len(codebook):
        raise ValueError(f"latents (N, D) and a codebook (K, D) are required, got {tuple(latents.shape)} and {tuple(codebook.shape)}")


def _grouped(codebook: Tensor, score: Score) -> Tensor:
    """(D + 1, K'): the transposed codebook above the offsets of its scores, with member m of group g in column m * groups + g.

    K' is K rounded up to whole groups; the filling columns score minus infinity.
    """
    size, dim = codebook.shape
    groups = -(-size // GROUP)
    codes = codebook.new_zeros(groups * GROUP, dim + 1)
    codes[:, dim] = -torch.inf
    codes[:size, :dim] = codebook
    codes[:size, dim] = score_offsets(codebook, score)
    return codes.view(groups, GROUP, dim + 1).permute(2, 1, 0).reshape(dim + 1, GROUP * groups)
