"""Quality per token and per bit; TokDense (arXiv 2503.16980) is the accuracy per visual token given to a language model.

Both depend on the task and grow without bound as the number of tokens approaches zero: always report the quality and the tokens beside them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visiontok.base.errors import EvaluationError


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


def _positive(costs: ArrayLike) -> np.ndarray:
    """Raises an EvaluationError where there is no cost, or one is not above 0: quality without a cost has no density."""
    values = np.asarray(costs, dtype=np.float64)
    if not values.size or not (values > 0).all():
        raise EvaluationError(f"costs must be above 0, got {np.min(values, initial=np.inf):g}")
    return values
