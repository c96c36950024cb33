"""The key-value cache of a causal transformer."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Keys and values of one attention layer.

    Args:
        batch: sequences B.
        num_heads: key-value heads H.
        max_length: the most tokens T that it holds.
        head_dim: dim of a head.
        device, dtype: of the model.
    """

    def __init__(self, batch: int, num_heads: int, max_length: int, head_dim: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self._keys = torch.empty(batch, num_heads, max_length, head_dim, device=device, dtype=dtype)
        self._values = torch.empty_like(self._keys)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values (B, H, T, head_dim); returns all so far, (B, H, S, head_dim) each."""
        start, new = self.length, keys.shape[2]
        self._keys.narrow(2, start, new).copy_(keys)
        self._values.narrow(2, start, new).copy_(values)
        self.length = start + new
        return self._keys.narrow(2, 0, self.length), self._values.narrow(2, 0, self.length)

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.length = length

    def gather(self, start: int, slots: Tensor) -> None:
        """Put the tokens that lie at `slots` (B, n) int64 behind the first `start` tokens, and forget all others."""
        index = slots[:, None, :, None].expand(-1, self._keys.shape[1], -1, self._keys.shape[3])
        self.length = start + slots.shape[1]
        for stored in (self._keys, self._values):
            stored[:, :, start : self.length] = stored.gather(2, index)
