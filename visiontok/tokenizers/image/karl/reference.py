"""How KARL's released configurations and weights map to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokenizers.image.kl_vae import reference as kl_vae

VAE_PREFIX = "base_tokenizer.vae."
VAE_SCALE = 0.2325
"""What the authors' code multiplies MAR's latents with, so that their deviation is about 1."""

SOURCE = "the KARL reference configuration"

CONFIG_KEYS = ReferenceKeys(
    read=(
        "base_tokenizer.id", "base_tokenizer.embed_dim", "base_tokenizer.n_embed", "base_tokenizer.norm_groups",
        *(f"base_tokenizer.ddconfig.{key}" for key in ("ch", "ch_mult", "num_res_blocks", "attn_resolutions", "resolution", "z_channels")),
        *(f"karl.{net}_{key}" for net in ("encoder", "decoder") for key in ("width", "num_layers", "num_heads")),
        *(f"karl.{key}" for key in (
            "quantize_latent", "vq_codebook_size", "vq_token_dim", "vq_commitment_cost", "vq_use_l2_norm", "num_init_latent_tokens", "patch_size",
            "max_rollout_iters", "max_grid_tokens", "factorize_latent",
        )),
    ),
    ignored={
        "base_tokenizer.ddconfig.double_z": "follows from the kind of the base tokenizer",
        "base_tokenizer.ddconfig.in_channels": "3 in every release",
        "base_tokenizer.ddconfig.out_ch": "3 in every release",
        "base_tokenizer.ddconfig.dropout": "0 in every release",
        "karl.dynamic_halting": "the authors' code does not read it",
        "karl.dynamic_halting_threshold": "the authors' code does not read it: tokens halt above 0.75",
    },
)  # fmt: skip

_BLOCK = {
    "ln_1.{}": "norm1.{}",
    "attn.in_proj_weight": "attn.qkv.weight",
    "attn.in_proj_bias": "attn.qkv.bias",
    "attn.out_proj.{}": "attn.proj.{}",
    "ln_2.{}": "norm2.{}",
    "mlp.c_fc.{}": "mlp.fc1.{}",
    "mlp.c_proj.{}": "mlp.fc2.{}",
}
_VQGAN = "base_tokenizer.vqgan."

KEY_MAP = KeyMap(
    {
        "encoder_positional_embedding": "encoder.grid_positions.table",
        "encoder_ln_pre.{}": "encoder.norm_pre.{}",
        "encoder_ln_post.{}": "encoder.norm_post.{}",
        "encoder_ln_post_halt.{}": "encoder.norm_halting.{}",
        "patch_embed.{}": "encoder.patch_embed.{}",
        "rec_loss_embeddings": "encoder.conditions",
        "latent_tokens": "encoder.latent_tokens",
        "pre_quantizer_mlp.{}": "encoder.to_latents.{}",
        "halting_mlp.{}.{}": "encoder.halting.{}.{}",
        "quantize.embedding.weight": "quantizer.codebook",
        "decoder_embed.{}": "decoder.embed.{}",
        "decoder_latent_tokens_timestep_embed": "decoder.latent_positions",
        "decoder_mask_token": "decoder.mask_token",
        "decoder_positional_embedding": "decoder.grid_positions.table",
        "decoder.ln_pre.{}": "decoder.norm_pre.{}",
        "decoder.ln_post.{}": "decoder.norm_post.{}",
        "decoder.ffn.{}.{}": "decoder.head.layers.{}.{}",
        **{f"{net}.transformer.{{}}.{theirs}": f"{net}.blocks.{{}}.{ours}" for net in ("encoder", "decoder") for theirs, ours in _BLOCK.items()},
        f"{_VQGAN}quantize.embedding.weight": "base.codebook",
        **{
            f"{_VQGAN}{net}.{levels}.{{}}.{theirs}": f"base.{net}.levels.{{}}.{ours}"
            for net, levels in (("encoder", "down"), ("decoder", "up"))
            for theirs, ours in (
                ("block.{}.nin_shortcut.{}", "blocks.{}.shortcut.{}"),
                ("block.{}.{}.{}", "blocks.{}.{}.{}"),
                ("upsample.conv.{}", "upsample.conv.{}"),
            )
        },
        **{f"{_VQGAN}{net}.mid.block_{n + 1}.{{*}}": f"base.{net}.mid.{n}.{{*}}" for net in ("encoder", "decoder") for n in (0, 1)},
        f"{_VQGAN}{{*}}": "base.{*}",
        "gan_losses.{*}": None,  # LPIPS and discriminators of the authors' training code
    }
)  # fmt: skip


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    vae = {key.removeprefix(VAE_PREFIX): tensor for key, tensor in state_dict.items() if key.startswith(VAE_PREFIX)}
    mapped = KEY_MAP({key: tensor for key, tensor in state_dict.items() if not key.startswith(VAE_PREFIX)})
    mapped |= {f"base.vae.{key}": tensor for key, tensor in kl_vae.to_diffusers_names(vae).items()} if vae else {}
    if "decoder.mask_token" in mapped:
        mapped["decoder.mask_token"] = mapped["decoder.mask_token"].flatten(0, 1)
    return mapped


def read_config(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of `KarlConfig` from the authors' `base_tokenizer` and `karl` sections.

    Raises:
        ConfigError: if a section or a size is missing, a key is unknown, or the base tokenizer is neither "vqgan" nor "vae".
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        base, karl = config["base_tokenizer"], config["karl"]
        if base["id"] not in ("vqgan", "vae"):
            raise ConfigError(f"base_tokenizer.id of {SOURCE} is {base['id']!r}; known: vqgan, vae")
        if not karl.get("factorize_latent", True):
            raise ConfigError(f"karl.factorize_latent of {SOURCE} is false: no release quantizes latents of the encoder's dim")
        base_config = _vqgan(base) if base["id"] == "vqgan" else _vae(base)
        sizes = {
            net: {
                "dim": karl[f"{net}_width"],
                "depth": karl[f"{net}_num_layers"],
                "num_heads": karl[f"{net}_num_heads"],
                "patch_size": karl.get("patch_size", 16),
            }
            for net in ("encoder", "decoder")
        }
    normalize = karl.get("vq_use_l2_norm", True)
    vq = {
        "type": "vq",
        "codebook_size": karl.get("vq_codebook_size", 4096),
        "dim": karl.get("vq_token_dim", 12),
        "normalize_latents": normalize,
        "normalize_codes": normalize,
        "commitment_weight": karl.get("vq_commitment_cost", 0.25),
    }
    rows = state_dict.get("latent_tokens", torch.empty(512, 0, device="meta")).shape[0]
    return {
        "image_size": base["ddconfig"].get("resolution", 256),
        "num_latent_tokens": karl.get("num_init_latent_tokens", 32) * karl.get("max_rollout_iters", 8),
        "max_latent_tokens": rows,
        "position_side": karl.get("max_grid_tokens", 64),
        "base": base_config,
        **sizes,
        "quantizer": vq if karl.get("quantize_latent", True) else {"type": "continuous", "dim": vq["dim"]},
    }


def _vqgan(base: Mapping[str, Any]) -> dict[str, Any]:
    sizes = base["ddconfig"]
    net = {
        "channels": sizes.get("ch", 128),
        "channel_mult": sizes.get("ch_mult", [1, 1, 2, 2, 4]),
        "num_res_blocks": sizes.get("num_res_blocks", 2),
        "num_mid_blocks": 2,
        "latent_channels": sizes.get("z_channels", 256),
        "norm_groups": _norm_groups(base),
    }
    return {"type": "vqgan", "net": net, "codebook_size": base.get("n_embed", 1024)}


def _vae(base: Mapping[str, Any]) -> dict[str, Any]:
    sizes = base["ddconfig"]
    theirs = {
        **{key: sizes[key] for key in ("ch", "ch_mult", "num_res_blocks", "resolution") if key in sizes},
        "embed_dim": base.get("embed_dim", 16),
        "encoder_attn_resolutions": sizes.get("attn_resolutions", [16]),
        "scale_factor": VAE_SCALE,
        "num_groups": _norm_groups(base),
    }
    return {"type": "kl_vae", "vae": kl_vae.read_config(theirs)}


def _norm_groups(base: Mapping[str, Any]) -> int:
    """32 in every release; narrower nets than the authors' code can build were made with 8."""
    sizes = base["ddconfig"]
    narrowest = min(sizes.get("ch", 128) * multiplier for multiplier in sizes.get("ch_mult", [1]))
    return int(base.get("norm_groups", 32 if narrowest % 32 == 0 else 8))
