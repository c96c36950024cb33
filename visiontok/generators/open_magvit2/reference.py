"""Open-MAGVIT2's generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.llamagen.reference import square_layout, transformer_fields

KEY_MAP = KeyMap(
    {
        "class_emb.embedding_table.weight": "condition.embedding.weight",
        "pre_emb.weight": "embedding.table.0",
        "post_emb.weight": "embedding.table.1",
        "spatial_blocks.{}.{*}": "backbone.blocks.{}.{*}",
        "factorized_blocks.{}.{*}": "head.stack.blocks.{}.{*}",
        "norm.weight": "head.stack.norm.weight",
        "head.{}.weight": "head.table.{}",
    },
    joined={
        "embedding.table.weight": ("embedding.table.0", "embedding.table.1"),
        "head.table.weight": ("head.table.0", "head.table.1"),
    },
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "block_size", "spatial_n_layer", "factorized_n_layer", "factorized_bits", "n_head", "dim", "token_drop", "resid_dropout_p", "ffn_dropout_p",
        "attn_dropout_p", "token_factorization", "class_num", "multiple_of", "rope_base", "norm_eps", "class_dropout_prob",
    ),
    ignored={
        "vocab_size": "the sizes of both codebooks follow from factorized_bits",
        "cond_dim": "unused by their code",
        "drop_path_rate": "0 in every release",
    },
)  # fmt: skip

SAMPLING_KEYS = ReferenceKeys(read=("cfg_scale", "temperature", "top_k", "top_p"))
"""Arguments of the authors' sampler."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `GPTConfig` from the authors' configuration; `_sampling` may hold the arguments of their sampler."""
    if not config.get("token_factorization", True):
        raise ConfigError("token_factorization false: the released generators write two tokens per position")
    sizes = tuple(2**bits for bits in config["factorized_bits"])
    return {
        "layout": square_layout(config["block_size"], sizes),
        "condition": {"type": "classes", "num_classes": config["class_num"], "dropout": config.get("class_dropout_prob", 0.1)},
        "pattern": "parallel",
        "inner_head": {"depth": config["factorized_n_layer"]},
        "dim": config["dim"],
        "depth": config["spatial_n_layer"],
        "num_heads": config["n_head"],
        "rope_base": config.get("rope_base", 10000),
        **transformer_fields(config, token_dropout="token_drop"),
        "sampling": sampling_from_reference(config.get("_sampling", {}), codebooks=len(sizes)),
    }


def sampling_from_reference(values: Mapping[str, Any], *, codebooks: int) -> dict[str, Any]:
    """The arguments of the authors' sampler, one number per codebook, as ours.

    Raises:
        ConfigError: for another argument; if the first codebook is not guided but another is, a combination that their sampler cannot run either.
    """
    SAMPLING_KEYS.check(values, source="the arguments of sampling")
    scales = values.get("cfg_scale", [1.0] * codebooks)
    if scales[0] > 1 and min(scales) <= 1:
        raise ConfigError(f"cfg_scale {scales}: their sampler needs all scales above 1, or none")
    numbers = {"temperature": [1.0] * codebooks, "top_k": [0] * codebooks, "top_p": [1.0] * codebooks}
    return {"guidance": scales, **{name: values.get(name, default) for name, default in numbers.items()}}
