"""Compression gain of a predictive model relative to its cost, in the style of Information Capacity (Yuan et al., arXiv 2511.08066).

The paper's exact formula could not be checked, so the name says "style". Pixels are coded with loss: apply it to tokens (raw bits = log2 K
each), or to pixels at matched distortion only.
"""

from __future__ import annotations

from math import log
from typing import Literal

from visiontok.base.errors import EvaluationError


def information_capacity_style(
    *, raw_bits: float, coded_bits: float, symbols: float, flops: float, scale: Literal["identity", "log"] = "log"
) -> float:
    """(raw bits - coded bits) per symbol over f(FLOPs per symbol).

    Args:
        raw_bits: of all symbols without a model, such as tokens x log2 K.
        coded_bits: of the same symbols under the model.
        symbols: how many; pixels or tokens.
        flops: of the model for all of them.
        scale: f, the identity or the natural logarithm. Values of different scales do not compare.

    Raises:
        EvaluationError: if a cost or count is not positive, or the logarithm is not.
    """
    if min(raw_bits, symbols, flops) <= 0 or coded_bits < 0:
        raise EvaluationError("bits, symbols and FLOPs must be positive")
    cost = flops / symbols if scale == "identity" else log(flops / symbols)
    if cost <= 0:
        raise EvaluationError(f"{flops / symbols:.3g} FLOPs per symbol have no positive logarithm; use scale='identity'")
    return (raw_bits - coded_bits) / symbols / cost
