"""The authors' configuration and tensor names of BigCodec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

_SIDES = {"CodecEnc.block": "encoder", "generator.model": "decoder"}
_DEPTHS = ("{}", "{}.block.{}", "{}.block.{}.block.{}")  # of an activation: of the network, of a stage, of a residual unit
_FILTERS = ("upsample.filter", "downsample.lowpass.filter")


def _patterns() -> dict[str, str | None]:
    patterns: dict[str, str | None] = {f"{theirs}.{depth}.{name}": None for theirs in _SIDES for depth in _DEPTHS for name in _FILTERS}
    for theirs, ours in _SIDES.items():
        patterns |= {f"{theirs}.{depth}.{{*}}": f"{ours}.{depth.replace('.block', '')}.{{*}}" for depth in reversed(_DEPTHS)}
    level = "generator.quantizer.layers.{}"
    patterns |= {f"{level}.{theirs}.{{*}}": f"quantizer.levels.{{}}.{ours}.{{*}}" for theirs, ours in _PROJECTIONS.items()}
    return {**patterns, f"{level}._codebook.weight": "quantizer.levels.{}.codebook"}


_PROJECTIONS = {"in_proj": "project_in", "out_proj": "project_out"}
KEY_MAP = KeyMap(_patterns())
"""The filters of the activations are ignored: they are constants, which `AntiAliased` computes."""

_NET = ("use_rnn", "rnn_bidirectional", "rnn_num_layers", "up_ratios", "dilations")
_ENCODER = ("ngf", *_NET, "out_channels")
_DECODER = ("upsample_initial_channel", *_NET, "in_channels", "vq_num_quantizers", "vq_dim", "vq_commit_weight", "codebook_size", "codebook_dim")
_UNUSED = "the authors' code does not use it"
KEYS = ReferenceKeys(
    read=("sample_rate", *(f"codec_encoder.{name}" for name in _ENCODER), *(f"codec_decoder.{name}" for name in _DECODER)),
    ignored={
        "codec_decoder.ngf": _UNUSED,
        "codec_decoder.vq_weight_init": _UNUSED,
        "codec_decoder.vq_full_commit_loss": _UNUSED,
        "codec_decoder.threshold_ema_dead_code": _UNUSED,
    },
)


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `BigCodecConfig`; what the authors' configuration omits has their default, which is that of the release.

    Raises:
        ConfigError: if it has unknown keys, or latents of different sizes.
    """
    KEYS.check(config, source="BigCodec's configuration")
    theirs = {"ngf": 48, "out_channels": 1024, "up_ratios": [2, 2, 2, 5, 5], **(config.get("codec_encoder") or {})}
    decoder = {
        "upsample_initial_channel": 1536, "in_channels": 1024, "up_ratios": [5, 5, 2, 2, 2], "vq_num_quantizers": 1, "vq_dim": 1024,
        "vq_commit_weight": 0.25, "codebook_size": 8192, "codebook_dim": 8, **(config.get("codec_decoder") or {}),
    }  # fmt: skip
    dim, size, stages = decoder["vq_dim"], decoder["codebook_size"], len(decoder["up_ratios"])
    if {theirs["out_channels"], decoder["in_channels"]} != {dim}:
        raise ConfigError(f"out_channels {theirs['out_channels']}, in_channels {decoder['in_channels']} and vq_dim {dim} must be equal")
    if decoder["upsample_initial_channel"] % 2**stages:
        raise ConfigError(f"upsample_initial_channel {decoder['upsample_initial_channel']} cannot be halved {stages} times")
    return {
        "sample_rate": config.get("sample_rate", 16000),
        "encoder": _net(theirs, theirs["ngf"]),
        "decoder": _net(decoder, decoder["upsample_initial_channel"] // 2**stages),
        "quantizer": {
            "codebook_sizes": [size] * decoder["vq_num_quantizers"] if isinstance(size, int) else size,
            "dim": dim,
            "codebook_dim": None if decoder["codebook_dim"] == dim else decoder["codebook_dim"],
            "commitment_weight": decoder["vq_commit_weight"],
        },
    }


def _net(values: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Fields of a `NetConfig`."""
    return {
        "width": width,
        "strides": values["up_ratios"],
        "dilations": values.get("dilations", [1, 3, 9]),
        "lstm_depth": values.get("rnn_num_layers", 2) if values.get("use_rnn", True) else 0,
        "bidirectional": values.get("rnn_bidirectional", False),
    }
