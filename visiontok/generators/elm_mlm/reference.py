"""ELM's masked generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.llamagen.reference import square_layout, transformer_fields

KEY_MAP = KeyMap(
    {
        "tok_embedder.weight": "backbone.embeddings.codes",
        "cls_embedding.embedding_table.weight": "backbone.embeddings.classes",
        "layers.{}.{*}": "backbone.stack.blocks.{}.{*}",
        "norm.weight": "backbone.stack.norm.weight",
        "mlm_layer.fc.weight": "lm_head.dense.weight",
        "mlm_layer.fc.bias": "lm_head.dense.bias",
        "mlm_layer.ln.weight": "lm_head.norm.weight",
        "mlm_layer.ln.bias": "lm_head.norm.bias",
        "mlm_layer.bias": "lm_head.bias",
        "output.weight": None,  # their forward pass uses neither of these two
        "pos_embed.weight": None,
    },
    joined={"backbone.embeddings.weight": ("backbone.embeddings.codes", "backbone.embeddings.classes")},
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "token_each", "code_dim", "dim", "n_layer", "n_head", "num_classes", "block_size", "multiple_of", "pos_type", "smoothing", "gen_iter",
        "token_dropout_p", "resid_dropout_p", "ffn_dropout_p", "attn_dropout_p", "class_dropout_prob", "rope_base", "norm_eps", "use_adaLN",
    ),
    ignored={"drop_path_rate": "0 in every release", "cls_token_num": "one class token"},
)  # fmt: skip

SAMPLING_KEYS = ReferenceKeys(read=("cfg_scale", "cfg_schedule", "temperature"), ignored={"top_k": "their sampler never uses it"})
"""Arguments of the authors' sampler."""

_SCHEDULES = {"constant": "constant", "linear": "linear", "powercos": "power-cosine"}


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `MaskGITConfig` from the authors' configuration; `_sampling` may hold the arguments of their sampler."""
    if config.get("pos_type", "rope2d") != "rope2d" or config.get("use_adaLN", False) or config.get("token_each", 1) != 1:
        raise ConfigError(
            f"pos_type {config.get('pos_type')!r}, use_adaLN {config.get('use_adaLN')}, token_each {config.get('token_each')}: every masked release "
            "has rope2d, no adaLN and one token per position"
        )
    steps = config.get("gen_iter", 10)
    return {
        "layout": square_layout(config["block_size"], 2 ** config["code_dim"]),
        "condition": {"type": "classes", "num_classes": config["num_classes"], "dropout": config.get("class_dropout_prob", 0.1)},
        "backbone": {
            "type": "llama",
            "dim": config["dim"],
            "depth": config["n_layer"],
            "num_heads": config["n_head"],
            "rope_base": config.get("rope_base", 10000),
            **transformer_fields(config),
        },
        "head": {"type": "tied"},
        "masking": {"type": "cosine-step", "steps": steps},
        "label_smoothing": config.get("smoothing", 0.1),
        "unmasked_weight": 0.0,
        "sampling": {"num_steps": steps, **sampling_from_reference(config.get("_sampling", {}))},
    }


def sampling_from_reference(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the authors' sampler as our numbers."""
    SAMPLING_KEYS.check(values, source="the arguments of sampling")
    schedule = values.get("cfg_schedule", "constant")
    if schedule not in _SCHEDULES:
        raise ConfigError(f"cfg_schedule {schedule!r} is unknown; known: {', '.join(_SCHEDULES)}")
    return {
        "type": "maskgit",
        "guidance": values.get("cfg_scale", 1.0),
        "guidance_schedule": _SCHEDULES[schedule],
        "temperature": values.get("temperature", 1.0),
    }
