"""MaskGIT's generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.core.titok_files import TRAINING_KEYS
from visiontok.generators.decoding import TiTokSampling

KEY_MAP = KeyMap(
    {
        "model.embeddings.word_embeddings.weight": "backbone.embeddings.weight",
        "model.embeddings.position_embeddings.weight": "backbone.pos_embed",
        "model.embeddings.token_type_embeddings.weight": "backbone.token_type_embed",
        "model.embeddings.LayerNorm.{*}": "backbone.norm.{*}",
        "model.embeddings.position_ids": None,  # a constant that older versions stored
        "model.encoder.layer.{}.attention.self.{}.{*}": "backbone.blocks.{}.attn.{}.{*}",
        "model.encoder.layer.{}.attention.output.dense.{*}": "backbone.blocks.{}.attn.proj.{*}",
        "model.encoder.layer.{}.attention.output.LayerNorm.{*}": "backbone.blocks.{}.norm1.{*}",
        "model.encoder.layer.{}.intermediate.dense.{*}": "backbone.blocks.{}.mlp.fc1.{*}",
        "model.encoder.layer.{}.output.dense.{*}": "backbone.blocks.{}.mlp.fc2.{*}",
        "model.encoder.layer.{}.output.LayerNorm.{*}": "backbone.blocks.{}.norm2.{*}",
        "model.lm_head.{*}": "lm_head.{*}",
        "embeddings.weight": "backbone.embeddings.weight",
        "pos_embed": "backbone.pos_embed",
        "in_blocks.{*}": "backbone.in_blocks.{*}",
        "mid_block.{*}": "backbone.mid_block.{*}",
        "out_blocks.{}.skip_linear.{*}": "backbone.skip_linears.{}.{*}",
        "out_blocks.{*}": "backbone.out_blocks.{*}",
        "norm.{*}": "backbone.norm.{*}",
        "lm_head.{*}": "lm_head.{*}",
    },
    joined={
        "backbone.blocks.{}.attn.qkv.{*}": tuple(f"backbone.blocks.{{}}.attn.{part}.{{*}}" for part in ("query", "key", "value")),
    },
)


def sampling_from_reference(values: Mapping[str, Any]) -> TiTokSampling:
    """The arguments of the authors' `generate` as our numbers; what they omit has our default."""
    names = {
        "num_sample_steps": "num_steps",
        "guidance_scale": "guidance",
        "guidance_decay": "guidance_schedule",
        "guidance_scale_pow": "guidance_power",
        "randomize_temperature": "temperature",
        "softmax_temperature_annealing": "annealing",
    }
    return TiTokSampling.parse({names.get(name, name): value for name, value in values.items()}, source="reference sampler")


CONFIG_KEYS = ReferenceKeys(
    read=(
        "model.vq_model.codebook_size", "dataset.preprocessing.crop_size", "losses.label_smoothing", "losses.loss_weight_unmasked_token",
        *(f"model.generator.{key}" for key in (
            "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "dropout", "attn_drop", "image_seq_len",
            "class_label_dropout", "condition_num_classes", "num_steps", "guidance_scale", "guidance_decay", "randomize_temperature",
        )),
    ),
    ignored={
        "model.vq_model.{*}": "the tokenizer, which has a configuration of its own",
        **TRAINING_KEYS,
    },
)  # fmt: skip
"""Of the files in the authors' repository and of the `config.json` files of their released models."""

_SAMPLER_KEYS = {
    "num_steps": "num_sample_steps",
    "guidance_scale": "guidance_scale",
    "guidance_decay": "guidance_decay",
    "randomize_temperature": "randomize_temperature",
}
"""Keys of the authors' generator configuration, and the arguments of their `generate` that they stand for."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `MaskGITConfig` from the authors' configuration."""
    generator, losses = config["model"]["generator"], config.get("losses", {})
    size = config.get("dataset", {}).get("preprocessing", {}).get("crop_size", 256)
    segment = {"name": "latents", "shape": [generator["image_seq_len"]], "vocab_size": config["model"]["vq_model"]["codebook_size"]}
    return {
        "layout": {"modality": "image", "segments": [segment], "signal_shape": [size, size]},
        "condition": {"type": "classes", "num_classes": generator["condition_num_classes"], "dropout": generator["class_label_dropout"]},
        "backbone": _backbone_from_reference(generator),
        "sampling": sampling_from_reference({name: generator[key] for key, name in _SAMPLER_KEYS.items() if key in generator}),
        "label_smoothing": losses.get("label_smoothing", 0.1),
        "unmasked_weight": losses.get("loss_weight_unmasked_token", 0.1),
    }


def _backbone_from_reference(generator: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {
        "dim": generator["hidden_size"],
        "depth": generator["num_hidden_layers"],
        "num_heads": generator["num_attention_heads"],
        "mlp_dim": generator["intermediate_size"],
    }
    if generator["model_type"] == "UViT":
        return {"type": "uvit", **sizes}  # their code never uses its dropout rates
    if generator["model_type"] == "ViT":
        return {"type": "bert", **sizes, "dropout": generator["dropout"], "attention_dropout": generator["attn_drop"]}
    raise ConfigError(f"model_type {generator['model_type']!r} is unknown; maskgit generators are 'ViT' or 'UViT'")
