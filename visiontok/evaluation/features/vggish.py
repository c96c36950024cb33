"""VGGish (Hershey et al. 2017, arXiv 1609.09430): the Fréchet distance of its embeddings is called FAD (Kilgour et al. 2019, arXiv 1812.08466)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from visiontok.base.errors import CheckpointError
from visiontok.evaluation.features.base import described, load_into
from visiontok.evaluation.features.sound import WindowedExtractor
from visiontok.evaluation.features.weight_files import LoadedWeights, WeightFile, verified_weights
from visiontok.layers.kaldi_fbank import kaldi_triangles

VGGISH_WEIGHTS = WeightFile(
    name="vggish-10086976.pth",
    size="288 MB",
    sha256="10086976",
    source="release v0.1 of https://github.com/harritaylor/torchvggish, a port of the weights that Google published for TensorFlow",
    license="Apache-2.0",
)

WINDOW, HOP, FFT_SIZE, BANDS, FRAMES = 400, 160, 512, 64, 96
"""Of the log-mel examples: samples of a window and between windows, of its spectrum; bands; windows of an example."""

EXAMPLE = WINDOW + (FRAMES - 1) * HOP
"""Samples of an example."""

_LOWEST, _HIGHEST, _OFFSET = 125.0, 7500.0, 0.01

_CONVOLUTIONS, _POOLINGS = (0, 3, 6, 8, 11, 13), (2, 5, 10, 15)
"""Places of the layers in the published files; every convolution is followed by a ReLU."""


class Vggish(WindowedExtractor):
    """128 features of every 0.96 s of a recording, before the last activation and without PCA: (B, R, 128).

    Examples follow one another without overlap, as in Google's VGGish and its PyTorch port; shorter recordings are followed by silence.
    """

    name = "vggish"
    shortest = length = span = EXAMPLE
    step = FRAMES * HOP
    published_names = MappingProxyType({"FD": "FAD"})
    how: ClassVar[str] = "every 0.96 s"

    def __init__(self, weights: LoadedWeights | Path | str | None = None) -> None:
        """Build the network, whose sizes follow from the weights.

        Args:
            weights: loaded ones, or the path of the published file, which is otherwise looked for in the weights' folder. Over loaded ones, the
                distance is not called FAD.

        Raises:
            CheckpointError: if the file is missing (says how to get it) or another one.
        """
        loaded = weights if isinstance(weights, LoadedWeights) else verified_weights(VGGISH_WEIGHTS, weights)
        if isinstance(weights, LoadedWeights):
            self.published_names = MappingProxyType({})
        self.network = load_into(VggishNetwork.of_sizes(loaded), loaded, what="VGGish").eval().requires_grad_(False)
        self._device = torch.device("cpu")
        self.identity = described(self.name, loaded.sha256)
        self.protocol = f"VGGish embeddings of {self.how} at 16 kHz, before the last activation, no PCA, weights {loaded.sha256[:12]}"

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        self._device = torch.device(device)
        return self

    def embed_windows(self, windows: Tensor) -> Tensor:
        return self.network(log_mel_examples(windows.double()).float().to(self._device)).cpu()


class VggishOverlapping(Vggish):
    """As Google's program for FAD reads recordings: the first 0.96 s of every second, half a second apart, of sound that is divided by its largest
    sample, but by 0.1 at least."""

    name = "vggish-overlapping"
    span = 16000
    step = 8000
    how = "the first 0.96 s of every second, 0.5 s apart, of sound divided by its largest sample or 0.1"

    def windows(self, sounds: Tensor) -> Tensor:
        return super().windows(sounds / sounds.amax(dim=1, keepdim=True).clamp_min(0.1))


def log_mel_examples(samples: Tensor) -> Tensor:
    """(..., 15600) at 16 kHz -> (..., 96, 64): ln(magnitudes in 64 mel bands + 0.01) of windows of 25 ms, 10 ms apart."""
    windows = samples.unfold(-1, WINDOW, HOP) * torch.hann_window(WINDOW, dtype=samples.dtype)
    magnitudes = torch.fft.rfft(windows, n=FFT_SIZE).abs()[..., :-1]
    bands = kaldi_triangles(sample_rate=16000, num_bins=BANDS, size=FFT_SIZE, lowest=_LOWEST, highest=_HIGHEST).to(magnitudes)
    return (magnitudes @ bands + _OFFSET).log()


class VggishNetwork(nn.Module):
    """Six convolutions and three linear layers, named as in the PyTorch port.

    Args:
        channels: of the convolutions; published are 64, 128, 256, 256, 512, 512.
        hidden: of the first two linear layers, published 4096.
        dim: of the embedding, published 128.
    """

    def __init__(self, channels: tuple[int, ...], *, hidden: int, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((1, *channels)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            if len(layers) in _POOLINGS:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        read = channels[-1] * (FRAMES >> len(_POOLINGS)) * (BANDS >> len(_POOLINGS))
        self.embeddings = nn.Sequential(nn.Linear(read, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    @classmethod
    def of_sizes(cls, weights: LoadedWeights) -> VggishNetwork:
        """The network whose layers have the sizes of these weights.

        Raises:
            CheckpointError: if one of them is missing.
        """
        try:
            channels = tuple(len(weights.tensors[f"features.{place}.bias"]) for place in _CONVOLUTIONS)
            hidden, dim = (len(weights.tensors[f"embeddings.{place}.bias"]) for place in (0, 4))
        except KeyError as error:
            raise CheckpointError(f"these weights do not belong to VGGish: they have no {error}") from error
        return cls(channels, hidden=hidden, dim=dim)

    def forward(self, examples: Tensor) -> Tensor:
        """(N, 96, 64) log-mel examples -> (N, dim)."""
        maps = self.features(examples[:, None])  # (N, C, frames, bands)
        embeddings: Tensor = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))
        return embeddings
