"""Configurations and tensor names of NeuCodec: transformers' own, and those of the authors' release."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

NUM_SEMANTIC_LAYERS = 16
"""Layers of w2v-BERT that are used, of the 24 in the authors' file."""

_FIELDS = ("sample_rate", "hop_length", "hidden_dim", "semantic_dim", "ngf", "up_ratios", "depth", "heads", "levels", "semantic_model_config")
_KEYS = ReferenceKeys(read=(*_FIELDS, "semantic_model_config.{*}"))
INPUT_RATE = 16000
"""Of the authors' models, in Hz."""

_SEMANTIC = {"initial_conv": "conv1", "residual_blocks.1": "conv2", "residual_blocks.3": "conv3", "final_conv": "conv4"}
_ACTIVATIONS = ("conv_final_block.0", "conv_blocks.{}.block.3", "conv_blocks.{}.block.{}.block.{}")
_UNIT = ("snake1", "conv1", "snake2", "conv2")
_LAYER = {
    "att_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "att.c_proj": "self_attn.o_proj",
    "att.c_attn": "self_attn.qkv",
}


def is_original(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is written in the authors' names."""
    return "up_ratios" in config


def library_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of transformers' configuration from the authors'.

    Raises:
        ConfigError: for unknown or missing keys, and a hop that does not fit the rates.
    """
    source = "NeuCodec's configuration"
    with _KEYS.reading(config, source=source):
        hidden, heads, ratios = config["hidden_dim"], config["heads"], config["up_ratios"]
        fields = {
            "hidden_size": hidden,
            "intermediate_size": 4 * hidden,
            "num_hidden_layers": config["depth"],
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": hidden // heads,
            "encoder_hidden_size": config["ngf"],
            "downsampling_ratios": ratios,
            "semantic_model_config": {**(config.get("semantic_model_config") or {}), "num_hidden_layers": NUM_SEMANTIC_LAYERS},
            "quantization_dim": config["semantic_dim"] + hidden,
            "quantization_levels": config["levels"],
            "input_sampling_rate": INPUT_RATE,
            "output_sampling_rate": config["sample_rate"],
        }
        if math.prod(ratios) * config["sample_rate"] != config["hop_length"] * INPUT_RATE:
            raise ConfigError(f"{source} has the hop_length {config['hop_length']}, which does not fit up_ratios {ratios} at {INPUT_RATE} Hz")
    return fields


def library_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without weight normalization under transformers' names, whichever names they have.

    Raises:
        CheckpointError: listing tensors that are not in this network.
    """
    blocks = {name.split(".")[2] for name in state_dict if name.startswith("CodecEnc.conv_blocks.")}
    return with_projections(_original_keys(len(blocks) - 1)(state_dict)) if blocks else dict(state_dict)


def with_projections(renamed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `DECODER` gave names, with queries, keys and values of its attention by themselves."""
    apart = dict(renamed)
    for name in [name for name in renamed if ".self_attn.qkv." in name]:
        parts = zip(("q_proj", "k_proj", "v_proj"), apart.pop(name).chunk(3), strict=True)
        apart |= {name.replace(".qkv.", f".{part}."): tensor.contiguous() for part, tensor in parts}
    return apart


_BACKBONE = "generator.backbone"
ADAPTER: dict[str, str | None] = {f"SemanticEncoder_module.{theirs}.{{*}}": f"semantic_adapter.{ours}.{{*}}" for theirs, ours in _SEMANTIC.items()}
"""Patterns of a `KeyMap` for the adapter behind the semantic model."""

DECODER: dict[str, str | None] = {
    "generator.head.istft.window": None,
    "fc_post_a.{*}": "acoustic_decoder.fc.{*}",
    "generator.quantizer.{*}": "quantizer.{*}",
    "generator.head.out.{*}": "acoustic_decoder.head.linear.{*}",
    f"{_BACKBONE}.final_layer_norm.{{*}}": "acoustic_decoder.norm.{*}",
    **{f"{_BACKBONE}.{part}.{{*}}": f"acoustic_decoder.{part}.{{*}}" for part in ("embed", "prior_net", "post_net")},
    **{f"{_BACKBONE}.transformers.{{}}.{theirs}.{{*}}": f"acoustic_decoder.layers.{{}}.{ours}.{{*}}" for theirs, ours in _LAYER.items()},
}
"""Patterns for the quantizer and the decoder, with query, key and value still together."""


def _original_keys(num_stages: int) -> KeyMap:
    """The authors' names -> transformers', with query, key and value still together."""
    encoder = "CodecEnc"
    patterns: dict[str, str | None] = {
        **{f"semantic_model.encoder.layers.{layer}.{{*}}": None for layer in range(NUM_SEMANTIC_LAYERS, 24)},
        **{f"{encoder}.{place}.{name}": None for place in _ACTIVATIONS for name in ("upsample.filter", "downsample.lowpass.filter")},
        "fc_post_s.{*}": None,  # of a semantic decoder, which only training has
        "SemanticDecoder_module.{*}": None,
        "semantic_model.{*}": "semantic_encoder.{*}",
        **ADAPTER,
        f"{encoder}.conv_blocks.0.{{*}}": "acoustic_encoder.conv1.{*}",
        f"{encoder}.conv_final_block.0.{{*}}": "acoustic_encoder.snake1.{*}",
        f"{encoder}.conv_final_block.1.{{*}}": "acoustic_encoder.conv2.{*}",
        "fc_prior.{*}": "fc_encoder.{*}",
        **DECODER,
    }
    for stage in range(num_stages):
        theirs, ours = f"{encoder}.conv_blocks.{stage + 1}.block", f"acoustic_encoder.block.{stage}"
        patterns |= {f"{theirs}.3.{{*}}": f"{ours}.snake1.{{*}}", f"{theirs}.4.{{*}}": f"{ours}.conv1.{{*}}"}
        for unit in range(3):
            patterns |= {f"{theirs}.{unit}.block.{layer}.{{*}}": f"{ours}.res_unit{unit + 1}.{name}.{{*}}" for layer, name in enumerate(_UNIT)}
    return KeyMap(patterns)
