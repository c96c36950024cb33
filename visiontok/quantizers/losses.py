"""Loss terms that several quantizers share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_of(losses: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each named term over parts that have the same terms."""
    return {name: torch.stack([part[name] for part in losses]).mean() for name in losses[0]}
