"""One categorical draw, as a race of exponential clocks."""

from __future__ import annotations

from torch import Tensor

from visiontok.base.finite import FiniteSteps, check_finite
from visiontok.base.noise import Noise


def probabilities(logits: Tensor, *, step: int = 0, finite: FiniteSteps | None = None) -> Tensor:
    """The distributions (..., V) float32 of logits (..., V).

    Args:
        logits: (..., V).
        step: of generation, for the error.
        finite: takes note of the step, for a caller that looks at all of them later; None raises at once.

    Raises:
        NonFiniteError: if a distribution has NaN or plus infinity among its logits, or nothing but minus infinity.
    """
    found = logits.float().softmax(dim=-1)
    # One wrong logit makes all of a distribution NaN, so its first entry is enough to look at.
    _check(found[..., :1], step, finite)
    return found


def race(weights: Tensor, exponential: Tensor) -> Tensor:
    """Draw codes (...) in proportion to weights (..., V): the code with the largest w / e, e ~ Exp(1).

    Args:
        weights: (..., V), not negative; their sum may be any positive number.
        exponential: (..., V) draws.
    """
    return (weights / exponential.to(weights.device)).argmax(dim=-1)


def sample_categorical(logits: Tensor, noise: Noise, *, step: int = 0, finite: FiniteSteps | None = None) -> Tensor:
    """Draw codes (...) from logits (..., V).

    On the CPU `torch.multinomial` with one sample does the same, so that a recording of its draws reproduces its codes.

    Args:
        logits: (..., V).
        noise: source of one exponential draw (..., V).
        step, finite: see `probabilities`.

    Raises:
        NonFiniteError: see `probabilities`.
    """
    return race(probabilities(logits, step=step, finite=finite), noise.exponential(*logits.shape))


def most_likely(logits: Tensor, *, step: int = 0, finite: FiniteSteps | None = None) -> Tensor:
    """The first of the most likely codes (...) under logits (..., V); the arguments and the error are those of `probabilities`."""
    best = logits.max(dim=-1)
    _check(best.values[..., None], step, finite)
    return best.indices


def _check(values: Tensor, step: int, finite: FiniteSteps | None) -> None:
    if finite is None:
        check_finite(values, stage=f"the logits of generation step {step}")
    else:
        finite.add(values, step)
