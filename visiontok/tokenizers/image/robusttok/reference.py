"""RobustTok's and ImageFolder's configurations and the names of their tensors, as in the authors' repositories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap

SOURCE = "the RobustTok reference configuration"

VIT_SIZES = {
    "small": {"dim": 384, "depth": 12, "num_heads": 6},
    "base": {"dim": 768, "depth": 12, "num_heads": 12},
    "large": {"dim": 1024, "depth": 24, "num_heads": 16},
}
"""DINOv2's sizes, by the second word of timm's names such as `vit_base_patch14_dinov2`."""

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
    """The fields of `RobustTokConfig` from the authors' flat configuration. Keys of their training alone are not read.

    An optional `_tiny` holds sizes that their code takes from tables (`embed_dim`, `depth`, `num_heads`, `img_size`, `patch_size`).

    Raises:
        ConfigError: if it lacks a key, or has values that this model cannot have.
    """
    if not config.get("abs_pos_embed", True):
        raise ConfigError("abs_pos_embed false: latents with positions of their own were never released and are not read")
    try:
        sizes = config.get("_tiny", {})
        vits = {net: _vit(config[f"{net}_model"], sizes) for net in ("encoder", "decoder")}
        branches, side = config["product_quant"], math.isqrt(config["num_latent_tokens"])
        branch = read_quantizer(config)
    except KeyError as error:
        raise ConfigError(f"{SOURCE} lacks the key {error}") from error
    return {
        "image_size": sizes.get("img_size", 256),
        **vits,
        "grid_side": side,
        "quantizer": branch if branches == 1 else {"type": "product", "num_groups": branches, "quantizer": branch},
        "layer_scale": 1e-5,
    }


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


def _vit(name: str, tiny: Mapping[str, int]) -> dict[str, int]:
    if tiny:
        return {"dim": tiny["embed_dim"], "depth": tiny["depth"], "num_heads": tiny["num_heads"], "patch_size": tiny.get("patch_size", 16)}
    size = name.partition("_")[2].partition("_")[0]
    if size not in VIT_SIZES:
        raise ConfigError(f"{SOURCE} names a ViT of unknown size, {name!r}; known sizes: {', '.join(VIT_SIZES)}")
    return {**VIT_SIZES[size], "patch_size": 16}


def _inside(key: str) -> str:
    """Codebooks of multi-scale quantizers lie one module deeper."""
    return key.removesuffix("codebook") + "quantizer.codebook" if key.endswith(".codebook") else key


def _in_our_shape(key: str, tensor: Tensor) -> Tensor:
    if key in ("encoder.to_latents.weight", "decoder.embed.weight"):
        return tensor.flatten(1)
    if key.endswith(("latent_tokens", "mask_token", "class_token", "positions")):
        return tensor.flatten(0, 1)
    return tensor
