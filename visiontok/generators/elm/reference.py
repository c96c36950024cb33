"""ELM's autoregressive generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.llamagen.reference import square_layout, transformer_fields

KEY_MAP = KeyMap(
    {
        "cls_embedding.embedding_table.weight": "condition.embedding.weight",
        "tok_embedder.weight": "embedding.table.weight",
        "tok_embedder.{}.weight": "embedding.table.codebooks.{}",
        "proj.weight": "embedding.project.weight",
        "layers.{}.{*}": "backbone.blocks.{}.{*}",
        "norm.weight": "backbone.norm.weight",
        "output.weight": "head.table.weight",
        "output.{}.weight": "head.table.codebooks.{}",
    }
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "token_each", "code_dim", "dim", "n_layer", "n_head", "num_classes", "block_size", "multiple_of", "pos_type", "token_dropout_p",
        "resid_dropout_p", "ffn_dropout_p", "attn_dropout_p", "class_dropout_prob", "rope_base", "norm_eps", "use_adaLN",
    ),
    ignored={"drop_path_rate": "0 in every release", "cls_token_num": "one class token"},
)  # fmt: skip

SAMPLING_KEYS = ReferenceKeys(read=("cfg_scale", "cfg_schedule", "temperature", "top_k"))
"""Arguments of the authors' `generate_cfg`."""

_SCHEDULES = {"constant": "constant", "linear": "linear", "cos": "cosine", "log": "log", "square": "square", "square_root": "square-root"}


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `GPTConfig` from the authors' configuration; `_sampling` may hold the arguments of their sampler."""
    if config.get("pos_type", "rope2d") != "rope2d" or config.get("use_adaLN", False):
        raise ConfigError(f"pos_type {config.get('pos_type')!r} with use_adaLN {config.get('use_adaLN')}: every release has rope2d without adaLN")
    count = config["token_each"]
    return {
        "layout": square_layout(config["block_size"], (2 ** config["code_dim"],) * count),
        "condition": {"type": "classes", "num_classes": config["num_classes"], "dropout": config.get("class_dropout_prob", 0.1)},
        **({"pattern": "parallel", "combine": "concat"} if count > 1 else {}),
        "dim": config["dim"],
        "depth": config["n_layer"],
        "num_heads": config["n_head"],
        "rope_base": config.get("rope_base", 10000),
        **transformer_fields(config),
        "sampling": sampling_from_reference(config.get("_sampling", {})),
    }


def sampling_from_reference(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the authors' `generate_cfg` as our numbers."""
    SAMPLING_KEYS.check(values, source="the arguments of sampling")
    schedule = values.get("cfg_schedule", "constant")
    if schedule not in _SCHEDULES:
        raise ConfigError(f"cfg_schedule {schedule!r} is unknown; known: {', '.join(_SCHEDULES)}")
    return {
        "guidance": values.get("cfg_scale", 1.0),
        "guidance_schedule": _SCHEDULES[schedule],
        "temperature": values.get("temperature", 1.0),
        "top_k": values.get("top_k") or 0,
    }
