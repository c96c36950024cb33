"""The center of every signal, as evaluation sees what training cuts at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from visiontok.data.crops import CenterCrop
from visiontok.data.source import MappedSource, Sample, Source, fingerprint
from visiontok.data.train_loader import LoaderConfig, cut, resized_clip, side_of, window_of
from visiontok.signals import ImagePreprocessing, Preprocessing
from visiontok.signals.video_reading import Clip


class CenterCut(MappedSource):
    """Another source with every signal preprocessed and cut to the size of training; those that are shorter stay whole.

    Args:
        source: of the signals.
        config: of the training, which says the size; of several strides of frames, the smallest is taken.
        preprocessing: of the model.
    """

    def __init__(self, source: Source, config: LoaderConfig, *, preprocessing: Preprocessing) -> None:
        super().__init__(source)
        self._config, self._preprocessing, self._window = config, preprocessing, window_of(config.size, source.modality)
        self._stride = config.frame_stride if isinstance(config.frame_stride, int) else config.frame_stride[0]
        self._side = side_of(self._window, source.modality)
        self._resizing = ImagePreprocessing(size=self._side, interpolation=config.interpolation)

    @property
    def identity(self) -> str:
        return fingerprint("centers", len(self), [self._source.identity, str(self._config.size), *([str(self._stride)] if self._stride > 1 else [])])

    def read(self, index: int) -> Sample:
        sample = self._source.read(index)
        signal = sample.signal
        if isinstance(signal, Clip) and self._side is not None:
            clip = resized_clip(signal, CenterCrop(), self._side, self._resizing)
            signal = torch.from_numpy(np.ascontiguousarray(clip.frames.transpose(3, 0, 1, 2)))
        (values,) = self._preprocessing([signal])
        assert self._window is not None
        where = cut(values.shape[1:], self._window, np.random.default_rng(0), at_center=True, frame_stride=self._stride)
        return replace(sample, signal=values[where])
