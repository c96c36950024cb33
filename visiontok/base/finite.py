"""NaN and infinity are errors where numbers become tokens or signals: afterwards they could not be noticed."""

from __future__ import annotations

from collections.abc import Iterator

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


class FiniteSteps:
    """Looks at the values of successive steps without waiting for the device that computes them; `check` then names the first wrong step."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._is_finite: list[Tensor] = []

    def add(self, values: Tensor, step: int) -> None:
        """Values (B, ...) of a step."""
        self._steps.append(step)
        self._is_finite.append(values.isfinite().flatten(1).all(dim=1))

    def check(self, what: str) -> None:
        """Once all steps are done.

        Raises:
            NonFiniteError: naming the step, and the sample with NaN or infinity.
        """
        if torch.compiler.is_compiling() or not self._steps:
            return
        wrong = (~torch.stack(self._is_finite)).nonzero().tolist()
        if wrong:
            row, sample = wrong[0]
            raise NonFiniteError(
                f"{what} of generation step {self._steps[row]}: sample {sample} of the batch holds NaN or infinity. The weights are damaged, or "
                "the precision is too low for this model"
            )


def check_finite_weights(model: nn.Module) -> None:
    """Look at every weight and every buffer that is saved with them once. Outputs do not tell: torch's attention turns NaN into numbers, and to a
    search for the nearest code NaN is a code like any other.

    Raises:
        NonFiniteError: naming the first tensor with NaN or infinity.
    """
    named = [(name, _own(tensor)) for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
    named = [(name, tensor) for name, tensor in named if tensor.numel()]
    if torch.compiler.is_compiling() or not named:
        return
    extremes = [(tensor if tensor.dtype.itemsize > 1 else tensor.float()).aminmax() for _, tensor in named]  # NaN where there is one; no copy
    is_finite = torch.stack([torch.stack(pair).isfinite().all() for pair in extremes])
    if not bool(is_finite.all()):
        name, tensor = named[int(torch.nonzero(~is_finite)[0])]
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise NonFiniteError(f"{name} of a {type(model).__name__} holds NaN or infinity: the weights are damaged, or too large for {dtype}")


class WeightCheck:
    """Calls `check_finite_weights` for a model when its weights changed since the last call, so that callers can ask before every batch."""

    def __init__(self) -> None:
        self._checked: list[tuple[int, int, torch.dtype]] | None = None

    def __call__(self, model: nn.Module) -> None:
        """See `check_finite_weights`. Values that are changed through `Tensor.data` alone, which torch does not count, pass."""
        if torch.compiler.is_compiling():
            return
        found = [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, tensor.dtype) for tensor in _tensors(model)]
        if found != self._checked:
            check_finite_weights(model)
            self._checked = found


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _own(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that is divided among processes, a DTensor, whose import takes long; others as they are."""
    own: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own
