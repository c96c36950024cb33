"""Quality per token and per bit; TokDense (arXiv 2503.16980) is the accuracy per visual token given to a language model.

Both depend on the task and grow without bound as tokens vanish: always print the quality and the tokens beside them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def tokdense(accuracy_percent: ArrayLike, tokens: ArrayLike) -> np.ndarray:
    """Accuracy in percent over tokens per sample, element by element; use it for methods of a fixed length."""
    return np.asarray(accuracy_percent, dtype=np.float64) / np.asarray(tokens, dtype=np.float64)


def adaptive_tokdense(correct: ArrayLike, tokens: ArrayLike) -> float:
    """For methods of varying length: mean accuracy in percent over the mean token count, not the mean of the samples' ratios.

    Args:
        correct: (N,) 0 or 1.
        tokens: (N,) tokens given for each sample.
    """
    return quality_density(100 * np.asarray(correct, dtype=np.float64), tokens)


def quality_density(quality: ArrayLike, tokens: ArrayLike) -> float:
    """The same for any quality that grows: mean quality (PSNR in dB, -log10 MSE, top-1 in percent ...) over mean tokens, or over mean bits.

    Args:
        quality: (N,) of each sample.
        tokens: (N,) tokens, or bits, that the sample costs.
    """
    return float(np.mean(np.asarray(quality, dtype=np.float64)) / np.mean(np.asarray(tokens, dtype=np.float64)))


def token_ratio(tokens: ArrayLike, full_tokens: float) -> np.ndarray:
    """Tokens kept, in percent of the full number."""
    return 100 * np.asarray(tokens, dtype=np.float64) / full_tokens
