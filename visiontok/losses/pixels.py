"""What losses on images take: images or the frames of a video, of any number of channels, in the range of their signal."""

from __future__ import annotations

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.signals.spec import SignalSpec

RGB = SignalSpec(modality="image", channels=3, low=0.0, high=1.0)
"""Images of three channels in [0, 1]."""


def to_unit(values: Tensor, signal: SignalSpec) -> Tensor:
    """Values of a signal, in [0, 1]; without two bounds they stay as they are."""
    if signal.low is None or signal.high is None or (signal.low, signal.high) == (0.0, 1.0):
        return values
    return (values - signal.low) / (signal.high - signal.low)


def to_signed(values: Tensor, signal: SignalSpec) -> Tensor:
    """Values of a signal, in [-1, 1]; without two bounds they stay as they are."""
    return values if signal.low is None or signal.high is None else to_unit(values, signal) * 2 - 1


def from_signed(values: Tensor, signal: SignalSpec) -> Tensor:
    """The inverse of `to_signed`."""
    if signal.low is None or signal.high is None:
        return values
    return (values + 1) * ((signal.high - signal.low) / 2) + signal.low


def as_images(values: Tensor) -> Tensor:
    """Images (B, C, H, W) as they are, a video (B, C, T, H, W) as its frames (B * T, C, H, W)."""
    return values if values.ndim == 4 else values.transpose(1, 2).flatten(0, 1)


def check_images(signal: SignalSpec, *, name: str) -> None:
    """Make sure that a network for images can be used.

    Raises:
        ConfigError: naming the modality.
    """
    if signal.modality not in ("image", "video"):
        raise ConfigError(f"{name} compares images or videos; this tokenizer's signal is {signal.modality}: remove it from the objective")


def check_clips(signal: SignalSpec, *, name: str) -> None:
    """Make sure that a network for clips can be used.

    Raises:
        ConfigError: naming the modality.
    """
    if signal.modality != "video":
        raise ConfigError(f"{name} compares clips; this tokenizer's signal is {signal.modality}: remove it from the objective")


def check_rgb(signal: SignalSpec, *, name: str) -> None:
    """Make sure that a frozen network for RGB images can be used.

    Raises:
        ConfigError: naming the modality, the number of channels, or the missing bound.
    """
    check_images(signal, name=name)
    if signal.channels != 3:
        raise ConfigError(f"{name} compares RGB images; this tokenizer's signal has {signal.channels} channels: remove it from the objective")
    if signal.low is None or signal.high is None:
        raise ConfigError(f"{name} needs values in a known range; this tokenizer's signal is in [{signal.low}, {signal.high}]")
