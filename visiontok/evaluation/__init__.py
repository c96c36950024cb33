"""Evaluation: metrics, suites of them, results with their protocols, and reports. Metrics as functions are in `visiontok.metrics`."""

from visiontok.evaluation.features import FeatureExtractor, FunctionExtractor, find_extractor
from visiontok.evaluation.features.protocol import PROTOCOLS, Protocol, find_protocol
from visiontok.evaluation.features.statistics import read_statistics, write_statistics
from visiontok.evaluation.generation.run import evaluate_samples
from visiontok.evaluation.generation.samples import open_samples
from visiontok.evaluation.generation.sampling import SamplePlan, write_samples
from visiontok.evaluation.generation.suite import GenerationSuite
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, Interval
from visiontok.evaluation.metrics.frechet import frechet_distance
from visiontok.evaluation.metrics.registry import METRICS, find_metric
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.reconstruction.run import NamedGenerator, ReconstructionRun, evaluate_suite
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.evaluation.results.comparison import changes, compare_results
from visiontok.evaluation.results.identity import model_identity
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import Result
from visiontok.evaluation.suites import list_suites, load_any_suite, load_suite

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "BootstrapConfig",
    "FeatureExtractor",
    "FunctionExtractor",
    "GenerationSuite",
    "Interval",
    "MetricValue",
    "NamedGenerator",
    "PerSampleResults",
    "Protocol",
    "ReconstructionRun",
    "Result",
    "SamplePlan",
    "Suite",
    "changes",
    "compare_results",
    "evaluate_samples",
    "evaluate_suite",
    "find_extractor",
    "find_metric",
    "find_protocol",
    "frechet_distance",
    "list_suites",
    "load_any_suite",
    "load_suite",
    "model_identity",
    "open_samples",
    "read_statistics",
    "write_samples",
    "write_statistics",
]
