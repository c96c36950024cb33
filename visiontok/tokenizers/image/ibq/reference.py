"""IBQ's configuration and the names of its tensors, as in the authors' repository SEED-Voken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.losses import ReconstructionConfig
from visiontok.tokenizers.shared.taming_keys import JOINED, QUANTIZER_PATTERNS, attention_levels, net_patterns
from visiontok.tokenizers.shared.taming_objective import IGNORED_KEYS, LOSS_KEYS, model_arguments, read_objective

SOURCE = "the IBQ reference configuration"

ENTROPY_WEIGHT = 0.05
"""Of the entropy terms in every release, for configurations without `lossconfig`, which hold it."""

CONFIG_KEYS = ReferenceKeys(
    read=(
        "n_embed", "embed_dim", "beta", "use_ema", "use_entropy_loss", "entropy_temperature", "sample_minimization_weight",
        "batch_maximization_weight", "l2_normalize", "lossconfig.params.entropy_loss_weight", "lossconfig.params.quant_loss_weight", *LOSS_KEYS,
        *(f"ddconfig.{key}" for key in (
            "double_z", "z_channels", "resolution", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks", "attn_resolutions",
        )),
    ),
    ignored={
        "ddconfig.dropout": "0 in every release",
        "lossconfig.params.codebook_weight": "of the quantizer without entropy terms, where the authors' loss reads it and every release has 1",
        "remap": "renumbers token indices, in no release",
        "sane_index_shape": "a shape of token indices inside the authors' code",
        **IGNORED_KEYS,
    },
)  # fmt: skip

KEY_MAP = KeyMap(
    {
        **net_patterns("encoder", {"down.{}": "levels.{}"}, block="block", mid=("block_1", "attn_1", "block_2")),
        **net_patterns("decoder", {"up.{}": "levels.{}"}, block="block", mid=("block_1", "attn_1", "block_2")),
        **QUANTIZER_PATTERNS,
    },
    JOINED,
)


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `IbqConfig` from the arguments of the authors' `IBQ`.

    Raises:
        ConfigError: if it has unknown keys, lacks one, or has values that this model cannot have.
    """
    config = model_arguments(config, source=SOURCE)
    with CONFIG_KEYS.reading(config, source=SOURCE):
        sizes, loss = config["ddconfig"], config.get("lossconfig", {}).get("params", {})
        if config.get("l2_normalize", False) or loss.get("quant_loss_weight", 1.0) != 1.0:
            raise ConfigError(f"{SOURCE} has l2_normalize or a quant_loss_weight other than 1, which no release has and which are not built")
        if sizes.get("in_channels", 3) != 3 or sizes.get("out_ch", 3) != 3 or sizes.get("double_z", False):
            raise ConfigError(f"an IBQ tokenizer has 3 color channels (ddconfig.in_channels, out_ch) and no double_z, got {dict(sizes)}")
        channel_mult, blocks, resolution = tuple(sizes["ch_mult"]), sizes["num_res_blocks"], sizes["resolution"]
        net = {"channels": sizes["ch"], "channel_mult": channel_mult, "latent_channels": sizes["z_channels"]}
        down, up = attention_levels(levels=len(channel_mult), resolution=resolution, attended=sizes["attn_resolutions"])
        quantizer: dict[str, Any] = {
            "codebook_size": config["n_embed"],
            "dim": config["embed_dim"],
            "codebook_weight": config.get("beta", 0.25),
        }
    if config.get("use_entropy_loss", False):
        quantizer["entropy"] = {
            "weight": loss.get("entropy_loss_weight", ENTROPY_WEIGHT),
            "sample_weight": config.get("sample_minimization_weight", 1.0),
            "batch_weight": config.get("batch_maximization_weight", 1.0),
            "temperature": config.get("entropy_temperature", 0.01),
        }
    return {
        "image_size": resolution,
        "encoder": {**net, "num_res_blocks": blocks, "attention_levels": down},
        "decoder": {**net, "num_res_blocks": blocks + 1, "attention_levels": up},
        "quantizer": quantizer,
    }


def objective_from_reference(config: Mapping[str, Any], *, vgg: Path) -> ReconstructionConfig:
    """The objective of the authors' training, without the weight of the entropy, which belongs to the quantizer here.

    Args:
        config: as for `read_config`.
        vgg: file with torchvision's VGG-16, for LPIPS.

    Raises:
        ConfigError: for unknown keys, or losses that no release was trained with.
    """
    arguments = model_arguments(config, source=SOURCE)
    CONFIG_KEYS.check(arguments, source=SOURCE)
    return read_objective(arguments, vgg=vgg, source=SOURCE)
