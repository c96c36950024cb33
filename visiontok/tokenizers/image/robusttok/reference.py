"""RobustTok's and ImageFolder's configurations and the names of their tensors, as in the authors' repositories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

SOURCE = "the RobustTok reference configuration"

VIT_SIZES = {
    "small": {"dim": 384, "depth": 12, "num_heads": 6},
    "base": {"dim": 768, "depth": 12, "num_heads": 12},
    "large": {"dim": 1024, "depth": 24, "num_heads": 16},
}
"""DINOv2's sizes, by the second word of timm's names such as `vit_base_patch14_dinov2`."""

_RECIPE = "a recipe's optimizers, schedule and `ema` say it"
_RUN = "files, folders and intervals of the authors' runs; a recipe has its own"
_DETAIL = "a second semantic loss, on CLIP's features; with it the authors' training stops at an assertion, and no checkpoint needs it"

CONFIG_KEYS = ReferenceKeys(
    read=(
        "encoder_model", "decoder_model", "image_size", "product_quant", "num_latent_tokens", "abs_pos_embed",
        "codebook_size", "codebook_embed_dim", "codebook_l2_norm", "commit_loss_beta", "v_patch_nums", "share_quant_resi", "codebook_drop",
        "start_drop", "lfq", "kind", "scale", "soft_entropy", "entropy_loss_ratio",
        "semantic_guide", "guide_type_1", "sem_loss_weight", "sem_loss_scale", "clip_norm",
        "reconstruction_loss", "reconstruction_weight", "perceptual_weight", "disc_type", "disc_loss", "gen_loss", "disc_weight",
        "disc_adaptive_weight", "disc_epoch_start", "lecam_loss_weight", "dependency_loss_weight",
        "alpha", "beta", "delta", "anneal_start", "anneal_end", "end_ratio", "enc_type", "dec_type",
    ),
    ignored={
        "vq_model": "its name gives the stride, which follows from the ViTs' patches",
        "half_sem": "builds a projection that the authors' forward pass never uses",
        "detail_guide": _DETAIL,
        "detail_loss_weight": _DETAIL,
        "detail_loss_scale": _DETAIL,
        "guide_type_2": _DETAIL,
        "codebook_weight": "the authors' loss does not read it: the quantizer's terms enter as they are",
        "codebook_show_usage": "usage is counted by the training loop",
        "encoder_ch_mult": "of convolutional networks, which no released model has",
        "decoder_ch_mult": "of convolutional networks, which no released model has",
        "z_channels": "of convolutional networks, which no released model has",
        "dropout_p": "of convolutional networks, which no released model has",
        "test_model": "freezes everything",
        "enc_tuning_method": "full in every release; a recipe's `model.freeze` freezes parts",
        "dec_tuning_method": "full in every release; a recipe's `model.freeze` freezes parts",
        "norm_type": "bn in every release: statistics of eight samples",
        "aug_prob": "1 in every release: every sample is augmented",
        "aug_fade_steps": "0 in every release: no blur that fades",
        "disc_reinit": "0 in every release: the discriminator is never reinitialized",
        "debug_disc": "prints",
        **dict.fromkeys(("lr", "disc_lr", "lr_scheduler", "weight_decay", "disc_weight_decay", "beta1", "beta2", "max_grad_norm", "ema"), _RECIPE),
        **dict.fromkeys(
            ("global_batch_size", "epochs", "global_seed", "num_workers", "gradient_accumulation_steps", "mixed_precision", "compile", "dataset"),
            "length, batch size, data and precision of training; set by a recipe",
        ),
        **dict.fromkeys(
            (
                "data_path", "data_face_path", "val_data_path", "cloud_save_path", "no_local_save", "results_dir", "sample_folder_dir",
                "reconstruction_folder_dir", "vq_ckpt", "finetune", "log_every", "vis_every", "ckpt_every", "save_best", "config", "disc_start",
            ),
            _RUN,
        ),
    },
)  # fmt: skip
"""Of the files in the authors' repositories and of the `args` in their checkpoints."""

KEY_MAP = KeyMap(
    {
        "encoder.latent_tokens": "encoder.latent_tokens",
        "encoder.model.patch_embed.proj.{}": "encoder.patch_embed.{}",
        "decoder.mask_token": "decoder.mask_token",
        "decoder.to_pixel.model.{}": "decoder.to_pixels.{}",
        **{f"{net}.{theirs}": f"{net}.{ours}" for net in ("encoder", "decoder") for theirs, ours in (
            ("lvl_embed.weight", "levels"),
            ("model.cls_token", "trunk.class_token"),
            ("model.pos_embed", "trunk.positions"),
            ("model.blocks.{}.ls1.gamma", "trunk.blocks.{}.scale1"),
            ("model.blocks.{}.ls2.gamma", "trunk.blocks.{}.scale2"),
            ("model.blocks.{}.{*}", "trunk.blocks.{}.{*}"),
            ("model.norm.{}", "trunk.norm.{}"),
        )},
        "encoder.lvl1LC": None,  # which row of lvl_embed each token takes
        "decoder.lvl1LC": None,
        "quant_conv.{}": "encoder.to_latents.{}",
        "post_quant_conv.{}": "decoder.embed.{}",
        **{f"{theirs}.{tensor}": None if name is None else f"{ours}.{name}" for tensor, name in (
            ("embedding.weight", "codebook"),
            ("quant_resi.qresi_ls.{}.{}", "phi.convs.{}.{}"),
            ("quant_resi.qresi.{}", "phi.convs.0.{}"),
            ("quant_resi.{}.{}", "phi.convs.{}.{}"),
            ("ema_vocab_hit_SV", None),  # a usage average of the authors' training code
            ("scaler", None),  # follows from the configuration
        ) for theirs, ours in (("quantize", "quantizer"), ("quantizes.{}", "quantizer.groups.{}"))},
        "semantic_model.{*}": None,  # frozen teachers of the authors' training, and their projections
        "detail_model.{*}": None,
        "sem_linear.{*}": None,
        "detail_linear.{*}": None,
    }
)  # fmt: skip


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names: 1x1 convolutions are linear layers here, and tables have no batch axis.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    mapped = KEY_MAP(state_dict)
    is_multi_scale = any(".phi." in key for key in mapped)
    return {_inside(key) if is_multi_scale else key: _in_our_shape(key, tensor) for key, tensor in mapped.items()}


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `RobustTokConfig` from the authors' flat configuration; see `objective.py` for what they train with.

    An optional `_tiny` holds sizes that their code takes from tables (`embed_dim`, `depth`, `num_heads`, `img_size`, `patch_size`).

    Raises:
        ConfigError: if it has an unknown key, lacks one, or has values that this model cannot have.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        if not config.get("abs_pos_embed", True):
            raise ConfigError("abs_pos_embed false: latents with positions of their own were never released and are not read")
        for key in ("enc_type", "dec_type"):
            if config.get(key, "dinov2") != "dinov2":
                raise ConfigError(f"{key} is {config[key]!r}: only models of two ViTs in DINOv2's shape were released and are read")
        branches, branch = config["product_quant"], read_quantizer(config)
        return {
            "image_size": read_image_size(config),
            **{net: read_vit(config[f"{net}_model"], config) for net in ("encoder", "decoder")},
            "grid_side": math.isqrt(config["num_latent_tokens"]),
            "quantizer": branch if branches == 1 else {"type": "product", "num_groups": branches, "quantizer": branch},
            "layer_scale": 1e-5,
        }


def read_image_size(config: Mapping[str, Any]) -> int:
    """Side of the square image."""
    return int(config.get("_tiny", {}).get("img_size", config.get("image_size", 256)))


def read_vit(name: str, config: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of a ViT by timm's name, or those of `_tiny`.

    Raises:
        ConfigError: for a name of unknown size.
    """
    tiny = config.get("_tiny")
    if tiny:
        return {"dim": tiny["embed_dim"], "depth": tiny["depth"], "num_heads": tiny["num_heads"], "patch_size": tiny.get("patch_size", 16)}
    size = name.partition("_")[2].partition("_")[0]
    if size not in VIT_SIZES:
        raise ConfigError(f"{SOURCE} names a ViT of unknown size, {name!r}; known sizes: {', '.join(VIT_SIZES)}")
    return {**VIT_SIZES[size], "patch_size": 16}


def read_quantizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of one branch's quantizer from the authors' flat one; where that has no key, with the defaults of their code."""
    scales, dim, unit = config["v_patch_nums"], config["codebook_embed_dim"], config.get("codebook_l2_norm", True)
    if len(scales) == 1:
        sizes = {"type": "vq", "codebook_size": config["codebook_size"], "dim": dim}
        return {**sizes, "normalize_latents": unit, "normalize_codes": unit, "commitment_weight": config.get("commit_loss_beta", 0.25)}
    is_soft, drop = config.get("soft_entropy", True), config.get("codebook_drop", 0.0)
    shared = {
        "type": "multi_scale",
        "scales": scales,
        "phi": {"num_convs": config.get("share_quant_resi", 4)},
        "dropout": {"share": drop, "min_levels": config.get("start_drop", 1)} if drop else None,
    }
    if not config.get("lfq", config.get("kind") == "msbq"):
        codes = {"type": "vq", "codebook_size": config["codebook_size"], "dim": dim}
        normalized = {"normalize_latents": True, "normalize_codes": True, "raw_lookup": True}
        return {**shared, "quantizer": {**codes, **normalized}, "commitment_weight": 0.25 * len(scales)}  # theirs is summed over scales
    if config["codebook_size"] != 2**dim:
        raise ConfigError(f"binary codes of {dim} bits have {2**dim} values; codebook_size is {config['codebook_size']}")
    soft = {"inv_temperature": 1.0, "group_size": 1, "sample_log": {"eps": 1e-8}, "batch_log": {"eps": 1e-8}}
    hard = {"inv_temperature": 100.0, "sample_log": {"eps": 0.0}, "batch_log": {"eps": 1e-5}}
    entropy = {"weight": config.get("entropy_loss_ratio", 0.1), **(soft if is_soft else hard)}
    return {
        **shared,
        "quantizer": {"type": "binary", "dim": dim, "codes": "sphere" if unit else "cube", "bit_order": "lsb", "entropy": entropy},
        "amplitude_ratio": config.get("scale", 1.0),
        "normalize": unit,
        "entropy_samples": "first_two" if is_soft else "kept",
    }


def _inside(key: str) -> str:
    """Codebooks of multi-scale quantizers are one module deeper."""
    return key.removesuffix("codebook") + "quantizer.codebook" if key.endswith(".codebook") else key


def _in_our_shape(key: str, tensor: Tensor) -> Tensor:
    if key in ("encoder.to_latents.weight", "decoder.embed.weight"):
        return tensor.flatten(1)
    if key.endswith(("latent_tokens", "mask_token", "class_token", "positions")):
        return tensor.flatten(0, 1)
    return tensor
