"""NaN and infinity are errors where numbers become tokens or signals: afterwards they could not be noticed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.base.errors import NonFiniteError


def check_finite(values: Tensor, *, stage: str) -> None:
    """Check a batch (B, ...).

    Args:
        values: floats.
        stage: what they are, for the error.

    Raises:
        NonFiniteError: naming the stage and the first sample with NaN or infinity.
    """
    if torch.compiler.is_compiling() or bool(values.isfinite().all()):
        return
    wrong = ~values.isfinite().flatten(1).all(dim=1) if values.ndim > 1 else ~values.isfinite()
    row = int(torch.nonzero(wrong).flatten()[0])
    kind = "NaN" if bool(values[row].isnan().any()) else "infinity"
    raise NonFiniteError(f"{stage}: sample {row} of the batch holds {kind}. The weights are damaged, or the precision is too low for this model")


def check_finite_weights(model: nn.Module) -> None:
    """Look at every parameter once: torch's attention over a few keys turns NaN into numbers, so that outputs do not tell.

    Raises:
        NonFiniteError: naming the first parameter with NaN or infinity.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.numel()]
    if torch.compiler.is_compiling() or not named:
        return
    largest = torch.stack([parameter.detach().abs().amax().float() for _, parameter in named])
    if not bool(largest.isfinite().all()):
        name = named[int(torch.nonzero(~largest.isfinite()).flatten()[0])][0]
        raise NonFiniteError(f"the parameter {name} of a {type(model).__name__} holds NaN or infinity: the weights are damaged")
