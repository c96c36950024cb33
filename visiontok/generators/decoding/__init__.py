"""Sampling strategies: small objects that any generator can use."""

from visiontok.base.noise import GeneratorNoise, Noise, NoiseLike, RecordedNoise, SampleNoise, as_noise
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.categorical import sample_categorical
from visiontok.generators.decoding.filters import Filter, MinP, Temperature, TopK, TopP
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
from visiontok.generators.decoding.iterative import IterativeSampler, MaskGITSampler, MaskGITSampling, TiTokSampler, TiTokSampling
from visiontok.generators.decoding.latents import LatentSampler, LatentSampling
from visiontok.generators.decoding.next_token import NextTokenSampler, NextTokenSampling

__all__ = [
    "ConstantGuidance",
    "Filter",
    "GeneratorNoise",
    "Guidance",
    "GuidanceSchedule",
    "IntervalGuidance",
    "IterativeSampler",
    "LatentSampler",
    "LatentSampling",
    "LinearGuidance",
    "MaskGITSampler",
    "MaskGITSampling",
    "MinP",
    "NextTokenSampler",
    "NextTokenSampling",
    "Noise",
    "NoiseLike",
    "PowerCosineGuidance",
    "RampGuidance",
    "RecordedNoise",
    "SampleNoise",
    "SamplingConfig",
    "Temperature",
    "TiTokSampler",
    "TiTokSampling",
    "TopK",
    "TopP",
    "as_noise",
    "guidance_schedule",
    "guide",
    "sample_categorical",
]
