"""One categorical draw, as a race of exponential clocks."""

from __future__ import annotations

from torch import Tensor

from visiontok.base.noise import Noise


def sample_categorical(logits: Tensor, noise: Noise) -> Tensor:
    """Draw ids (...) from logits (..., V).

    The id with the largest p / e, e ~ Exp(1), has probability p. On the CPU `torch.multinomial` with one sample does the same, so that
    a recording of its draws reproduces its ids.
    """
    probabilities = logits.float().softmax(dim=-1)
    return (probabilities / noise.exponential(*logits.shape).to(logits.device)).argmax(dim=-1)
