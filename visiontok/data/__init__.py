"""Pictures from files and built-in sets, and token data sets."""

from visiontok.data.batch import Batch
from visiontok.data.config import DataConfig, open_source, parse_source
from visiontok.data.crops import CenterCrop, RandomCrop, RandomScaleCrop
from visiontok.data.eval_loader import EvalLoader
from visiontok.data.plan import BatchPlan
from visiontok.data.skips import Skip, SkipReport
from visiontok.data.source import ImageSource, Sample
from visiontok.data.texts import Texts, TextsConfig, texts_of
from visiontok.data.train_loader import LoaderConfig, TrainLoader

__all__ = [
    "Batch",
    "BatchPlan",
    "CenterCrop",
    "DataConfig",
    "EvalLoader",
    "ImageSource",
    "LoaderConfig",
    "RandomCrop",
    "RandomScaleCrop",
    "Sample",
    "Skip",
    "SkipReport",
    "Texts",
    "TextsConfig",
    "TrainLoader",
    "open_source",
    "parse_source",
    "texts_of",
]
