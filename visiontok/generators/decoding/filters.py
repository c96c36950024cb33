"""Logit filters: small objects, applied in the order in which they are listed.

A filter is any callable from logits (..., V) to logits (..., V); it excludes a token by setting its logit to minus infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.errors import ConfigError

LEAST_TEMPERATURE = 1e-6
"""Below it logits overflow."""


class Filter(Protocol):
    """Logits (..., V) in, logits (..., V) out."""

    def __call__(self, logits: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Temperature:
    """Divides the logits: below 1 sharpens, above 1 flattens."""

    value: float

    def __post_init__(self) -> None:
        if not (self.value >= LEAST_TEMPERATURE and math.isfinite(self.value)):
            raise ConfigError(f"temperature must be finite and at least {LEAST_TEMPERATURE:g}, got {self.value}; TopK(1) takes the most likely code")

    def __call__(self, logits: Tensor) -> Tensor:
        return logits if self.value == 1 else logits / self.value


@dataclass(frozen=True)
class TopK:
    """Keeps the `k` most likely tokens and those tied with the last of them; a `k` beyond the vocabulary keeps all."""

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"top-k keeps at least one token, got k = {self.k}; to keep all, use no TopK")

    def __call__(self, logits: Tensor) -> Tensor:
        smallest = logits.topk(min(self.k, logits.shape[-1]), dim=-1).values[..., -1:]
        return logits.masked_fill(logits < smallest, -math.inf)


@dataclass(frozen=True)
class TopP:
    """Keeps the most likely tokens until their probability exceeds `p` (nucleus sampling, arXiv 1904.09751); always at least one."""

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ConfigError(f"top-p is a probability, got p = {self.p}")

    def __call__(self, logits: Tensor) -> Tensor:
        if self.p == 1:  # rounding can push a cumulative sum over 1
            return logits
        ranked, order = logits.sort(dim=-1, descending=True)
        before = F.pad(ranked.softmax(dim=-1).cumsum(dim=-1)[..., :-1], (1, 0))
        dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before > self.p)
        return logits.masked_fill(dropped, -math.inf)


@dataclass(frozen=True)
class MinP:
    """Keeps the tokens whose probability is at least `p` times that of the most likely one (arXiv 2407.01082)."""

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ConfigError(f"min-p is a share of the largest probability, got p = {self.p}")

    def __call__(self, logits: Tensor) -> Tensor:
        if self.p == 0:
            return logits
        return logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(self.p), -math.inf)


@dataclass(frozen=True)
class EntropyTopK:
    """Top-k whose k grows with the entropy of the distribution (PURE, arXiv 2503.11073), for every distribution by itself.

    k = k_min + (k_max - k_min) * sigmoid(slope * (H - center)), rounded half to even, where H is the entropy in nats, at most `most_nats`. PURE
    applies it to guided logits before the temperature. Tokens tied with the last one are kept; a k beyond the vocabulary keeps all.

    Attributes:
        k_min, k_max: range of k.
        center: the entropy at which k is in the middle of its range.
        slope: of the sigmoid, per nat.
        most_nats: larger entropies count as this one.
    """

    k_min: int = 1
    k_max: int = 2000
    center: float = 5.0
    slope: float = 1.0
    most_nats: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.k_min <= self.k_max:
            raise ConfigError(f"entropy top-k needs 1 <= k_min <= k_max, got {self.k_min} and {self.k_max}")
        if not all(math.isfinite(value) for value in (self.center, self.slope, self.most_nats)):
            raise ConfigError(f"entropy top-k needs finite numbers, got center {self.center}, slope {self.slope}, most_nats {self.most_nats}")

    def k(self, nats: Tensor) -> Tensor:
        """Entropies (...) -> k (...) int64."""
        share = torch.sigmoid(self.slope * (nats.double().clamp(0, self.most_nats) - self.center))
        return (self.k_min + (self.k_max - self.k_min) * share).round().long().clamp(self.k_min, self.k_max)

    def __call__(self, logits: Tensor) -> Tensor:
        ranked = logits.sort(dim=-1, descending=True).values
        last = self.k(entropy(logits)).clamp_max(logits.shape[-1]) - 1
        return logits.masked_fill(logits < ranked.gather(-1, last[..., None]), -math.inf)


def entropy(logits: Tensor) -> Tensor:
    """The entropy (...) float32 in nats of logits (..., V), as PURE computes it: 1e-10 is added within the logarithm."""
    probabilities = logits.float().softmax(dim=-1)
    return -(probabilities * (probabilities + 1e-10).log()).sum(dim=-1)
