"""NaN and infinity are errors where numbers become tokens or signals: afterwards they could not be noticed."""

from __future__ import annotations

import torch
from torch import Tensor

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
