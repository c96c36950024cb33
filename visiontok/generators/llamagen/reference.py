"""LlamaGen's generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokens.grid import grid_layout

KEY_MAP = KeyMap(
    {
        "cls_embedding.embedding_table.weight": "condition.embedding.weight",
        "cls_embedding.cap_proj.{}.weight": "condition.{}.weight",
        "cls_embedding.uncond_embedding": "condition.null",
        "tok_embeddings.weight": "embedding.table.weight",
        "layers.{}.{*}": "backbone.blocks.{}.{*}",
        "norm.weight": "backbone.norm.weight",
        "output.weight": "head.table.weight",
        "freqs_cis": None,  # the rotary table, which some files hold
    }
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "dim", "n_layer", "n_head", "n_kv_head", "multiple_of", "rope_base", "norm_eps", "token_dropout_p", "attn_dropout_p", "resid_dropout_p",
        "ffn_dropout_p", "num_classes", "caption_dim", "class_dropout_prob", "model_type", "vocab_size", "cls_token_num", "block_size",
    ),
    ignored={
        "ffn_dim_multiplier": "not set in any release",
        "initializer_range": "of new weights: 0.02, as here",
        "drop_path_rate": "0 in every release",
        "max_batch_size": "of their cache",
        "max_seq_len": "of their cache",
    },
)  # fmt: skip
"""Of the authors' ModelArgs."""

SAMPLING_KEYS = ReferenceKeys(read=("cfg_scale", "cfg_interval", "temperature", "top_k", "top_p"))
"""Arguments of the authors' `generate`."""

STRIDE = 16
"""Of the tokenizers that all released generators of LlamaGen, and of those that build on its code, were trained on."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `GPTConfig` from the authors' ModelArgs; `_sampling` may hold the arguments of their `generate`."""
    return {
        "layout": square_layout(config["block_size"], config["vocab_size"]),
        "condition": _condition(config),
        "dim": config["dim"],
        "depth": config["n_layer"],
        "num_heads": config["n_head"],
        "num_kv_heads": config.get("n_kv_head"),
        "rope_base": config.get("rope_base", 10000),
        **transformer_fields(config),
        "sampling": sampling_from_reference(config.get("_sampling", {}), steps=config["block_size"]),
    }


def square_layout(positions: int, vocab_size: int | tuple[int, ...]) -> dict[str, Any]:
    """The layout of a square grid of so many positions, with one vocabulary or one per codebook.

    Raises:
        ConfigError: if no square grid has so many.
    """
    side = math.isqrt(positions)
    if side**2 != positions:
        raise ConfigError(f"block_size {positions} is not the number of positions of a square grid")
    return grid_layout((side, side), stride=STRIDE, vocab_size=vocab_size).to_dict()


def transformer_fields(config: Mapping[str, Any], *, token_dropout: str = "token_dropout_p") -> dict[str, Any]:
    """The fields of Llama-style blocks that the ModelArgs of LlamaGen, and of those that build on its code, name alike and may omit.

    Args:
        config: the authors' configuration.
        token_dropout: their key of the dropout after the embedding.
    """
    return {
        "multiple_of": config.get("multiple_of", 256),
        "norm_eps": config.get("norm_eps", 1e-5),
        "token_dropout": config.get(token_dropout, 0.1),
        "attention_dropout": config.get("attn_dropout_p", 0.0),
        "residual_dropout": config.get("resid_dropout_p", 0.1),
        "ffn_dropout": config.get("ffn_dropout_p", 0.1),
    }


def sampling_from_reference(values: Mapping[str, Any], *, steps: int) -> dict[str, Any]:
    """The arguments of the authors' `generate` as our numbers.

    Args:
        values: `cfg_scale`, `cfg_interval`, `temperature`, `top_k`, `top_p`; `cfg_interval` i ends guidance after decoding step i, which follows
            the first token; -1 never ends it.
        steps: tokens per sample.

    Raises:
        ConfigError: for another argument.
    """
    SAMPLING_KEYS.check(values, source="the arguments of sampling")
    interval = values.get("cfg_interval", -1)
    return {
        "guidance": values.get("cfg_scale", 1.0),
        "guidance_interval": (0.0, 1.0 if interval < 0 else min(1.0, (interval + 2) / steps)),
        "temperature": values.get("temperature", 1.0),
        "top_k": values.get("top_k", 0),
        "top_p": values.get("top_p", 1.0),
    }


def _condition(config: Mapping[str, Any]) -> dict[str, Any]:
    dropout, kind = config.get("class_dropout_prob", 0.1), config.get("model_type", "c2i")
    if kind == "c2i":
        return {"type": "classes", "num_classes": config["num_classes"], "dropout": dropout}
    if kind == "t2i":
        return {"type": "text", "text": {"length": config["cls_token_num"], "dim": config["caption_dim"]}, "dropout": dropout}
    raise ConfigError(f"model_type {kind!r} is unknown; LlamaGen's generators are 'c2i' or 't2i'")
