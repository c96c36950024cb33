"""Losses: functions and small modules that know no family."""

from visiontok.losses.objectives import (
    AdaptiveWeightConfig,
    GanConfig,
    Objective,
    ObjectiveConfig,
    OwnTermsConfig,
    OwnTermsObjective,
    ProxyCodesConfig,
    ProxyCodesObjective,
    ReconstructionConfig,
    ReconstructionObjective,
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
    "ProxyCodesConfig",
    "ProxyCodesObjective",
    "ReconstructionConfig",
    "ReconstructionObjective",
]
