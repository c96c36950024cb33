"""Heads: from what a backbone gives at a step to distributions over codes, or to a continuous latent."""

from visiontok.generators.heads.base import Choose, Embed, LatentHead, TokenHead
from visiontok.generators.heads.categorical import CategoricalHead, CodeDistributions, CodeTable, IndependentHead
from visiontok.generators.heads.channel import ChannelHead, ChannelHeadConfig
from visiontok.generators.heads.diffusion import DiffusionHead, DiffusionHeadConfig
from visiontok.generators.heads.flow import FlowHead, FlowHeadConfig
from visiontok.generators.heads.fourier import FourierHead, FourierHeadConfig, FourierTable
from visiontok.generators.heads.inner import InnerHead, InnerHeadConfig
from visiontok.generators.heads.mixture import GaussianMixture, MixtureHead, MixtureHeadConfig

__all__ = [
    "CategoricalHead",
    "ChannelHead",
    "ChannelHeadConfig",
    "Choose",
    "CodeDistributions",
    "CodeTable",
    "DiffusionHead",
    "DiffusionHeadConfig",
    "Embed",
    "FlowHead",
    "FlowHeadConfig",
    "FourierHead",
    "FourierHeadConfig",
    "FourierTable",
    "GaussianMixture",
    "IndependentHead",
    "InnerHead",
    "InnerHeadConfig",
    "LatentHead",
    "MixtureHead",
    "MixtureHeadConfig",
    "TokenHead",
]
