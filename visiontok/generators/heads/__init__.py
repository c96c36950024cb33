"""Heads: from what a backbone gives at a position to a distribution over codes, or to a continuous latent."""

from visiontok.generators.heads.categorical import CategoricalHead
from visiontok.generators.heads.flow import FlowHead, FlowHeadConfig

__all__ = ["CategoricalHead", "FlowHead", "FlowHeadConfig"]
