"""SEANet's causal networks in transformers (EnCodec's and Mimi's have the same parts) over chunks of a sound, with the state carried."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from visiontok.layers.carry import Carry, preceded, upsampled


def carried(layers: Iterable[nn.Module], x: Tensor, carry: Carry) -> Tensor:
    """(B, C, T) through layers in turn. Frames that the last stride leaves incomplete are completed as the library does, at a sound's end."""
    for layer in layers:
        x = _step(layer, x, carry)
    return x


def mirrored_frames(config: Any) -> int:
    """The frames that the first chunk has at least: those that convolutions read mirrored before it.

    Args:
        config: of EnCodec or Mimi, by the library's names.
    """
    reach = (config.residual_kernel_size - 1) * config.dilation_growth_rate ** (config.num_residual_layers - 1) + 1
    return int(max(config.kernel_size, config.last_kernel_size, reach))


def _step(layer: Any, x: Tensor, carry: Carry) -> Tensor:
    if hasattr(layer, "block"):  # a residual block
        return _step(layer.shortcut, x, carry) + carried(layer.block, x, carry)
    if hasattr(layer, "lstm"):
        rows = x.permute(2, 0, 1)
        read, state = layer.lstm(rows, carry.get(layer))
        carry.keep(layer, state)
        return (read + rows).permute(1, 2, 0)
    conv = getattr(layer, "conv", None)
    if isinstance(conv, nn.ConvTranspose1d):
        return upsampled(conv, x, carry)
    if isinstance(conv, nn.Conv1d):
        stride, reach = conv.stride[0], (conv.kernel_size[0] - 1) * conv.dilation[0] + 1
        joined = preceded(x, reach - stride, layer.pad_mode, layer=layer, carry=carry)
        missing = -x.shape[-1] % stride
        result: Tensor = conv(pad(joined, (0, missing), mode=layer.pad_mode) if missing else joined)
        return result
    result = layer(x)
    return result
