"""What the parity tests of generators with a masked autoencoder share."""

from __future__ import annotations

import torch
from torch import Tensor

from visiontok.generators.mar.model import Mar
from visiontok.generators.tokenbridge_ar.model import TokenBridgeGenerator


def storage(grid: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return grid.flatten(2).transpose(1, 2)


def grid(latents: Tensor) -> Tensor:
    """(B, h, w, C) -> (B, C, h, w)."""
    return latents.permute(0, 3, 1, 2)


def condition_rows(model: Mar | TokenBridgeGenerator, labels: Tensor, *, dropped: bool) -> Tensor:
    return model.condition.embedding(torch.full_like(labels, model.num_classes) if dropped else labels)


def mask_draws(mask: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """The uniform draws (B,) and permutations (B, L) that mask exactly these positions."""
    share = (mask.sum(dim=1).double() - 0.5) / mask.shape[1]
    lowest = torch.special.ndtr(torch.tensor((least - 1) / 0.25, dtype=torch.float64))
    uniform = (torch.special.ndtr((share - 1) / 0.25) - lowest) / (0.5 - lowest)
    return uniform.float(), (~mask).to(torch.uint8).argsort(dim=1, stable=True)
