"""Losses: functions and small modules that know no family."""

from visiontok.losses.objectives import (
    AdaptiveWeightConfig,
    GanConfig,
    Objective,
    ObjectiveConfig,
    OwnTermsConfig,
    OwnTermsObjective,
    ReconstructionConfig,
    ReconstructionObjective,
    TeacherCodesConfig,
    TeacherCodesObjective,
)
from visiontok.losses.pixels import PixelRange

__all__ = [
    "AdaptiveWeightConfig",
    "GanConfig",
    "Objective",
    "ObjectiveConfig",
    "OwnTermsConfig",
    "OwnTermsObjective",
    "PixelRange",
    "ReconstructionConfig",
    "ReconstructionObjective",
    "TeacherCodesConfig",
    "TeacherCodesObjective",
]
