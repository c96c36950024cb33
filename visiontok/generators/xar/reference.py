"""xAR's generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokens.grid import grid_layout


def _block_patterns(stack: str) -> dict[str, str | None]:
    theirs, ours = f"{stack}_blocks.{{}}", f"{stack}.blocks.{{}}"
    return {
        f"{theirs}.attn.rope.{{*}}": None,  # constants
        f"{theirs}.ada_lin.1.{{*}}": f"{ours}.modulation.linear.{{*}}",
        f"{theirs}.mlp.fc1_g.{{*}}": f"{ours}.mlp.gate.{{*}}",
        f"{theirs}.mlp.fc1_x.{{*}}": f"{ours}.mlp.fc1.{{*}}",
        f"{theirs}.{{*}}": f"{ours}.{{*}}",
        f"{stack}_pos_embed_learned": f"{stack}_positions",
        f"{stack}_norm.{{*}}": f"{stack}_norm.{{*}}",
    }


CHUNKS = (4, 2, 0, 5, 3, 1)
"""Of a block's modulation; theirs: gates, scales, shifts; ours: shift, scale and gate of the attention, then of the feed-forward part."""

KEY_MAP = KeyMap(
    {
        "mask": None,  # a constant
        "class_emb.weight": "condition.embedding.weight",
        "time_embed.mlp.0.{*}": "time.fc1.{*}",
        "time_embed.mlp.2.{*}": "time.fc2.{*}",
        "z_proj.{*}": "input.{*}",
        "z_proj_ln.{*}": "input_norm.{*}",
        **_block_patterns("encoder"),
        "decoder_embed.{*}": "middle.{*}",
        **_block_patterns("decoder"),
        "pred.{*}": "output.{*}",
    },
    reordered={f"{stack}.blocks.{{}}.modulation.linear.{{*}}": CHUNKS for stack in ("encoder", "decoder")},
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "img_size", "vae_stride", "patch_size", "vae_embed_dim", "mlp_ratio", "label_drop_prob", "attn_dropout", "proj_dropout", "clusters",
        *(f"{part}_{size}" for part in ("encoder", "decoder") for size in ("embed_dim", "depth", "num_heads")),
    ),
    ignored={
        "class_num": "their table of classes has 1000 and one for none, whatever this says",
        "grad_checkpointing": "recomputes activations to save memory",
    },
)  # fmt: skip
"""Of the constructor in the authors' repository; the released files come without one."""

NUM_CLASSES = 1000


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `XarConfig` from the authors' configuration; `_sampling` may hold the arguments of their sampler.

    Raises:
        ConfigError: if it describes what their code cannot build.
    """
    for size in ("embed_dim", "num_heads"):
        if config[f"encoder_{size}"] != config[f"decoder_{size}"]:
            raise ConfigError(f"encoder_{size} {config[f'encoder_{size}']} differs from decoder_{size} {config[f'decoder_{size}']}")
    if config.get("patch_size", 1) != 1:
        raise ConfigError(f"patch_size {config['patch_size']}: every release has 1")
    side, cells, dim = config["img_size"] // config["vae_stride"], math.isqrt(config["clusters"]), config["encoder_embed_dim"]
    if cells**2 != config["clusters"]:
        raise ConfigError(f"clusters {config['clusters']} is not the number of cells of a square grid")
    return {
        "layout": grid_layout((side, side), stride=config["vae_stride"], channels=config["vae_embed_dim"]).to_dict(),
        "condition": {"type": "classes", "num_classes": NUM_CLASSES, "dropout": config.get("label_drop_prob", 0.1)},
        "cells": (cells, cells),
        "dim": dim,
        "encoder_depth": config["encoder_depth"],
        "decoder_depth": config["decoder_depth"],
        "num_heads": config["encoder_num_heads"],
        "mlp_dim": int(dim * config.get("mlp_ratio", 4.0) * 2 / 3),
        "dropout": config.get("proj_dropout", 0.1),
        "attention_dropout": config.get("attn_dropout", 0.1),
        "sampling": sampling_from_reference(config.get("_sampling", {})),
    }


def sampling_from_reference(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the authors' `sample_tokens` as our numbers; their scales below 1 do not guide either."""
    return {"guidance": max(1.0, values.get("cfg", 1.0)), "steps": values.get("num_steps", 50)}
