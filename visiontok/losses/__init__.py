"""Losses: functions and small modules that know no family."""

from visiontok.losses.objectives import (
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

__all__ = [
    "GanConfig",
    "Objective",
    "ObjectiveConfig",
    "OwnTermsConfig",
    "OwnTermsObjective",
    "ProxyCodesConfig",
    "ProxyCodesObjective",
    "ReconstructionConfig",
    "ReconstructionObjective",
]
