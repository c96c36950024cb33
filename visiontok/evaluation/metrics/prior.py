"""Information of tokens under a trained autoregressive prior: -log p(z_t | z_<t, c) summed over held-out tokens.

It is an upper bound of the tokens' entropy that depends on the prior, its condition (a class label provides up to log2 C bits) and the order of the
tokens; report all three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.entropy import LN2


@dataclass(frozen=True)
class PriorInformation:
    """Cost of tokens under a prior.

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
        """Share of log2 K, which must be above 0, that the prior saves."""
        if not nominal_bits_per_token > 0:
            raise EvaluationError(f"tokens of {nominal_bits_per_token} nominal bits have nothing to save")
        return 1 - self.bits_per_token / nominal_bits_per_token


def token_nats(logits: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of every target; 0 for padding.

    Args:
        logits: (B, L, V); position t must have been predicted without seeing targets from t on.
        targets: (B, L) int64.
        lengths: (B,) tokens per sample; those beyond are padding.

    Returns:
        (B, L) float64 nats.

    Raises:
        EvaluationError: if logits and targets do not belong together.
    """
    if logits.shape[:2] != targets.shape:
        raise EvaluationError(f"logits {tuple(logits.shape)} do not belong to targets {tuple(targets.shape)}")
    counted = torch.ones_like(targets, dtype=torch.bool)
    if lengths is not None:
        counted = torch.arange(targets.shape[1], device=targets.device) < lengths[:, None]
    log_p = torch.log_softmax(logits.double(), dim=-1)
    nats = -log_p.gather(-1, targets.masked_fill(~counted, 0)[..., None]).squeeze(-1)
    return nats * counted


def prior_information(nats: ArrayLike, tokens: ArrayLike) -> PriorInformation:
    """The total cost of samples.

    Args:
        nats: (N,) of each sample.
        tokens: (N,) that it holds.

    Raises:
        EvaluationError: if there is no token, or a sample has probability 0.
    """
    total, counts = np.asarray(nats, dtype=np.float64), np.asarray(tokens, dtype=np.int64)
    if not counts.sum():
        raise EvaluationError("no token was counted")
    if not np.isfinite(total).all():
        raise EvaluationError(f"the prior gives sample {int(np.flatnonzero(~np.isfinite(total))[0])} a probability of 0, or none")
    bits, count = float(total.sum()) / LN2, int(counts.sum())
    return PriorInformation(bits / count, bits / len(total), float(total.sum()) / count, count, len(total))
