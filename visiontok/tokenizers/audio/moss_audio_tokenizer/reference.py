"""The authors' configuration and tensor names of MOSS-Audio-Tokenizer, from https://github.com/OpenMOSS/MOSS-Audio-Tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

_SOURCE = "the configuration of MOSS-Audio-Tokenizer"
_TRANSFORMER = {
    "input_dimension": "in_dim", "output_dimension": "out_dim", "d_model": "dim", "num_layers": "depth", "num_heads": "num_heads",
    "dim_feedforward": "mlp_dim", "norm": "norm", "gating": "gating", "positional_embedding": "positions", "max_period": "base",
    "layer_scale": "layer_scale",
}  # fmt: skip
_STAGE_KEYS = ReferenceKeys(read=("module_type", "patch_size", "causal", "conv_layout", *_TRANSFORMER))
_QUANTIZER_FIELDS = ("input_dim", "rvq_dim", "output_dim", "num_quantizers", "codebook_size", "codebook_dim")
_KEYS = ReferenceKeys(
    read=(
        "sampling_rate",
        "downsample_rate",
        "causal_transformer_context_duration",
        "encoder_kwargs",
        "decoder_kwargs",
        "quantizer_type",
        *(f"quantizer_kwargs.{name}" for name in (*_QUANTIZER_FIELDS, "quantizer_type")),
    ),
    ignored={
        "reversed_decoder_kwargs": "the authors' code does not use it",
        "version": "of the file",
        "model_type": "says which model this is",
        "architectures": "says which model this is",
        "auto_map": "names the authors' code",
        "transformers_version": "of the file",
        "dtype": "the weights have their own",
        "torch_dtype": "the weights have their own",
        "initializer_range": "of the authors' training",
        "quantizer_kwargs.quantizer_dropout": "of the authors' training",
    },
)
_COSINE, _EUCLIDEAN = ("rlfq", "random_prefix_rlfq"), ("rvq", "spec_rvq")


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `MossAudioTokenizerConfig` from the authors' `config.json`.

    Raises:
        ConfigError: for unknown keys, missing ones, and what the authors' code cannot decode or has no release of.
    """
    with _KEYS.reading(config, source=_SOURCE):
        own, kind = config["quantizer_kwargs"], config["quantizer_type"]
        if own["input_dim"] != own["output_dim"]:
            raise ConfigError(f"{_SOURCE} has the input_dim {own['input_dim']} and the output_dim {own['output_dim']}; expected the same")
        fields: dict[str, Any] = {
            "sample_rate": config["sampling_rate"],
            "context_seconds": config["causal_transformer_context_duration"],
            "encoder": [_stage(stage) for stage in config["encoder_kwargs"]],
            "decoder": [_stage(stage) for stage in config["decoder_kwargs"]],
            "latent_dim": own["input_dim"],
            "quantizer": _levels(own, kind),
        }
        hop = config["downsample_rate"]
    patches = [stage["size"] for stage in fields["encoder"] if stage["type"] == "patch"]
    if math.prod(patches) != hop:
        raise ConfigError(f"{_SOURCE} has the downsample_rate {hop}, but patches of {patches}")
    return fields


def _stage(values: Mapping[str, Any]) -> dict[str, Any]:
    with _STAGE_KEYS.reading(values, source=f"a stage of {_SOURCE}"):
        if values["module_type"] == "PatchedPretransform":
            return {"type": "patch", "size": values["patch_size"]}
        if values["module_type"] != "Transformer" or not values.get("causal", True):
            raise ConfigError(f"a stage of {_SOURCE} must be a PatchedPretransform or a causal Transformer, got {dict(values)}")
        return {"type": "transformer", **{ours: values[theirs] for theirs, ours in _TRANSFORMER.items()}}


def _levels(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    dim, small, size, count = (values[name] for name in ("rvq_dim", "codebook_dim", "codebook_size", "num_quantizers"))
    if kind in _COSINE:
        return {
            "type": "factorized_residual",
            "codebook_sizes": [size] * count,
            "dim": dim,
            "codebook_dim": None if small == dim else small,
        }
    if kind not in _EUCLIDEAN:
        raise ConfigError(f"{_SOURCE} has the quantizer_type {kind!r}; expected one of {', '.join((*_COSINE, *_EUCLIDEAN))}")
    if small != dim:
        raise ConfigError(f"{_SOURCE}: a quantizer_type {kind!r} decodes only where codebook_dim {small} equals rvq_dim {dim}")
    return {"type": "residual", "num_levels": count, "quantizer": {"type": "vq", "codebook_size": size, "dim": dim}}


def _side(name: str) -> dict[str, str | None]:
    stage, block = f"{name}.{{}}", f"{name}.{{}}.transformer.blocks.{{}}"
    layer = f"{stage}.transformer.layers.{{}}"
    joint = {"in_projs.0.weight": "qkv", "in_proj_weight": "qkv", "in_proj.weight": "qkv", "out_projs.0.weight": "proj", "out_proj.weight": "proj"}
    return {
        f"{stage}.input_proj.{{*}}": f"{stage}.input_proj.{{*}}",
        f"{stage}.output_proj.{{*}}": f"{stage}.output_proj.{{*}}",
        **{f"{layer}.self_attn.{theirs}": f"{block}.attn.{ours}.weight" for theirs, ours in joint.items()},
        **{f"{layer}.norm{number}.alpha": f"{block}.norm{number}.weight" for number in (1, 2)},
        **{f"{layer}.norm{number}.{{*}}": f"{block}.norm{number}.{{*}}" for number in (1, 2)},
        f"{layer}.linear1.weight": f"{block}.mlp.0.weight",
        f"{layer}.linear2.weight": f"{block}.mlp.2.weight",
        f"{layer}.gating.{{*}}": f"{block}.mlp.{{*}}",
        **{f"{layer}.layer_scale_{number}.scale": f"{block}.scale{number}" for number in (1, 2)},
    }


KEY_MAP = KeyMap(
    {
        **_side("encoder"),
        **_side("decoder"),
        "quantizer.input_proj.{*}": "project_in.{*}",
        "quantizer.output_proj.{*}": "project_out.{*}",
        "quantizer.quantizers.{}.in_proj.{*}": "quantizer.levels.{}.project_in.{*}",
        "quantizer.quantizers.{}.out_proj.{*}": "quantizer.levels.{}.project_out.{*}",
        "quantizer.quantizers.{}.codebook.weight": "quantizer.levels.{}.codebook",
    }
)
