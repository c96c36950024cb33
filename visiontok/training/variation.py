"""How much latents and reconstructions differ between samples: a collapsed tokenizer gives every sample the same."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

COMPARED_WITH = {"latents": "that over samples and positions together", "reconstructions": "that of what they should be"}
"""What varies, and which variance its variance between samples is compared with."""

_POSITIONS, _PARTS = 64, 1024
"""Latents are averaged to so many positions, reconstructions to so many parts, so that batches of different extents can be joined."""


class Variation:
    """Variances between the samples since the last logged step, over all micro-batches and processes.

    Of the latents that the decoder reads, relative to their variance over samples and positions together: positions that all differ, in the same
    way for every sample, fill a codebook and say nothing. Of reconstructions, relative to that of what they should be. Both are near 0 for a
    tokenizer that has collapsed.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, latents: Tensor, reconstruction: Tensor | None, target: Tensor | None) -> None:
        """Take in a micro-batch.

        Args:
            latents: (B, ..., D) that the decoder read.
            reconstruction: (B, ...) what it made of them; None for models without a decoder.
            target: what it should be, of the same shape; None where it is not comparable, such as teacher codes.
        """
        channels = _wide(latents).flatten(1, -2).transpose(1, 2)
        self._add("latents", adaptive_avg_pool1d(channels, _POSITIONS))
        if reconstruction is not None and target is not None and reconstruction.shape == target.shape and target.is_floating_point():
            for name, values in (("reconstructions", reconstruction), ("targets", target)):
                self._add(name, adaptive_avg_pool1d(_wide(values).flatten(1)[:, None], _PARTS))

    def flush(self, accelerator: Accelerator) -> dict[str, float]:
        """The shares, of what could be compared, and a new start; called by every process."""
        joined = {name: accelerator.reduce(sums, reduction="sum") for name, sums in self._sums.items()}
        self._sums = {}
        found = {}
        for name, whole in (("latents", None), ("reconstructions", "targets")):
            if name in joined and joined[name][0].flatten()[0] > 1:
                expected = _variance(joined[name].sum(dim=-1)) if whole is None else _variance(joined[whole])
                found[name] = _variance(joined[name]) / expected if expected > 0 else 0.0
        return found

    def _add(self, name: str, values: Tensor) -> None:
        """Values (B, C, P): their number, sum and sum of squares (3, C, P)."""
        sums = torch.stack([torch.full_like(values[0], len(values)), values.sum(dim=0), values.square().sum(dim=0)])
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums


def _wide(values: Tensor) -> Tensor:
    """In double precision where the device has it."""
    return values.detach().to(torch.float32 if values.device.type == "mps" else torch.float64)


def _variance(sums: Tensor) -> float:
    """The mean over features of the variance behind numbers, sums and sums of squares (3, ...); 0 where only rounding is left."""
    count, total, squares = sums
    scatter = squares - total.square() / count
    scatter = torch.where(scatter > 1e4 * torch.finfo(squares.dtype).eps * squares, scatter, 0.0)
    return float((scatter / (count - 1)).mean())
