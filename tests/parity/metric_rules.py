"""What a golden output of a metric is compared with: a value of ours, a value that ours must not be, or nothing, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Case:
    """A golden case as arrays; hashed as an object, so that what is costly can be kept with it."""

    config: dict[str, Any]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Equal:
    """Outputs whose name matches must equal `ours(case, *groups)`."""

    ours: Callable[..., Any]
    rel: float = 0.0
    abs: float = 0.0
    norm: float = 0.0  # of each row's difference, relative to the expected row's norm


@dataclass(frozen=True)
class Wrong:
    """Outputs that a common mistake or another definition gives; ours must be at least `gap` away from them."""

    ours: Callable[..., Any]
    gap: float


Rule = Equal | Wrong | str  # a string is the reason why an output has no counterpart
