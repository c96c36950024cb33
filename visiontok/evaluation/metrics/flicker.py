"""Temporal consistency of reconstructed clips: how their changes from frame to frame differ from those of the original."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.fidelity import as_pair


class Flicker(NamedTuple):
    """Of each clip, (B,) float64 in the unit of its values; NaN for clips of one frame.

    Attributes:
        error: mean absolute difference of the frame differences, |(y[t+1] - y[t]) - (x[t+1] - x[t])|; 0 where everything changes as it did, also if
            it looks wrong, such as under a constant shift of brightness.
        excess: mean |y[t+1] - y[t]| minus mean |x[t+1] - x[t]|: above 0 where the reconstruction moves or flickers more than the original, below 0
            where it is too steady.
    """

    error: Tensor
    excess: Tensor


def flicker(reference: Tensor, reconstruction: Tensor) -> Flicker:
    """Compare frame differences.

    Args:
        reference, reconstruction: (B, C, T, H, W) of any number type.

    Raises:
        EvaluationError: for other shapes, or shapes that differ.
        NonFiniteError: if one holds NaN or infinity.
    """
    first, second = as_pair(reference, reconstruction)
    if first.ndim != 5:
        raise EvaluationError(f"clips must have shape (B, C, T, H, W), got {tuple(first.shape)}")
    before, after = first.diff(dim=2), second.diff(dim=2)
    if not before.shape[2]:
        nothing = torch.full((len(first),), torch.nan, dtype=torch.float64, device=first.device)
        return Flicker(nothing, nothing)
    error, moved, original = (change.abs().flatten(1).mean(dim=1) for change in (after - before, after, before))
    return Flicker(error, moved - original)
