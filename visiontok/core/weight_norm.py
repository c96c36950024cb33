"""Weight normalization (Salimans and Kingma 2016) of released checkpoints, folded into plain weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from visiontok.base.errors import CheckpointError

_SPELLINGS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
"""Names of the length and the direction of a weight: of torch's older function, and of its parametrization."""


def folded(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with `weight` = g v / |v| in place of every pair; all others as they are.

    The norm is taken over the axes along which g has size one: all but the first of a convolution, transposed ones included, all but the last of
    HuBERT's positional one.

    Raises:
        CheckpointError: if one of a pair is missing, or the two do not fit.
    """
    plain = dict(state_dict)
    for length, direction in _SPELLINGS:
        for name in [name for name in state_dict if name == length or name.endswith(f".{length}")]:
            prefix = name.removesuffix(length)
            if prefix + direction not in plain:
                raise CheckpointError(f"the checkpoint has {name!r} but not {prefix + direction!r}: a normalized weight needs both")
            g, v = plain.pop(name), plain.pop(prefix + direction)
            if g.ndim != v.ndim or any(size not in (1, own) for size, own in zip(g.shape, v.shape, strict=True)):
                raise CheckpointError(f"{name!r} of shape {tuple(g.shape)} does not fit {prefix + direction!r} of shape {tuple(v.shape)}")
            axes = [axis for axis, size in enumerate(g.shape) if size == 1]
            plain[f"{prefix}weight"] = v * (g / torch.linalg.vector_norm(v, dim=axes, keepdim=True))
    return plain
