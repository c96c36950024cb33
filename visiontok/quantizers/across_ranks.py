"""What codebook updates need from the other processes; with one process every function is the identity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of every rank's tensor, the same on all ranks."""
    if _alone():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def mean_over_ranks(mean: Tensor, count: int) -> Tensor:
    """The mean over every rank's elements, the same on all ranks.

    Args:
        mean: over `count` elements of this rank. The gradient is that of this mean, as the average over ranks of a loss of the whole needs it, with
            each rank's multiplied by `share_of_mean`.
        count: of elements.
    """
    if _alone():
        return mean
    own, elements = mean.detach(), sum_over_ranks(mean.new_tensor(count))
    return mean + (sum_over_ranks(own * count) / elements.clamp_min(1) - own)


def stack_over_ranks(tensor: Tensor) -> Tensor:
    """Every rank's tensor on a new first axis, the same on all ranks."""
    if _alone():
        return tensor[None]
    everyone = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, tensor)
    return torch.stack(everyone)


def share_of_mean(count: Tensor) -> Tensor | None:
    """What this rank's mean over `count` (scalar) elements is multiplied by, so that the mean over ranks is that over all elements; None for 1."""
    if _alone():
        return None
    counts = stack_over_ranks(count.to(torch.float32))
    return count / counts.mean() if bool(counts.any()) else None


def num_rows(latents: Tensor) -> tuple[int, int]:
    """Rows of the global batch, and the index of the first row of this rank; the global batch is rank after rank."""
    if _alone():
        return len(latents), 0
    rows = stack_over_ranks(torch.tensor([len(latents)], dtype=torch.int64, device=latents.device)).flatten().tolist()
    return sum(rows), sum(rows[: dist.get_rank()])


def rows_of_global_batch(latents: Tensor, picks: Tensor) -> Tensor:
    """Rows `picks` (M,) of the global batch of latents: (M, D), the same on all ranks. Only M rows travel, never the batch."""
    if _alone():
        return latents[picks]
    _, first = num_rows(latents)
    local = picks - first
    here = (local >= 0) & (local < len(latents))
    rows = latents.new_zeros(len(picks), latents.shape[1])
    rows[here] = latents[local[here]]
    return sum_over_ranks(rows)


def rows_of_lowest_score(rows: Tensor, scores: Tensor) -> Tensor:
    """Of every rank's candidates `rows` (M, D), for each index the one with the lowest of the ranks' `scores` (M,): (M, D), the same on all ranks."""
    if _alone():
        return rows
    winners = stack_over_ranks(scores).argmin(dim=0)  # the first rank among equals
    return sum_over_ranks(rows * (winners == dist.get_rank())[:, None])


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
