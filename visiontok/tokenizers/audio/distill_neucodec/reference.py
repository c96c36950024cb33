"""The authors' configuration and tensor names of DistillNeuCodec, from https://github.com/neuphonic/neucodec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.core.weight_norm import folded
from visiontok.tokenizers.audio.neucodec.reference import ADAPTER, DECODER, INPUT_RATE, with_projections
from visiontok.tokenizers.shared.hubert import semantic_fields

_SOURCE = "DistillNeuCodec's configuration"
_KEYS = ReferenceKeys(
    read=(
        "sample_rate", "hop_length", "hidden_dim", "depth", "heads", "levels", "quantization_dim", "feature_dim", "local_window_size",
        "compress_rate", "dims", "strides", "depths", "semantic_model_config", "semantic_model_config.{*}",
    ),
    ignored={"distill": "says which class this is"},
)  # fmt: skip


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `DistillNeuCodecConfig` from the authors' configuration.

    Raises:
        ConfigError: for unknown or missing keys, and a hop that does not fit the rates.
    """
    with _KEYS.reading(config, source=_SOURCE):
        hop = math.prod(config["strides"]) * config["compress_rate"]
        if hop * config["sample_rate"] != config["hop_length"] * INPUT_RATE:
            raise ConfigError(f"{_SOURCE} has the hop_length {config['hop_length']}, which does not fit {hop} samples at {INPUT_RATE} Hz")
        return {
            "input_sampling_rate": INPUT_RATE,
            "output_sampling_rate": config["sample_rate"],
            "semantic": semantic_fields(config["semantic_model_config"]),
            "acoustic": {
                "dims": config["dims"],
                "depths": config["depths"],
                "strides": config["strides"],
                "dim": config["feature_dim"],
                "stride": config["compress_rate"],
                "window": config["local_window_size"],
            },
            "hidden_size": config["hidden_dim"],
            "num_hidden_layers": config["depth"],
            "num_attention_heads": config["heads"],
            "quantization_dim": config["quantization_dim"],
            "quantization_levels": config["levels"],
        }


_CONV = "codec_encoder.encoder.blocks"
_UNIT = {"dw_conv": "conv", "pw_conv1": "linear1", "act": "act", "grn": "norm", "pw_conv2": "linear2"}
_LAYER = {
    "0.norm": "attention_norm",
    "0.to_qkv": "qkv",
    "0.to_out": "proj",
    "1.0": "feed_forward_norm",
    "1.1": "linear1",
    "1.4": "linear2",
}


def _transformer(theirs: str, ours: str) -> dict[str, str | None]:
    source, target = f"codec_encoder.en_encoder.{theirs}", f"acoustic_encoder.{ours}"
    return {
        f"{source}.dynamic_pos_bias.mlp.{{*}}": f"{target}.bias.{{*}}",
        **{f"{source}.layers.{{}}.{name}.{{*}}": f"{target}.layers.{{}}.{own}.{{*}}" for name, own in _LAYER.items()},
    }


KEY_MAP = KeyMap(
    {
        **ADAPTER,
        **DECODER,
        "generator.quantizer.{*}": "quantizer.fsq.{*}",
        "semantic_model.masked_spec_embed": None,
        "semantic_model.{*}": "semantic_model.{*}",
        "codec_encoder.en_encoder.cache_token": None,
        **_transformer("down_trans.trans", "fine"),
        **_transformer("local_trans", "coarse"),
        "codec_encoder.en_encoder.down_trans.down_layer.{*}": "acoustic_encoder.down.{*}",
        f"{_CONV}.0.blocks.{{}}.1.{{*}}": "acoustic_encoder.conv.0.branches.{}.{*}",
        f"{_CONV}.0.conv_1.{{*}}": "acoustic_encoder.conv.0.mix.{*}",
        f"{_CONV}.0.conv_2.{{*}}": "acoustic_encoder.conv.0.out.{*}",
        **{f"{_CONV}.{{}}.{{}}.module.{theirs}.{{*}}": f"acoustic_encoder.conv.{{}}.{{}}.{ours}.{{*}}" for theirs, ours in _UNIT.items()},
        f"{_CONV}.{{}}.0.{{*}}": "acoustic_encoder.conv.{}.{*}",
        f"{_CONV}.{{}}.{{*}}": "acoustic_encoder.conv.{}.{*}",
        "fc_sq_prior.{*}": "fc_acoustic.{*}",
        "fc_prior.{*}": "fc_encoder.{*}",
    }
)


def own_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names, with weight normalization folded and channels where our convolutions have them."""
    renamed = with_projections(KEY_MAP(folded(state_dict)))
    return {name: _shaped(name, tensor) for name, tensor in renamed.items()}


def _shaped(name: str, tensor: Tensor) -> Tensor:
    """Of the units: linear layers are pointwise convolutions here, and channels come before time."""
    if not name.startswith("acoustic_encoder.conv."):
        return tensor
    if name.endswith(("linear1.weight", "linear2.weight")):
        return tensor[..., None]
    if name.endswith("act.alpha"):
        return tensor.transpose(1, 2)
    return tensor.reshape(-1, 1) if name.endswith(("norm.gamma", "norm.beta")) else tensor
