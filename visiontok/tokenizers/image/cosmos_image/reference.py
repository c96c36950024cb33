"""The configuration of Cosmos' image tokenizers and the names of their tensors, as in the authors' repository and archives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokenizers.shared.cosmos import BUFFERS, IGNORED_KEYS, NET_KEYS, check_networks, halvings, read_bottleneck, read_patches
from visiontok.tokenizers.shared.taming_keys import JOINED, as_linear, net_patterns

SOURCE = "the Cosmos image reference configuration"

CONFIG_KEYS = ReferenceKeys(read=NET_KEYS, ignored=IGNORED_KEYS)

_MID = ("block_1", "attn_1", "block_2")

KEY_MAP = KeyMap(
    {
        **net_patterns("encoder", {"down.{}": "levels.{}"}, block="block", mid=_MID),
        **net_patterns("decoder", {"up.{}": "levels.{}"}, block="block", mid=_MID),
        "quant_conv.{}": "quant_conv.{}",
        "post_quant_conv.{}": "post_quant_conv.{}",
        **BUFFERS,
    },
    JOINED,
)


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    return as_linear(KEY_MAP(state_dict))


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `CosmosImageConfig` from the arguments of the authors' network.

    Raises:
        ConfigError: for unknown or missing keys, networks that no release has, and sizes that contradict each other.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        check_networks(config, network="Default", source=SOURCE)
        mult = config["channels_mult"]
        count = halvings(config, "spatial_compression", default=16, at_most=len(mult), source=SOURCE)
        sides = _sides(config["resolution"] // config.get("patch_size", 1), levels=len(mult), halved=count)
        nets = {
            net: {
                "channels": config["channels"],
                "channel_mult": mult,
                "num_res_blocks": config["num_res_blocks"] + number,
                "latent_channels": config["z_channels"] * (config["z_factor"] if net == "encoder" else 1),
                "num_halvings": count,
                "attention_levels": [level for level, side in enumerate(sides[net]) if side in config["attn_resolutions"]],
            }
            for number, net in enumerate(("encoder", "decoder"))
        }
        return {**nets, "patches": read_patches(config), "quantizer": read_bottleneck(config, source=SOURCE)}


def _sides(side: int, *, levels: int, halved: int) -> dict[str, list[int]]:
    """The nominal side of every level, by which attention is placed; the two networks disagree where not every level halves.

    The encoder counts down from the patches, the decoder up from where the encoder would end if every level but the last halved.
    """
    lowest = side // 2 ** (levels - 1)
    return {
        "encoder": [side // 2 ** min(level, halved) for level in range(levels)],
        "decoder": [lowest * 2 ** min(levels - 1 - level, halved) for level in range(levels)],
    }
