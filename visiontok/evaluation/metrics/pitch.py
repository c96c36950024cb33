"""How well a reconstruction keeps the pitch of sound. All is computed in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from visiontok.evaluation.metrics.fidelity import as_pair
from visiontok.layers.pitch import pitch

STEADY = 1e-3
"""Standard deviation of a pitch over its mean, below which it has no course that could be followed."""


class PitchAgreement(NamedTuple):
    """How well pitches agree, (B,) float64 each.

    Attributes:
        correlation: Pearson's, of the pitch in Hz over the frames that are voiced in both; NaN where there are fewer than three or a pitch is
            steady.
        voicing: share of the frames that are voiced in both or in neither; NaN where no frame of the reference is voiced.
    """

    correlation: Tensor
    voicing: Tensor


def pitch_agreement(reference: Tensor, reconstruction: Tensor, *, rate: float) -> PitchAgreement:
    """How well the pitch of the reconstruction follows that of the reference.

    Args:
        reference, reconstruction: (B, C, T) speech, or another sound of one pitch at a time.
        rate: in Hz.

    Raises:
        EvaluationError: if the shapes differ; see also `pitch`.
        NonFiniteError: if one holds NaN or infinity.
    """
    original, other = (pitch(side, rate=rate) for side in as_pair(reference, reconstruction))
    if not original.shape[1]:
        nothing = original.new_full((len(original),), torch.nan)
        return PitchAgreement(nothing, nothing)
    both = (original > 0) & (other > 0)
    has_voice = (original > 0).any(dim=1)
    voicing = torch.where(has_voice, ((original > 0) == (other > 0)).double().mean(dim=1), torch.nan)
    return PitchAgreement(torch.stack([_correlation(a[kept], b[kept]) for a, b, kept in zip(original, other, both, strict=True)]), voicing)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's, of (n,); NaN where one of both is steady."""
    if len(first) < 3 or any(float(side.std() / side.mean()) < STEADY for side in (first, second)):
        return first.new_tensor(torch.nan)
    centered = [side - side.mean() for side in (first, second)]
    return (centered[0] @ centered[1]) / (centered[0].norm() * centered[1].norm())
