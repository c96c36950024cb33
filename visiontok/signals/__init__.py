"""Signals: what images, clips, sounds and features are, and how they become the batch that a model takes."""

from visiontok.signals.audio import AudioPreprocessing
from visiontok.signals.batch import SignalBatch
from visiontok.signals.features import FeaturePreprocessing
from visiontok.signals.image import ImagePreprocessing
from visiontok.signals.preprocessing import Preprocessing, SignalLike
from visiontok.signals.spec import SignalSpec
from visiontok.signals.video import VideoPreprocessing

__all__ = [
    "AudioPreprocessing",
    "FeaturePreprocessing",
    "ImagePreprocessing",
    "Preprocessing",
    "SignalBatch",
    "SignalLike",
    "SignalSpec",
    "VideoPreprocessing",
]
