"""Nearest-code search: the one place where every quantizer with a codebook looks codes up."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TILE_SCORES = {"cpu": 2**22, "cuda": 2**26}
"""Scores (rows x codes, float32) that are held at once: 16 MB on the CPU, so that they stay in the cache while their maximum is sought."""

MIN_ROWS = 32
GROUP = 64
"""Codes per group of the two-step search for the maximum."""


@torch.no_grad()
def nearest_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """Index of the code with the smallest Euclidean distance to each latent; the lowest index among equals.

    The N x K matrix of distances is never built: rows are visited in tiles, in float32 whatever the input's type.
    |z - e|^2 is compared as z.e - |e|^2 / 2, since |z|^2 is the same for every code; the second term is one more column of the product.

    Args:
        latents: (N, D).
        codebook: (K, D).

    Returns:
        (N,) int64.

    Raises:
        ValueError: if the widths differ or the codebook is empty.
    """
    if latents.ndim != 2 or codebook.ndim != 2 or latents.shape[1] != codebook.shape[1] or not len(codebook):
        raise ValueError(f"latents (N, D) and a codebook (K, D) are needed, got {tuple(latents.shape)} and {tuple(codebook.shape)}")
    device = latents.device
    with torch.autocast(device.type, enabled=False):
        codes = _grouped(codebook.float())
        groups = codes.shape[1] // GROUP
        tile_rows = max(TILE_SCORES.get(device.type, TILE_SCORES["cuda"]) // codes.shape[1], MIN_ROWS)
        scores = torch.empty(min(tile_rows, len(latents)), codes.shape[1], device=device)
        indices = torch.empty(len(latents), dtype=torch.int64, device=device)
        for start in range(0, len(latents), tile_rows):
            rows = F.pad(latents[start : start + tile_rows].float(), (0, 1), value=1.0)
            tile = torch.mm(rows, codes, out=scores[: len(rows)]).view(len(rows), GROUP, groups)
            # A maximum over columns runs many times faster than one with its place; the place is then sought in one group only.
            group = tile.amax(dim=1).argmax(dim=1)
            member = tile.gather(2, group[:, None, None].expand(-1, GROUP, 1)).squeeze(2).argmax(dim=1)
            indices[start : start + tile_rows] = group * GROUP + member
    return indices


def _grouped(codebook: Tensor) -> Tensor:
    """(D + 1, K'): the transposed codebook above -|e|^2 / 2, with member m of group g in column m * groups + g.

    K' is K rounded up to whole groups; the filling columns score minus infinity.
    """
    size, dim = codebook.shape
    groups = -(-size // GROUP)
    codes = codebook.new_zeros(groups * GROUP, dim + 1)
    codes[:, dim] = -torch.inf
    codes[:size, :dim] = codebook
    codes[:size, dim] = codebook.square().sum(dim=1) / -2
    return codes.view(groups, GROUP, dim + 1).permute(2, 1, 0).reshape(dim + 1, GROUP * groups)
