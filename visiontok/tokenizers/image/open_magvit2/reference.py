"""Open-MAGVIT2's configuration and the names of its tensors, as in the authors' repository SEED-Voken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

SOURCE = "the Open-MAGVIT2 reference configuration"

CONFIG_KEYS = ReferenceKeys(
    read=(
        "n_embed", "embed_dim", "sample_minimization_weight", "batch_maximization_weight", "use_ema", "token_factorization", "factorized_bits",
        "lossconfig.params.commit_weight", "lossconfig.params.codebook_weight",
        *(f"ddconfig.{key}" for key in ("z_channels", "resolution", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks")),
    ),
    ignored={
        "ddconfig.double_z": "the bits are the encoder's channels, whatever it says",
        "lossconfig": "no losses are given",
        "lossconfig.{*}": "of the authors' training; a recipe's objective says it",
        **dict.fromkeys(
            ("image_key", "monitor", "stage", "use_shared_epoch"), "names and stages of the authors' training"
        ),
        **dict.fromkeys(
            (
                "learning_rate", "resume_lr", "warmup_epochs", "scheduler_type", "min_learning_rate", "lr_drop_epoch", "lr_drop_rate", "lr_drop_iter",
                "sche_type", "wpe", "wp", "wp0", "max_iter", "wp_iter",
            ),
            "a recipe's `schedule` says it",
        ),
    },
)  # fmt: skip

KEY_MAP = KeyMap(
    {
        "encoder.down.{}.downsample.{*}": "encoder.levels.{}.downsample.conv.{*}",
        "decoder.up.{}.upsample.conv1.{*}": "decoder.levels.{}.upsample.conv.{*}",
        "decoder.adaptive.{}.gamma.{*}": "decoder.adaptive_norms.{}.scale.{*}",
        "decoder.adaptive.{}.beta.{*}": "decoder.adaptive_norms.{}.shift.{*}",
        **{f"{net}.{theirs}": f"{net}.{ours}" for net, levels in (("encoder", "down"), ("decoder", "up")) for theirs, ours in (
            (f"{levels}.{{}}.block.{{}}.nin_shortcut.{{*}}", "levels.{}.blocks.{}.shortcut.{*}"),
            (f"{levels}.{{}}.block.{{}}.{{*}}", "levels.{}.blocks.{}.{*}"),
            ("mid_block.{*}", "mid.{*}"),
            ("conv_in.{*}", "conv_in.{*}"),
            ("norm_out.{*}", "norm_out.{*}"),
            ("conv_out.{*}", "conv_out.{*}"),
        )},
    }
)  # fmt: skip


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `OpenMagvit2Config` from the arguments of the authors' `VQModel`.

    Raises:
        ConfigError: if it has unknown keys, lacks one, or has values that this model cannot have.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        sizes, loss = config["ddconfig"], config.get("lossconfig", {}).get("params", {})
        if sizes.get("in_channels", 3) != 3 or sizes.get("out_ch", 3) != 3:
            raise ConfigError(f"an Open-MAGVIT2 tokenizer has 3 color channels (ddconfig.in_channels, out_ch), got {dict(sizes)}")
        net = {
            "channels": sizes["ch"],
            "channel_mult": sizes["ch_mult"],
            "num_res_blocks": sizes["num_res_blocks"],
            "latent_channels": sizes["z_channels"],
        }
        bits, size = config["embed_dim"], config["n_embed"]
    if size != 2**bits:
        raise ConfigError(f"n_embed is {size}, but embed_dim {bits} signs make {2**bits} codes")
    quantizer = {
        "dim": bits,
        "chunks": config.get("factorized_bits", [9, 9]) if config.get("token_factorization", False) else None,
        "commitment_weight": loss.get("commit_weight", 0.25),
        "entropy": {
            "weight": loss.get("codebook_weight", 0.1),
            "sample_weight": config.get("sample_minimization_weight", 1.0),
            "batch_weight": config.get("batch_maximization_weight", 1.0),
        },
    }
    return {"image_size": sizes.get("resolution", 256), "net": net, "quantizer": quantizer}
