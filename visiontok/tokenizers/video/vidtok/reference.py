"""VidTok's configuration and the names of its tensors, as its authors store them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

SOURCE = "the VidTok reference configuration"

KEY_MAP = KeyMap({"encoder.{*}": "encoder.{*}", "decoder.{*}": "decoder.{*}", "loss.{*}": None})
"""diffusers' networks have the authors' names. Files of training hold the discriminator and LPIPS too."""

SAME_PARAMS = "${model.params.encoder_config.params}"
"""What the authors' files have in place of the decoder's parameters: they are the encoder's."""

_NETWORK = (
    "double_z", "z_channels", "in_channels", "out_ch", "ch", "ch_mult", "spatial_ds", "spatial_us", "tempo_ds", "tempo_us",
    "time_downsample_factor", "num_res_blocks", "dropout", "norm_type", "resamp_with_conv", "init_pad_mode", "interpolation_mode",
)  # fmt: skip
_IGNORED = {
    "use_checkpoint": "recomputes activations to save memory",
    "fix_encoder": "of training; a recipe's `model.freeze` says it",
    "fix_decoder": "of training; a recipe's `model.freeze` says it",
}
_LOSSES = ("entropy_loss_weight", "entropy_loss_annealing_steps", "entropy_loss_annealing_factor", "commitment_loss_weight", "diversity_gamma")

MODEL_KEYS = ReferenceKeys(
    read=(
        "target", "params.use_tiling", "params.t_chunk_enc", "params.decoder_config.params",
        *(f"params.{net}_config.target" for net in ("encoder", "decoder", "regularizer")),
        *(f"params.{net}_config.params.{key}" for net in ("encoder", "decoder") for key in _NETWORK),
        "params.regularizer_config.params.levels",
        *(f"params.regularizer_config.params.{key}" for key in _LOSSES),
    ),
    ignored={
        "base_learning_rate": "a recipe's `optimizer` says it",
        "params.regularizer_config.params.sample": "encode gives the mean, and draws where noise is given",
        **{f"params.{net}_config.params.{key}": reason for net in ("encoder", "decoder") for key, reason in _IGNORED.items()},
        **dict.fromkeys(("params.monitor", "params.mode", "params.input_key", "params.ckpt_path", "params.ignore_keys"), "of the authors' runs"),
        "params.ema_decay": "a recipe's `ema` says it; no release was trained with it",
        "params.lr_g_factor": "a recipe's `optimizer` says it",
        "params.loss_config.{*}": "a recipe's `objective` says it",
        "tiling.{*}": "chunks of a recorded pass; `tiling` of our configuration says them",
    },
)  # fmt: skip
"""Of what the authors' files have under `model`."""

FILE_KEYS = ReferenceKeys(
    read=("model.{*}",),
    ignored={"data.{*}": "data of training; set by a recipe's `data`", "lightning.{*}": "devices and callbacks of training; set by a recipe"},
)

_TIMES = {
    "vidtok.modules.model_3dcausal": "causal",
    "vidtok.modules.model_3dcausal_v1_1": "causal-v1.1",
    "vidtok.modules.model_3dnoncausal": "noncausal",
}
_INTERPOLATIONS = {"nearest": "nearest", "trilinear": "linear"}
_BOTTLENECKS = {"FSQRegularizer": "fsq", "DiagonalGaussianRegularizer": "kl"}
_NORMS = {"layernorm": "layer", "groupnorm": "group"}

INV_TEMPERATURE = 100
"""Of the entropy loss, whose scores are twice the products of latents and codes."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `VidTokConfig` from the authors' file, or from what is under `model` in it. Missing keys have the defaults of their code.

    Raises:
        ConfigError: for unknown keys, missing sizes, and values that no release has and that nothing here does.
    """
    if "model" in config:
        FILE_KEYS.check(config, source=SOURCE)
        config = config["model"]
    with MODEL_KEYS.reading(config, source=SOURCE):
        params = config["params"]
        encoder, decoder = params["encoder_config"], params["decoder_config"]
        sizes, others = encoder["params"], decoder["params"]
        if others != SAME_PARAMS:
            differing = [name for name in _NETWORK if sizes.get(name) != others.get(name)]
            if differing:
                raise ConfigError(f"encoder and decoder of {SOURCE} differ in {', '.join(differing)}; in every release they are the same")
        time = _known("the module of encoder_config.target", encoder["target"].rpartition(".")[0], _TIMES)
        _check(sizes)
        quantizer, annealing = _quantizer(params["regularizer_config"], sizes)
        fields = {
            **{ours: sizes[ours] for ours in ("ch", "num_res_blocks", "in_channels")},
            "out_channels": sizes["out_ch"],
            "ch_mult": sizes.get("ch_mult", (1, 2, 4, 8)),
            **{name: sizes[name] for name in ("spatial_ds", "spatial_us", "tempo_ds", "tempo_us", "dropout") if name in sizes},
            "time": time,
            "norm": _known("norm_type", sizes.get("norm_type", "groupnorm"), _NORMS),
            "front_padding": sizes.get("init_pad_mode", "replicate"),
            "quantizer": quantizer,
            "entropy_annealing": annealing,
            "num_frames": {"causal": 17, "causal-v1.1": 33, "noncausal": 16}[time],
        }
        if time == "causal-v1.1":
            fields["interpolation"] = _known("interpolation_mode", sizes.get("interpolation_mode", "nearest"), _INTERPOLATIONS)
        if params.get("use_tiling", False):
            fields["tiling"] = {"frames": params.get("t_chunk_enc", 16), "overlap": False}
        return fields


def _check(sizes: Mapping[str, Any]) -> None:
    """What follows from other values, and what no release has otherwise."""
    if not sizes.get("resamp_with_conv", True):
        raise ConfigError(f"resamp_with_conv of {SOURCE} is False; no release has it, and it is not built")
    stated, levels = sizes.get("time_downsample_factor", 4), sizes.get("tempo_ds")
    factor = 2 ** (2 if levels is None else len(levels))
    if stated != factor:
        raise ConfigError(f"time_downsample_factor of {SOURCE} is {stated}, but tempo_ds makes it {factor}")


def _quantizer(regularizer: Mapping[str, Any], sizes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The bottleneck, and the annealing of its entropy loss."""
    kind = _known("regularizer_config.target", regularizer["target"].rpartition(".")[2], _BOTTLENECKS)
    values, channels, doubled = regularizer.get("params", {}), sizes["z_channels"], sizes.get("double_z", True)
    if doubled != (kind == "kl"):
        raise ConfigError(f"double_z of {SOURCE} is {doubled}, but the encoder gives two values a channel where a KL follows, and one otherwise")
    if kind == "kl":
        return {"type": "gaussian", "dim": channels}, None
    if len(values["levels"]) != channels:
        raise ConfigError(f"z_channels of {SOURCE} is {channels}, but levels are {values['levels']}: projections to fewer channels are not built")
    quantizer: dict[str, Any] = {"type": "fsq", "levels": values["levels"], "commitment_weight": values.get("commitment_loss_weight", 0.0)}
    weight = values.get("entropy_loss_weight", 0.0)
    if not weight:
        return quantizer, None
    gamma = values.get("diversity_gamma", 1.0)
    quantizer["entropy"] = {"weight": weight, "batch_weight": gamma, "temperature": 1 / (2 * INV_TEMPERATURE)}
    steps = values.get("entropy_loss_annealing_steps", 0)
    return quantizer, {"steps": steps, "factor": values.get("entropy_loss_annealing_factor", 1.0)} if steps else None


def _known(name: str, value: Any, names: Mapping[str, str]) -> str:
    if value not in names:
        raise ConfigError(f"{name} of {SOURCE} is {value!r}; known: {', '.join(names)}")
    return names[value]
