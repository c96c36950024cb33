"""Sampling strategies: small objects that any generator can use."""

from visiontok.base.noise import GeneratorNoise, Noise, NoiseLike, RecordedNoise, SampleNoise, as_noise
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.categorical import sample_categorical
from visiontok.generators.decoding.draft_tree import DraftTree
from visiontok.generators.decoding.filters import EntropyTopK, Filter, MinP, Temperature, TopK, TopP
from visiontok.generators.decoding.guidance import (
    ConstantGuidance,
    Guidance,
    GuidanceSchedule,
    IntervalGuidance,
    LinearGuidance,
    PowerCosineGuidance,
    RampGuidance,
    guidance_schedule,
    guide,
)
from visiontok.generators.decoding.iterative import IterativeSampler, IterativeSampling
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
from visiontok.generators.decoding.next_token import NextTokenSampler, NextTokenSampling
from visiontok.generators.decoding.speculative import Acceptance, ExactAcceptance, SpeculativeSampler

__all__ = [
    "Acceptance",
    "ConstantGuidance",
    "DraftTree",
    "EntropyTopK",
    "ExactAcceptance",
    "Filter",
    "GeneratorNoise",
    "Guidance",
    "GuidanceSchedule",
    "IntervalGuidance",
    "IterativeSampler",
    "IterativeSampling",
    "LanternAcceptance",
    "LatentSampler",
    "LatentSampling",
    "LinearGuidance",
    "MinP",
    "NextTokenSampler",
    "NextTokenSampling",
    "Noise",
    "NoiseLike",
    "PowerCosineGuidance",
    "RampGuidance",
    "RecordedNoise",
    "Relaxation",
    "SampleNoise",
    "SamplingConfig",
    "SpeculativeSampler",
    "Temperature",
    "TopK",
    "TopP",
    "TreeAcceptance",
    "accept_dynamic_tree",
    "accept_greedily",
    "accept_static_tree",
    "as_noise",
    "guidance_schedule",
    "guide",
    "nearest_latents",
    "sample_categorical",
]
