"""Learning rates as functions of the step alone, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive


class ScheduleConfig(Config):
    """Linear warm-up, then constant, a cosine to `min_lr_ratio` of the peak, or drops at milestones.

    Attributes:
        kind: shape after the warm-up.
        warmup: steps over which the rate rises linearly to its peak; 0 starts at the peak.
        min_lr_ratio: the rate at the end of the cosine, as a share of the peak.
        milestones: steps from which on the rate is multiplied by `drop` once more.
        drop: see `milestones`.
        steps: length of the schedule; None means the recipe's `steps`. Set it to lengthen a run later without bending its cosine.
    """

    kind: Literal["cosine", "constant", "milestones"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    milestones: tuple[Positive, ...] = ()
    drop: Annotated[float, Field(gt=0, le=1)] = 0.1
    steps: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        if (self.kind == "milestones") != bool(self.milestones):
            raise ValueError(f'milestones {self.milestones} go with kind "milestones", not with "{self.kind}"; give both or neither')
        return self


def learning_rate(config: ScheduleConfig, *, peak: float, step: int, steps: int) -> float:
    """The rate of step `step` (counted from 0) of a run of `steps` steps."""
    length = config.steps or steps
    if step < config.warmup:
        return peak * (step + 1) / config.warmup
    if config.kind == "constant":
        return peak
    if config.kind == "milestones":
        return float(peak * config.drop ** sum(step >= milestone for milestone in config.milestones))
    progress = min(1.0, (step - config.warmup) / max(1, length - config.warmup))
    lowest = peak * config.min_lr_ratio
    return lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * progress))
