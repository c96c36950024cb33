"""RAR's generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import CheckpointError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.core.titok_files import TRAINING_KEYS
from visiontok.tokens import Segment, TokenLayout
from visiontok.tokens.grid import grid_layout

KEY_MAP = KeyMap(
    {
        "cls_token": "start",
        "embeddings.weight": "embedding.weight",  # with the classes; see `merged_table_from_reference`
        "pos_embed": "positions",
        "target_aware_pos_embed": "target_positions",
        "timesteps_embeddings": "element_embedding",
        "blocks.{}.adaLN_modulation.1.{*}": "backbone.blocks.{}.modulation.linear.{*}",
        "blocks.{}.{*}": "backbone.blocks.{}.{*}",
        "adaln_before_head.adaLN_modulation.1.{*}": "output_modulation.linear.{*}",
        "lm_head.{*}": "head.table.{*}",
    },
    reordered={"output_modulation.linear.{*}": (1, 0)},  # theirs: scale, shift; those of the blocks are in our order
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "model.vq_model.codebook_size",
        *(f"model.generator.{key}" for key in (
            "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "dropout", "attn_drop", "class_label_dropout",
            "image_seq_len", "condition_num_classes", "randomize_temperature", "guidance_scale", "guidance_scale_pow", "randomness_anneal_start",
            "randomness_anneal_end",
        )),
    ),
    ignored={
        "model.vq_model.{*}": "the tokenizer, which has a configuration of its own",
        "model.generator.model_type": "the model has one form",
        "model.generator.use_checkpoint": "recomputes activations to save memory",
        "model.generator.guidance_decay": "the schedule is always power-cosine",
        "model.generator.num_steps": "one step per token",
        "dataset.preprocessing.crop_size": "the tokenizer's image size, which follows from the grid",
        "losses.{*}": "cross-entropy without options",
        **TRAINING_KEYS,
    },
)  # fmt: skip
"""Of the training configurations in the authors' repository; the released files come without one."""

STRIDE = 16
"""Of the tokenizer that all released generators were trained on."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `RarConfig` from the authors' configuration."""
    generator = config["model"]["generator"]
    names = ("guidance_scale", "randomize_temperature", "guidance_scale_pow")
    return {
        "layout": _layout(generator["image_seq_len"], config["model"]["vq_model"]["codebook_size"]).to_dict(),
        "condition": {"type": "classes", "num_classes": generator["condition_num_classes"], "dropout": generator["class_label_dropout"]},
        "dim": generator["hidden_size"],
        "depth": generator["num_hidden_layers"],
        "num_heads": generator["num_attention_heads"],
        "mlp_dim": generator["intermediate_size"],
        "dropout": generator["dropout"],
        "attention_dropout": generator["attn_drop"],
        "order": {"anneal_start": generator.get("randomness_anneal_start", 0), "anneal_end": generator.get("randomness_anneal_end", 0)},
        "sampling": sampling_from_reference({name: generator[name] for name in names if name in generator}),
    }


def sampling_from_reference(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the authors' `generate` as our numbers. Their scale 0 samples from the conditional model alone, which is our scale 1."""
    scale = values.get("guidance_scale", 0.0)
    temperature = {"temperature": values.get("randomize_temperature", 1.0)}
    if scale == 0:
        return temperature
    return {"guidance": scale, "guidance_schedule": "power-cosine", "guidance_power": values.get("guidance_scale_pow", 1.0), **temperature}


def merged_table_from_reference(renamed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tables from the authors' one: V codes, an unused row, then the classes and none. Tables of positions lose their batch axis.

    Args:
        renamed: the authors' tensors under our names.

    Raises:
        CheckpointError: if the table is too small for the codes that the head predicts.
    """
    found = dict(renamed)
    for name in ("start", "positions", "target_positions", "element_embedding"):
        if name in found:
            found[name] = found[name].reshape(-1, found[name].shape[-1])
    if "start" in found:
        found["start"] = found["start"][0]
    if "embedding.weight" in found and "head.table.weight" in found:
        table, codes = found["embedding.weight"], len(found["head.table.weight"])
        if len(table) < codes + 2:
            raise CheckpointError(f"embeddings.weight has {len(table)} rows, too few for {codes} codes and the classes")
        found["embedding.weight"], found["condition.embedding.weight"] = table[:codes], table[codes + 1 :]
    return found


def _layout(length: int, vocab_size: int) -> TokenLayout:
    """A square grid, or a sequence without spatial meaning where the length is no square."""
    side = math.isqrt(length)
    if side**2 == length:
        return grid_layout((side, side), stride=STRIDE, vocab_size=vocab_size)
    return TokenLayout(modality="image", segments=(Segment(name="latents", shape=(length,), vocab_size=vocab_size),), signal_shape=(256, 256))
