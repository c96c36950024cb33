"""Measuring: metrics, suites of them, results that say what their numbers mean, and reports."""

from visiontok.evaluation.bootstrap import BootstrapConfig, Interval
from visiontok.evaluation.comparison import changes, compare_results
from visiontok.evaluation.evidence import Evidence
from visiontok.evaluation.features import FeatureExtractor, FunctionExtractor, find_extractor
from visiontok.evaluation.generation import evaluate_samples
from visiontok.evaluation.generation_suite import GenerationSuite
from visiontok.evaluation.harness import Measurement, evaluate_suite
from visiontok.evaluation.identity import model_identity
from visiontok.evaluation.metrics.frechet import frechet_distance
from visiontok.evaluation.protocol import PROTOCOLS, Protocol, find_protocol
from visiontok.evaluation.result import MetricValue, Result
from visiontok.evaluation.samples import open_samples
from visiontok.evaluation.sampling import SamplePlan, write_samples
from visiontok.evaluation.statistics_files import read_statistics, write_statistics
from visiontok.evaluation.suite import Suite, list_suites, load_any_suite, load_suite

__all__ = [
    "PROTOCOLS",
    "BootstrapConfig",
    "Evidence",
    "FeatureExtractor",
    "FunctionExtractor",
    "GenerationSuite",
    "Interval",
    "Measurement",
    "MetricValue",
    "Protocol",
    "Result",
    "SamplePlan",
    "Suite",
    "changes",
    "compare_results",
    "evaluate_samples",
    "evaluate_suite",
    "find_extractor",
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
