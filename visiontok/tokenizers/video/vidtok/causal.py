"""Layers of VidTok's causal networks that carry a state from chunk to chunk. Their tensors have the names that they have in diffusers' networks.

diffusers' own layers keep the state in themselves, with all frames that they have seen last, and follow the second version of the authors' networks
only. These are put in their place after a network is built.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
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
            return F.conv3d(x, self.conv.weight[..., None, None], self.conv.bias)
        result: Tensor = self.conv(x)
        return result

    def joined(self, x: Tensor, carry: Carry | None) -> Tensor:
        """Behind the frames before it."""
        return preceded(x, self.before, self.edge, layer=self, carry=carry)


class CausalDownsample(nn.Module):
    """Half as many frames: a learned mixture of the mean of three frames and a convolution, of which both read one frame before the first."""

    def __init__(self, conv: CausalConv, mix_factor: nn.Parameter) -> None:
        super().__init__()
        self.conv, self.mix_factor = conv, mix_factor

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T / 2, H, W)."""
        means = preceded(x, 1, self.conv.edge, layer=self, carry=carry).unfold(2, 3, 2).mean(dim=-1)
        share = torch.sigmoid(self.mix_factor)
        return share * means + (1 - share) * self.conv(x, carry)


class CausalUpsample(nn.Module, ABC):
    """Twice as many frames, and a learned mixture of them and their convolution.

    Attributes:
        first: frames, before they are doubled, of the first latent.
    """

    def __init__(self, conv: CausalConv, mix_factor: nn.Parameter, *, first: int) -> None:
        super().__init__()
        self.conv, self.mix_factor, self.first = conv, mix_factor, first

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C, 2 T, H, W); with a carry perhaps fewer, of which the others come with the next chunk."""
        return self.mixed(self.doubled(x, carry), carry)

    @abstractmethod
    def doubled(self, x: Tensor, carry: Carry | None) -> Tensor:
        """Twice as many frames."""

    def mixed(self, frames: Tensor, carry: Carry | None) -> Tensor:
        """Frames with their convolution."""
        share = torch.sigmoid(self.mix_factor)
        return share * frames + (1 - share) * self.conv(frames, carry)


class RepeatingUpsample(CausalUpsample):
    """Every frame twice."""

    def doubled(self, x: Tensor, carry: Carry | None) -> Tensor:
        return x.repeat_interleave(2, dim=2)


class InterpolatingUpsample(CausalUpsample):
    """Linear interpolation, of the first latent's frames and of all later ones, each part by itself.

    The second of the two frames that a frame becomes lies between it and the next one. In chunks it comes with the next chunk, and in the last
    chunk it is made as at the end of the whole. The first chunk holds all frames of the first latent.
    """

    def doubled(self, x: Tensor, carry: Carry | None) -> Tensor:
        kept, made = None if carry is None else carry.get(self), list[Tensor]()
        if kept is None:  # the beginning
            own, x = x.tensor_split([self.first], dim=2)
            kept, made = x[:, :, :0], interpolated(own)
        if carry is not None:
            carry.keep(self, x[:, :, -1:].clone())
        frames = interpolated(torch.cat([kept, x], dim=2))[kept.shape[2] :]
        return torch.cat(made + (frames if carry is None or carry.is_last else frames[:-1]), dim=2)


def interpolated(x: Tensor) -> list[Tensor]:
    """(B, C, T, ...) -> 2 T frames (B, C, 1, ...) a quarter of a frame before and behind every frame; the outermost are the first and the last."""
    frames = x.split(1, dim=2) if x.shape[2] else ()
    between = [torch.lerp(first, second, weight) for first, second in pairwise(frames) for weight in (0.25, 0.75)]
    return [*frames[:1], *between, *frames[-1:]]


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
