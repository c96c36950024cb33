"""How gradients pass a quantizer: estimators by name, each a function of (latents, quantized) with the value of `quantized`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from visiontok.quantizers.rotation import rotate
from visiontok.quantizers.straight_through import straight_through

Gradient = Literal["straight_through", "rotation"]

GRADIENTS: Mapping[Gradient, Callable[[Tensor, Tensor], Tensor]] = {"straight_through": straight_through, "rotation": rotate}
