"""How the checkpoints of tokenizers on the first VQGAN's nets name their levels and tensors, and how these become ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor


def attention_levels(*, levels: int, resolution: int, attended: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The levels of encoder and decoder with attention, where a configuration names them by their sides in an image of `resolution` pixels.

    The encoder counts down from the image, the decoder up from the lowest level; they agree where the stride divides the resolution.
    """
    lowest = resolution // 2 ** (levels - 1)
    encoder = tuple(level for level in range(levels) if resolution // 2**level in attended)
    decoder = tuple(level for level in range(levels) if lowest * 2 ** (levels - 1 - level) in attended)
    return encoder, decoder


def block_patterns(theirs: str, ours: str) -> dict[str, str | None]:
    """Key patterns of a residual block; the usual name of its shortcut is `nin_shortcut`."""
    return {f"{theirs}.nin_shortcut.{{*}}": f"{ours}.shortcut.{{*}}", f"{theirs}.{{*}}": f"{ours}.{{*}}"}


def attention_patterns(theirs: str, ours: str) -> dict[str, str | None]:
    """Key patterns of an attention block; query, key and value are joined afterwards, see `JOINED`."""
    return {
        f"{theirs}.norm.{{*}}": f"{ours}.norm.{{*}}",
        f"{theirs}.proj_out.{{*}}": f"{ours}.attn.proj.{{*}}",
        f"{theirs}.{{}}.{{*}}": f"{ours}.attn.{{}}.{{*}}",
    }


def net_patterns(net: str, levels: Mapping[str, str], *, block: str, mid: tuple[str, str, str]) -> dict[str, str | None]:
    """Key patterns of an encoder or a decoder in the usual naming.

    Args:
        net: its name, the same here and there.
        levels: patterns of a level's name, theirs -> ours.
        block: their name for a level's list of residual blocks.
        mid: their names in the middle of the net: residual block, attention, residual block.
    """
    patterns: dict[str, str | None] = {}
    for theirs, ours in levels.items():
        patterns |= block_patterns(f"{net}.{theirs}.{block}.{{}}", f"{net}.{ours}.blocks.{{}}")
        patterns |= attention_patterns(f"{net}.{theirs}.attn.{{}}", f"{net}.{ours}.attention.{{}}")
        patterns[f"{net}.{theirs}.{{}}.conv.{{}}"] = f"{net}.{ours}.{{}}.conv.{{}}"
    before, attention, after = (f"{net}.mid.{name}" for name in mid)
    patterns |= block_patterns(before, f"{net}.mid.0") | attention_patterns(attention, f"{net}.mid.1") | block_patterns(after, f"{net}.mid.2")
    return patterns | {f"{net}.{part}.{{}}": f"{net}.{part}.{{}}" for part in ("conv_in", "norm_out", "conv_out")}


QUANTIZER_PATTERNS: Mapping[str, str | None] = {
    "quant_conv.{}": "quant_conv.{}",
    "post_quant_conv.{}": "post_quant_conv.{}",
    "quantize.embedding.weight": "quantizer.codebook",
}
"""Key patterns of the modules between encoder and decoder."""

JOINED: Mapping[str, tuple[str, ...]] = {
    f"{net}.{block}.attn.qkv.{{*}}": tuple(f"{net}.{block}.attn.{part}.{{*}}" for part in "qkv")
    for net in ("encoder", "decoder")
    for block in ("levels.{}.attention.{}", "mid.{}")
}
"""What a `KeyMap` joins so that three 1x1 convolutions become one packed projection."""


def as_linear(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, with the 1x1 convolutions of attention as the linear layers that they are here."""
    return {name: tensor.flatten(1) if re.search(r"\.attn\.(qkv|proj)\.weight$", name) else tensor for name, tensor in weights.items()}
