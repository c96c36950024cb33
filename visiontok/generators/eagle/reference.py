"""LANTERN's drafters as their authors store them: configuration and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.llamagen.reference import square_layout

KEY_MAP = KeyMap(
    {
        "embed_tokens.weight": "embedding.table.weight",
        "fc.{*}": "fc.{*}",
        "layers.0.self_attn.o_proj.weight": "attention.wo.weight",
        "layers.0.self_attn.{}_proj.weight": "attention.{}.weight",
        "layers.0.post_attention_layernorm.weight": "norm.weight",
        "layers.0.mlp.gate_proj.weight": "feed_forward.w1.weight",
        "layers.0.mlp.up_proj.weight": "feed_forward.w3.weight",
        "layers.0.mlp.down_proj.weight": "feed_forward.w2.weight",
    },
    joined={"attention.wqkv.weight": ("attention.q.weight", "attention.k.weight", "attention.v.weight")},
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers", "rms_norm_eps", "vocab_size",
        "input_type",
    ),
    ignored={
        "architectures": "of transformers", "model_type": "of transformers", "transformers_version": "of transformers", "torch_dtype": "of the file",
        "bos_token_id": "of text", "eos_token_id": "of text", "pad_token_id": "of text", "hidden_act": "silu in every release",
        "caption_dim": "of the generator", "class_dropout_p": "of the generator", "initializer_range": "of new weights",
        "max_position_embeddings": "follows from input_type", "rope_scaling": "not used", "pretraining_tp": "1 in every release",
        "tie_word_embeddings": "the generator's head is read", "use_cache": "of transformers",
    },
)  # fmt: skip
"""Of the authors' `config.json`."""

POSITIONS = {"c2i": 576, "t2i": 256, "t2i2": 1024}
"""Tokens of a sample, by `input_type`."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `EagleConfig` from the authors' `config.json`.

    Raises:
        ConfigError: for another type of input, or several layers.
    """
    kind, layers = config["input_type"], config["num_hidden_layers"]
    if kind not in POSITIONS:
        raise ConfigError(f"input_type {kind!r} is unknown; drafters of LlamaGen have one of {', '.join(POSITIONS)}")
    if layers != 1:
        raise ConfigError(f"num_hidden_layers is {layers}; LANTERN's drafters have one layer")
    return {
        "layout": square_layout(POSITIONS[kind], config["vocab_size"]),
        "dim": config["hidden_size"],
        "hidden_dim": config["intermediate_size"],
        "num_heads": config["num_attention_heads"],
        "num_kv_heads": config["num_key_value_heads"],
        "norm_eps": config["rms_norm_eps"],
    }
