"""One interface for everything that turns pictures into features or classes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from visiontok.base.errors import CheckpointError, EvaluationError
from visiontok.evaluation.features.weight_files import LoadedWeights


class FeatureExtractor(ABC):
    """Pictures (B, 3, H, W) uint8 -> features (B, D).

    Attributes:
        name: stands in the name of every metric computed with it, such as "FD[digit-classifier]".
        identity: a fingerprint of what it computes, weights included; equal extractors have equal identities.
        protocol: how it reads a picture, in words.
    """

    name: str
    identity: str
    protocol: str

    published_names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What metrics are called over these features and over no others: "FD" is called "FID" over Inception's."""

    def title(self, metric: str) -> str:
        """The name of a metric over these features, such as "FD[digit-classifier]" or "FID[inception-v3-compat]"."""
        return f"{self.published_names.get(metric, metric)}[{self.name}]"

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; those without a network stay where they are."""
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, D) float64 on the CPU.

        Raises:
            EvaluationError: for anything but uint8 (B, 3, H, W), or features of another shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise EvaluationError(
                f"{self.name} takes uint8 images (B, 3, H, W), got {images.dtype} {tuple(images.shape)}; make floats in [0, 1] 8-bit with to_uint8"
            )
        with torch.no_grad():
            features = self.extract(images)
        if features.ndim != 2 or len(features) != len(images):
            raise EvaluationError(f"{self.name} gave features of shape {tuple(features.shape)} for {len(images)} images; expected (B, D)")
        return features.cpu().double()

    @abstractmethod
    def extract(self, images: Tensor) -> Tensor:
        """Features (B, D) of checked images (B, 3, H, W) uint8."""


class Classifier(FeatureExtractor):
    """An extractor that also names a class."""

    def classify(self, images: Tensor) -> Tensor:
        """The likeliest class (B,) int64 of images (B, 3, H, W) uint8."""
        return self.logits_of(self(images)).argmax(dim=1)

    @abstractmethod
    def logits_of(self, features: Tensor) -> Tensor:
        """Class scores (B, classes) of features (B, D)."""


class FunctionExtractor(FeatureExtractor):
    """Any callable as an extractor."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, name: str, identity: str, protocol: str = "") -> None:
        """Wrap `function`, which maps uint8 images (B, 3, H, W) to features (B, D).

        Args:
            function: deterministic.
            name: for the metrics' names.
            identity: tells it from others of that name, for example the SHA-256 of its weights.
            protocol: how it reads a picture, in words.
        """
        self.name, self.identity, self.protocol = name, identity, protocol
        self._function = function

    def extract(self, images: Tensor) -> Tensor:
        return self._function(images)


NetworkT = TypeVar("NetworkT", bound=nn.Module)


def load_into(network: NetworkT, weights: LoadedWeights, *, what: str) -> NetworkT:
    """Put the weights in; counters of training batches may be missing.

    Raises:
        CheckpointError: if other tensors are missing, left over or of another shape.
    """
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counters, **weights.tensors})
    except RuntimeError as error:
        raise CheckpointError(f"these weights do not belong to {what}: {error}") from error
    return network


def described(*parts: str | bytes) -> str:
    """An identity: the SHA-256 of what an extractor is made of."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
