"""Information of tokens under a trained autoregressive prior: -log p(z_t | z_<t, c) summed over held-out tokens.

It is an upper bound of the tokens' entropy that depends on the prior, its condition (a class label gives away up to log2 C bits) and
the order of the tokens; say all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.accumulator import Accumulator, State
from visiontok.evaluation.metrics.entropy import LN2


@dataclass(frozen=True)
class PriorInformation:
    """Tokens' cost under a prior.

    Attributes:
        bits_per_token: all bits over all tokens (not the mean of the samples' means).
        bits_per_sample: mean over samples.
        nats_per_token: the same as `bits_per_token` in nats; its exponential is the prior's perplexity.
        tokens, samples: how many were counted.
    """

    bits_per_token: float
    bits_per_sample: float
    nats_per_token: float
    tokens: int
    samples: int

    def saving(self, nominal_bits_per_token: float) -> float:
        """Share of log2 K that the prior saves."""
        return 1 - self.bits_per_token / nominal_bits_per_token


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of every target.

    Args:
        logits: (B, L, V); position t must have been predicted without seeing targets from t on.
        targets: (B, L) int64.

    Returns:
        (B, L) float64 nats.
    """
    log_p = torch.log_softmax(logits.double(), dim=-1)
    return -log_p.gather(-1, targets[..., None]).squeeze(-1)


class PriorBits(Accumulator):
    """Streaming bits under a prior; padding never counts."""

    def __init__(self) -> None:
        self._nats, self._tokens, self._samples = 0.0, 0, 0

    def update(self, logits: Tensor, targets: Tensor, lengths: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            logits: (B, L, V).
            targets: (B, L) int64.
            lengths: (B,) ids per sample; those beyond are not counted.
        """
        if logits.shape[:2] != targets.shape:
            raise EvaluationError(f"logits {tuple(logits.shape)} do not belong to targets {tuple(targets.shape)}")
        counted = torch.ones_like(targets, dtype=torch.bool)
        if lengths is not None:
            counted = torch.arange(targets.shape[1], device=targets.device) < lengths[:, None]
        nats = token_nats(logits, targets.masked_fill(~counted, 0))
        self._nats += float(nats[counted].sum())
        self._tokens += int(counted.sum())
        self._samples += len(targets)

    def merge(self, other: PriorBits) -> None:
        self._nats += other._nats
        self._tokens += other._tokens
        self._samples += other._samples

    def state(self) -> State:
        return {"nats": np.asarray(self._nats), "tokens": np.asarray(self._tokens), "samples": np.asarray(self._samples)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._nats, self._tokens, self._samples = float(state["nats"]), int(state["tokens"]), int(state["samples"])

    def compute(self) -> PriorInformation:
        """Raises EvaluationError if no token was counted."""
        if not self._tokens:
            raise EvaluationError("no token was counted")
        bits = self._nats / LN2
        return PriorInformation(bits / self._tokens, bits / self._samples, self._nats / self._tokens, self._tokens, self._samples)
