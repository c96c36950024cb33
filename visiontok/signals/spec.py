"""What a signal is: its modality, channels, range and rate."""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.modality import AXES, Modality


class SignalSpec(Config):
    """What a tokenizer takes, and what it gives back.

    Attributes:
        modality: image (B, C, H, W), video (B, C, T, H, W), audio (B, C, T), or features, a sequence of vectors (B, C, T).
        channels: C: 3 for RGB, 1 for depth maps, masks and mono sound, 2 for stereo.
        low, high: range of the values: [0, 1] for images and video, [-1, 1] for audio, meters for depth; None where there is no bound.
        rate: audio samples or video frames per second; None for images and for clips of any frame rate.
    """

    modality: Modality
    channels: Positive
    low: float | None = None
    high: float | None = None
    rate: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> SignalSpec:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"the range [{self.low}, {self.high}] is empty")
        return self

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes after batch and channels."""
        return AXES[self.modality]

    @property
    def shape(self) -> str:
        """The shape of a batch, in words: "(B, 3, height, width)"."""
        return f"(B, {self.channels}, {', '.join(self.axes)})"

    @property
    def is_rgb(self) -> bool:
        """Whether these are images or frames that people look at: three channels in [0, 1]."""
        return self.modality in ("image", "video") and (self.channels, self.low, self.high) == (3, 0.0, 1.0)

    @property
    def peak(self) -> float | None:
        """high - low, the peak of a peak signal-to-noise ratio; None where the range is not bounded."""
        return None if self.low is None or self.high is None else self.high - self.low

    def is_resampled(self, other: SignalSpec) -> bool:
        """Whether both are sound that differs in its rate, and in nothing else."""
        rates = self.rate, other.rate
        return self.modality == "audio" and None not in rates and rates[0] != rates[1] and self.replace(rate=other.rate) == other

    def is_comparable(self, other: SignalSpec) -> bool:
        """Whether signals of both can be compared, perhaps after resampling."""
        return self == other or self.is_resampled(other)

    def clamp(self, values: Tensor) -> Tensor:
        """Values brought into the range."""
        return values if self.low is None and self.high is None else values.clamp(self.low, self.high)
