"""What audio codecs share: the layout of their tokens, and the arithmetic of hops, frames, levels and bitrates.

A codec's network takes (B, C, T) and gives one latent for every `hop` samples. What the contract of `Tokenizer` already does is not done again:
sounds of different lengths are encoded and decoded in groups of one length, so that padding never reaches a network, and their exact lengths are
among the extras of their tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import Self

from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.noise import NoiseLike
from visiontok.core.chunks import Chunked, Chunking
from visiontok.core.model import ConfigT
from visiontok.core.quality import QualityTarget
from visiontok.core.tokenizer import DecodeOptions, TokenizerOutput
from visiontok.core.windows import Windowed
from visiontok.encoders.text import TextLike
from visiontok.signals import SignalBatch, SignalLike, SignalSpec
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens, as_tokens
from visiontok.tokens.batch import SIGNAL_SIZE

USUAL_FRAMES = 16
"""Frames of the extent that a codec's layout is given with."""

WINDOW_SECONDS, EXACT_WINDOW_SECONDS = 20.0, 10.0
"""Of the windows in which `encode` and `decode` take long sounds; the second where windows give what the whole gives."""

MOST_WINDOWS = 3
"""A sound that is no longer than so many windows is taken whole."""


def codec_layout(
    *,
    sample_rate: int,
    hop: int,
    vocab_size: int | tuple[int, ...],
    num_levels: int = 1,
    min_levels: int = 1,
) -> TokenLayout:
    """Frames of `num_levels` codes each: `Tokens.view` is (B, T, K), and (B, T) with one level.

    Args:
        sample_rate: in Hz.
        hop: samples per frame.
        vocab_size: of every level, or one for each.
        num_levels: residual levels, K.
        min_levels: the fewest first levels that decode by themselves.
    """
    segment = Segment(name="frames", shape=(USUAL_FRAMES,), vocab_size=vocab_size, codebooks=num_levels, stride=(hop,), free_axes=(0,))
    levels = tuple(range(min_levels, num_levels + 1)) if min_levels > 1 else "any"
    return TokenLayout(
        modality="audio",
        segments=(segment,),
        signal_shape=(USUAL_FRAMES * hop,),
        rate=float(sample_rate),
        levels=levels if num_levels > 1 else "none",
    )


def multi_rate_layout(*, sample_rate: int, hop: int, strides: Sequence[int], vocab_size: int, frames_multiple_of: int) -> TokenLayout:
    """One segment of codes for every level, coarse first; generators write a coarse code, then the finer ones within it.

    Args:
        sample_rate: in Hz.
        hop: samples per frame of the finest level.
        strides: frames of a code at every level.
        vocab_size: of every level.
        frames_multiple_of: frames of any sound are a multiple of it.
    """
    frames = USUAL_FRAMES * frames_multiple_of
    segments = tuple(
        Segment(name=f"level{level}", shape=(frames // stride,), vocab_size=vocab_size, stride=(hop * stride,), free_axes=(0,))
        for level, stride in enumerate(strides)
    )
    return TokenLayout(modality="audio", segments=segments, signal_shape=(frames * hop,), rate=float(sample_rate), levels="any", order="depth-first")


def fitted(signal: Tensor, length: int) -> Tensor:
    """Sound (B, C, T) cut to `length` samples, or extended to them by silence, where a decoder gives more or fewer than its frames cover."""
    return pad(signal, (0, length - signal.shape[-1]))


def resampled(signal: Tensor, length: int) -> Tensor:
    """Sound (B, C, T) -> (B, C, length) of the same duration, length at least T, by trigonometric interpolation; in float32."""
    return torch.fft.irfft(torch.fft.rfft(signal.float()), n=length) * (length / signal.shape[-1])


class Codec(Windowed, Chunked[ConfigT]):
    """Base of codecs. A family sets `layout` with `codec_layout`, or with `multi_rate_layout` where levels have different rates.

    One whose chunks equal the whole overrides `chunking`. `encode` and `decode` take sounds of more than three windows in windows, with a warning
    where the tokens are then only near those of the whole.

    Attributes:
        frozen: names of parts without gradients, which stay in evaluation mode in training too.
        output_rate: of what `decode` gives, in Hz; None for that of what goes in.
    """

    window_unit: ClassVar = "s"
    frozen: ClassVar[tuple[str, ...]] = ()
    output_rate: int | None = None

    @property
    def spec(self) -> SignalSpec:
        """See `Tokenizer`."""
        spec = super().spec
        return spec if self.output_rate is None else spec.model_copy(update={"rate": float(self.output_rate)})

    def train(self, mode: bool = True) -> Self:
        """All but the frozen parts."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    @property
    def hop(self) -> int:
        """Samples per frame; of the finest level where levels have different rates."""
        stride = self.layout.segments[-1].stride
        assert stride is not None
        return stride[0]

    @property
    def output_hop(self) -> int:
        """Samples per frame of what `decode` gives."""
        return self.output_size((self.hop,))[0]

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """See `Tokenizer`: the samples at the rate of what `decode` gives, rounded down."""
        given, made = self.preprocessing.spec.rate, self.spec.rate
        assert given is not None
        assert made is not None
        return (size[0] * round(made) // round(given),)

    def target_of(self, signal: Tensor) -> Tensor:
        """See `Tokenizer`: the sound at the rate of what `decode` gives."""
        (length,) = self.output_size(signal.shape[2:])
        return signal if length == signal.shape[-1] else resampled(signal, length)

    def fit(self, sound: Tensor, length: int) -> Tensor:
        """Decoded sound (B, C, T) cut to `length` samples, or extended by silence where the frames cover less than went in."""
        return fitted(sound, length)

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`: with a second of sound on both sides of a chunk, unless a family knows more."""
        unit = math.lcm(self.hop, *self.preprocessing.multiples)
        return Chunking(unit=unit, positions=unit // self.hop, overlap=math.ceil((self.layout.rate or 0) / unit))

    @property
    def frames_per_second(self) -> float:
        """Of a long sound; families whose chunks overlap override this."""
        return self._nominal_frames_per_second

    @property
    def kilobits(self) -> tuple[float, ...]:
        """(K,) kilobits per second of a long sound that the first 1 to K levels take."""
        overlap = self.frames_per_second / self._nominal_frames_per_second
        return tuple(overlap * rate for rate in self._nominal_kilobits())

    def encode(
        self,
        signal: SignalLike | Sequence[SignalLike] | SignalBatch,
        *,
        num_tokens: int | Tensor | None = None,
        num_levels: int | None = None,
        bandwidth: float | None = None,
        target: QualityTarget | None = None,
        text: TextLike | None = None,
        noise: NoiseLike = None,
    ) -> Tokens | Latents:
        """See `Tokenizer`.

        Args:
            bandwidth: kilobits per second, instead of `num_levels`: as many levels as fit into it, see `levels_within`.
        """
        num_levels = self._levels(num_levels, bandwidth)
        return super().encode(signal, num_tokens=num_tokens, num_levels=num_levels, target=target, text=text, noise=noise)

    def decode(
        self,
        tokens: Tokens | Latents | Tensor,
        *,
        num_levels: int | None = None,
        bandwidth: float | None = None,
        text: TextLike | None = None,
        noise: NoiseLike = None,
    ) -> Tensor:
        """See `Tokenizer`.

        Args:
            bandwidth: kilobits per second, instead of `num_levels`: as many of the levels as there are and fit into it.
        """
        tokens = as_tokens(tokens, self.layout)
        count = self._levels(num_levels, bandwidth)
        if bandwidth is not None and count is not None:
            count = min(count, self.layout.levels_of(tokens.layout) or count)
        return super().decode(tokens, num_levels=count, text=text, noise=noise)

    def _levels(self, num_levels: int | None, bandwidth: float | None) -> int | None:
        if bandwidth is None:
            return num_levels
        if num_levels is not None:
            raise TokenError(f"num_levels {num_levels} and bandwidth {bandwidth:g} both say how many levels: give one")
        return self.levels_within(bandwidth)

    def levels_within(self, kilobits: float) -> int:
        """The most levels that a bitrate allows, those of `encode(bandwidth=)`.

        Args:
            kilobits: per second, as papers count them: `hop` samples per frame, without the overlap of chunks.

        Raises:
            TokenError: if not even the fewest levels that decode fit into it.
        """
        possible = [(count, rate) for count, rate in enumerate(self._nominal_kilobits(), 1) if self.layout.allows_levels(count)]
        fitting = [count for count, rate in possible if rate <= kilobits * (1 + 1e-9)]
        if not fitting:
            raise TokenError(f"{kilobits:g} kilobits per second are below the least of this codec, {possible[0][1]:g}")
        return fitting[-1]

    @property
    def _nominal_frames_per_second(self) -> float:
        return self.layout.positions_per_second(self.layout.segments[-1].name)

    def _nominal_kilobits(self) -> list[float]:
        """(K,) kilobits per second of the first 1 to K levels, without the overlap of chunks."""
        segments = [(self.layout.positions_per_second(segment.name), segment.vocab_sizes) for segment in self.layout.segments]
        return list(accumulate(rate * math.log2(size) / 1000 for rate, sizes in segments for size in sizes))

    def unwrap(self, tokens: Tokens) -> Tensor:
        """(B, T, K), also of one level."""
        indices = tokens.view()
        return indices if indices.ndim == 3 else indices[..., None]

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """See `Chunked`; at least as long as the longest of the sounds that went in, where that is known."""
        sound, sizes = super().decode_tokens(tokens, options), tokens.extras.get(SIGNAL_SIZE)
        longest = 0 if sizes is None else self.output_size((int(sizes.max()),))[0]
        return sound if longest <= sound.shape[-1] else self.fit(sound, longest)

    @property
    def usual_window(self) -> float:
        """See `Windowed`: 10 s where windows give what the whole gives, and 20 s otherwise.

        Raises:
            TokenError: where a model cuts sounds by itself.
        """
        return EXACT_WINDOW_SECONDS if self.chunking.is_exact else WINDOW_SECONDS

    def check_window(self, length: float) -> None:
        """See `Windowed`: at least one unit of `chunking`.

        Raises:
            TokenError: where a model cuts sounds by itself.
        """
        least = self.chunking.unit / (self.layout.rate or 1)
        if not length >= least:
            raise ConfigError(f"windows of {length:g} s; expected at least {least:g} s, or infinity to take every sound whole")

    @property
    def windows_matter(self) -> bool:
        """See `Windowed`: where windows give what the whole gives, they do not."""
        return not self.chunking.is_exact

    def chunk_length(self, size: Sequence[int]) -> int | None:
        """See `Chunked`: of sounds that are longer than three windows; windows of one sound are about equally long."""
        window, unit = self.window * (self.layout.rate or 0), self.chunking.unit
        if size[0] <= MOST_WINDOWS * window:
            return None
        return math.ceil(size[0] / math.ceil(size[0] / window) / unit) * unit

    def near_in_words(self) -> str:
        """See `Chunked`."""
        seconds = self.window
        return (
            f"{type(self).__name__} reads whole sounds; those of more than {MOST_WINDOWS * seconds:g} s come in windows of at most {seconds:g} s, "
            "which gives nearly what the whole would give: set window (--window) for others, or to infinity for none"
        )

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """See `Tokenizer`; the reconstruction has the length of the signal, which is resampled as the target where the codec gives another rate."""
        output = super().forward_padded(signal, text=text, step=step, noise=noise)
        if output.reconstruction is None:
            return output
        target = self.target_of(signal)
        return replace(output, reconstruction=self.fit(output.reconstruction, target.shape[-1]), target=None if target is signal else target)
