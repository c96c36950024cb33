"""IBQ's generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.llamagen.reference import sampling_from_reference, square_layout, transformer_fields

KEY_MAP = KeyMap(
    {
        "class_emb.embedding_table.weight": "condition.embedding.weight",
        "tok_emb.weight": "embedding.table.weight",
        "blocks.{}.ada_lin.1.{*}": "backbone.modulation.{}.linear.{*}",
        "blocks.{}.{*}": "backbone.blocks.{}.{*}",
        "head_nm.rmsnorm.weight": "backbone.norm.weight",
        "head_nm.ada_lin.1.{*}": "backbone.output_modulation.linear.{*}",
        "head.weight": "head.table.weight",
    },
    reordered={
        # theirs: gate 1, gate 2, scale 1, scale 2, shift 1, shift 2; ours: shift 1, scale 1, gate 1, shift 2, scale 2, gate 2
        "backbone.modulation.{}.linear.{*}": (4, 2, 0, 5, 3, 1),
        "backbone.output_modulation.linear.{*}": (1, 0),  # theirs: scale, shift
    },
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "token_drop", "resid_dropout_p", "ffn_dropout_p", "attn_dropout_p", "class_num",
        "multiple_of", "rope_base", "norm_eps", "class_dropout_prob",
    ),
    ignored={
        "cond_dim": "the dim of the class embedding, which is that of the model",
        "alng": "the start of the gates in training: zero here",
        "shared_aln": "false in every release",
        "use_pretrained_codebook": "false in every release",
        "drop_path_rate": "0 in every release",
        "embd_pdrop": "of a layer that the model does not have",
    },
)  # fmt: skip


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `GPTConfig` from the authors' configuration; `_sampling` may hold the arguments of their sampler."""
    return {
        "layout": square_layout(config["block_size"], config["vocab_size"]),
        "condition": {"type": "classes", "num_classes": config["class_num"], "dropout": config.get("class_dropout_prob", 0.1)},
        "is_modulated": True,
        "dim": config["n_embd"],
        "depth": config["n_layer"],
        "num_heads": config["n_head"],
        "rope_base": config.get("rope_base", 10000),
        **transformer_fields(config, token_dropout="token_drop"),
        "sampling": sampling_from_reference(config.get("_sampling", {}), steps=config["block_size"]),
    }
