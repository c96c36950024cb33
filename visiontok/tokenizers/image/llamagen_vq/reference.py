"""The configuration of LlamaGen's tokenizer and the names of its tensors, as in the authors' repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.losses import ReconstructionConfig
from visiontok.tokenizers.shared.taming_keys import JOINED, QUANTIZER_PATTERNS, as_linear, net_patterns

SOURCE = "the LlamaGen tokenizer's reference configuration"

CONFIG_KEYS = ReferenceKeys(
    read=(
        "codebook_size", "codebook_embed_dim", "codebook_l2_norm", "commit_loss_beta", "entropy_loss_ratio", "encoder_ch_mult", "decoder_ch_mult",
        "z_channels", "ch", "num_res_blocks",
        "reconstruction_loss", "reconstruction_weight", "perceptual_weight", "disc_type", "disc_loss", "gen_loss", "disc_weight", "disc_start",
        "disc_adaptive_weight",
    ),
    ignored={
        "codebook_show_usage": "whether the authors' training prints codebook usage",
        "dropout_p": "0 in every release",
        "codebook_weight": "the authors' loss does not read it: the quantizer's terms enter as they are",
        "vq_model": "its name says the stride, which follows from the channel multipliers",
        "image_size": "the model takes any multiple of its stride; a recipe's `data` says the size",
        **dict.fromkeys(("lr", "weight_decay", "beta1", "beta2", "max_grad_norm", "ema"), "a recipe's `optimizer` and `ema` say it"),
        **dict.fromkeys(
            ("global_batch_size", "epochs", "global_seed", "num_workers", "gradient_accumulation_steps", "mixed_precision", "compile", "dataset"),
            "length, batch size, data and precision of training; a recipe says them",
        ),
        **dict.fromkeys(
            ("data_path", "data_face_path", "cloud_save_path", "no_local_save", "vq_ckpt", "finetune", "results_dir", "log_every", "ckpt_every"),
            "files, folders and intervals of the authors' runs; a recipe has its own",
        ),
    },
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
    CONFIG_KEYS.check(config, source=SOURCE)
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


def objective_from_reference(config: Mapping[str, Any], *, vgg: Path) -> ReconstructionConfig:
    """The objective of the authors' training; missing arguments have the defaults of their code.

    Their pixels are in [-1, 1], ours in [0, 1]: a squared distance there is four times ours, an absolute one twice.

    Args:
        config: the arguments of the authors' training, or their `ModelArgs` alone.
        vgg: file with torchvision's VGG-16, for LPIPS.

    Raises:
        ConfigError: for unknown keys, or losses that no release was trained with.
    """
    CONFIG_KEYS.check(config, source=SOURCE)
    built = {"disc_type": {"patchgan": "patchgan"}, "disc_loss": {"hinge": "hinge", "vanilla": "logistic"}, "gen_loss": {"hinge": "hinge"}}
    chosen = {}
    for key, ours in built.items():
        theirs = config.get(key, next(iter(ours)))
        if theirs not in ours:
            raise ConfigError(f"{key} of {SOURCE} is {theirs!r}, with which no release was trained; known: {', '.join(ours)}")
        chosen[key] = ours[theirs]
    distance, weight = config.get("reconstruction_loss", "l2"), config.get("disc_weight", 0.5)
    values = {
        "reconstruction": distance,
        "reconstruction_weight": config.get("reconstruction_weight", 1.0) * (4.0 if distance == "l2" else 2.0),
        "perceptual": [{"name": "lpips", "weights": vgg}],
        "perceptual_weight": config.get("perceptual_weight", 1.0),
        "gan": {
            "weight": weight,
            "adaptive": {"last_layer": "decoder.conv_out.weight"} if config.get("disc_adaptive_weight", False) else None,
            "generator_loss": chosen["gen_loss"],
            "discriminator_weight": weight,
            "discriminator_loss": chosen["disc_loss"],
            "start_step": config.get("disc_start", 20000),
            "lecam_weight": 0.0,
            "discriminator": {"type": chosen["disc_type"], "channels": 64, "num_layers": 3},
        },
    }
    return ReconstructionConfig.parse(values, source=SOURCE)
