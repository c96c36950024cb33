"""What causal layers remember between chunks of one long sequence, so that chunks in turn give what the whole gives."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Edge = Literal["constant", "replicate", "reflect"]
"""What stands before the first frame of a causal network: zeros, copies of the first frame, or the first frames mirrored."""


class Carry:
    """The state of a network over one sequence, by layer. A new one stands at the sequence's beginning; every chunk changes it.

    Attributes:
        is_last: whether no chunk follows the one that is read now. Set where a decoder asks for it, see `Chunking.decoder_waits`.
    """

    def __init__(self) -> None:
        self._kept: dict[nn.Module, Any] = {}
        self.is_last = False

    def get(self, layer: nn.Module) -> Any:
        """What the layer kept of earlier chunks; None at the beginning."""
        return self._kept.get(layer)

    def take(self, layer: nn.Module) -> Any:
        """`get`, of what the carry then no longer holds."""
        return self._kept.pop(layer, None)

    def keep(self, layer: nn.Module, state: Any) -> None:
        """Keep it for the next chunk."""
        self._kept[layer] = state


class CarryingLayer(nn.Module):
    """Base of layers with `forward(x, carry=None)`, which keep in a carry what they need of a chunk for the next one."""


class CarryingSequence(nn.Sequential, CarryingLayer):
    """Layers in turn, of which some may keep a state."""

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        for layer in self:
            x = layer(x, carry) if isinstance(layer, CarryingLayer) else layer(x)
        return x


def preceded(x: Tensor, count: int, edge: Edge, *, layer: nn.Module, carry: Carry | None, kept: int | None = None) -> Tensor:
    """(B, C, T, ...) -> (B, C, more, ...): behind the frames that the carry kept for the layer, or behind padding where a sequence begins.

    Args:
        x: the next frames.
        count: frames of padding: those that a causal convolution reads before its first one.
        edge: of the padding.
        layer: whose frames these are.
        carry: None for a sequence that comes whole.
        kept: frames of every chunk that the next one follows; None for `count`. A kernel k that moves by s frames has k - 1 before the first frame,
            which stands by itself, and k - s before every later chunk.
    """
    before = None if carry is None else carry.take(layer)
    joined = pad(x, (0, 0) * (x.ndim - 3) + (count, 0), mode=edge) if before is None else torch.cat([before, x], dim=2)
    del before  # large
    if carry is not None:
        start = joined.shape[2] - (count if kept is None else kept)
        carry.keep(layer, joined[:, :, start:].clone())  # a view would keep the whole chunk
    return joined


def trimmed(x: Tensor, count: int, *, layer: nn.Module, carry: Carry | None) -> Tensor:
    """(B, C, T, ...) without its first `count` frames where a sequence begins; what follows stays as it is."""
    begins = carry is None or carry.get(layer) is None
    if carry is not None:
        carry.keep(layer, True)
    return x[:, :, count:] if begins else x


def upsampled(conv: nn.ConvTranspose1d, x: Tensor, carry: Carry) -> Tensor:
    """(B, C, T) -> (B, C', T * stride): a transposed convolution whose outputs beyond those of the last frame are cut, chunk by chunk."""
    stride, kept = conv.stride[0], carry.get(conv)
    joined = x if kept is None else torch.cat([kept, x], dim=-1)
    before, reached = joined.shape[-1] - x.shape[-1], -(-conv.kernel_size[0] // stride) - 1
    carry.keep(conv, joined[..., max(0, joined.shape[-1] - reached) :].clone())
    result: Tensor = conv(joined)[..., before * stride : joined.shape[-1] * stride]
    return result
