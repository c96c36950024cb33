"""Losses: functions and small modules that know no family."""

from typing import Annotated, TypeAlias

from pydantic import Field

from visiontok.losses.adversary import AdaptiveWeightConfig, ClipGanConfig, GanConfig
from visiontok.losses.codec import CodecConfig, CodecGanConfig, CodecObjective
from visiontok.losses.objectives import (
    ModelLossesConfig,
    ModelLossesObjective,
    Objective,
    TeacherCodesConfig,
    TeacherCodesObjective,
)
from visiontok.losses.reconstruction import ReconstructionConfig, ReconstructionObjective

ObjectiveConfig: TypeAlias = Annotated[ReconstructionConfig | CodecConfig | TeacherCodesConfig | ModelLossesConfig, Field(discriminator="name")]
"""What a recipe may name as its objective."""

__all__ = [
    "AdaptiveWeightConfig",
    "ClipGanConfig",
    "CodecConfig",
    "CodecGanConfig",
    "CodecObjective",
    "GanConfig",
    "ModelLossesConfig",
    "ModelLossesObjective",
    "Objective",
    "ObjectiveConfig",
    "ReconstructionConfig",
    "ReconstructionObjective",
    "TeacherCodesConfig",
    "TeacherCodesObjective",
]
