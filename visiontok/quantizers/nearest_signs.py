"""The nearest sign codes of a latent, found without a list of all 2^D."""

from __future__ import annotations

import torch
from torch import Tensor


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
        raise ValueError(f"{k} nearest codes were asked for; {dim} signs make {2**dim}")
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
