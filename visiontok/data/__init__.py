"""Signals from files and built-in sets, and token data sets."""

from visiontok.data.batch import DataBatch
from visiontok.data.config import DataConfig, open_source, parse_source
from visiontok.data.crops import CenterCrop, RandomCrop, RandomScaleCrop
from visiontok.data.eval_loader import EvalLoader
from visiontok.data.plan import BatchPlan
from visiontok.data.skips import Skip, SkipReport
from visiontok.data.source import Sample, Source
from visiontok.data.texts import Texts, TextsConfig, texts_of
from visiontok.data.train_loader import LoaderConfig, TrainLoader

__all__ = [
    "BatchPlan",
    "CenterCrop",
    "DataBatch",
    "DataConfig",
    "EvalLoader",
    "LoaderConfig",
    "RandomCrop",
    "RandomScaleCrop",
    "Sample",
    "Skip",
    "SkipReport",
    "Source",
    "Texts",
    "TextsConfig",
    "TrainLoader",
    "open_source",
    "parse_source",
    "texts_of",
]
