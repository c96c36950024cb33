"""What causal tokenizers of clips share: the first frame by itself, any size and length, and chunks that give what the whole gives."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from visiontok.core.chunks import Chunked, Chunking
from visiontok.core.model import ConfigT
from visiontok.layers.carry import Carry
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.tokens import TokenLayout
from visiontok.tokens.grid import grid_layout

Stride = tuple[int, int, int]
"""Frames, rows and columns of pixels per position."""


def clip_preprocessing(stride: Stride, *, num_frames: int, image_size: int | None) -> VideoPreprocessing:
    """1 + a multiple of the stride in frames, sides that are multiples of it; anything else is padded.

    Args:
        stride: of the tokenizer; equal along rows and columns.
        num_frames: of a clip for probing.
        image_size: side that files are resized and cropped to; None keeps their size. Tensors keep theirs.
    """
    frames = ImagePreprocessing(size=image_size, tensors_keep_size=True, multiple_of=stride[1])
    return VideoPreprocessing(frames=frames, num_frames=num_frames, frames_multiple_of=stride[0], first_frame_alone=True)


def clip_layout(stride: Stride, preprocessing: VideoPreprocessing, **kind: Any) -> TokenLayout:
    """A grid of positions (t, h, w) at the usual size of the preprocessing, with those of the first frame by themselves where it says so.

    Args:
        stride: of the tokenizer.
        preprocessing: of its clips.
        kind: `vocab_size` or `channels` of `grid_layout`.
    """
    frames, *sides = preprocessing.usual_size
    shape = (-(-frames // stride[0]), *(side // step for side, step in zip(sides, stride[1:], strict=True)))
    return grid_layout(shape, stride=stride, **kind).replace(signal_shape=(frames, *sides))


class CausalClips(Chunked[ConfigT]):
    """Base of causal tokenizers of clips. A family sets `layout` with `clip_layout`, and defines `encode_causal` and `decode_causal`."""

    def encode_causal(self, signal: Tensor, carry: Carry) -> Tensor:
        """The next frames (B, 3, T, H, W) in [0, 1] -> (B, t, h, w, D); at the beginning 1 + n * stride of them, then n * stride."""
        raise NotImplementedError

    def decode_causal(self, latents: Tensor, carry: Carry) -> Tensor:
        """The next latents (B, t, h, w, D) -> (B, 3, T, H, W), nominally in [0, 1]."""
        raise NotImplementedError

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`."""
        (grid,) = self.layout.segments
        assert grid.stride is not None
        return Chunking(unit=grid.stride[0], lead=1, is_carried=True, is_exact=True)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, 1 + n * stride, H, W) in [0, 1] -> (B, 1 + n, h, w, D)."""
        return self.encode_causal(signal, Carry())

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, 1 + n, h, w, D) -> (B, 3, 1 + n * stride, H, W)."""
        return self.decode_causal(latents, Carry())

    def encode_next(self, signal: Tensor, carry: Carry) -> Tensor:
        """See `Chunked`; the end of the last chunk is padded with its last frame."""
        begins = carry.get(self) is None
        carry.keep(self, True)
        missing = -(signal.shape[2] - begins) % self.chunking.unit
        return self.encode_causal(pad(signal, (0, 0, 0, 0, 0, missing), mode="replicate"), carry)

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        """See `Chunked`."""
        return self.decode_causal(latents, carry)
