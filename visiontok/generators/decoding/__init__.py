"""Sampling strategies: small objects that any generator can use."""

from visiontok.base.noise import GeneratorNoise, Noise, NoiseLike, RecordedNoise, SampleNoise, as_noise
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.generators.decoding.categorical import sample_categorical
from visiontok.generators.decoding.cells import CellSampler, CellSampling, EulerMaruyamaSolver, EulerSolver
from visiontok.generators.decoding.continuous_speculative import ContinuousSpeculativeSampler, PaperVerification, ReferenceVerification
from visiontok.generators.decoding.filters import Filter, MinP, Temperature, TopK, TopP
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
from visiontok.generators.decoding.latents import LatentSampler, LatentSampling
from visiontok.generators.decoding.masked_autoregressive import (
    MaskedLatentSampler,
    MaskedLatentSampling,
    MaskedSchedule,
    MaskedTokenSampler,
    MaskedTokenSampling,
)
from visiontok.generators.decoding.next_token import NextTokenSampler, NextTokenSampling

__all__ = [
    "CellSampler",
    "CellSampling",
    "ConstantGuidance",
    "ContinuousSpeculativeSampler",
    "EulerMaruyamaSolver",
    "EulerSolver",
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
    "RisingGuidance",
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
