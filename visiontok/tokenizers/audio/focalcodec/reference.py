"""The authors' configuration and tensor names of FocalCodec, from https://github.com/lucadellalib/focalcodec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

_ATTENTION = "encoder.encoder.layers.{}.attention"
_LAYERS = {"compressor": ("downscale", "focal_block"), "decompressor": ("focal_block", "upscale")}
_MLP = {"in_proj": "fc1", "out_proj": "fc2"}
_BLOCK = {"dwconv": "conv", "norm": "norm", "pwconv1": "linear1", "pwconv2": "linear2"}


def _layers(part: str) -> dict[str, str | None]:
    """Of a compressor or a decompressor, whose layers have two parts with names, or numbers."""
    patterns: dict[str, str | None] = {}
    for number, name in enumerate(_LAYERS[part]):
        for theirs in (f"{part}.layers.{{}}.{name}", f"{part}.layers.{{}}.{number}"):
            ours = f"{part}.layers.{{}}.{name}"
            patterns |= {f"{theirs}.feed_forward.{old}.{{*}}": f"{ours}.feed_forward.{new}.{{*}}" for old, new in _MLP.items()}
            patterns[f"{theirs}.{{*}}"] = f"{ours}.{{*}}"
    return patterns


_FEED_FORWARD = "encoder.encoder.layers.{}.feed_forward"
KEY_MAP = KeyMap(
    {
        **_layers("compressor"),
        **_layers("decompressor"),
        **{f"{_FEED_FORWARD}.{old}.{{*}}": f"{_FEED_FORWARD}.{new}.{{*}}" for old, new in _MLP.items()},
        "decoder.backbone.embedding.{*}": "decoder.embed.{*}",
        "decoder.backbone.input_norm.{*}": "decoder.backbone.norm.{*}",
        "decoder.backbone.output_norm.{*}": "decoder.backbone.final_norm.{*}",
        "decoder.backbone.layers.{}.gamma": "decoder.backbone.blocks.{}.scale",
        **{f"decoder.backbone.layers.{{}}.{old}.{{*}}": f"decoder.backbone.blocks.{{}}.{new}.{{*}}" for old, new in _BLOCK.items()},
        "decoder.head.proj.{*}": "decoder.head.linear.{*}",
        **{f"{part}.{{*}}": f"{part}.{{*}}" for part in ("encoder", "compressor", "decompressor")},
    },
    joined={f"{_ATTENTION}.qkv_proj.{{*}}": tuple(f"{_ATTENTION}.{part}_proj.{{*}}" for part in "qkv")},
)
"""Numbered parts and separate projections are those of the first release's files."""

_ENCODER = {
    "hidden_dims": "conv_dims",
    "kernel_sizes": "conv_kernels",
    "strides": "conv_strides",
    "num_layers": "depth",
    "dim": "dim",
    "ffn_dim": "mlp_dim",
    "num_heads": "num_heads",
    "num_buckets": "num_buckets",
    "max_distance": "max_distance",
    "conv_pos": "position_kernel",
    "conv_pos_groups": "position_groups",
    "causal": "causal",
    "window_size": "window",
    "lookahead_size": "lookahead",
}
_FOCAL = {
    "hidden_dims": "dims",
    "focal_window": "focal_window",
    "focal_level": "focal_level",
    "focal_factor": "focal_factor",
    "use_post_norm": "post_norm",
    "use_layerscale": "layer_scale",
    "normalize_modulator": "normalize",
    "causal": "causal",
    "window_size": "window",
}
_COMPRESSOR = {**_FOCAL, "downscale_factors": "factors"}
_DECOMPRESSOR = {**_FOCAL, "upscale_factors": "factors", "last_window_size": "last_window", "lookahead_size": "lookahead"}
_DECODER = {
    "num_layers": "depth",
    "dim": "dim",
    "ffn_dim": "mlp_dim",
    "kernel_size": "kernel",
    "n_fft": "n_fft",
    "hop_length": "hop",
    "causal": "causal",
}
_FIELDS = {"encoder": _ENCODER, "compressor": _COMPRESSOR, "decompressor": _DECOMPRESSOR, "decoder": _DECODER}
_NAMES = {"encoder": ("WavLM",), "compressor": ("FocalEncoder",), "quantizer": ("BinarySphericalQuantizer",), "decompressor": ("FocalDecoder",),
          "decoder": ("Vocos", "WaveNeXt")}  # fmt: skip
_DIMS = ("compressor_config.input_dim", "compressor_config.output_dim", "decompressor_config.input_dim", "decompressor_config.output_dim",
         "decoder_config.input_dim")  # fmt: skip

KEYS = ReferenceKeys(
    read=(
        *(f"{part}_config.{name}" for part, names in _FIELDS.items() for name in names),
        *(f"{part}_name" for part in _NAMES),
        *_DIMS,
        "quantizer_config.codebook_size",
    ),
    ignored={
        **{f"{part}_config.{name}": "of random weights" for part in _FIELDS for name in ("layerscale_init", "tanhscale_init")},
        **{f"{part}_config.dropout": "nothing is dropped" for part in _FIELDS},
        "encoder_config.max_cached_steps": "of streaming",
        "encoder_config.use_flex_attention": "another way to compute the same",
    },
)


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `FocalCodecConfig`; what the authors' configuration omits has its default there.

    Raises:
        ConfigError: for unknown keys, parts of other names, and sizes that contradict each other.
    """
    source = "FocalCodec's configuration"
    KEYS.check(config, source=source)
    for part, names in _NAMES.items():
        if config.get(f"{part}_name", names[0]) not in names:
            raise ConfigError(f"{source} has the {part}_name {config[f'{part}_name']!r}; expected {' or '.join(names)}")
    theirs = {part: dict(config.get(f"{part}_config") or {}) for part in (*_FIELDS, "quantizer")}
    fields = {part: {ours: theirs[part][name] for name, ours in names.items() if name in theirs[part]} for part, names in _FIELDS.items()}
    size = theirs["quantizer"].get("codebook_size", 8192)
    bits, dim = size.bit_length() - 1, fields["encoder"].get("dim", 1024)
    for key, expected in zip(_DIMS, (dim, bits, bits, dim, dim), strict=True):
        part, name = key.split("_config.")
        if theirs[part].get(name, expected) != expected or size != 2**bits:
            raise ConfigError(f"{source} has {key} {theirs[part].get(name)} for features of {dim} dimensions and {size} codes; expected {expected}")
    head = config.get("decoder_name", "Vocos").lower()
    return {**fields, "num_bits": bits, "decoder": {**fields["decoder"], "head": head}}
