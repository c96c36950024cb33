"""BSQ-ViT's configuration and the names of its tensors, as in the authors' repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

SOURCE = "the BSQ-ViT reference configuration"

LARGEST_ID_BITS = 24
"""Up to so many bits, a position's bits are one token index, as the authors' float32 sum of powers of two is exact."""


COMMITMENT_WEIGHT = 0.25
"""The authors' code overwrites its `beta` with this value before it builds the quantizer."""


def spherical(dim: int) -> dict[str, Any]:
    """The quantizer of the paper for so many bits, as plain configuration values."""
    log = {"kind": "add", "eps": 1e-8}
    return {
        "dim": dim,
        "normalize": True,
        "codes": "sphere",
        "bit_order": "msb",
        "scale_gradient": True,
        "commitment_weight": COMMITMENT_WEIGHT,
        "commitment_mean": "positions",
        "entropy": {"weight": 1.0, "inv_temperature": 1.0, "group_size": 1, "sample_log": log, "batch_log": log},
        "losses_in_eval": True,
    }


_VIT_KEYS = ("image_size", "patch_size", "width", "layers", "heads", "mlp_ratio", "dim_ffn_output")

CONFIG_KEYS = ReferenceKeys(
    read=(
        "embed_dim", "embed_group_size", "l2_norm", "post_q_l2_norm", "persample_entropy_compute", "logit_laplace", "clamp_range", "gamma0", "gamma",
        "zeta", "inv_temperature", "dvitconfig", *(f"{net}.{key}" for net in ("vitconfig", "dvitconfig") for key in _VIT_KEYS),
    ),
    ignored={
        "beta": "the authors' code overwrites it, see `COMMITMENT_WEIGHT`",
        "cb_entropy_compute": "the authors' code takes the entropy of the batch over groups, whatever its value",
        "vitconfig.drop_rate": "0 in every release",
        "dvitconfig.drop_rate": "0 in every release",
    },
)  # fmt: skip

FILE_KEYS = ReferenceKeys(
    read=("model.params.{*}", "data.zero_mean"),
    ignored={
        "model.target": "names a class of the authors' code, which is never imported",
        "model.grad_checkpointing": "recomputes activations to save memory",
        "loss.target": "names a class of the authors' code, which is never imported",
        **{f"loss.params.{key}": "of training against StyleGAN's discriminator with a gradient penalty, which is not built" for key in (
            "disc_type", "disc_input_size", "disc_loss", "disc_reg_freq", "disc_conditional", "disc_in_channels", "disc_start", "disc_weight",
            "disc_channel_base", "codebook_weight", "codebook_rampup_multiplier", "codebook_rampup_steps", "perceptual_weight",
            "use_adaptive_disc_weight",
        )},
        **{f"optimizer.{key}": "a recipe's `optimizer`, `schedule` and `precision` say it" for key in (
            "target", "disable_amp", "use_bf16", "base_lr", "max_iter", "grad_clip_norm", "grad_clip_per_layer", "params.weight_decay",
            "params.betas",
            "params.eps", "lr_scheduler_config.target", *(f"lr_scheduler_config.params.{name}" for name in (
                "warm_up_steps", "max_decay_steps", "lr_start", "lr_max", "lr_min",
            )),
        )},
        **{f"data.{key}": "data of training; set by a recipe's `data`" for key in (
            "image_size", "batch_size", "num_workers", "use_hflip_aug", "train.{*}", "val.{*}",
        )},
        "evaluation.{*}": "of the authors' evaluation; set by a suite",
        "wandb.{*}": "names of the authors' runs",
    },
)  # fmt: skip
"""Of the files in the authors' repository, where `model.params` holds the arguments of the model."""

KEY_MAP = KeyMap(
    {
        "encoder.conv1.{*}": "encoder.patch_embed.{*}",
        "quant_embed.{*}": "encoder.to_latents.{*}",
        "post_quant_embed.{*}": "decoder.embed.{*}",
        "decoder.ffn.0.{*}": "decoder.head.0.{*}",
        "decoder.conv_out.{*}": "decoder.head.2.{*}",
        "{}.positional_embedding": "{}.positions",
        "{}.ln_pre.{*}": "{}.norm_pre.{*}",
        "{}.ln_post.{*}": "{}.norm_post.{*}",
        "{}.transformer.resblocks.{}.ln_1.{*}": "{}.blocks.{}.norm1.{*}",
        "{}.transformer.resblocks.{}.attn.in_proj_weight": "{}.blocks.{}.attn.qkv.weight",
        "{}.transformer.resblocks.{}.attn.in_proj_bias": "{}.blocks.{}.attn.qkv.bias",
        "{}.transformer.resblocks.{}.attn.out_proj.{*}": "{}.blocks.{}.attn.proj.{*}",
        "{}.transformer.resblocks.{}.ln_2.{*}": "{}.blocks.{}.norm2.{*}",
        "{}.transformer.resblocks.{}.mlp.c_fc.{*}": "{}.blocks.{}.mlp.fc1.{*}",
        "{}.transformer.resblocks.{}.mlp.c_proj.{*}": "{}.blocks.{}.mlp.fc2.{*}",
        "quantize.{*}": None,  # powers of two
    }
)


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names, without the prefixes of their wrappers; their linear layer over patches is a convolution here.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    mapped = KEY_MAP({name.removeprefix("module.").removeprefix("module."): tensor for name, tensor in state_dict.items()})
    embed = mapped.get("encoder.patch_embed.weight")
    if embed is not None and embed.ndim == 2:
        side = round((embed.shape[1] / 3) ** 0.5)
        mapped["encoder.patch_embed.weight"] = embed.unflatten(1, (3, side, side))
    return mapped


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `BsqVitConfig` from the arguments of the authors' `VITBSQModel`, or from their whole file, with these under `model.params`.

    Missing arguments have the defaults of the authors' code.

    Raises:
        ConfigError: if it has unknown keys, lacks one, or has values that this model cannot have.
    """
    if "model" in config:
        FILE_KEYS.check(config, source=SOURCE)
        zero_mean = config.get("data", {}).get("zero_mean", False)
        config = {**config["model"].get("params", {}), "clamp_range": (-1, 1) if zero_mean else (0, 1)}
    with CONFIG_KEYS.reading(config, source=SOURCE):
        if config.get("logit_laplace", False):
            raise ConfigError("BSQ-ViTs with logit_laplace are not supported; no released one has it")
        vit = config["vitconfig"]
        decoder = config.get("dvitconfig") or vit
        return {
            "image_size": vit["image_size"],
            "encoder": _vit(vit),
            "decoder": _vit(decoder),
            "head_dim": decoder.get("dim_ffn_output", 3072),
            "quantizer": _quantizer(config["embed_dim"], config),
            "pixel_range": config.get("clamp_range", (0, 1)),
        }


def _vit(sizes: Mapping[str, Any]) -> dict[str, Any]:
    names = {"dim": "width", "depth": "layers", "num_heads": "heads", "patch_size": "patch_size", "mlp_ratio": "mlp_ratio"}
    return {ours: sizes[theirs] for ours, theirs in names.items()}


def _quantizer(bits: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """The authors' arguments in ours: `analytical` is entropies of single bits, whatever the group size."""
    group = config.get("embed_group_size", 9)
    mode, inv_temperature = config.get("persample_entropy_compute", "group"), config.get("inv_temperature", 1.0)
    if mode not in ("group", "analytical"):
        raise ConfigError(f"persample_entropy_compute {mode!r} is unknown; known: 'group', 'analytical'")
    values = spherical(bits)
    on_sphere = config.get("post_q_l2_norm", False)
    entropy = {
        **values["entropy"],
        "weight": config.get("zeta", 1.0) / inv_temperature,
        "sample_weight": config.get("gamma0", 1.0),
        "batch_weight": config.get("gamma", 1.0),
        "inv_temperature": inv_temperature,
        "group_size": group if mode == "group" else 1,
    }
    changes = {"normalize": config.get("l2_norm", False), "codes": "sphere" if on_sphere else "cube", "entropy": entropy}
    return {**values, **changes, "chunks": _chunks(bits, group)}


def _chunks(bits: int, group: int) -> list[int] | None:
    """Bits per token index: all in one where a table of all codes is feasible, else the authors' groups, or the largest equal parts."""
    if bits <= LARGEST_ID_BITS:
        return None
    size = group if group > 1 else next(size for size in range(18, 0, -1) if bits % size == 0)
    return [size] * (bits // size)
