"""Entropies of binary codes: low for every sample, so that bits are certain, and high over a batch, so that all codes are used.

A latent gives each code c of g signs the probability softmax(x.c) over all 2^g codes, for logits x. The exponent is a sum over signs, so the
signs are independent: P(c) = prod_j sigmoid(2 c_j x_j). That is why nothing here builds a matrix of N latents by 2^18 codes: a code is half its
signs beside the other half, and the mean of N outer products of 512 by 512 probabilities is one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from visiontok.base.config import Config

CHUNK_SIZES = {"cpu": 2**20, "cuda": 2**24}
"""Probabilities (float32) per chunk; what a chunk held is computed again in the backward pass."""

MAX_GROUP_SIZE = 24
"""Signs of the largest group whose 2^g codes are enumerated."""


class LogFloor(Config):
    """What is used in place of log p, since p may be zero. Published models differ here, and their losses with it.

    Attributes:
        kind: "add" for log(p + eps), "max" for log(max(p, eps)).
        eps: 0 for log p itself.
    """

    kind: Literal["add", "max"] = "add"
    eps: float = Field(default=0.0, ge=0)


def entropy(probabilities: Tensor, floor: LogFloor) -> Tensor:
    """(..., K) -> (...), in nats; gradients stay finite where a probability vanishes."""
    if floor.kind == "add" and floor.eps > 0:
        logs = torch.log(probabilities + floor.eps)
    else:
        logs = torch.log(probabilities.clamp_min(max(floor.eps, torch.finfo(probabilities.dtype).tiny)))
    return -(probabilities * logs).sum(dim=-1)


def sample_entropy(logits: Tensor, *, group_size: int, floor: LogFloor) -> Tensor:
    """The entropy of a latent's groups of signs, summed over its groups and averaged over latents.

    Args:
        logits: (N, D) per sign; the first `group_size` are the first group.
        group_size: g; 1 for single signs, D for whole codes.
        floor: of the logarithm; the exact one costs no more than D terms per latent.

    Returns:
        a scalar, in nats.
    """
    if floor.eps == 0:  # entropies of independent signs add up
        odds = 2 * logits.abs()
        return (F.softplus(-odds) + odds * torch.sigmoid(-odds)).sum() / max(len(logits), 1)

    def chunk(rows: Tensor) -> Tensor:
        high, low = _half_probabilities(rows)
        return entropy((high[..., :, None] * low[..., None, :]).flatten(-2), floor).sum()

    return _sum_over_chunks(chunk, _grouped(logits, group_size), scores_per_group=2**group_size) / max(len(logits), 1)


def mean_probabilities(logits: Tensor, *, group_size: int) -> Tensor:
    """How probable each code of each group is, averaged over latents.

    Args:
        logits: (N, D) per sign.
        group_size: g.

    Returns:
        (D / g, 2^g); the first sign of a group is the most significant bit of a code's index.
    """

    def chunk(rows: Tensor) -> Tensor:
        high, low = _half_probabilities(rows)
        return torch.einsum("nga,ngb->gab", high, low)

    half = -(-group_size // 2)
    return _sum_over_chunks(chunk, _grouped(logits, group_size), scores_per_group=2**half).flatten(1) / max(len(logits), 1)


def _grouped(logits: Tensor, group_size: int) -> Tensor:
    return logits.unflatten(1, (-1, group_size))


def _half_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, G, g) -> probabilities of the codes of the first g // 2 signs (N, G, 2^(g // 2)), and of the other signs."""
    size = logits.shape[-1]
    first, second = logits.split([size // 2, size - size // 2], dim=-1)
    return (first @ _all_codes(first)).softmax(dim=-1), (second @ _all_codes(second)).softmax(dim=-1)


def _all_codes(logits: Tensor) -> Tensor:
    """(g, 2^g) signs of every code, the first one most significant, for logits (..., g)."""
    size = logits.shape[-1]
    codes = torch.arange(2**size, dtype=torch.int64, device=logits.device)
    shifts = torch.arange(size - 1, -1, -1, dtype=torch.int64, device=logits.device)
    return (codes >> shifts[:, None] & 1).to(logits.dtype) * 2 - 1


def _sum_over_chunks(function: Callable[[Tensor], Tensor], logits: Tensor, *, scores_per_group: int) -> Tensor:
    """The sum of `function` over chunks of logits (N, G, g), whose inner results are not kept for the backward pass."""
    size = CHUNK_SIZES.get(logits.device.type, CHUNK_SIZES["cuda"])
    rows = max(size // (logits.shape[1] * scores_per_group), 1)
    parts: Iterator[Tensor] = (_Recomputed.apply(function, part) for part in logits.split(rows))
    total = next(parts)
    for part in parts:
        total = total + part
    return total


class _Recomputed(torch.autograd.Function):
    """`function(x)`, of which the backward pass is given x alone. (torch.utils.checkpoint does the same, but loads the compiler first.)"""

    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        x = ctx.saved_tensors[0].detach().requires_grad_(True)
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            return None, torch.autograd.grad(ctx.function(x), x, gradient)[0]
