"""One categorical draw, as a race of exponential clocks."""

from __future__ import annotations

from torch import Tensor

from visiontok.base.finite import check_finite
from visiontok.base.noise import Noise


def sample_categorical(logits: Tensor, noise: Noise, *, step: int = 0) -> Tensor:
    """Draw codes (...) from logits (..., V).

    The code with the largest p / e, e ~ Exp(1), has probability p. On the CPU `torch.multinomial` with one sample does the same, so that
    a recording of its draws reproduces its codes.

    Args:
        logits: (..., V).
        noise: source of one exponential draw (..., V).
        step: of generation, for the error.

    Raises:
        NonFiniteError: if a distribution has NaN or plus infinity among its logits, or nothing but minus infinity.
    """
    probabilities = logits.float().softmax(dim=-1)
    # One wrong logit makes all of a distribution NaN, so its first entry is enough to look at.
    check_finite(probabilities[..., :1], stage=f"the logits of generation step {step}")
    return (probabilities / noise.exponential(*logits.shape).to(logits.device)).argmax(dim=-1)
