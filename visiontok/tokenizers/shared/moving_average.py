"""Which weights a training checkpoint of the SEED-Voken repository (IBQ, Open-MAGVIT2) holds: the last ones, and beside them their averages."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from visiontok.base.errors import CheckpointError

PREFIX = "model_ema."
IGNORED = ("loss.", PREFIX)
"""The discriminator and the perceptual network, and the averages."""


def last_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's own tensors as the last step left them."""
    return {name: tensor for name, tensor in state_dict.items() if not name.startswith(IGNORED)}


def averaged_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's own tensors as moving averages, which carry the names of the last ones without their dots.

    Raises:
        CheckpointError: naming tensors that have no average.
    """
    last = last_weights(state_dict)
    averages = {name: state_dict.get(PREFIX + name.replace(".", "")) for name in last}
    found = {name: average for name, average in averages.items() if average is not None}
    missing = sorted(set(last) - set(found))
    if missing:
        raise CheckpointError(
            f"the configuration requests moving averages (use_ema), but {len(missing)} tensors have none under {PREFIX}: {', '.join(missing[:8])}"
        )
    return found
