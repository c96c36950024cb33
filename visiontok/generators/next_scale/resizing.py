"""What the scales before give to the next one: their embeddings, resized and added up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F


def resizing_matrix(shapes: Sequence[tuple[int, ...]]) -> Tensor:
    """(N, N) float32 from the N positions of all scales, one scale after the other, to what every position reads of the scales before its own.

    As VAR's input (arXiv 2404.02905, algorithm 2): every scale is enlarged to the largest size by bicubic interpolation, the enlarged ones are added
    up, and the sum is made smaller to the size of the next scale by averaging areas. All of that is linear and works along each axis by itself, so
    one matrix does it, for any number of axes.

    Args:
        shapes: positions along every axis of each scale, row-major; all have as many axes.
    """
    largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    counts = [torch.Size(shape).numel() for shape in shapes]
    rows = []
    for target, to in enumerate(shapes):
        parts = [_resized(shape, largest, to) for shape in shapes[:target]]
        rows.append(torch.cat([*parts, torch.zeros(counts[target], sum(counts[target:]), dtype=torch.float32)], dim=1))
    return torch.cat(rows)


def _resized(shape: Sequence[int], over: Sequence[int], to: Sequence[int]) -> Tensor:
    """From the positions of one grid to those of another, (to, from), over a grid that is at least as large as the first."""
    return reduce(torch.kron, (_along_an_axis(*sizes) for sizes in zip(shape, over, to, strict=True)))


def _along_an_axis(size: int, over: int, to: int) -> Tensor:
    """(to, size): the identity enlarged to `over` and then resized to `to`."""
    identity = torch.eye(size, dtype=torch.float32)[:, None]  # every position in a channel of its own
    enlarged = F.interpolate(identity[:, :, None], size=(1, over), mode="bicubic")[:, :, 0]
    return F.interpolate(enlarged, size=to, mode="area")[:, 0].T
