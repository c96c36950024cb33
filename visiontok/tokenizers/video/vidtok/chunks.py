"""VidTok's causal networks over chunks of a clip: diffusers' modules in the order of diffusers' own passes, with the state carried.

Where there are as many frames as in the clip, they come one by one, and layers over time alone run on whole frames, not on copies of every pixel's
series, which takes less memory than diffusers' own passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.carry import Carry

Step: TypeAlias = Callable[[Tensor, Carry], Tensor]


def encode_chunk(encoder: Any, x: Tensor, carry: Carry) -> Tensor:
    """(B, 3, T, H, W) -> (B, D, T / factor, h, w)."""
    steps: list[Step] = [encoder.conv_in]
    halved = []
    for frames, series in zip(encoder.down, encoder.down_temporal, strict=True):
        steps += _level(frames, series)
        if hasattr(frames, "downsample"):
            steps.append(partial(_per_frame, frames.downsample))
        if hasattr(series, "downsample"):
            halved.append(len(steps))
            steps.append(series.downsample)
    fine = halved[0] if halved else len(steps)
    steps += [*_middle(encoder.mid), partial(_end, encoder)]
    return _through(steps[fine:], _one_by_one(steps[:fine], x, carry, at_once=1), carry)


def decode_chunk(decoder: Any, x: Tensor, carry: Carry, *, at_once: int = 1) -> Tensor:
    """(B, D, T, h, w) -> (B, 3, T * factor, H, W), of which frames may come with the next chunk.

    Args:
        decoder: diffusers', with layers of `causal`.
        x: latents.
        carry: of earlier chunks.
        at_once: frames that go through the last layers together, as long as there are so many.
    """
    steps: list[Step] = [decoder.conv_in, *_middle(decoder.mid)]
    fine = len(steps)
    for frames, series in zip(reversed(decoder.up), reversed(decoder.up_temporal), strict=True):
        steps += _level(frames, series)
        if hasattr(frames, "upsample"):
            steps.append(partial(_per_frame, frames.upsample))
        if hasattr(series, "upsample"):
            fine = len(steps) + 1
            steps += [series.upsample.doubled, series.upsample.mixed]
    steps.append(partial(_end, decoder))
    return _one_by_one(steps[fine:], _through(steps[:fine], x, carry), carry, at_once=at_once)


def _through(steps: Sequence[Step], x: Tensor, carry: Carry) -> Tensor:
    for step in steps:
        x = step(x, carry)
    return x


def _one_by_one(steps: Sequence[Step], x: Tensor, carry: Carry, *, at_once: int) -> Tensor:
    return torch.cat([_through(steps, part, carry) for part in x.split(at_once, dim=2)], dim=2)


def _level(frames: Any, series: Any) -> list[Step]:
    """Blocks over space and blocks over time in turn."""
    pairs = zip(frames.block, series.block, strict=True)
    return [step for in_space, in_time in pairs for step in (partial(_images_block, in_space), partial(_block, in_time))]


def _middle(mid: Any) -> list[Step]:
    return [partial(_block, mid.block_1), partial(_within_frames, mid.attn_1), partial(_block, mid.block_2)]


def _block(block: Any, x: Tensor, carry: Carry) -> Tensor:
    """A residual block over time, or over time and space; none of them changes the number of channels."""
    inner = block.conv1(F.silu(block.norm1(x)), carry)
    result: Tensor = x + block.conv2(block.dropout(F.silu(block.norm2(inner))), carry)
    return result


def _images_block(block: Any, x: Tensor, carry: Carry) -> Tensor:
    """A residual block over space, which could take an embedding of time."""
    return _per_frame(partial(block, temb=None), x, carry)


def _per_frame(module: Callable[[Tensor], Tensor], x: Tensor, carry: Carry) -> Tensor:
    """(B, C, T, H, W) -> (B, C', T, H', W') by a module of images, to which a frame is a sample."""
    return module(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)


def _within_frames(module: nn.Module, x: Tensor, carry: Carry) -> Tensor:
    """A module of clips that keeps frames apart."""
    result: Tensor = module(x)
    return result


def _end(network: Any, x: Tensor, carry: Carry) -> Tensor:
    result: Tensor = network.conv_out(F.silu(network.norm_out(x)), carry)
    return result
