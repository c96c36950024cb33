"""Entropies of implicit codes: low for every sample, so that codes are certain, and high over a batch, so that all codes are used.

A latent gives each code c the probability softmax(x.c) over all codes, for logits x. Codes are all combinations of the values of their entries: two
signs, or the levels of finite scalars. The exponent is a sum over entries, so that entries are independent: of signs, P(c) =
prod_j sigmoid(2 c_j x_j). That is why nothing here builds a matrix of N latents by 2^18 codes: a code is half its entries beside the other half, and
the mean of N outer products of 512 by 512 probabilities is one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

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

Halves: TypeAlias = tuple[Tensor, Tensor]
"""(entries, codes) of the first entries of a code, and of the others."""


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

    return _sample_entropy(_grouped(logits, group_size), _sign_halves(group_size, logits), floor)


def mean_probabilities(logits: Tensor, *, group_size: int) -> Tensor:
    """How probable each code of each group is, averaged over latents.

    Args:
        logits: (N, D) per sign.
        group_size: g.

    Returns:
        (D / g, 2^g); the first sign of a group is the most significant bit of a code's index.
    """

    return _mean_probabilities(_grouped(logits, group_size), _sign_halves(group_size, logits))


def product_entropies(logits: Tensor, values: Sequence[Tensor], floor: LogFloor) -> tuple[Tensor, Tensor]:
    """For codes that are all combinations of D entries: the entropy of a latent, averaged over latents, and the probabilities averaged over latents.

    Args:
        logits: (N, D) per entry.
        values: of every entry, (L_d,) float32 each.
        floor: of the logarithm.

    Returns:
        a scalar, in nats, and (prod L_d,) with the last entry varying fastest.
    """
    half = len(values) // 2
    halves = _combinations(values[:half], logits), _combinations(values[half:], logits)
    return _sample_entropy(logits[:, None], halves, floor), _mean_probabilities(logits[:, None], halves)[0]


def _sample_entropy(logits: Tensor, halves: Halves, floor: LogFloor) -> Tensor:
    """Logits (N, G, g) -> the entropy summed over groups and averaged over N."""

    def chunk(rows: Tensor) -> Tensor:
        first, second = _half_probabilities(rows, halves)
        return entropy((first[..., :, None] * second[..., None, :]).flatten(-2), floor).sum()

    return _sum_over_chunks(chunk, logits, scores_per_group=halves[0].shape[1] * halves[1].shape[1]) / max(len(logits), 1)


def _mean_probabilities(logits: Tensor, halves: Halves) -> Tensor:
    """Logits (N, G, g) -> (G, codes), averaged over N."""

    def chunk(rows: Tensor) -> Tensor:
        return torch.einsum("nga,ngb->gab", *_half_probabilities(rows, halves))

    scores = max(half.shape[1] for half in halves)
    return _sum_over_chunks(chunk, logits, scores_per_group=scores).flatten(1) / max(len(logits), 1)


def _grouped(logits: Tensor, group_size: int) -> Tensor:
    return logits.unflatten(1, (-1, group_size))


def _half_probabilities(logits: Tensor, halves: Halves) -> Halves:
    """Logits (N, G, g) -> probabilities of the codes of the first entries (N, G, K1), and of the others (N, G, K2)."""
    parts = logits.split([len(half) for half in halves], dim=-1)
    return (parts[0] @ halves[0]).softmax(dim=-1), (parts[1] @ halves[1]).softmax(dim=-1)


def _sign_halves(size: int, like: Tensor) -> Halves:
    """All codes of the first size // 2 signs, and of the other signs."""
    return _all_codes(size // 2, like), _all_codes(size - size // 2, like)


def _combinations(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """(entries, codes): all combinations of the entries' values, the last entry varying fastest."""
    if not values:
        return like.new_zeros(0, 1)
    return torch.stack(torch.meshgrid(*(own.to(like) for own in values), indexing="ij")).flatten(1)


def _all_codes(size: int, like: Tensor) -> Tensor:
    """(g, 2^g) signs of every code, the first one most significant."""
    codes = torch.arange(2**size, dtype=torch.int64, device=like.device)
    shifts = torch.arange(size - 1, -1, -1, dtype=torch.int64, device=like.device)
    return (codes >> shifts[:, None] & 1).to(like.dtype) * 2 - 1


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
