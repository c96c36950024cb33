"""The draws that lead to recorded values, for passes whose fixtures hold the values and not the draws."""

from __future__ import annotations

import torch
from torch import Tensor

from visiontok.base.noise import RecordedNoise
from visiontok.decoders.flow.training import LogitNormalTimes, TimeSchedule
from visiontok.layers.nested_dropout import LengthSchedule


def draws_of_times(schedule: TimeSchedule, times: Tensor) -> dict[str, list[Tensor]]:
    """By distribution, the draws (B,) at which a schedule, which maps one of them to times monotonically, gives these times (B,)."""
    name, low, high = ("normal", -8.0, 8.0) if isinstance(schedule, LogitNormalTimes) else ("uniform", 0.0, 1.0)
    below, above = torch.full_like(times, low), torch.full_like(times, high)

    def at(draw: Tensor) -> Tensor:
        return schedule.draw(len(draw), RecordedNoise(**{name: [draw]}))

    rises = at(above) > at(below)
    for _ in range(50):
        middle = (below + above) / 2
        is_low = (at(middle) < times) == rises
        below, above = torch.where(is_low, middle, below), torch.where(is_low, above, middle)
    draw = (below + above) / 2
    torch.testing.assert_close(at(draw), times, rtol=0, atol=1e-6)
    return {"uniform": [], "normal": [], name: [draw]}


def draws_of_lengths(schedule: LengthSchedule, lengths: Tensor, longest: int) -> Tensor:
    """Uniform draws (B,) at which a schedule gives these lengths (B,)."""
    candidates = (torch.arange(16 * longest) + 0.5) / (16 * longest)
    found = schedule.draw(len(candidates), longest, noise=RecordedNoise(uniform=[candidates]))
    return torch.stack([candidates[found == length].median() for length in lengths])
