"""The metrics that a suite can ask for, by name."""

from __future__ import annotations

from collections.abc import Sequence

from visiontok.evaluation.features import Classifier, FeatureExtractor
from visiontok.evaluation.measures.base import Batch, Measure
from visiontok.evaluation.measures.classifier import ClassifierMeasure
from visiontok.evaluation.measures.codebook import CodebookMeasure, RateMeasure
from visiontok.evaluation.measures.fidelity import PsnrMeasure, ms_ssim_measure, mse_measure, ssim_measure
from visiontok.evaluation.measures.frechet import FrechetMeasure
from visiontok.evaluation.suite import Suite
from visiontok.layout import TokenLayout

__all__ = ["Batch", "Measure", "build_measures"]

_PIXELS = {"mse": mse_measure, "psnr": PsnrMeasure, "ssim": ssim_measure, "ms_ssim": ms_ssim_measure}


def build_measures(suite: Suite, layout: TokenLayout, extractors: Sequence[FeatureExtractor]) -> tuple[dict[str, Measure], dict[str, str]]:
    """The measures of a suite for a tokenizer of this layout, and why others that the suite asks for are omitted."""
    measures: dict[str, Measure] = {}
    omitted: dict[str, str] = {}
    for metric in suite.metrics:
        if metric in _PIXELS:
            measures[metric] = _PIXELS[metric]()
        elif metric in ("codebook", "rate"):
            if layout.is_continuous:
                omitted[metric] = "the latents are continuous: there are no ids to count"
            else:
                measures[metric] = CodebookMeasure(layout) if metric == "codebook" else RateMeasure()
        elif metric == "frechet":
            for extractor in extractors:
                measures[f"frechet.{extractor.name}"] = FrechetMeasure(extractor, allow_few_samples=suite.allow_few_samples)
        elif metric == "classifier":
            for extractor in extractors:
                if isinstance(extractor, Classifier):
                    measures[f"classifier.{extractor.name}"] = ClassifierMeasure(extractor)
    return measures, omitted
