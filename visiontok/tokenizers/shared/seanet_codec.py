"""What codecs with EnCodec's networks and codebooks share when they read the authors' checkpoints: names of tensors, and moving averages."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def network_names(theirs: str, ours: str) -> dict[str, str | None]:
    """Patterns of a `KeyMap` for an encoder or a decoder whose layers are numbered in turn."""
    return {
        f"{theirs}.{{}}.block.{{}}.conv.conv.{{*}}": f"{ours}.{{}}.block.{{}}.{{*}}",
        f"{theirs}.{{}}.block.{{}}.alpha": f"{ours}.{{}}.block.{{}}.alpha",
        f"{theirs}.{{}}.shortcut.conv.conv.{{*}}": f"{ours}.{{}}.shortcut.{{*}}",
        f"{theirs}.{{}}.conv.conv.{{*}}": f"{ours}.{{}}.{{*}}",
        f"{theirs}.{{}}.convtr.convtr.{{*}}": f"{ours}.{{}}.{{*}}",
        f"{theirs}.{{}}.lstm.{{*}}": f"{ours}.{{}}.lstm.{{*}}",
        f"{theirs}.{{}}.alpha": f"{ours}.{{}}.alpha",
    }


def codebook_names(theirs: str, ours: str) -> dict[str, str | None]:
    """Patterns of a `KeyMap` for a codebook and its moving averages."""
    return {
        f"{theirs}.embed": f"{ours}.codebook",
        f"{theirs}.cluster_size": f"{ours}.ema.counts",
        f"{theirs}.embed_avg": f"{ours}.ema.sums",
        f"{theirs}.inited": f"{ours}.ema.started",
    }


def with_flags(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with whether averages have started as one flag, which the authors keep as a vector of one float."""
    return {name: tensor.bool().reshape(()) if name.endswith("ema.started") else tensor for name, tensor in weights.items()}
