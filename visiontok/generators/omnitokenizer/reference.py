"""OmniTokenizer's generators as their authors store them: the arguments that checkpoints hold as hyperparameters, and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys, check_values
from visiontok.generators.condition import ClassCondition, ConditionConfig
from visiontok.tokens.grid import grid_layout

SOURCE = "the reference configuration of an OmniTokenizer generator"

KEY_MAP = KeyMap(
    {
        "transformer.tok_emb.weight": "embedding.table.weight",
        "transformer.pos_emb": "position_embedding",
        "transformer.blocks.{}.ln1.{}": "backbone.blocks.{}.attention_norm.{}",
        "transformer.blocks.{}.attn.query.{}": "backbone.blocks.{}.attention.query.{}",
        "transformer.blocks.{}.attn.key.{}": "backbone.blocks.{}.attention.key.{}",
        "transformer.blocks.{}.attn.value.{}": "backbone.blocks.{}.attention.value.{}",
        "transformer.blocks.{}.attn.proj.{}": "backbone.blocks.{}.attention.wo.{}",
        "transformer.blocks.{}.attn.mask": None,
        "transformer.blocks.{}.ln2.{}": "backbone.blocks.{}.ffn_norm.{}",
        "transformer.blocks.{}.mlp.0.{}": "backbone.blocks.{}.feed_forward.0.fc1.{}",
        "transformer.blocks.{}.mlp.2.{}": "backbone.blocks.{}.feed_forward.0.fc2.{}",
        "transformer.ln_f.{}": "backbone.norm.{}",
        "transformer.head.weight": "head.table.weight",
        "first_stage_model.{*}": None,  # the tokenizer, which the authors' training keeps in the same file
    },
    joined={"backbone.blocks.{}.attention.wqkv.{}": tuple(f"backbone.blocks.{{}}.attention.{part}.{{}}" for part in ("query", "key", "value"))},
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        "n_layer", "n_head", "n_embd", "block_size", "vocab_size", "resolution", "unconditional", "class_cond_dim", "starts_with_sos", "class_first",
        "p_drop_cond", "transformer_dropout", "n_unmasked", "vtokens", "vtokens_pos", "sample_every_n_latent_frames", "cond_stage_key",
    ),
    ignored={
        "sequence_length": "follows from block_size",
        "first_stage_vocab_size": "not read by the authors' code",
        "first_stage_key": "one value",
        **dict.fromkeys(("tokenizer", "vqvae", "stft_vqvae"), "of the tokenizer, which is loaded by its own name"),
        **dict.fromkeys(
            ("base_lr", "lr_min", "warmup_steps", "warmup_lr_init", "max_steps", "grad_accumulates", "grad_clip_val", "bf16", "fp16"),
            "of the training: set it in the recipe",
        ),
        **dict.fromkeys(
            (
                "batch_size", "num_workers", "sample_ratio", "loader_type", "fps", "sample_every_n_frames", "data_path", "train_datalist",
                "val_datalist", "resizecrop", "smap_cond", "smap_only", "text_cond", "spatial_length", "image_folder", "stft_data", "image_channels",
            ),
            "of the data: set it in the recipe",
        ),
    },
)  # fmt: skip
"""Of `hyper_parameters["args"]`, among which those of Lightning's `Trainer` stand, too: leave these out."""

SAMPLING_KEYS = ReferenceKeys(read=("cfg_ratio", "scale_cfg", "temperature", "top_k", "top_p"))
"""Arguments of the authors' `sample_with_past_cfg` and `sample_with_past`."""

STRIDE = (4, 8, 8)
"""Frames, rows and columns per token of the tokenizers that all released generators were trained on."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `GPTConfig` from the authors' arguments; `_sampling` may hold those of their samplers.

    Raises:
        ConfigError: if a value is one of which there is no release, or the sizes do not fit.
    """
    released = {"n_unmasked": (0,), "vtokens": (False,), "vtokens_pos": (False,), "sample_every_n_latent_frames": (0,), "cond_stage_key": ("label",)}
    check_values(config, released, source=SOURCE)
    condition = _condition(config)
    dropout = config.get("transformer_dropout", 0.0)
    return {
        "layout": _layout(config["block_size"] - (condition.get("start") is not None), config["resolution"], config["vocab_size"]),
        "condition": condition,
        "positions": "learned",
        "block": "gpt2",
        "dim": config["n_embd"],
        "depth": config["n_layer"],
        "num_heads": config["n_head"],
        "norm_eps": 1e-5,
        **dict.fromkeys(("token_dropout", "attention_dropout", "residual_dropout", "ffn_dropout"), dropout),
        "sampling": _sampling(config.get("_sampling", {})),
    }


def convert_weights(state_dict: Mapping[str, Tensor], *, num_codes: int, condition: ConditionConfig) -> dict[str, Tensor]:
    """The authors' tensors under our names.

    Theirs have one table of [start | classes | codes], and as many logits; ours have logits of codes only. The first two positions are those of the
    condition where it has two elements.

    Args:
        state_dict: as released.
        num_codes: of the tokenizer.
        condition: of the generator.

    Raises:
        CheckpointError: listing tensors that the model does not have, or if the table has other rows.
    """
    weights = KEY_MAP(state_dict)
    table, positions = weights.get("embedding.table.weight"), weights.get("position_embedding")
    if table is None or positions is None or "head.table.weight" not in weights:
        raise CheckpointError("the checkpoint lacks transformer.tok_emb.weight, transformer.pos_emb or transformer.head.weight")
    is_started = isinstance(condition, ClassCondition) and condition.start is not None
    classes = condition.num_classes if isinstance(condition, ClassCondition) else 0
    first = is_started + classes
    if len(table) != first + num_codes:
        raise CheckpointError(
            f"transformer.tok_emb.weight has {len(table)} rows; {is_started:d} start, {classes} classes and {num_codes} codes are expected"
        )
    weights["embedding.table.weight"], weights["head.table.weight"] = table[first:], weights["head.table.weight"][first:]
    weights["position_embedding"] = positions[0]
    if is_started:
        weights["condition.start"], weights["condition.embedding.weight"] = table[0], table[1:first]
        weights["condition.positions"], weights["position_embedding"] = positions[0, :2], positions[0, 2:]
    elif classes:
        weights["condition.embedding.weight"] = torch.cat([table[:first], torch.zeros_like(table[:1])])  # the last row stands for no class
    else:
        weights["condition.embedding.weight"] = table[:1]  # their start is code 0
    return weights


def _condition(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["unconditional"]:
        return {"type": "none"}
    classes = {"type": "classes", "num_classes": config["class_cond_dim"], "dropout": config.get("p_drop_cond") or 0.0}
    if not config.get("starts_with_sos", False):
        return {**classes, "dropout": 0.0}
    return {**classes, "start": "after" if config.get("class_first", False) else "before"}


def _layout(positions: int, resolution: int, vocab_size: int) -> dict[str, Any]:
    per_frame = (resolution // STRIDE[1]) ** 2
    if resolution % STRIDE[1] or positions < per_frame or positions % per_frame:
        raise ConfigError(
            f"{positions} tokens are not those of frames of {resolution} x {resolution} pixels in {SOURCE}: {per_frame} per latent frame"
        )
    times, side = positions // per_frame, resolution // STRIDE[1]
    layout = grid_layout((times, side, side), stride=STRIDE, vocab_size=vocab_size)
    return layout.replace(signal_shape=(1 + (times - 1) * STRIDE[0], resolution, resolution)).to_dict()


def _sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    SAMPLING_KEYS.check(values, source="the arguments of sampling")
    check_values(values, {"scale_cfg": (False,)}, source="the arguments of sampling")
    ratio, top_k = values.get("cfg_ratio"), values.get("top_k")
    return {
        "guidance": 1.0 if ratio is None else 1.0 + ratio,
        "temperature": values.get("temperature", 1.0),
        "top_k": top_k or 0,
        "top_p": 1.0 if top_k is None else values.get("top_p", 1.0),  # theirs filter nothing without top_k
    }
