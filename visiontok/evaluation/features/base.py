"""One interface for everything that turns samples into features or classes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from visiontok.base.errors import CheckpointError, EvaluationError
from visiontok.base.finite import check_finite
from visiontok.evaluation.features.weight_files import LoadedWeights
from visiontok.signals import SignalSpec


class NamedNetwork(ABC):
    """What values are named after, because they do not compare with those of another one.

    Attributes:
        name: part of the name of every metric computed with it, such as "FD[digit-classifier]".
        identity: a fingerprint of what it computes, weights included; equal ones have equal identities.
        protocol: how it reads a sample, in words.
    """

    name: str
    identity: str
    protocol: str

    published_names: Mapping[str, str] = MappingProxyType({})
    """What metrics are called with it and with no other: "FD" is called "FID" over Inception's features."""

    def title(self, metric: str) -> str:
        """The name of a metric with it, such as "FD[digit-classifier]" or "FID[inception-v3-compat]"; a suffix follows the brackets."""
        prefix, _, suffix = metric.partition("[]")
        return f"{self.published_names.get(prefix, prefix)}[{self.name}]{suffix}"


class FeatureExtractor(NamedNetwork):
    """Samples -> features (B, D), or (B, R, D). Unless a subclass says otherwise, samples are RGB images (B, 3, H, W) uint8."""

    unbiased: bool = True
    """Whether its Fréchet distance takes covariances over N - 1, as nearly all published values do, or over N."""

    reads_windows: bool = False
    """Whether it gives several rows per sample, (B, R, D), with as many for all samples of one size."""

    shortest_clip: int = 1
    """Frames that a clip must have."""

    def takes(self, spec: SignalSpec) -> bool:
        """Whether it reads such signals."""
        return spec.modality == "image" and spec.is_rgb

    def reading(self, spec: SignalSpec) -> Self:
        """Itself, made ready for signals of this kind; extractors of sound return a copy that knows their rate."""
        return self

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; those without a network stay where they are."""
        return self

    def __call__(self, samples: Tensor) -> Tensor:
        """Features (B, D), or (B, R, D) of windows, float64 on the CPU.

        Raises:
            EvaluationError: for samples of another shape or type than it takes, or features of another shape.
            NonFiniteError: if the features of a sample are not finite.
        """
        self.check(samples)
        with torch.no_grad():
            features = self.extract(samples)
        if features.ndim != 2 + self.reads_windows or len(features) != len(samples):
            expected = "(B, R, D)" if self.reads_windows else "(B, D)"
            raise EvaluationError(f"{self.name} gave features of shape {tuple(features.shape)} for {len(samples)} samples; expected {expected}")
        check_finite(features, stage=f"the features of {self.name}")
        return features.cpu().double()

    def check(self, samples: Tensor) -> None:
        """Raise an EvaluationError for samples of another shape or type."""
        if samples.dtype != torch.uint8 or samples.ndim != 4 or samples.shape[1] != 3:
            raise EvaluationError(
                f"{self.name} takes uint8 images (B, 3, H, W), got {samples.dtype} {tuple(samples.shape)}; make floats in [0, 1] 8-bit with to_uint8"
            )

    @abstractmethod
    def extract(self, samples: Tensor) -> Tensor:
        """Features (B, D) or (B, R, D) of checked samples."""


class Classifier(FeatureExtractor):
    """An extractor that also names a class."""

    def classify(self, samples: Tensor) -> Tensor:
        """The likeliest class (B,) int64."""
        return self.logits_of(self(samples)).argmax(dim=1)

    @abstractmethod
    def logits_of(self, features: Tensor) -> Tensor:
        """Class scores (B, classes) of features (B, D)."""


class FunctionExtractor(FeatureExtractor):
    """Any callable as an extractor."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, name: str, identity: str, protocol: str = "", spec: SignalSpec | None = None) -> None:
        """Wrap `function`, which maps samples to features (B, D).

        Args:
            function: deterministic.
            name: for the metrics' names.
            identity: distinguishes it from others of that name, for example the SHA-256 of its weights.
            protocol: how it reads a sample, in words.
            spec: of the signals that it takes, as floats in their range; None for uint8 RGB images (B, 3, H, W).
        """
        self.name, self.identity, self.protocol = name, identity, protocol
        self._function, self._spec = function, spec

    def takes(self, spec: SignalSpec) -> bool:
        return super().takes(spec) if self._spec is None else spec == self._spec

    def check(self, samples: Tensor) -> None:
        if self._spec is None:
            super().check(samples)

    def extract(self, samples: Tensor) -> Tensor:
        return self._function(samples)


NetworkT = TypeVar("NetworkT", bound=nn.Module)


def load_into(network: NetworkT, weights: LoadedWeights, *, what: str) -> NetworkT:
    """Load the weights; batch norm's counters of training batches may be missing.

    Raises:
        CheckpointError: if other tensors are missing, unexpected or of another shape.
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
