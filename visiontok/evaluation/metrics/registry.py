"""The metrics that a suite can ask for, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.features import Classifier, FeatureExtractor
from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.entries.classifier import ClassifierMeasure
from visiontok.evaluation.metrics.entries.codebook import CodebookMeasure, RateMeasure
from visiontok.evaluation.metrics.entries.complexity import ComplexityMeasure, why_no_complexity
from visiontok.evaluation.metrics.entries.feature_sets import FEATURE_SETS, FeatureSetMeasure
from visiontok.evaluation.metrics.entries.fidelity import PsnrMeasure, ms_ssim_measure, mse_measure, ssim_measure
from visiontok.evaluation.metrics.entries.frechet import FrechetMeasure
from visiontok.evaluation.metrics.entries.perceptual import PERCEPTUAL
from visiontok.evaluation.metrics.entries.perturbed import PerturbedFrechetMeasure, why_not_perturbed
from visiontok.evaluation.metrics.entries.token_statistics import TokenStatisticsMeasure
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.tokens import TokenLayout

__all__ = ["Batch", "Measure", "build_measures"]

_PIXELS = {"mse": mse_measure, "psnr": PsnrMeasure, "ssim": ssim_measure, "ms_ssim": ms_ssim_measure}
_TOKENS: dict[str, Callable[[TokenLayout], Measure]] = {
    "codebook": CodebookMeasure,
    "rate": lambda _: RateMeasure(),
    "token_statistics": TokenStatisticsMeasure,
}


def build_measures(
    suite: Suite,
    layout: TokenLayout,
    extractors: Sequence[FeatureExtractor],
    *,
    tokenizer: Tokenizer[Any] | None = None,
    samples: int | None = None,
) -> tuple[dict[str, Measure], dict[str, str]]:
    """The measures of a suite for a tokenizer of this layout, and why others that the suite asks for are omitted.

    Args:
        suite: what is asked for.
        layout: of the tokens.
        extractors: whose features the distances are computed over.
        tokenizer: for measures that decode other tokens than its own; networks of perceptual distances go to its device.
        samples: how many images there will be over all processes; without it distances have no intervals.
    """
    measures: dict[str, Measure] = {}
    omitted: dict[str, str] = {}
    device = torch.device("cpu") if tokenizer is None else tokenizer.device
    over_sets = tuple(metric for metric in suite.metrics if metric in FEATURE_SETS)
    if "inception_score" in over_sets and not any(isinstance(extractor, InceptionV3Compat) for extractor in extractors):
        omitted["inception_score"] = "none of the extractors is the Inception network"
        over_sets = tuple(metric for metric in over_sets if metric != "inception_score")
    for metric in suite.metrics:
        if metric in _PIXELS:
            measures[metric] = _PIXELS[metric]()
        elif metric in PERCEPTUAL:
            measures[metric] = PERCEPTUAL[metric](device=device)
        elif metric in _TOKENS:
            if layout.is_continuous:
                omitted[metric] = "the latents are continuous: there are no ids to count"
            elif metric == "token_statistics" and layout.ragged:
                omitted[metric] = "the number of ids varies from picture to picture"
            else:
                measures[metric] = _TOKENS[metric](layout)
        elif metric == "complexity":
            reason = why_no_complexity(tokenizer, layout)
            if reason is not None:
                omitted[metric] = reason
            elif tokenizer is not None:
                measures[metric] = ComplexityMeasure(tokenizer)
        elif metric == "frechet":
            for extractor in extractors:
                measures[f"frechet.{extractor.name}"] = FrechetMeasure(extractor, allow_few_samples=suite.allow_few_samples, samples=samples)
        elif metric == "perturbed_frechet":
            reason = why_not_perturbed(tokenizer, suite.perturbations)
            if reason is not None:
                omitted[metric] = reason
            elif tokenizer is not None:
                measures[metric] = PerturbedFrechetMeasure(tokenizer, extractors, grid=suite.perturbations, allow_few_samples=suite.allow_few_samples)
        elif metric == "classifier":
            for extractor in extractors:
                if isinstance(extractor, Classifier):
                    measures[f"classifier.{extractor.name}"] = ClassifierMeasure(extractor)
    if over_sets:
        for extractor in extractors:
            measures[f"feature_sets.{extractor.name}"] = FeatureSetMeasure(extractor, over_sets)
    return measures, omitted
