"""The arrangement of a tokenizer's ids: segments, vocabularies, what they cover and the order in which to visit them."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from visiontok.base.config import Config
from visiontok.base.errors import TokenError
from visiontok.tokens.packing import bit_width

Positive = Annotated[int, Field(gt=0)]
VocabSize = Annotated[int, Field(gt=0, lt=2**63)]  # ids are int64

_SIGNAL_AXES = {"image": ("H", "W"), "video": ("T", "H", "W"), "audio": ("samples",)}


class Segment(Config):
    """One array of ids within a sample: its arrangement, its vocabulary and what a position covers.

    Attributes:
        name: unique within the layout.
        shape: positions along each axis: (L,) for latent queries, (h, w) for a grid, (t, h, w) for video, (T,) for audio.
        vocab_size: number of ids; a tuple gives one number per codebook; None for continuous latents.
        codebooks: ids per position (residual levels, product groups, channels). With more than one, `Tokens.view` has a last axis.
        channels: width of a continuous latent; None for ids.
        stride: signal units (pixels, frames, samples) per position along each axis; None where positions have no place.
        codebook: segments with the same label share their ids in one stream (multi-scale tokenizers with one codebook).
    """

    name: str = Field(min_length=1)
    shape: tuple[Positive, ...] = Field(min_length=1)
    vocab_size: VocabSize | tuple[VocabSize, ...] | None = None
    codebooks: Positive = 1
    channels: Positive | None = None
    stride: tuple[Positive, ...] | None = None
    codebook: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Segment:
        if (self.vocab_size is None) == (self.channels is None):
            raise ValueError(f"segment {self.name!r}: give vocab_size for ids or channels for continuous latents, not both and not neither")
        if isinstance(self.vocab_size, tuple) and len(self.vocab_size) != self.codebooks:
            raise ValueError(f"segment {self.name!r}: {len(self.vocab_size)} vocabulary sizes for {self.codebooks} codebooks")
        if self.channels is not None and (self.codebooks > 1 or self.codebook is not None):
            raise ValueError(f"segment {self.name!r}: continuous latents have no codebooks")
        if self.stride is not None and len(self.stride) != len(self.shape):
            raise ValueError(f"segment {self.name!r}: stride {self.stride} must have one number per axis of shape {self.shape}")
        return self

    @property
    def num_positions(self) -> int:
        return math.prod(self.shape)

    @property
    def length(self) -> int:
        """Ids in storage: positions times codebooks."""
        return self.num_positions * self.codebooks

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """One vocabulary size per codebook."""
        if self.vocab_size is None:
            raise TokenError(f"segment {self.name!r} holds continuous latents and has no vocabulary")
        return self.vocab_size if isinstance(self.vocab_size, tuple) else (self.vocab_size,) * self.codebooks


class TokenLayout(Config):
    """How the ids of one sample are arranged. Storage order: segments in turn, each row-major over its shape, codebooks innermost.

    Attributes:
        modality: image, video or audio.
        segments: in storage order.
        signal_shape: what one sample covers: (H, W), (T, H, W) or (samples,).
        rate: units of the signal's first axis per second (audio samples, video frames); None for images.
        prefix_decodable: whether the first k ids of a sample decode by themselves, for any k.
        ragged: whether samples may hold fewer ids than the layout (kept subsets, lists of varying length).
        order: the order in which a generator should visit storage places; None means storage order. A sample that holds only some of
            the places visits them in the same order.
    """

    modality: Literal["image", "video", "audio"]
    segments: tuple[Segment, ...] = Field(min_length=1)
    signal_shape: tuple[Positive, ...]
    rate: float | None = Field(default=None, gt=0)
    prefix_decodable: bool = False
    ragged: bool = False
    order: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> TokenLayout:
        names = [segment.name for segment in self.segments]
        if len(set(names)) != len(names):
            raise ValueError(f"segment names are not unique: {names}")
        if len({segment.channels for segment in self.segments}) > 1:
            raise ValueError("a layout holds either ids or continuous latents of one width")
        axes = _SIGNAL_AXES[self.modality]
        if len(self.signal_shape) != len(axes):
            raise ValueError(f"signal_shape of {self.modality} is ({', '.join(axes)}), got {self.signal_shape}")
        shared: dict[str, Segment] = {}
        for segment in self.segments:
            if segment.codebook is not None and segment.vocab_sizes != shared.setdefault(segment.codebook, segment).vocab_sizes:
                raise ValueError(
                    f"segments {shared[segment.codebook].name!r} and {segment.name!r} share codebook {segment.codebook!r} but not its sizes"
                )
        if self.order is not None and sorted(self.order) != list(range(self.length)):
            raise ValueError(f"order must be a permutation of range({self.length})")
        return self

    def __eq__(self, other: object) -> bool:
        """Field by field: pydantic would compare the cached arrays too."""
        return isinstance(other, TokenLayout) and all(getattr(self, name) == getattr(other, name) for name in type(self).model_fields)

    @property
    def length(self) -> int:
        """Ids of a full sample."""
        return sum(segment.length for segment in self.segments)

    @property
    def is_continuous(self) -> bool:
        return self.segments[0].vocab_size is None

    @cached_property
    def vocab_sizes(self) -> np.ndarray:
        """(L,) int64: the vocabulary size at every storage place."""
        return np.concatenate([np.tile(np.asarray(s.vocab_sizes, dtype=np.int64), s.num_positions) for s in self.segments])

    @cached_property
    def bit_widths(self) -> np.ndarray:
        """(L,) int64: `ceil(log2 V)` at every storage place."""
        return np.asarray([bit_width(int(size)) for size in self.vocab_sizes], dtype=np.int64)

    @cached_property
    def code_offsets(self) -> np.ndarray:
        """(L,) int64: the number of id 0 at every storage place when all codebooks lie in one table, segment after segment.

        Codebooks of one segment follow each other; segments with the same `codebook` label share their rows.
        """
        starts: dict[tuple[bool, str], np.ndarray] = {}
        rows, offsets = 0, []
        for segment in self.segments:
            key = (segment.codebook is None, segment.codebook or segment.name)
            if key not in starts:
                ends = rows + np.cumsum(segment.vocab_sizes)
                starts[key] = ends - segment.vocab_sizes
                rows = int(ends[-1])
            offsets.append(np.tile(starts[key], segment.num_positions))
        return np.concatenate(offsets)

    @property
    def num_codes(self) -> int:
        """Rows of the table of all codebooks."""
        return int((self.code_offsets + self.vocab_sizes).max())

    @property
    def bits(self) -> float:
        """Nominal information of a full sample: the sum of log2 V."""
        return float(np.log2(self.vocab_sizes).sum())

    @property
    def bits_per_unit(self) -> float:
        """Nominal bits per pixel (image, video) or per audio sample of a full sample."""
        return self.bits / math.prod(self.signal_shape)

    @property
    def bits_per_second(self) -> float:
        """Nominal bits per second of a full sample.

        Raises:
            TokenError: for layouts without a rate (images).
        """
        if self.rate is None:
            raise TokenError(f"this {self.modality} layout has no rate, so bits per second is not defined; use bits_per_unit")
        return self.bits * self.rate / self.signal_shape[0]

    def segment(self, name: str) -> Segment:
        """The segment of that name."""
        return self.segments[self._place(name)]

    def slice(self, name: str) -> slice:
        """Where the segment of that name lies in storage."""
        place = self._place(name)
        start = sum(segment.length for segment in self.segments[:place])
        return slice(start, start + self.segments[place].length)

    def describe(self, place: int) -> str:
        """`segment 'grid', position (3, 4), codebook 1` for a storage place."""
        if not 0 <= place < self.length:
            raise TokenError(f"place {place} lies outside the layout's [0, {self.length})")
        for segment in self.segments:
            if place < segment.length:
                break
            place -= segment.length
        position, codebook = divmod(place, segment.codebooks)
        where = ", ".join(str(int(axis)) for axis in np.unravel_index(position, segment.shape))
        return f"segment {segment.name!r}, position ({where})" + (f", codebook {codebook}" if segment.codebooks > 1 else "")

    def _place(self, name: str) -> int:
        for place, segment in enumerate(self.segments):
            if segment.name == name:
                return place
        raise TokenError(f"no segment {name!r}; this layout has {[segment.name for segment in self.segments]}")
