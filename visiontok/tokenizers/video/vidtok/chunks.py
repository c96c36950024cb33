"""VidTok's networks over chunks of a clip: diffusers' modules in the order of diffusers' own passes, with the state carried.

Frames go through the layers one by one, each as soon as what it depends on is known, so that memory does not depend on how many there are; and
channels lie together in memory, so that neither norms nor convolutions over time copy them. Networks that are not causal keep frames until the next
one comes. `map` and not generators: a generator that waits would keep the frame that it gave last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.carry import Carry
from visiontok.tokenizers.video.vidtok.causal import CausalConv, CausalDownsample, CausalUpsample, next_frame

Frames: TypeAlias = Iterable[Tensor]
"""Parts (B, C, T, H, W) of a clip in turn, of one frame each where nothing else is said."""


def encode_chunk(encoder: Any, x: Tensor, carry: Carry) -> Tensor:
    """(B, 3, T, H, W) -> (B, D, T / factor, h, w), of which some may come with the next chunk; `x` without frames where none is known yet."""
    frames: Frames = _conv(encoder.conv_in, _frames(x), carry)
    for in_space, in_time in zip(encoder.down, encoder.down_temporal, strict=True):
        frames = _level(in_space, in_time, frames, carry)
        if hasattr(in_space, "downsample"):
            frames = map(partial(_per_frame, in_space.downsample), frames)
        if hasattr(in_time, "downsample"):
            frames = _halved(in_time.downsample, frames, carry)
    return _joined(_end(encoder, _middle(encoder.mid, frames, carry), carry), x)


def decode_chunk(decoder: Any, x: Tensor, carry: Carry, *, at_once: int | None = 1) -> Tensor:
    """(B, D, T, h, w) -> (B, 3, T * factor, H, W), of which frames may come with the next chunk; `x` without frames where none is known yet.

    Args:
        decoder: diffusers', with layers of `causal` where it is.
        x: latents.
        carry: of earlier chunks.
        at_once: frames that go through a layer together; None for all, in causal networks only.
    """
    frames = _middle(decoder.mid, _conv(decoder.conv_in, _together(_frames(x), at_once), carry), carry)
    for in_space, in_time in zip(reversed(decoder.up), reversed(decoder.up_temporal), strict=True):
        frames = _level(in_space, in_time, frames, carry)
        if hasattr(in_space, "upsample"):
            frames = map(partial(_per_frame, in_space.upsample), frames)
        if hasattr(in_time, "upsample"):
            frames = _doubled(in_time.upsample, frames if at_once == 1 else _singles(frames), carry, at_once)
    return _joined(_end(decoder, frames, carry), x)


def _frames(x: Tensor) -> Iterator[Tensor]:
    """Of a chunk; a layer that keeps one does not keep them all."""
    return (frame.clone(memory_format=torch.channels_last_3d) for frame in x.split(1, dim=2))


def _singles(parts: Frames) -> Iterator[Tensor]:
    return (frame for part in parts for frame in part.split(1, dim=2))


def _together(frames: Frames, count: int | None) -> Iterator[Tensor]:
    """So many at once; None for all."""
    rest = iter(frames)
    return rest if count == 1 else map(partial(torch.cat, dim=2), iter(lambda: [*islice(rest, count)], []))


def _joined(frames: Frames, x: Tensor) -> Tensor:
    made = [*frames]
    return torch.cat(made, dim=2) if made else x[:, :, :0]


def _level(in_space: Any, in_time: Any, frames: Frames, carry: Carry) -> Frames:
    """Blocks over space, which could take an embedding of time, and blocks over time in turn."""
    for images_block, block in zip(in_space.block, in_time.block, strict=True):
        frames = _block(block, map(partial(_per_frame, partial(images_block, temb=None)), frames), carry)
    return frames


def _middle(mid: Any, frames: Frames, carry: Carry) -> Frames:
    return _block(mid.block_2, map(mid.attn_1, _block(mid.block_1, frames, carry)), carry)


def _block(block: Any, frames: Frames, carry: Carry) -> Iterator[Tensor]:
    """A residual block over time, or over time and space; none of them changes the number of channels."""

    def residuals(inner: Frames) -> Frames:
        inner = _conv(block.conv1, map(partial(_activated, block.norm1), inner), carry)
        return _conv(block.conv2, map(block.dropout, map(partial(_activated, block.norm2), inner)), carry)

    return _beside(block, frames, residuals, torch.add, carry)


def _end(network: Any, frames: Frames, carry: Carry) -> Frames:
    return _conv(network.conv_out, map(partial(_activated, network.norm_out), frames), carry)


def _activated(norm: nn.Module, x: Tensor) -> Tensor:
    return F.silu(norm(x), inplace=True)


def _per_frame(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, C', T, H', W') by a module of images, to which a frame is a sample."""
    return module(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)


def _halved(layer: Any, frames: Frames, carry: Carry) -> Iterator[Tensor]:
    """Half as many frames."""
    if isinstance(layer, CausalDownsample):
        return map(partial(layer, carry=carry), _together(frames, 2))
    share = torch.sigmoid(layer.mix_factor)

    def mixed(triple: list[Tensor]) -> Tensor:
        return torch.lerp(next_frame(triple, layer.conv), torch.cat(triple, dim=2).mean(dim=2, keepdim=True), share)

    return map(mixed, _triples(layer.conv, frames, carry))


def _doubled(layer: Any, frames: Frames, carry: Carry, at_once: int | None) -> Iterator[Tensor]:
    """Twice as many frames."""
    if isinstance(layer, CausalUpsample):

        def mixed(x: Tensor) -> Tensor:
            return layer.mixed(x, layer.conv.following(x, carry))

        return map(mixed, _together(layer.doubled(frames, carry), at_once))
    share = torch.sigmoid(layer.mix_factor)
    twice = (frame for once in frames for frame in (once, once))
    return _beside(layer, twice, partial(_conv, layer.conv, carry=carry), lambda x, y: torch.lerp(y, x, share), carry)


def _beside(
    key: nn.Module, frames: Frames, branch: Callable[[Frames], Frames], join: Callable[[Tensor, Tensor], Tensor], carry: Carry
) -> Iterator[Tensor]:
    """Frames joined with what a branch makes of them, which may be late."""
    waiting: deque[Tensor] = carry.get(key) or deque()
    carry.keep(key, waiting)

    def entered(frame: Tensor) -> Tensor:
        waiting.append(frame)
        return frame

    def joined(made: Tensor) -> Tensor:
        return join(waiting.popleft(), made)

    return map(joined, branch(map(entered, frames)))


def _conv(conv: Any, frames: Frames, carry: Carry) -> Iterator[Tensor]:
    """A convolution over time, or over time and space; one that is not causal is late by a frame."""
    if isinstance(conv, CausalConv):
        return map(partial(conv.following, carry=carry), frames)
    return map(partial(next_frame, conv=conv), _triples(conv, frames, carry))


def _triples(conv: nn.Conv1d | nn.Conv3d, frames: Frames, carry: Carry) -> Iterator[list[Tensor]]:
    """What a kernel of three frames reads: with zeros before the first frame, unless it moves by two, and behind the last."""
    kept: list[Tensor] = carry.get(conv) or []
    carry.keep(conv, kept)
    for frame in frames:
        if not kept:
            kept += [torch.zeros_like(frame)] * (2 - conv.stride[0])
        kept.append(frame)
        if len(kept) == 3:
            yield _passed(kept, conv.stride[0])
    if carry.is_last and kept:
        yield [*kept, torch.zeros_like(kept[0])]


def _passed(kept: list[Tensor], count: int) -> list[Tensor]:
    """All that is kept, of which so many frames are kept no longer."""
    frames = [*kept]
    del kept[:count]
    return frames
