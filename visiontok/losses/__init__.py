"""Losses: functions and small modules that know no family."""

from typing import Annotated, TypeAlias

from pydantic import Field

from visiontok.losses.objectives import (
    ModelLossesConfig,
    ModelLossesObjective,
    Objective,
<<<<<<< HEAD
=======
    ObjectiveConfig,
    OwnTermsConfig,
    OwnTermsObjective,
    ReconstructionConfig,
    ReconstructionObjective,
>>>>>>> main
    TeacherCodesConfig,
    TeacherCodesObjective,
)
from visiontok.losses.reconstruction import AdaptiveWeightConfig, GanConfig, ReconstructionConfig, ReconstructionObjective

ObjectiveConfig: TypeAlias = Annotated[ReconstructionConfig | TeacherCodesConfig | ModelLossesConfig, Field(discriminator="name")]
"""What a recipe may name as its objective."""

__all__ = [
    "AdaptiveWeightConfig",
    "GanConfig",
    "ModelLossesConfig",
    "ModelLossesObjective",
    "Objective",
    "ObjectiveConfig",
<<<<<<< HEAD
=======
    "OwnTermsConfig",
    "OwnTermsObjective",
    "PixelRange",
>>>>>>> main
    "ReconstructionConfig",
    "ReconstructionObjective",
    "TeacherCodesConfig",
    "TeacherCodesObjective",
]
