"""LARP's generators as their authors store them: configuration and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.llamagen.reference import transformer_fields
from visiontok.tokens.grid import latents_layout

KEY_MAP = KeyMap(
    {
        "cls_embedding.embedding_table.weight": "condition.embedding.weight",
        "tok_embeddings.weight": "embedding.table.weight",
        "abs_pe": "position_embedding",
        "layers.{}.{*}": "backbone.blocks.{}.{*}",
        "norm.weight": "backbone.norm.weight",
        "output.weight": "head.table.weight",
    }
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "dim", "n_layer", "n_head", "vocab_size", "max_seq_len", "cls_token_num", "num_classes", "multiple_of", "frame_prediction", "norm_eps",
        "token_dropout_p", "attn_dropout_p", "resid_dropout_p", "ffn_dropout_p", "class_dropout_prob", "use_fixed_pe",
    ),
    ignored={
        "n_kv_head": "as many as heads in every release",
        "ffn_dim_multiplier": "not set in any release",
        "rope_base": "positions are learned",
        "initializer_range": "of new weights: 0.02, as here",
        "drop_path_rate": "0 in every release",
    },
)  # fmt: skip
"""Of the authors' ModelArgs."""

CLIP = (16, 128, 128)
"""Frames, height and width of the clips that the released tokenizer reads."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `GPTConfig` from the authors' ModelArgs."""
    if config.get("use_fixed_pe", False):
        raise ConfigError("use_fixed_pe true: the released generators have learned positions")
    layout = latents_layout(config["max_seq_len"], vocab_size=config["vocab_size"], signal_shape=CLIP).to_dict()
    dropout = config.get("class_dropout_prob", 0.1)
    if config.get("frame_prediction", False):
        condition = {"type": "tokens", "layout": layout, "has_separator": True, "dropout": 0.0}
    else:
        condition = {"type": "classes", "num_classes": config["num_classes"], "dropout": dropout}
    return {
        "layout": layout,
        "condition": condition,
        "positions": "learned",
        "dim": config["dim"],
        "depth": config["n_layer"],
        "num_heads": config["n_head"],
        **transformer_fields(config),
    }
