"""Selftok's released configurations (YAML with a `tokenizer.params` part) and weights, converted to ours.

Every key of a configuration must be known. Those that are settings of our model are converted, those that are constants of it must agree, and those
without effect are listed with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.core.keymap import KeyMap

LATENT_STRIDE = 8
"""Pixels per latent of Stable Diffusion 3's autoencoder."""

_ENCODERS: Mapping[str, Mapping[str, int]] = {
    "Enc-Qformer-Uni-XL/2": {"depth": 16, "hidden_size": 64, "num_heads": 4, "query_dim": 512, "query_heads": 8, "patch_size": 2}
}
_DECODERS = {"MMDiT_XL": "flow", "MMDiT_XL_Renderer": "one_step"}
_DECODER_SIZES = {"depth": 24, "head_dim": 64}
_PATCH_SIZE = 2

_FACTS: Mapping[str, Mapping[str, Any]] = {
    "params": {"diffusion_type": "flow"},
    "encoder_config": {
        "time_adaln": True, "qformer_mode": "dual", "pre_norm": False, "post_norm": True, "qk_norm": False, "attn_mask": False,
    },
    "quantizer_config": {"smart_react": True, "continuous": False},
    "decoder_config": {"sd3_cond_pooling": "None", "time_adaln": "pos_emb", "repeat": True},
}  # fmt: skip
"""By part: keys that must have this value where they are given."""

_SETTINGS: Mapping[str, frozenset[str]] = {
    "params": frozenset({
        "image_size", "k", "stages", "k_per_stage", "in_channels", "encoder_hidden_size", "enc", "encoder_config", "quantizer_config", "model",
        "context_see_xt", "decoder_config",
    }),
    "encoder_config": frozenset(),
    "quantizer_config": frozenset({
        "codebook_size", "code_dim", "w_diversity", "ema_entropy_ratio", "w_commit", "decay", "dead_code_threshold", "reset_cluster_size", "reg", "K",
    }),
    "decoder_config": frozenset({"class_dropout_prob"}),
}  # fmt: skip

_IGNORED: Mapping[str, str] = {
    "common": "folders, logging and precision of the authors' runs; a recipe has its own",
    "model": "which parts the authors' training freezes; set by a recipe's `model.freeze`",
    "optimize": "a recipe's `optimizer` and `schedule` say it",
    "is_text_tokenized": "of a language model",
    "pretrained_dit_path": "a file of Stable Diffusion 3, from which training starts; the weights are in the checkpoint",
    "gradient_checkpointing": "recomputes activations to save memory",
    "ema_enc": "an average of the encoder in training, in no release; a recipe's `ema` averages everything",
    "enc_decay": "of that average",
    "L2_lr": "0 in every release: no loss on latents",
    "two_part_losses": "false in every release",
    "noise_schedule_config": "the authors' code draws times uniformly, whatever its value",
    "enable_enc_variable_size": "sizes are those of image_size",
    "xavier_init": "initialization",
    "init_method": "initialization",
    "train_filter": "which parts the authors' training changes; set by a recipe's `model.freeze`",
    "freeze_filter": "which parts the authors' training freezes; set by a recipe's `model.freeze`",
}
"""Keys that decide nothing here -> the reason."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration's fields, but `vae`.

    Raises:
        ConfigError: naming the entry that is missing, unknown, or not what this model does.
    """
    _check_known("a Selftok configuration", config, {"tokenizer", "fixture_sizes"})
    try:
        _check_known("tokenizer of a Selftok configuration", config["tokenizer"], {"params"})
        params = config["tokenizer"]["params"]
        for part, values in (("params", params), *((part, params.get(part, {})) for part in _SETTINGS if part != "params")):
            _check(part, values)
        return _fields(params, config.get("fixture_sizes", {}))
    except KeyError as error:
        raise ConfigError(f"the Selftok configuration lacks {error}, or holds it as a value of an unknown name") from error


def _fields(params: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    encoder = {**_ENCODERS[params["enc"]], **sizes.get("encoder", {})}
    decoder = {**_DECODER_SIZES, **sizes.get("decoder", {})}
    quantizer, decoder_config = params["quantizer_config"], params.get("decoder_config", {})
    num_tokens = params["k"]
    if quantizer.get("K", num_tokens) != num_tokens or params.get("encoder_hidden_size", quantizer["code_dim"]) != quantizer["code_dim"]:
        raise ConfigError("a Selftok configuration must have quantizer_config.K equal to k, and code_dim equal to encoder_hidden_size")
    decoding: dict[str, Any] = {"type": _DECODERS[params["model"]]}
    if decoding["type"] == "flow":
        decoding |= {
            "visible": {"stages": _numbers(params["stages"]), "tokens_per_stage": _numbers(params["k_per_stage"])},
            "tokens_see_image": params.get("context_see_xt", False),
            "null_probability": decoder_config.get("class_dropout_prob", 0.0),
        }
    return {
        "image_size": params["image_size"],
        "latent_stride": LATENT_STRIDE,
        "channels": params.get("in_channels", 16),
        "patch_size": _PATCH_SIZE,
        "num_tokens": num_tokens,
        "encoder": {
            "depth": encoder["depth"],
            "dim": encoder["hidden_size"],
            "num_heads": encoder["num_heads"],
            "query_dim": encoder["query_dim"],
            "query_num_heads": encoder["query_heads"],
        },
        "quantizer": {
            "codebook_size": quantizer["codebook_size"],
            "dim": quantizer["code_dim"],
            "num_positions": num_tokens,
            "commitment_weight": quantizer.get("w_commit", 1.0),
            "diversity": {
                "weight": quantizer.get("w_diversity", 1.0),
                "history": quantizer.get("ema_entropy_ratio", 0.8),
                "fade": quantizer.get("reg", (0.1, 0.3)),
            },
            "decay": quantizer.get("decay", 0.99),
            "dead_below": quantizer.get("dead_code_threshold", 0.2),
            "reset_usage": quantizer.get("reset_cluster_size", 0.2),
        },
        "decoder": {"dim": decoder["head_dim"] * decoder["depth"], "depth": decoder["depth"], "num_heads": decoder["depth"]},
        "decoding": decoding,
    }


def _check(part: str, values: Mapping[str, Any]) -> None:
    """Known keys only, and facts as they are."""
    for key, value in values.items():
        fact = _FACTS[part].get(key)
        if fact is not None and value != fact and not (fact == "None" and value is None):
            raise ConfigError(f"{part}.{key} of a Selftok configuration is {value!r}; released models have {fact!r}, and others are not supported")
        if key not in _FACTS[part] and key not in _SETTINGS[part] and key not in _IGNORED:
            raise ConfigError(f"unknown key {key!r} (value {value!r}) in {part} of a Selftok configuration")


def _check_known(what: str, values: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(values) - known - set(_IGNORED))
    if unknown:
        raise ConfigError(f"unknown keys in {what}: {unknown}; known: {sorted({*known, *_IGNORED})}")


def _numbers(listed: Any) -> list[int]:
    """Whole numbers from "200,400" or from a list."""
    parts = listed.split(",") if isinstance(listed, str) else listed if isinstance(listed, list | tuple) else [listed]
    try:
        return [int(part) for part in parts]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"stages and k_per_stage of a Selftok configuration are whole numbers separated by commas, got {listed!r}") from error


KEY_MAP = KeyMap(
    {
        "encoder.query_tokens": "encoder.queries",
        "encoder.pos_embed": "encoder.patch_positions",
        "encoder.x_embedder.proj.{}": "encoder.patch_embed.{}",
        "encoder.blocks.{}.attn.to_query_kv.{}": "encoder.blocks.{}.patch_kv.{}",
        "encoder.blocks.{}.attn.query_linear.{}": "encoder.blocks.{}.query_qkv.{}",
        "encoder.blocks.{}.attn.query_proj.{}": "encoder.blocks.{}.query_proj.{}",
        "encoder.blocks.{}.attn.{}.{}": "encoder.blocks.{}.attn.{}.{}",
        "encoder.blocks.{}.mlp.{}.{}": "encoder.blocks.{}.mlp.{}.{}",
        "encoder.blocks.{}.q_mlp.{}.{}": "encoder.blocks.{}.query_mlp.{}.{}",
        "encoder.blocks.{}.adaLN_modulation.1.{}": "encoder.blocks.{}.modulation.linear.{}",
        "encoder.blocks.{}.t_embedder.mlp.0.{}": "encoder.blocks.{}.modulation.embed.fc1.{}",
        "encoder.blocks.{}.t_embedder.mlp.2.{}": "encoder.blocks.{}.modulation.embed.fc2.{}",
        "encoder.final_layer_norm3.{}": "decoder.trunk.code_norm.{}",
        "encoder.final_layer_norm.{}": None,  # their code never uses these two
        "encoder.final_layer_norm2.{}": None,
        "encoder.quantizer.project_in.{}": "encoder.to_latents.{}",
        "encoder.quantizer._codebook.embed": "quantizer.codebook",
        "encoder.quantizer._codebook.cluster_size": "quantizer.ema.counts",
        "encoder.quantizer._codebook.embed_avg": "quantizer.ema.sums",
        "encoder.quantizer._codebook.initted": "quantizer.kmeans.steps",
        "encoder.quantizer._codebook.timestep_p_over_c": "quantizer.usage.shares",
        "encoder.quantizer._codebook.tpc_initted": "quantizer.usage.started",
        "encoder.quantizer._codebook.cluster_size_wo_react": None,  # statistics
        "encoder.quantizer.{}": None,  # continuous, steps, count: statistics
        "model.pos_embed": "decoder.patch_positions",
        "model.positional_embedding": "decoder.patch_positions",
        "model.mask_token": "decoder.mask_token",
        "model.x_embedder.proj.{}": "decoder.patch_embed.{}",
        "model.context_pos_embed": "decoder.trunk.token_positions",
        "model.context_embedder.{}": "decoder.trunk.context_embed.{}",
        "model.t_embedder.mlp.0.{}": "decoder.trunk.time_embed.fc1.{}",
        "model.t_embedder.mlp.2.{}": "decoder.trunk.time_embed.fc2.{}",
        "model.y_embedder.{*}": None,  # for a pooled text that there is not
        **{f"model.joint_blocks.{{}}.{theirs}_block.{part}": f"decoder.trunk.blocks.{{}}.{name}"
            for theirs, ours in (("x", "image"), ("context", "context"))
            for part, name in (
                ("attn.{}.{}", f"{ours}.{{}}.{{}}"),
                ("mlp.{}.{}", f"{ours}.mlp.{{}}.{{}}"),
                ("adaLN_modulation.1.{}", f"{ours}_modulation.linear.{{}}"),
                ("t_embedder.mlp.0.{}", f"{ours}_modulation.embed.fc1.{{}}"),
                ("t_embedder.mlp.2.{}", f"{ours}_modulation.embed.fc2.{{}}"),
            )
        },
        "model.final_layer.linear.{}": "decoder.trunk.head.{}",
        "model.final_layer.adaLN_modulation.1.{}": "decoder.trunk.modulation.linear.{}",
        "diffusion.{}": None,  # tables of the noise schedule
    }
)  # fmt: skip


_UNREAD = (
    r"encoder\.blocks\.{encoder}\.(attn\.(qkv|proj)|mlp)\..*",  # what would become of the patches after the last block
    r"model\.joint_blocks\.{decoder}\.context_block\.t_embedder\..*",  # time modulates the last one
)


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names; tables of positions as they are, which may cover a larger grid.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    return _in_our_shapes(KEY_MAP(_without_unread(state_dict)))


def _without_unread(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors, but those of the last blocks that nothing is made from, and the flow's table of positions in a renderer."""
    last = {
        "encoder": _last(state_dict, r"encoder\.blocks\.(\d+)\..*"),
        "decoder": _last(state_dict, r"model\.joint_blocks\.(\d+)\..*"),
    }
    unread = "|".join(f"({pattern.format(**last)})" for pattern in _UNREAD)
    if "model.positional_embedding" in state_dict:
        unread += r"|model\.pos_embed"
    return {key: tensor for key, tensor in state_dict.items() if not re.fullmatch(unread, key)}


def _in_our_shapes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names, without the authors' leading axis of 1, patches embedded by a matrix instead of a convolution."""
    shaped = dict(weights)
    for key, tensor in weights.items():
        if key.endswith("patch_embed.weight"):
            shaped[key] = tensor.permute(0, 2, 3, 1).flatten(1)
        elif key.endswith(("queries", "_positions", "mask_token", "codebook", "ema.counts", "ema.sums", "usage.shares")) and len(tensor) == 1:
            shaped[key] = tensor[0]
        elif key.endswith("kmeans.steps"):
            shaped[key] = tensor.reshape(()).to(torch.int64)
        elif key.endswith("usage.started"):
            shaped[key] = tensor.reshape(()).to(torch.bool)
    if "quantizer.kmeans.steps" in shaped:
        shaped["quantizer.ema.started"] = shaped["quantizer.kmeans.steps"] > 0
    return shaped


def center_of_table(table: Tensor, side: int) -> Tensor:
    """Positions of a square grid (S * S, D) -> those of the side x side positions in its middle.

    Raises:
        CheckpointError: if the table is no square, or smaller.
    """
    whole = math.isqrt(len(table))
    if whole**2 != len(table) or whole < side:
        raise CheckpointError(f"a table of {len(table)} positions has no square of {side} x {side} in its middle")
    start = (whole - side) // 2
    return table.unflatten(0, (whole, whole))[start : start + side, start : start + side].flatten(0, 1)


def _last(keys: Mapping[str, Tensor], pattern: str) -> int:
    """The largest number of a block."""
    return max((int(found[1]) for key in keys if (found := re.fullmatch(pattern, key))), default=0)
