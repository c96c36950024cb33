"""Layers of VidTok's causal networks that carry a state from chunk to chunk. Their tensors have the names that they have in diffusers' networks.

diffusers' own layers keep the state in themselves, with all frames that they have seen last, and follow the second version of the authors' networks
only. These are put in their place after a network is built.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.carry import Carry, Edge, preceded


class CausalConv(nn.Module):
    """A convolution over time, or over time and space, that reads no later frame. A strided one reads as many frames fewer before the first."""

    def __init__(self, conv: nn.Conv1d | nn.Conv3d, *, edge: Edge) -> None:
        """Take a convolution over; its last axes are padded with zeros, so that they keep their size.

        Args:
            conv: with an odd kernel.
            edge: what stands before the first frame.
        """
        super().__init__()
        conv.padding = (0, *(size // 2 for size in conv.kernel_size[1:]))
        self.conv, self.edge = conv, edge
        self.before = conv.kernel_size[0] - conv.stride[0]

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T) or (B, C, T, H, W) -> (B, C', T / stride, ...). One over time alone treats every pixel by itself."""
        if self.before:
            x = self.joined(x, carry)
        if isinstance(self.conv, nn.Conv1d) and x.ndim == 5:
            size = self.conv.kernel_size[0]
            count = x.shape[2] - size + 1
            return over_time([x[:, :, offset : offset + count] for offset in range(size)], self.conv)
        result: Tensor = self.conv(x)
        return result

    def joined(self, x: Tensor, carry: Carry | None) -> Tensor:
        """Behind the frames before it."""
        return preceded(x, self.before, self.edge, layer=self, carry=carry)

    def following(self, frame: Tensor, carry: Carry) -> Tensor:
        """(B, C, 1, H, W) -> (B, C', 1, H, W) by a stride of 1: the next frame of a clip.

        The carry keeps copies of the last ones in memory of its own, unless gradients need them: kept where they are, they would leave holes between
        what comes and goes, and the allocator's heap would grow with every chunk.
        """
        kept: list[Tensor] | None = carry.get(self)
        if kept is None:
            memory = frame.new_zeros(self.before, *frame.movedim(1, -1).shape).movedim(-1, 2)
            kept = [*(memory.copy_(frame) if self.edge == "replicate" else memory)]
        result = next_frame([*kept, frame], self.conv)
        if kept:
            carry.keep(self, [*kept[1:], frame if torch.is_grad_enabled() else kept[0].copy_(frame)])
        return result


def over_time(parts: Sequence[Tensor], conv: nn.Conv1d) -> Tensor:
    """What every offset of a kernel over time reads, (B, C, T, H, W) each -> (B, C', T, H, W): matrix products, which copy nothing where channels lie
    together in memory."""
    result = F.linear(parts[0].movedim(1, -1), conv.weight[..., 0], conv.bias)
    for offset in range(1, len(parts)):
        result += F.linear(parts[offset].movedim(1, -1), conv.weight[..., offset])
    return result.movedim(-1, 1)


def next_frame(frames: Sequence[Tensor], conv: nn.Conv1d | nn.Conv3d) -> Tensor:
    """As many frames (B, C, 1, H, W) as a kernel over time reads -> (B, C', 1, H, W): the sum of what each gives, so that they are not joined."""
    if isinstance(conv, nn.Conv1d):
        return over_time(frames, conv)
    images, padding = [frame.squeeze(2) for frame in frames], [size // 2 for size in conv.kernel_size[1:]]
    result = F.conv2d(images[0], conv.weight[:, :, 0], conv.bias, padding=padding)
    for offset in range(1, len(images)):
        result += F.conv2d(images[offset], conv.weight[:, :, offset], padding=padding)
    return result.unsqueeze(2)


class CausalDownsample(nn.Module):
    """Half as many frames: a learned mixture of the mean of three frames and a convolution, of which both read one frame before the first."""

    def __init__(self, conv: CausalConv, mix_factor: nn.Parameter) -> None:
        super().__init__()
        self.conv, self.mix_factor = conv, mix_factor

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T / 2, H, W)."""
        means = preceded(x, 1, self.conv.edge, layer=self, carry=carry).unfold(2, 3, 2).mean(dim=-1)
        return torch.lerp(self.conv(x, carry), means, torch.sigmoid(self.mix_factor))


class CausalUpsample(nn.Module, ABC):
    """Twice as many frames, and a learned mixture of them and their convolution.

    Attributes:
        first: frames, before they are doubled, of the first latent.
    """

    def __init__(self, conv: CausalConv, mix_factor: nn.Parameter, *, first: int) -> None:
        super().__init__()
        self.conv, self.mix_factor, self.first = conv, mix_factor, first

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, 2 T, H, W)."""
        frames = torch.cat([*self.doubled(x.split(1, dim=2), None)], dim=2)
        return self.mixed(frames, self.conv(frames))

    @abstractmethod
    def doubled(self, frames: Iterable[Tensor], carry: Carry | None) -> Iterator[Tensor]:
        """Frames (B, C, 1, H, W) in turn -> twice as many, each as soon as it is known."""

    def mixed(self, frames: Tensor, convolved: Tensor) -> Tensor:
        """Frames with their convolution."""
        return torch.lerp(convolved, frames, torch.sigmoid(self.mix_factor))


class RepeatingUpsample(CausalUpsample):
    """Every frame twice."""

    def doubled(self, frames: Iterable[Tensor], carry: Carry | None) -> Iterator[Tensor]:
        for frame in frames:
            yield from (frame, frame)


class InterpolatingUpsample(CausalUpsample):
    """Linear interpolation, of the first latent's frames and of all later ones, each part by itself.

    The second of the two frames that a frame becomes lies between it and the next one. In chunks it comes with the next chunk, and in the last
    chunk it is made as at the end of the whole. The first chunk holds all frames of the first latent.
    """

    def doubled(self, frames: Iterable[Tensor], carry: Carry | None) -> Iterator[Tensor]:
        frames = iter(frames)
        if carry is None or carry.get(self) is None:  # the beginning
            yield from interpolated(islice(frames, self.first))
        last = yield from interpolated(frames, before=_taken(self, carry), ends=carry is None or carry.is_last)
        if carry is not None:
            carry.keep(self, (last,))


def _taken(layer: nn.Module, carry: Carry | None) -> Tensor | None:
    """The frame that was kept, of which no other reference is left."""
    kept: tuple[Tensor | None] | None = None if carry is None else carry.take(layer)
    return None if kept is None else kept[0]


def interpolated(frames: Iterable[Tensor], *, before: Tensor | None = None, ends: bool = True) -> Generator[Tensor, None, Tensor | None]:
    """Frames in turn -> twice as many, a quarter of a frame before and behind every frame; the outermost are the first and the last.

    Args:
        frames: of one shape.
        before: the frame before them; None at the beginning.
        ends: whether none follows them; the second one of the last frame is made then only.

    Returns:
        The last frame; None if there is none.
    """
    last = before
    del before  # large
    for frame in frames:
        if last is None:
            yield frame
        else:
            yield torch.lerp(last, frame, 0.25)
            yield torch.lerp(last, frame, 0.75)
        last = frame
    if ends and last is not None:
        yield last
    return last


def make_causal(network: nn.Module, *, conv: Callable[[Any], CausalConv], upsample: type[CausalUpsample]) -> None:
    """Put these layers in the place of diffusers' own.

    Args:
        network: diffusers' encoder and decoder.
        conv: a layer of one of torch's convolutions.
        upsample: what doubles the frames.
    """
    for name, layer in _with(network, "time_pad"):
        network.set_submodule(name, conv(layer.conv))
    for name, layer in _with(network, "mix_factor"):
        first = getattr(layer, "num_temp_upsample", None)
        made = CausalDownsample(layer.conv, layer.mix_factor) if first is None else upsample(layer.conv, layer.mix_factor, first=first)
        network.set_submodule(name, made)


def _with(network: nn.Module, attribute: str) -> list[tuple[str, Any]]:
    """The layers that have it."""
    return [(name, layer) for name, layer in network.named_modules() if hasattr(layer, attribute)]
