"""What losses on images take: images or the frames of a video, of any number of channels, in a stated range of values."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from visiontok.base.errors import ConfigError


@dataclass(frozen=True)
class PixelRange:
    """The range of the values that a loss is given; None is no bound.

    Attributes:
        low: smallest value.
        high: largest value.
    """

    low: float | None = 0.0
    high: float | None = 1.0

    @property
    def is_bounded(self) -> bool:
        """Whether both bounds are known."""
        return self.low is not None and self.high is not None

    def unit(self, values: Tensor) -> Tensor:
        """Values in [0, 1]; those without bounds stay as they are."""
        if self.low is None or self.high is None or (self.low, self.high) == (0.0, 1.0):
            return values
        return (values - self.low) / (self.high - self.low)

    def signed(self, values: Tensor) -> Tensor:
        """Values in [-1, 1]; those without bounds stay as they are."""
        return self.unit(values) * 2 - 1 if self.is_bounded else values

    def from_signed(self, values: Tensor) -> Tensor:
        """The inverse of `signed`."""
        if self.low is None or self.high is None:
            return values
        return (values + 1) * ((self.high - self.low) / 2) + self.low


UNIT_RANGE = PixelRange()
"""[0, 1]."""


def as_images(values: Tensor) -> Tensor:
    """Images (B, C, H, W) as they are, a video (B, C, T, H, W) as its frames (B * T, C, H, W).

    Raises:
        ConfigError: for other shapes, such as audio.
    """
    if values.ndim == 4:
        return values
    if values.ndim == 5:
        return values.transpose(1, 2).flatten(0, 1)
    raise ConfigError(
        f"discriminators and perceptual distances look at images (B, C, H, W) or videos (B, C, T, H, W), not at {tuple(values.shape)}; "
        "leave `gan` and `perceptual` out of the objective"
    )


def check_rgb(channels: int, pixels: PixelRange, *, name: str) -> None:
    """Make sure that a frozen network for RGB images can be used.

    Raises:
        ConfigError: naming the number of channels, or the missing bound.
    """
    if channels != 3:
        raise ConfigError(f"{name} looks at RGB images; this tokenizer's signal has {channels} channels: leave it out of the objective")
    if not pixels.is_bounded:
        raise ConfigError(f"{name} needs values in a known range; this tokenizer's signal lies in [{pixels.low}, {pixels.high}]")
