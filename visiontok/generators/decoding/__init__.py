"""Sampling strategies: small objects that any generator can use."""

from visiontok.base.noise import GeneratorNoise, Noise, NoiseLike, RecordedNoise, SampleNoise, as_noise
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.categorical import sample_categorical
from visiontok.generators.decoding.cells import CellSampler, CellSampling, EulerMaruyamaSolver, EulerSolver
from visiontok.generators.decoding.continuous_speculative import ContinuousSpeculativeSampler, PaperVerification, ReferenceVerification
from visiontok.generators.decoding.draft_tree import EAGLE_TREE, LANTERN_TREE, DraftTree
from visiontok.generators.decoding.drafted import DraftedSampler
from visiontok.generators.decoding.drafting import Drafter, DynamicTree, StaticTree, TreeDrafting
from visiontok.generators.decoding.filters import EntropyTopK, Filter, MinP, Temperature, TopK, TopP
from visiontok.generators.decoding.guidance import (
    ConstantGuidance,
    Guidance,
    GuidanceSchedule,
    IntervalGuidance,
    LinearGuidance,
    PowerCosineGuidance,
    RampGuidance,
    RisingGuidance,
    guidance_schedule,
    guide,
)
from visiontok.generators.decoding.iterative import IterativeSampler, MaskGITSampler, MaskGITSampling, TiTokSampler, TiTokSampling
from visiontok.generators.decoding.lantern import (
    LanternAcceptance,
    Relaxation,
    TreeAcceptance,
    accept_dynamic_tree,
    accept_greedily,
    accept_static_tree,
    nearest_latents,
)
from visiontok.generators.decoding.latents import LatentSampler, LatentSampling
from visiontok.generators.decoding.masked_autoregressive import (
    MaskedLatentSampler,
    MaskedLatentSampling,
    MaskedSchedule,
    MaskedTokenSampler,
    MaskedTokenSampling,
)
from visiontok.generators.decoding.next_token import NextTokenSampler, NextTokenSampling
from visiontok.generators.decoding.speculative import Acceptance, ExactAcceptance, SpeculativeSampler
from visiontok.generators.decoding.tree import TreeSampler

__all__ = [
    "EAGLE_TREE",
    "LANTERN_TREE",
    "Acceptance",
    "CellSampler",
    "CellSampling",
    "ConstantGuidance",
    "ContinuousSpeculativeSampler",
    "DraftTree",
    "DraftedSampler",
    "Drafter",
    "DynamicTree",
    "EntropyTopK",
    "EulerMaruyamaSolver",
    "EulerSolver",
    "ExactAcceptance",
    "Filter",
    "GeneratorNoise",
    "Guidance",
    "GuidanceSchedule",
    "IntervalGuidance",
    "IterativeSampler",
    "LanternAcceptance",
    "LatentSampler",
    "LatentSampling",
    "LinearGuidance",
    "MaskGITSampler",
    "MaskGITSampling",
    "MaskedLatentSampler",
    "MaskedLatentSampling",
    "MaskedSchedule",
    "MaskedTokenSampler",
    "MaskedTokenSampling",
    "MinP",
    "NextTokenSampler",
    "NextTokenSampling",
    "Noise",
    "NoiseLike",
    "PaperVerification",
    "PowerCosineGuidance",
    "RampGuidance",
    "RecordedNoise",
    "ReferenceVerification",
    "Relaxation",
    "RisingGuidance",
    "SampleNoise",
    "SamplingConfig",
    "SpeculativeSampler",
    "StaticTree",
    "Temperature",
    "TiTokSampler",
    "TiTokSampling",
    "TopK",
    "TopP",
    "TreeAcceptance",
    "TreeDrafting",
    "TreeSampler",
    "accept_dynamic_tree",
    "accept_greedily",
    "accept_static_tree",
    "as_noise",
    "guidance_schedule",
    "guide",
    "nearest_latents",
    "sample_categorical",
]
