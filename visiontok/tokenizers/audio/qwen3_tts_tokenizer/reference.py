"""The authors' configuration and tensor names of Qwen3-TTS-Tokenizer-12Hz, from https://github.com/QwenLM/Qwen3-TTS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.layers.rope import pairs_of_halves
from visiontok.tokenizers.audio.mimi import reference as mimi
from visiontok.tokenizers.audio.mimi.model import MimiConfig
from visiontok.tokenizers.shared.library_model import general_names

_RATES = ("encode_downsample_rate", "decode_upsample_rate")
_SIZES = (
    "codebook_size", "codebook_dim", "num_quantizers", "latent_dim", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "sliding_window", "rms_norm_eps", "rope_theta", "layer_scale_initial_scale", "upsample_rates",
    "upsampling_ratios", "decoder_dim",
)  # fmt: skip
_FIXED = {"hidden_act": "silu", "attention_bias": False}
_UNUSED = ("semantic_codebook_size", "num_semantic_quantizers", "vector_quantization_hidden_dimension")
_KEYS = ReferenceKeys(
    read=(
        "encoder_valid_num_quantizers",
        "input_sample_rate",
        "output_sample_rate",
        *_RATES,
        *(f"encoder_config.{name}" for name in (*MimiConfig.model_fields, "rope_theta", "rope_parameters.{*}")),
        *(f"decoder_config.{name}" for name in (*_SIZES, *_FIXED)),
    ),
    ignored={
        **{f"encoder_config.{name}": reason for name, reason in mimi.IGNORED.items()},
        **{f"decoder_config.{name}": "the authors' code does not use it" for name in _UNUSED},
        "decoder_config.max_position_embeddings": "positions have no table",
        "decoder_config.attention_dropout": "nothing is dropped",
    },
)


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Qwen3TtsTokenizerConfig` from the authors' `config.json`.

    Raises:
        ConfigError: for unknown keys, missing ones, and values that no release has.
    """
    source = "the configuration of Qwen3-TTS-Tokenizer"
    config = _without_general(config)
    with _KEYS.reading(config, source=source):
        theirs, encoder = config["decoder_config"], mimi.with_rope_parameters(config["encoder_config"])
        levels, sizes = config["encoder_valid_num_quantizers"], {name: theirs[name] for name in _SIZES}
        wrong = {name: theirs[name] for name, value in _FIXED.items() if theirs.get(name, value) != value}
        if wrong:
            raise ConfigError(f"{source}: the decoder has {wrong}; expected {_FIXED}")
        equal = {
            "sample rates": {config["input_sample_rate"], config["output_sample_rate"], encoder["sampling_rate"]},
            "numbers of levels": {levels, sizes["num_quantizers"]},
            "codebook sizes": {encoder["codebook_size"], sizes["codebook_size"]},
            "hops": {config[name] for name in _RATES},
        }
        for name, values in equal.items():
            if len(values) > 1:
                raise ConfigError(f"{source} has different {name} of encoder and decoder: {sorted(values)}")
        transformer = {
            "dim": "hidden_size", "depth": "num_hidden_layers", "mlp_dim": "intermediate_size", "num_heads": "num_attention_heads",
            "num_kv_heads": "num_key_value_heads", "head_dim": "head_dim", "window": "sliding_window", "norm_eps": "rms_norm_eps",
            "rope_base": "rope_theta", "layer_scale": "layer_scale_initial_scale",
        }  # fmt: skip
        return {
            "encoder": {name: value for name, value in encoder.items() if name in MimiConfig.model_fields},
            "num_levels": levels,
            "decoder": {
                "code_dim": sizes["codebook_dim"],
                "latent_dim": sizes["latent_dim"],
                "transformer": {ours: sizes[theirs] for ours, theirs in transformer.items()},
                "upsampling": sizes["upsampling_ratios"],
                "width": sizes["decoder_dim"],
                "strides": sizes["upsample_rates"],
            },
        }


def _without_general(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without the settings that transformers gives to every model, here and in the configurations of both sides."""
    general = general_names()
    own = {name: value for name, value in config.items() if name not in general}
    sides = ("encoder_config", "decoder_config")
    return own | {side: {name: value for name, value in own[side].items() if name not in general} for side in sides if side in own}


_ROTATED = ("self_attn.q_proj.weight", "self_attn.k_proj.weight")


def converted(state_dict: Mapping[str, Tensor], *, head_dim: int) -> dict[str, Tensor]:
    """The authors' tensors under their names, except that codebooks are tables, and that in the decoder neighbors turn together instead of halves.

    Args:
        state_dict: the whole checkpoint's.
        head_dim: of the decoder's attention.

    Raises:
        CheckpointError: naming a codebook without its counts.
    """
    tensors = {
        name: pairs_of_halves(tensor, head_dim) if name.startswith("decoder.pre_transformer.") and name.endswith(_ROTATED) else tensor
        for name, tensor in state_dict.items()
    }
    for branch in ("decoder.quantizer.rvq_first", "decoder.quantizer.rvq_rest"):
        tables: list[Tensor] = []
        while (sums := f"{branch}.vq.layers.{len(tables)}._codebook.embedding_sum") in tensors:
            usage = sums.replace("embedding_sum", "cluster_usage")
            if usage not in tensors:
                raise CheckpointError(f"the checkpoint has {sums!r} but not {usage!r}")
            tables.append(tensors.pop(sums) / tensors.pop(usage).clamp(min=1e-5)[:, None])
        if tables:
            tensors[f"{branch}.codebooks"] = torch.stack(tables)
    return tensors


_LAYER, _THEIRS = "decoder.transformer.1.blocks.{}", "decoder.pre_transformer.layers.{}"
_CONVNEXT = {"gamma": "scale", "dwconv.conv.{*}": "conv.{*}", "norm.{*}": "norm.{*}", "pwconv1.{*}": "linear1.{*}", "pwconv2.{*}": "linear2.{*}"}
_UNIT = {"act1": "0", "conv1.conv": "1", "act2": "2", "conv2.conv": "3"}
KEY_MAP = KeyMap(
    {
        "encoder.quantizer.{}.output_proj.weight": None,
        "encoder.quantizer.{*}": "quantizer.encoder.rvq.{*}",
        "encoder.encoder.{*}": "encoder.{*}",
        "encoder.encoder_transformer.{*}": "encoder_transformer.{*}",
        "encoder.downsample.{*}": "downsample.{*}",
        "decoder.quantizer.{}.input_proj.weight": None,
        "decoder.quantizer.rvq_first.codebooks": "quantizer.semantic.codebooks",
        "decoder.quantizer.rvq_first.output_proj.{*}": "quantizer.semantic.proj.{*}",
        "decoder.quantizer.rvq_rest.codebooks": "quantizer.acoustic.codebooks",
        "decoder.quantizer.rvq_rest.output_proj.{*}": "quantizer.acoustic.proj.{*}",
        "decoder.pre_conv.conv.{*}": "decoder.embed.{*}",
        "decoder.pre_transformer.input_proj.{*}": "decoder.transformer.0.{*}",
        "decoder.pre_transformer.norm.{*}": "decoder.transformer.2.{*}",
        "decoder.pre_transformer.output_proj.{*}": "decoder.transformer.3.{*}",
        **{f"{_THEIRS}.self_attn.{name}_proj.weight": f"{_LAYER}.attn.{name}.weight" for name in "qkv"},
        f"{_THEIRS}.self_attn.o_proj.weight": f"{_LAYER}.attn.proj.weight",
        f"{_THEIRS}.mlp.gate_proj.weight": f"{_LAYER}.mlp.w1.weight",
        f"{_THEIRS}.mlp.up_proj.weight": f"{_LAYER}.mlp.w3.weight",
        f"{_THEIRS}.mlp.down_proj.weight": f"{_LAYER}.mlp.w2.weight",
        f"{_THEIRS}.input_layernorm.weight": f"{_LAYER}.norm1.weight",
        f"{_THEIRS}.post_attention_layernorm.weight": f"{_LAYER}.norm2.weight",
        f"{_THEIRS}.self_attn_layer_scale.scale": f"{_LAYER}.scale1",
        f"{_THEIRS}.mlp_layer_scale.scale": f"{_LAYER}.scale2",
        "decoder.upsample.{}.0.conv.{*}": "decoder.upsample.{}.0.{*}",
        **{f"decoder.upsample.{{}}.1.{theirs}": f"decoder.upsample.{{}}.1.{ours}" for theirs, ours in _CONVNEXT.items()},
        "decoder.decoder.{}.block.0.{*}": "decoder.waveform.{}.0.{*}",
        "decoder.decoder.{}.block.1.conv.{*}": "decoder.waveform.{}.1.{*}",
        **{f"decoder.decoder.{{}}.block.{{}}.{theirs}.{{*}}": f"decoder.waveform.{{}}.{{}}.{ours}.{{*}}" for theirs, ours in _UNIT.items()},
        "decoder.decoder.{}.conv.{*}": "decoder.waveform.{}.{*}",
        "decoder.decoder.{}.{*}": "decoder.waveform.{}.{*}",
    },
    joined={f"{_LAYER}.attn.qkv.weight": tuple(f"{_LAYER}.attn.{name}.weight" for name in "qkv")},
)
