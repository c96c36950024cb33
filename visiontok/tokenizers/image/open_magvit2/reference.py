"""Open-MAGVIT2's configuration and the names of its tensors, as in the authors' repository SEED-Voken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.losses import ReconstructionConfig
from visiontok.tokenizers.shared.taming_objective import IGNORED_KEYS, LOSS_KEYS, model_arguments, read_objective

SOURCE = "the Open-MAGVIT2 reference configuration"

CONFIG_KEYS = ReferenceKeys(
    read=(
        "n_embed", "embed_dim", "sample_minimization_weight", "batch_maximization_weight", "use_ema", "token_factorization", "factorized_bits",
        "lossconfig.params.commit_weight", "lossconfig.params.codebook_weight", "lossconfig.params.codebook_enlarge_ratio", *LOSS_KEYS,
        *(f"ddconfig.{key}" for key in ("z_channels", "resolution", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks")),
    ),
    ignored={
        "ddconfig.double_z": "the bits are the encoder's channels, whatever its value",
        "lossconfig.params.codebook_enlarge_steps": "of a weight that falls with the steps, which every release switches off by the ratio 0",
        **IGNORED_KEYS,
    },
)  # fmt: skip

KEY_MAP = KeyMap(
    {
        "encoder.down.{}.downsample.{}": "encoder.levels.{}.downsample.conv.{}",
        "decoder.up.{}.upsample.conv1.{}": "decoder.levels.{}.upsample.conv.{}",
        "decoder.adaptive.{}.gamma.{}": "decoder.adaptive_norms.{}.scale.{}",
        "decoder.adaptive.{}.beta.{}": "decoder.adaptive_norms.{}.shift.{}",
        **{f"{net}.{theirs}": f"{net}.{ours}" for net, levels in (("encoder", "down"), ("decoder", "up")) for theirs, ours in (
            (f"{levels}.{{}}.block.{{}}.nin_shortcut.{{}}", "levels.{}.blocks.{}.shortcut.{}"),
            (f"{levels}.{{}}.block.{{}}.{{}}.{{}}", "levels.{}.blocks.{}.{}.{}"),
            ("mid_block.{}.{}.{}", "mid.{}.{}.{}"),
            ("conv_in.{}", "conv_in.{}"),
            ("norm_out.{}", "norm_out.{}"),
            ("conv_out.{}", "conv_out.{}"),
        )},
    }
)  # fmt: skip


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `OpenMagvit2Config` from the arguments of the authors' `VQModel`.

    Raises:
        ConfigError: if it has unknown keys, lacks one, or has values that this model cannot have.
    """
    config = model_arguments(config, source=SOURCE)
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


def objective_from_reference(config: Mapping[str, Any], *, vgg: Path) -> ReconstructionConfig:
    """The objective of the authors' training, without the weights of entropy and commitment, which belong to the quantizer here.

    Args:
        config: as for `read_config`.
        vgg: file with torchvision's VGG-16, for LPIPS.

    Raises:
        ConfigError: for unknown keys, or losses that no release was trained with.
    """
    arguments = model_arguments(config, source=SOURCE)
    CONFIG_KEYS.check(arguments, source=SOURCE)
    ratio = arguments.get("lossconfig", {}).get("params", {}).get("codebook_enlarge_ratio", 0)
    if ratio:
        raise ConfigError(f"lossconfig.params.codebook_enlarge_ratio of {SOURCE} is {ratio}; a weight that falls with the steps is not built")
    return read_objective(arguments, vgg=vgg, source=SOURCE)
