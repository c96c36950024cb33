"""How many tokens a decoder sees at a time of its flow (Selftok's token schedule, Wang et al. 2025, arXiv 2505.07538)."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive


class VisibleTokens(Config):
    """All tokens at pure noise, only the first one at the end; within each stage their number grows linearly with the time.

    Attributes:
        stages: where each stage ends, in thousandths of the flow's time, rising to 1000.
        tokens_per_stage: how many tokens become visible within it, from time 0 on; their sum is the number of tokens K.
    """

    stages: tuple[Positive, ...] = Field(min_length=1)
    tokens_per_stage: tuple[Positive, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> VisibleTokens:
        if len(self.stages) != len(self.tokens_per_stage):
            raise ValueError(f"{len(self.tokens_per_stage)} tokens_per_stage for {len(self.stages)} stages")
        if list(self.stages) != sorted(set(self.stages)) or self.stages[-1] != 1000:
            raise ValueError(f"stages must rise and end at 1000, got {self.stages}")
        return self

    def at(self, thousandths: Tensor) -> Tensor:
        """Times (B,) in [0, 1000], whole or not -> how many tokens are seen, (B,) int64 from 1 to K, always the first ones."""
        times = thousandths.double()
        starts, ends = (torch.tensor(bounds, dtype=torch.float64, device=times.device) for bounds in ((0, *self.stages[:-1]), self.stages))
        counts = torch.tensor(self.tokens_per_stage, dtype=torch.float64, device=times.device)
        stage = torch.searchsorted(starts, times, right=True) - 1
        slopes, before = counts / (ends - starts), counts.cumsum(0) - counts
        last = (before[stage] + slopes[stage] * (times - starts[stage])).long()
        return last.clamp_max(sum(self.tokens_per_stage) - 1) + 1
