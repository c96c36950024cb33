"""Attention of long sequences to their recent past, in time and memory that grow linearly with the length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def recent(window: int, device: torch.device) -> Tensor:
    """(window, 2 window) bool for `attend_in_blocks`: a query sees itself and the window - 1 positions before it."""
    behind = distances(window, device)
    return (behind >= 0) & (behind < window)


def distances(window: int, device: torch.device) -> Tensor:
    """(window, 2 window) int64: how far every key of `attend_in_blocks` lies before a query; below 0 behind it."""
    keys = torch.arange(2 * window, dtype=torch.int64, device=device)
    return keys[window:, None] - keys


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of every block of `window` queries to its own block and the one before.

    Args:
        query: (B, H, L, d).
        key, value: (B, H or a divisor of it, L, d).
        mask: (window, 2 window), or (H, window, 2 window): queries of a block, and keys of the block before, then of its own; bool, True where a
            query may see a key, or floats that are added to the scaled products. No query may see a later key.

    Returns:
        (B, H, L, d).
    """
    size, length = mask.shape[-2], query.shape[2]
    grouped = key.shape[1] != query.shape[1]
    count = min(size, length)
    first = F.scaled_dot_product_attention(
        query[:, :, :count], key[:, :, :count], value[:, :, :count], attn_mask=mask[..., :count, size : size + count], enable_gqa=grouped
    )
    if length <= size:
        return first
    blocks = [F.pad(part, (0, 0, 0, -length % size)).unflatten(2, (-1, size)).transpose(1, 2) for part in (query, key, value)]
    queries = blocks[0][:, 1:].flatten(0, 1)
    keys, values = (torch.cat([part[:, :-1], part[:, 1:]], dim=3).flatten(0, 1) for part in blocks[1:])
    rest = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=grouped)
    joined = rest.unflatten(0, (len(query), -1)).transpose(1, 2).flatten(2, 3)
    return torch.cat([first, joined[:, :, : length - size]], dim=2)
