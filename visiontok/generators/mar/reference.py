"""MAR's generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.decoding.masked_autoregressive import MaskedLatentSampling
from visiontok.tokens.grid import grid_layout

BACKBONE_KEYS = {
    "class_emb.weight": "class_embedding",
    "fake_latent": "null_embedding",
    "z_proj.{*}": "backbone.embed.{*}",
    "z_proj_ln.{*}": "backbone.embed_norm.{*}",
    "mask_token": "backbone.mask_token",
    **{
        pattern: f"backbone.{ours}"
        for part in ("encoder", "decoder")
        for pattern, ours in {
            f"{part}_pos_embed_learned": f"{part}_positions",
            f"{part}_blocks.{{}}.{{*}}": f"{part}_blocks.{{}}.{{*}}",
            f"{part}_norm.{{*}}": f"{part}_norm.{{*}}",
        }.items()
    },
    "decoder_embed.{*}": "backbone.decoder_embed.{*}",
}
"""Names of the backbone's tensors, which TokenBridge's generators share."""

JOINED = {"condition.embedding.weight": ("class_embedding", "null_embedding")}
"""Our table of classes has a last row that stands for none."""

KEY_MAP = KeyMap(
    {
        **BACKBONE_KEYS,
        "diffusion_pos_embed_learned": "backbone.output_positions",
        "diffloss.net.time_embed.mlp.0.{*}": "head.time.fc1.{*}",
        "diffloss.net.time_embed.mlp.2.{*}": "head.time.fc2.{*}",
        "diffloss.net.cond_embed.{*}": "head.condition.{*}",
        "diffloss.net.input_proj.{*}": "head.embed.{*}",
        "diffloss.net.res_blocks.{}.in_ln.{*}": "head.blocks.{}.norm.{*}",
        "diffloss.net.res_blocks.{}.mlp.{*}": "head.blocks.{}.mlp.{*}",
        "diffloss.net.res_blocks.{}.adaLN_modulation.1.{*}": "head.blocks.{}.modulation.{*}",
        "diffloss.net.final_layer.adaLN_modulation.1.{*}": "head.output_modulation.{*}",
        "diffloss.net.final_layer.linear.{*}": "head.output.{*}",
    },
    joined=JOINED,
)

BACKBONE_CONFIG_KEYS = (
    "img_size", "vae_stride", "patch_size", "vae_embed_dim", "encoder_embed_dim", "encoder_depth", "encoder_num_heads", "decoder_embed_dim",
    "decoder_depth", "decoder_num_heads", "mlp_ratio", "norm_eps", "buffer_size", "class_num", "label_drop_prob", "mask_ratio_min", "attn_dropout",
    "proj_dropout",
)  # fmt: skip

IGNORED = {"grad_checkpointing": "memory in training: an option of our recipes"}

CONFIG_KEYS = ReferenceKeys(read=(*BACKBONE_CONFIG_KEYS, "diffloss_d", "diffloss_w", "num_sampling_steps", "diffusion_batch_mul"), ignored=IGNORED)
"""The arguments of the authors' class; `norm_eps` is that of the norm layer that their factories pass."""


def read_backbone(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `MaeConfig`."""
    return {
        **{
            part: {"dim": config[f"{part}_embed_dim"], "depth": config[f"{part}_depth"], "num_heads": config[f"{part}_num_heads"]}
            for part in ("encoder", "decoder")
        },
        "buffer_size": config.get("buffer_size", 64),
        "mlp_ratio": config.get("mlp_ratio", 4.0),
        "norm_eps": config.get("norm_eps", 1e-6),
        "dropout": config.get("proj_dropout", 0.1),
        "attention_dropout": config.get("attn_dropout", 0.1),
    }


def read_condition(config: Mapping[str, Any]) -> dict[str, Any]:
    """The condition: classes."""
    return {"type": "classes", "num_classes": config.get("class_num", 1000), "dropout": config.get("label_drop_prob", 0.1)}


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `MarConfig` from the arguments of the authors' class; `_sampler` may hold those of their sampler."""
    stride = config.get("vae_stride", 16)
    side = config.get("img_size", 256) // stride
    return {
        "layout": grid_layout((side, side), stride=stride, channels=config.get("vae_embed_dim", 16)).to_dict(),
        "condition": read_condition(config),
        "backbone": read_backbone(config),
        "head": {"dim": config["diffloss_w"], "depth": config["diffloss_d"], "copies": config.get("diffusion_batch_mul", 4)},
        "patch_size": config.get("patch_size", 1),
        "least_masked": config.get("mask_ratio_min", 0.7),
        "sampling": {"diffusion_steps": config.get("num_sampling_steps", "100"), **masked_sampling(config.get("_sampler", {}))},
    }


def masked_sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the authors' `sample_tokens` under our names."""
    names = {"num_iter": "num_steps", "cfg": "guidance", "cfg_schedule": "guidance_schedule"}
    return {names.get(name, name): value for name, value in values.items()}


def sampling_from_reference(values: Mapping[str, Any], *, diffusion_steps: str) -> MaskedLatentSampling:
    """The same as parameters; what they omit has our default."""
    return MaskedLatentSampling.parse({"diffusion_steps": diffusion_steps, **masked_sampling(values)}, source="reference sampler")
