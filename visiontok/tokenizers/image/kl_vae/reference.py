"""A KL autoencoder's configuration and the names of its tensors: LDM's and those of any diffusers version, mapped to today's diffusers names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

ATTENTION_DOWN, ATTENTION_UP = "AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"
PLAIN_DOWN, PLAIN_UP = "DownEncoderBlock2D", "UpDecoderBlock2D"

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
        CheckpointError: listing tensors that no pattern matches.
    """
    is_ldm = any(key.startswith("encoder.down.") for key in state_dict)
    mapped = (_ldm_map(state_dict) if is_ldm else _DIFFUSERS_MAP)(state_dict)
    return {key: tensor.flatten(1) if re.search(r"\.attentions\..*\.to_.*weight$", key) else tensor for key, tensor in mapped.items()}


def _ldm_map(state_dict: Mapping[str, Tensor]) -> KeyMap:
    """LDM numbers the decoder's levels from the finest on, diffusers in the order in which they run."""
    levels = {int(found[1]) for key in state_dict if (found := re.match(r"decoder\.up\.(\d+)\.", key))}
    patterns: dict[str, str | None] = {**_UNCHANGED}
    levels_of = [("encoder.down.{}", "encoder.down_blocks.{}", "downsample", "downsamplers")]
    levels_of += [(f"decoder.up.{level}", f"decoder.up_blocks.{max(levels) - level}", "upsample", "upsamplers") for level in levels]
    for theirs, ours, resample, resamplers in levels_of:
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


_DIFFUSERS_DEFAULTS: Mapping[str, Any] = {
    "in_channels": 3, "out_channels": 3, "down_block_types": (PLAIN_DOWN,), "up_block_types": (PLAIN_UP,), "block_out_channels": (64,),
    "layers_per_block": 1, "act_fn": "silu", "latent_channels": 4, "norm_num_groups": 32, "sample_size": 32, "scaling_factor": 0.18215,
    "shift_factor": None, "latents_mean": None, "latents_std": None, "use_quant_conv": True, "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}  # fmt: skip
"""What a missing entry means to diffusers."""

_DIFFUSERS_KEYS = ReferenceKeys(read=tuple(_DIFFUSERS_DEFAULTS), ignored={"force_upcast": "of half precision in diffusion pipelines"})


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `KlVaeConfig` from diffusers' `config.json`, or from the sizes of LDM's networks.

    Raises:
        ConfigError: if it has unknown keys, or values that this model cannot have.
    """
    return _from_diffusers(config) if "block_out_channels" in config else _from_ldm(config)


def _from_diffusers(config: Mapping[str, Any]) -> dict[str, Any]:
    _DIFFUSERS_KEYS.check(config, source="an AutoencoderKL configuration")
    full = {**_DIFFUSERS_DEFAULTS, **config}
    fixed = {"in_channels": 3, "out_channels": 3, "act_fn": "silu", "latents_mean": None, "latents_std": None}
    for key, value in fixed.items():
        if full[key] != value:
            raise ConfigError(f"an AutoencoderKL with {key}={full[key]!r} is not supported, only {value!r}")
    down, up = list(full["down_block_types"]), list(full["up_block_types"])[::-1]
    for kind in {*down, *up} - {PLAIN_DOWN, PLAIN_UP, ATTENTION_DOWN, ATTENTION_UP}:
        raise ConfigError(f"an AutoencoderKL with blocks of type {kind!r} is not supported")
    return {
        "image_size": full["sample_size"],
        "channels": full["block_out_channels"],
        "num_res_blocks": full["layers_per_block"],
        "norm_groups": full["norm_num_groups"],
        "encoder_attention": [level for level, kind in enumerate(down) if kind == ATTENTION_DOWN],
        "decoder_attention": [level for level, kind in enumerate(up) if kind == ATTENTION_UP],
        "middle_attention": full["mid_block_add_attention"],
        "quant_conv": full["use_quant_conv"],
        "post_quant_conv": full["use_post_quant_conv"],
        "bottleneck": {"dim": full["latent_channels"], "scale": full["scaling_factor"], "shift": full["shift_factor"] or 0.0},
    }


_LDM_KEYS = ReferenceKeys(
    read=(
        "embed_dim", "ch", "ch_mult", "num_res_blocks", "resolution", "encoder_attn_resolutions", "decoder_attn_resolutions", "scale_factor",
        "num_groups",
    )
)  # fmt: skip


def _from_ldm(config: Mapping[str, Any]) -> dict[str, Any]:
    """Missing sizes are those of KL-16, which its authors' code holds as constants."""
    _LDM_KEYS.check(config, source="a KL autoencoder's configuration")
    width, multipliers, resolution = config.get("ch", 128), config.get("ch_mult", [1, 1, 2, 2, 4]), config.get("resolution", 256)

    def attention(resolutions: Any) -> list[int]:
        return [level for level in range(len(multipliers)) if resolution // 2**level in resolutions]

    return {
        "image_size": resolution,
        "channels": [width * multiplier for multiplier in multipliers],
        "num_res_blocks": config.get("num_res_blocks", 2),
        "norm_groups": config.get("num_groups", 32),
        "stem_channels": None if multipliers[0] == 1 else width,
        "encoder_attention": attention(config.get("encoder_attn_resolutions", [16])),
        "decoder_attention": attention(config.get("decoder_attn_resolutions", [])),
        "bottleneck": {"dim": config.get("embed_dim", 16), "scale": config.get("scale_factor", 1.0)},
    }
