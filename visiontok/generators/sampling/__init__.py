"""Sampling strategies: small objects that any generator can use."""

from visiontok.generators.sampling.base import SamplingConfig
from visiontok.generators.sampling.categorical import sample_categorical
from visiontok.generators.sampling.filters import Filter, Temperature, TopK, TopP
from visiontok.generators.sampling.guidance import ConstantGuidance, Guidance, LinearGuidance, PowerCosineGuidance, guide
from visiontok.generators.sampling.iterative import IterativeSampler, IterativeSampling
from visiontok.generators.sampling.next_token import NextTokenSampler, NextTokenSampling
from visiontok.generators.sampling.noise import GeneratorNoise, Noise, NoiseLike, RecordedNoise, SampleNoise, as_noise

__all__ = [
    "ConstantGuidance",
    "Filter",
    "GeneratorNoise",
    "Guidance",
    "IterativeSampler",
    "IterativeSampling",
    "LinearGuidance",
    "NextTokenSampler",
    "NextTokenSampling",
    "Noise",
    "NoiseLike",
    "PowerCosineGuidance",
    "RecordedNoise",
    "SampleNoise",
    "SamplingConfig",
    "Temperature",
    "TopK",
    "TopP",
    "as_noise",
    "guide",
    "sample_categorical",
]
