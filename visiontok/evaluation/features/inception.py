"""The extractors whose Fréchet distance is called FID: one network, with the preprocessing of each of the common programs."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from visiontok.evaluation.features.base import FeatureExtractor, described, load_into
from visiontok.evaluation.features.inception_network import InceptionNetwork
from visiontok.evaluation.features.protocol.resizes import Resize, resize_for_inception
from visiontok.evaluation.features.weight_files import LoadedWeights, WeightFile, verified_weights

INCEPTION_WEIGHTS = WeightFile(
    name="weights-inception-2015-12-05-6726825d.pth",
    size="91 MB",
    sha256="6726825d",
    source="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth "
    "(pytorch-fid's pt_inception-2015-12-05-6726825d.pth is the same file)",
    license="Apache-2.0",
)
Layer = Literal["64", "192", "768", "2048"]


class InceptionV3Compat(FeatureExtractor):
    """The 2048 pooled features after TensorFlow 1's resize, as torch-fidelity and ADM compute them.

    Attributes:
        resize: rule that brings images to 299 x 299.
        dtype: of the network.
    """

    name = "inception-v3-compat"
    width = 2048
    published_names = MappingProxyType({"FD": "FID", "pFD": "pFID", "MMD": "KID", "inception_score": "IS"})
    resize: ClassVar[Resize] = "tf1-bilinear"
    dtype: ClassVar[torch.dtype] = torch.float32
    range_rule: ClassVar[str] = "(level - 128) / 128"

    def __init__(self, weights: LoadedWeights | Path | str | None = None) -> None:
        """Build the network.

        Args:
            weights: loaded ones, or the path of the file; by default it is looked for in the weights' folder.

        Raises:
            CheckpointError: if the file is missing (says how to get it) or another one.
        """
        loaded = weights if isinstance(weights, LoadedWeights) else verified_weights(INCEPTION_WEIGHTS, weights)
        self.network = load_into(InceptionNetwork(), loaded, what="the Inception network").to(self.dtype)
        self.identity = described("inception-2015-12-05", self.resize, self.range_rule, str(self.dtype), loaded.sha256)
        precision, digest = str(self.dtype).removeprefix("torch."), loaded.sha256[:12]
        self.protocol = f"Inception 2015-12-05 pool features in {precision}, resize {self.resize} to 299, {self.range_rule}, weights {digest}"

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        return self

    def extract(self, images: Tensor) -> Tensor:
        return self.layers(images)["2048"]

    def layers(self, images: Tensor) -> dict[Layer, Tensor]:
        """The pooled features at four depths by their dimension, of images (B, 3, H, W) uint8."""
        resized = resize_for_inception(images.to(self.network.fc.weight.device), rule=self.resize).to(self.dtype)
        return self.network(self.normalize(resized))

    def normalize(self, images: Tensor) -> Tensor:
        """From levels 0 ... 255 to what the network takes."""
        return (images - 128) / 128

    def logits(self, features: Tensor, *, bias: bool = False) -> Tensor:
        """Class scores (B, 1008) of pooled features (B, 2048); the Inception Score takes them without the bias."""
        weight = self.network.fc.weight
        return self.network.logits(features.to(weight.device, self.dtype), bias=bias).cpu().double()


class InceptionV3CompatFloat64(InceptionV3Compat):
    """The same in double precision, as TiTok's evaluator does; slow, but the batch size does not change any significant digit."""

    name = "inception-v3-compat-float64"
    dtype = torch.float64


class InceptionV3PytorchFid(InceptionV3Compat):
    """As pytorch-fid: torch's bilinear resize, 2 level / 255 - 1. Features differ by 0.2 % even where nothing is resized."""

    name = "inception-v3-pytorch-fid"
    resize = "torch-bilinear"
    range_rule = "2 level / 255 - 1"

    def normalize(self, images: Tensor) -> Tensor:
        return 2 * (images / 255) - 1


class InceptionV3Clean(InceptionV3Compat):
    """As clean-fid's mode "clean": PIL's bicubic resize with antialiasing, not rounded."""

    name = "inception-v3-clean"
    resize = "clean"
