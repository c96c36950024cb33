"""The configuration of LlamaGen's tokenizer and the names of its tensors, as in the authors' repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokenizers.shared.taming_keys import JOINED, QUANTIZER_PATTERNS, as_linear, net_patterns

CONFIG_KEYS = ReferenceKeys(
    read=(
        "codebook_size", "codebook_embed_dim", "codebook_l2_norm", "commit_loss_beta", "entropy_loss_ratio", "encoder_ch_mult", "decoder_ch_mult",
        "z_channels", "ch", "num_res_blocks",
    ),
    ignored={"codebook_show_usage": "whether the authors' training prints codebook usage", "dropout_p": "0 in every release"},
)  # fmt: skip


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names; their decoder numbers its levels in the order in which they run.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    numbers = {int(found[1]) for key in state_dict if (found := re.match(r"decoder\.conv_blocks\.(\d+)\.", key))}
    decoder_levels = {f"conv_blocks.{number}": f"levels.{max(numbers) - number}" for number in numbers}
    patterns = {
        **net_patterns("encoder", {"conv_blocks.{}": "levels.{}"}, block="res", mid=("0", "1", "2")),
        **net_patterns("decoder", decoder_levels, block="res", mid=("0", "1", "2")),
        **QUANTIZER_PATTERNS,
        "quantize.codebook_used": None,  # a record of the training
    }
    return as_linear(KeyMap(patterns, JOINED)(state_dict))


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `LlamaGenVqConfig` from the authors' `ModelArgs`.

    Two sizes that their code fixes may be given beside them: ch (128) and num_res_blocks (2).

    Raises:
        ConfigError: if it has unknown keys.
    """
    CONFIG_KEYS.check(config, source="the LlamaGen tokenizer's reference configuration")
    nets = {}
    for net, extra_blocks in (("encoder", 0), ("decoder", 1)):
        channel_mult = config.get(f"{net}_ch_mult", [1, 1, 2, 2, 4])
        nets[net] = {
            "channels": config.get("ch", 128),
            "channel_mult": channel_mult,
            "num_res_blocks": config.get("num_res_blocks", 2) + extra_blocks,
            "latent_channels": config.get("z_channels", 256),
            "attention_levels": [len(channel_mult) - 1],
        }
    normalize, entropy_weight = config.get("codebook_l2_norm", True), config.get("entropy_loss_ratio", 0.0)
    quantizer = {
        "codebook_size": config.get("codebook_size", 16384),
        "dim": config.get("codebook_embed_dim", 8),
        "normalize_latents": normalize,
        "normalize_codes": normalize,
        "commitment_weight": config.get("commit_loss_beta", 0.25),
        "entropy": {"weight": entropy_weight} if entropy_weight else None,
    }
    return {**nets, "quantizer": quantizer}
