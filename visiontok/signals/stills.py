"""Clips of one frame, which are shown and written as the images that they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from visiontok.signals.spec import SignalSpec


def shown_spec(spec: SignalSpec, signal_shape: Sequence[int]) -> SignalSpec:
    """What signals of one shape are shown as: images where they are clips of one frame, otherwise what they are.

    Args:
        spec: of the signals.
        signal_shape: (T, H, W) of clips; of others, anything.
    """
    is_still = spec.modality == "video" and signal_shape[0] == 1
    return spec.replace(modality="image", rate=None) if is_still else spec


def shown(signals: Tensor, spec: SignalSpec) -> Tensor:
    """Clips (B, C, 1, H, W) as (B, C, H, W) where `shown_spec` says so; other signals as they are."""
    return signals[:, :, 0] if spec.modality == "image" and signals.ndim == 5 else signals
