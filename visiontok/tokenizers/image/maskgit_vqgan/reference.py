"""MaskGIT's VQGAN as the authors of TiTok and RAR publish it: its configuration and its tensors' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

CONFIG_KEYS = ReferenceKeys(
    read=(
        "channel_mult", "num_resolutions", "hidden_channels", "num_res_blocks", "resolution", "z_channels", "num_embeddings", "embedding_dim",
        "num_channels", "commitment_cost",
    ),
    ignored={"dropout": "0 in every release"},
)  # fmt: skip

KEY_MAP = KeyMap(
    {
        "encoder.conv_in.{*}": "encoder.conv_in.{*}",
        "encoder.down.{}.block.{}.nin_shortcut.{*}": "encoder.levels.{}.blocks.{}.shortcut.{*}",
        "encoder.down.{}.block.{}.{*}": "encoder.levels.{}.blocks.{}.{*}",
        "encoder.mid.{*}": "encoder.mid.{*}",
        "encoder.norm_out.{*}": "encoder.norm_out.{*}",
        "encoder.conv_out.{*}": "encoder.conv_out.{*}",
        "decoder.conv_in.{*}": "decoder.conv_in.{*}",
        "decoder.mid.{*}": "decoder.mid.{*}",
        "decoder.up.{}.block.{}.nin_shortcut.{*}": "decoder.levels.{}.blocks.{}.shortcut.{*}",
        "decoder.up.{}.block.{}.{*}": "decoder.levels.{}.blocks.{}.{*}",
        "decoder.up.{}.upsample_conv.{*}": "decoder.levels.{}.upsample.conv.{*}",
        "decoder.norm_out.{*}": "decoder.norm_out.{*}",
        "decoder.conv_out.{*}": "decoder.conv_out.{*}",
        "quantize.embedding.weight": "quantizer.codebook",
    }
)


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `MaskGitVqganConfig` from the authors' sizes.

    Raises:
        ConfigError: if it has unknown keys, or values that this model cannot have.
    """
    CONFIG_KEYS.check(config, source="the MaskGIT-VQGAN reference configuration")
    channel_mult = config.get("channel_mult", [1, 1, 2, 2, 4])
    if config.get("num_channels", 3) != 3 or config.get("num_resolutions", len(channel_mult)) != len(channel_mult):
        raise ConfigError(
            f"a MaskGIT-VQGAN has 3 color channels and one resolution per entry of channel_mult, got num_channels {config.get('num_channels', 3)} "
            f"and num_resolutions {config.get('num_resolutions')} for channel_mult {channel_mult}"
        )
    return {
        "image_size": config.get("resolution", 256),
        "net": {
            "channels": config.get("hidden_channels", 128),
            "channel_mult": channel_mult,
            "num_res_blocks": config.get("num_res_blocks", 2),
            "latent_channels": config.get("z_channels", 256),
        },
        "quantizer": {
            "codebook_size": config.get("num_embeddings", 1024),
            "dim": config.get("embedding_dim", 256),
            "commitment_weight": 1.0,
            "codebook_weight": config.get("commitment_cost", 0.25),  # the authors' weight is on the codebook term
        },
    }
