"""The names of a KL autoencoder's tensors: LDM's and those of older diffusers versions, mapped to today's diffusers names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from visiontok.core.keymap import KeyMap

_UNCHANGED = {
    "encoder.conv_in.{}": "encoder.conv_in.{}",
    "encoder.conv_out.{}": "encoder.conv_out.{}",
    "decoder.conv_in.{}": "decoder.conv_in.{}",
    "decoder.conv_out.{}": "decoder.conv_out.{}",
    "quant_conv.{}": "quant_conv.{}",
    "post_quant_conv.{}": "post_quant_conv.{}",
    "loss.{*}": None,  # discriminator and perceptual network of a training checkpoint
}

_LDM_RES_BLOCK = {"nin_shortcut.{}": "conv_shortcut.{}", "{}.{}": "{}.{}"}
_LDM_ATTENTION = {"norm.{}": "group_norm.{}", "q.{}": "to_q.{}", "k.{}": "to_k.{}", "v.{}": "to_v.{}", "proj_out.{}": "to_out.0.{}"}
_OLD_ATTENTION = {"query.{}": "to_q.{}", "key.{}": "to_k.{}", "value.{}": "to_v.{}", "proj_attn.{}": "to_out.0.{}", "{*}": "{*}"}


def to_diffusers_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in LDM's or in any diffusers names -> today's diffusers names.

    Raises:
        CheckpointError: listing tensors without a place.
    """
    is_ldm = any(key.startswith("encoder.down.") for key in state_dict)
    mapped = (_ldm_map(state_dict) if is_ldm else _DIFFUSERS_MAP)(state_dict)
    return {key: tensor.flatten(1) if re.search(r"\.attentions\..*\.to_.*weight$", key) else tensor for key, tensor in mapped.items()}


def _ldm_map(state_dict: Mapping[str, Tensor]) -> KeyMap:
    """LDM numbers the decoder's levels from the finest on, diffusers in the order in which they run."""
    levels = {int(found[1]) for key in state_dict if (found := re.match(r"decoder\.up\.(\d+)\.", key))}
    patterns: dict[str, str | None] = {**_UNCHANGED}
    places = [("encoder.down.{}", "encoder.down_blocks.{}", "downsample", "downsamplers")]
    places += [(f"decoder.up.{level}", f"decoder.up_blocks.{max(levels) - level}", "upsample", "upsamplers") for level in levels]
    for theirs, ours, resample, resamplers in places:
        patterns |= {f"{theirs}.block.{{}}.{old}": f"{ours}.resnets.{{}}.{new}" for old, new in _LDM_RES_BLOCK.items()}
        patterns |= {f"{theirs}.attn.{{}}.{old}": f"{ours}.attentions.{{}}.{new}" for old, new in _LDM_ATTENTION.items()}
        patterns[f"{theirs}.{resample}.conv.{{}}"] = f"{ours}.{resamplers}.0.conv.{{}}"
    for net in ("encoder", "decoder"):
        for number in (1, 2):
            patterns |= {f"{net}.mid.block_{number}.{old}": f"{net}.mid_block.resnets.{number - 1}.{new}" for old, new in _LDM_RES_BLOCK.items()}
        patterns |= {f"{net}.mid.attn_1.{old}": f"{net}.mid_block.attentions.0.{new}" for old, new in _LDM_ATTENTION.items()}
        patterns[f"{net}.norm_out.{{}}"] = f"{net}.conv_norm_out.{{}}"
    return KeyMap(patterns)


_DIFFUSERS_MAP = KeyMap(
    {
        **_UNCHANGED,
        **{
            f"{net}.{part}.attentions.{{}}.{old}": f"{net}.{part}.attentions.{{}}.{new}"
            for net, parts in (("encoder", ("mid_block", "down_blocks.{}")), ("decoder", ("mid_block", "up_blocks.{}")))
            for part in parts
            for old, new in _OLD_ATTENTION.items()
        },
        "encoder.{*}": "encoder.{*}",
        "decoder.{*}": "decoder.{*}",
    }
)
