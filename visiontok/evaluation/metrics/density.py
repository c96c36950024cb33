"""Quality per token and per bit, and the cost of reducing tokens; TokDense (arXiv 2503.16980) is the accuracy per visual token that a
language model reads.

Both depend on the task and grow without bound as the number of tokens approaches zero: always report the quality and the tokens beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.checks import at_least

Reduction: TypeAlias = Literal["none", "pruning", "interpolation", "codebook"]
"""How the visual tokens of a language model become fewer."""


def tokdense(accuracy_percent: ArrayLike, tokens: ArrayLike) -> np.ndarray:
    """Accuracy in percent over tokens per sample, element by element: means over samples for methods of varying length."""
    return np.asarray(accuracy_percent, dtype=np.float64) / _positive(tokens)


def quality_density(quality: ArrayLike, tokens: ArrayLike) -> float:
    """Any quality that grows: mean quality (PSNR in dB, -log10 MSE, accuracy in percent ...) over mean tokens or mean bits, not a mean of ratios.

    Args:
        quality: (N,) of each sample.
        tokens: (N,) tokens, or bits, that the sample costs.
    """
    cost = float(np.mean(_positive(tokens)))
    return float(np.mean(np.asarray(quality, dtype=np.float64))) / cost


def token_ratio(tokens: ArrayLike, full_tokens: float) -> np.ndarray:
    """Tokens kept, in percent of the full number."""
    return 100 * np.asarray(tokens, dtype=np.float64) / _positive(full_tokens)


@dataclass(frozen=True)
class Operations:
    """Leading terms of the operations on one sample, up to the same constant.

    Attributes:
        reducing: of what reduces its tokens.
        language_model: of the attention of a language model that reads them.
    """

    reducing: int
    language_model: int


def token_operations(reduction: Reduction, *, full_tokens: int, tokens: int, dim: int, depth: int) -> Operations:
    """The complexity columns of the paper's Table 1: what it costs to reduce a sample's tokens, and to read those that remain.

    Args:
        reduction: "none"; "pruning", which includes merging (ToMe, VidToMe), and compares all pairs of tokens; "interpolation", which passes once
            over them; "codebook" (VQToken), which passes once and mixes what remains.
        full_tokens: n of a sample.
        tokens: m that remain; n for "none".
        dim: d of a token.
        depth: L layers of the language model.

    Raises:
        EvaluationError: if more remain than there were, another number than all for "none", or a size is below 1.
    """
    at_least(1, full_tokens=full_tokens, tokens=tokens, dim=dim, depth=depth)
    if tokens > full_tokens or (reduction == "none" and tokens != full_tokens):
        raise EvaluationError(f"{reduction}: {tokens} tokens cannot remain of {full_tokens}")
    reducing = {"none": 0, "pruning": full_tokens**2, "interpolation": full_tokens, "codebook": full_tokens + tokens**2}[reduction]
    return Operations(reducing * dim, tokens**2 * dim * depth)


def _positive(costs: ArrayLike) -> np.ndarray:
    """Raises an EvaluationError where there is no cost, or one is not above 0: quality without a cost has no density."""
    values = np.asarray(costs, dtype=np.float64)
    if not values.size or not (values > 0).all():
        raise EvaluationError(f"costs must be above 0, got {np.min(values, initial=np.inf):g}")
    return values
