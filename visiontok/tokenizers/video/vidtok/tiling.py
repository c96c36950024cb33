"""The chunks in which the authors' second version takes long clips (`use_tiling`, `use_overlap`), by their rules.

Their first chunk is the first frame. Convolutions carry a state as those of `causal` do, but the interpolation between frames does so for overlapping
chunks only, and not exactly: the result depends on the size of the chunks. Where nothing else is asked for, clips come in chunks that give what the
whole gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.layers.carry import Carry
from visiontok.tokenizers.video.vidtok.causal import CausalConv, InterpolatingUpsample, interpolated
from visiontok.tokenizers.video.vidtok.chunks import decode_chunk, encode_chunk


class TilingConfig(Config):
    """The authors' chunks.

    Attributes:
        frames: of every chunk but the first (`t_chunk_enc`), a multiple of the frames of a latent.
        overlap: whether a chunk of latents is decoded with the next latent, whose frames are then dropped (`use_overlap`).
    """

    frames: Positive = 16
    overlap: bool = True


class TileCarry(Carry):
    """The state between the authors' chunks.

    Attributes:
        latents: of the chunk that is decoded now, with those that look ahead.
        ahead: latents of it that are decoded again with the next chunk; layers leave their frames out of what they keep.
    """

    def __init__(self) -> None:
        super().__init__()
        self.latents, self.ahead = 1, 0


class TiledConv(CausalConv):
    """Keeps the frames before those that look ahead."""

    def following(self, frame: Tensor, carry: Carry) -> Tensor:
        """Also of several frames at once."""
        return self(frame, carry)

    def joined(self, x: Tensor, carry: Carry | None) -> Tensor:
        frames = super().joined(x, carry)
        if isinstance(carry, TileCarry):
            end = frames.shape[2] - x.shape[2] * carry.ahead // carry.latents
            carry.keep(self, frames[:, :, end - self.before : end].clone())
        return frames


class TiledUpsample(InterpolatingUpsample):
    """Interpolates what it kept and the chunk as one piece. It keeps the frames before the last latent's: right where that one looked ahead."""

    def doubled(self, frames: Iterable[Tensor], carry: Carry | None) -> Iterator[Tensor]:
        chunk, kept = [*frames], None if carry is None else carry.get(self)
        if kept is None:
            yield from super().doubled(chunk, None)
        else:
            chunk = [*kept, *chunk]
            yield from islice(interpolated(chunk), 2 * self.first, None)
        if carry is not None:
            carry.keep(self, chunk[-self.first :] if kept is None else chunk[-2 * self.first : -self.first])


def encode_tiled(encoder: Any, clip: Tensor, tiling: TilingConfig, *, padded: Callable[[Tensor], Tensor]) -> Tensor:
    """(B, 3, T, H, W) -> (B, D, T', h, w).

    Args:
        encoder: diffusers', with layers of this module and of `causal`.
        clip: in [-1, 1].
        tiling: the chunks.
        padded: puts frames before a chunk, so that it can be encoded.
    """
    carry = TileCarry()
    chunks = (clip[:, :, start:end] for start, end in _bounds(clip.shape[2], tiling.frames))
    return torch.cat([encode_chunk(encoder, padded(chunk), carry) for chunk in chunks], dim=2)


def decode_tiled(decoder: Any, latents: Tensor, tiling: TilingConfig, *, factor: int) -> Tensor:
    """(B, D, T', h, w) -> (B, 3, T' * factor, H, W)."""
    carry, total, parts = TileCarry(), latents.shape[2], []
    for start, end in _bounds(total, tiling.frames // factor):
        carry.ahead = int(tiling.overlap and end < total)
        carry.latents = end - start + carry.ahead
        frames = decode_chunk(decoder, latents[:, :, start : end + carry.ahead], carry, at_once=None)
        parts.append(frames[:, :, : (end - start) * factor])
    return torch.cat(parts, dim=2)


def _bounds(length: int, step: int) -> Iterator[tuple[int, int]]:
    """Of the first position, and of every `step` others."""
    yield 0, 1
    for start in range(1, length, step):
        yield start, min(start + step, length)
