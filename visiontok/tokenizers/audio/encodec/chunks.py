"""Sound in overlapping chunks: how it is cut, which frames belong to which chunk, and how decoded chunks are faded into each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Chunks:
    """Chunks that begin every `stride` samples; those that reach beyond the end are shorter.

    A sound that ends within the first overlapping samples of its last chunk is padded with silence to all of them, so that only the last chunk is
    ever shorter, and the number of frames says which frames belong to which chunk. (The library does not encode such sounds of more than two chunks.)

    Attributes:
        length: samples of a chunk.
        stride: samples from the beginning of one to that of the next.
        hop: samples per frame.
    """

    length: int
    stride: int
    hop: int

    @property
    def frames(self) -> int:
        """Of a whole chunk."""
        return -(-self.length // self.hop)

    def cut(self, signal: Tensor) -> list[Tensor]:
        """Chunks (B, C, up to length) of a sound (B, C, T)."""
        last = (signal.shape[-1] - 1) % self.stride + 1
        overlap = self.length - self.stride
        if last < overlap and signal.shape[-1] > self.stride:
            signal = pad(signal, (0, overlap - last))
        return [signal[..., start : start + self.length] for start in range(0, signal.shape[-1], self.stride)]

    def of_frames(self, latents: Tensor) -> list[Tensor]:
        """The frames (B, up to frames, D) of every chunk, of all frames (B, T, D)."""
        return list(latents.split(self.frames, dim=1))

    def join(self, decoded: Iterable[Tensor], *, frames: int) -> Tensor:
        """Decoded chunks (B, C, samples) in turn, of so many frames together, added up with triangular weights: (B, C, T)."""
        starts = range(0, frames, self.frames)
        total = max(self.stride * number + self.hop * min(self.frames, frames - start) for number, start in enumerate(starts))
        parts = iter(decoded)
        first = next(parts)
        weight = 0.5 - (torch.linspace(0, 1, first.shape[-1] + 2, device=first.device, dtype=first.dtype)[1:-1] - 0.5).abs()
        mixed, weights = first.new_zeros(*first.shape[:-1], total), first.new_zeros(total)
        for number, part in enumerate(chain([first], parts)):
            start, own = self.stride * number, weight[: part.shape[-1]]
            end = start + part.shape[-1]
            mixed[..., start:end] += own * part
            weights[start:end] += own
        return mixed.div_(weights)
