"""WavTokenizer's configuration and tensor names, from https://github.com/jishengpeng/WavTokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokenizers.shared.seanet_codec import codebook_names, network_names

_FEATURES, _BACKBONE, _HEAD = (f"{part}.init_args" for part in ("feature_extractor", "backbone", "head"))
_TRAINING = "of the authors' training"
REFERENCE_KEYS = ReferenceKeys(
    read=(
        *(f"{_FEATURES}.{name}" for name in ("dowmsamples", "vq_bins", "num_quantizers")),
        *(f"{_BACKBONE}.{name}" for name in ("input_channels", "dim", "intermediate_dim", "num_layers")),
        *(f"{_HEAD}.{name}" for name in ("dim", "n_fft", "hop_length", "padding")),
        "tiny.n_filters",
    ),
    ignored={
        "{}.class_path": "says which classes these are; there is one of each",
        f"{_FEATURES}.encodec_model": "the encoder's sizes are fixed in the authors' code",
        f"{_FEATURES}.bandwidths": "four of them, all the same",
        f"{_FEATURES}.train_codebooks": _TRAINING,
        f"{_FEATURES}.vq_kmeans": _TRAINING,
        f"{_BACKBONE}.adanorm_num_embeddings": "norms of one bandwidth are read",
        "tiny.dimension": "equals the backbone's input_channels",
        "tiny.note": "a note",
    },
)


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration from that of the model, `model.init_args` of the authors' file.

    Raises:
        ConfigError: for unknown keys, missing ones, and values that no release has.
    """
    source = "WavTokenizer's configuration"
    with REFERENCE_KEYS.reading(config, source=source):
        features, backbone, head = (config[part]["init_args"] for part in ("feature_extractor", "backbone", "head"))
        if features["num_quantizers"] != 1 or head["padding"] != "same" or head["dim"] != backbone["dim"]:
            raise ConfigError(
                f"{source}: only one quantizer, the padding 'same' and a head of the backbone's dim are supported, got {features}, {head}"
            )
        strides, dim = features["dowmsamples"][::-1], backbone["input_channels"]
        return {
            "encoder": {"channels": config.get("tiny", {}).get("n_filters", 32), "strides": strides, "dim": dim},
            "quantizer": {"codebook_size": features["vq_bins"], "dim": dim, "commitment_weight": 1.0, "ema": {}},
            "decoder": {
                "dim": backbone["dim"],
                "mlp_dim": backbone["intermediate_dim"],
                "depth": backbone["num_layers"],
                "n_fft": head["n_fft"],
            },
        }


def of_bandwidth(state_dict: Mapping[str, Tensor], bandwidth: int) -> dict[str, Tensor]:
    """The tensors with the norms of one bandwidth: the authors keep tables of scales and shifts, one row for each of four equal bandwidths."""
    norms = (".norm.scale.weight", ".norm.shift.weight")
    return {name: tensor[bandwidth] if name.endswith(norms) else tensor for name, tensor in state_dict.items()}


KEY_MAP = KeyMap(
    {
        **network_names("feature_extractor.encodec.encoder.model", "encoder"),
        **codebook_names("feature_extractor.encodec.quantizer.vq.layers.0._codebook", "quantizer.levels.0"),
        "feature_extractor.encodec.decoder.{*}": None,
        "backbone.embed.{*}": "decoder.embed.{*}",
        "backbone.pos_net.2.norm.{*}": "decoder.context.2.norm.{*}",
        "backbone.pos_net.2.proj_out.{*}": "decoder.context.2.attn.proj.{*}",
        "backbone.pos_net.2.{}.{*}": "decoder.context.2.attn.{}.{*}",
        "backbone.pos_net.{*}": "decoder.context.{*}",
        "backbone.norm.scale.weight": "decoder.backbone.norm.weight",
        "backbone.norm.shift.weight": "decoder.backbone.norm.bias",
        "backbone.convnext.{}.gamma": "decoder.backbone.blocks.{}.scale",
        "backbone.convnext.{}.dwconv.{*}": "decoder.backbone.blocks.{}.conv.{*}",
        "backbone.convnext.{}.norm.scale.weight": "decoder.backbone.blocks.{}.norm.weight",
        "backbone.convnext.{}.norm.shift.weight": "decoder.backbone.blocks.{}.norm.bias",
        "backbone.convnext.{}.pwconv1.{*}": "decoder.backbone.blocks.{}.linear1.{*}",
        "backbone.convnext.{}.pwconv2.{*}": "decoder.backbone.blocks.{}.linear2.{*}",
        "backbone.final_layer_norm.{*}": "decoder.backbone.final_norm.{*}",
        "head.out.{*}": "decoder.head.linear.{*}",
        "head.istft.window": None,
        "multiperioddisc.{*}": None,
        "multiresddisc.{*}": None,
        "dac.{*}": None,
        "dacdiscriminator.{*}": None,
        "melspec_loss.{*}": None,
    },
    joined={"decoder.context.2.attn.qkv.{*}": tuple(f"decoder.context.2.attn.{part}.{{*}}" for part in "qkv")},
)
"""Of a release's `state_dict`, in which the decoder of the authors' encoder and all that is only trained with are ignored."""
