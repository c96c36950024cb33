"""The authors' configuration files of TiTok and TA-TiTok: which keys are read, which have no effect here, and their objective in our words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.core.titok_files import TRAINING_KEYS
from visiontok.losses import ReconstructionConfig
from visiontok.tokenizers.image.maskgit_vqgan import reference as maskgit_vqgan

SOURCE = "the TiTok reference configuration"

CONFIG_KEYS = ReferenceKeys(
    read=(
        *(f"model.vq_model.{key}" for key in (
            "codebook_size", "token_size", "use_l2_norm", "commitment_cost", "quantize_mode", "vit_enc_model_size", "vit_dec_model_size",
            "vit_enc_patch_size", "vit_dec_patch_size", "num_latent_tokens", "finetune_decoder", "is_legacy", "text_context_length", "text_embed_dim",
        )),
        "dataset.preprocessing.crop_size",
        "text_encoder",
        "text_encoder.{*}",
        *(f"losses.{key}" for key in (
            "reconstruction_loss", "reconstruction_weight", "quantizer_weight", "perceptual_loss", "perceptual_weight", "discriminator_start",
            "discriminator_factor", "discriminator_weight", "lecam_regularization_weight", "lecam_ema_decay", "kl_weight", "logvar_init",
        )),
        "overrides.{*}",
        "discriminator.hidden_channels",
        "discriminator.num_stages",
    ),
    ignored={
        "loss_class": "the objective follows from the keys of `losses`",
        "model.vq_model.clustering_vq": "how the codebook moves in training; its average usage is in no checkpoint. Set quantizer.clustering",
        "model.vq_model.pretrained_tokenizer_weight": "a path of MaskGIT's VQGAN, whose weights are in the checkpoint or named by the recipe",
        "model.vq_model.scale_factor": "what a generator multiplies latents with; it is the generator's setting",
        "model.generator.{*}": "the generator that is trained on these tokens",
        "model.maskgen.{*}": "the generator that is trained on these tokens",
        "losses.diffloss_d": "of a generator",
        "losses.diffloss_w": "of a generator",
        "losses.label_smoothing": "of a generator",
        "losses.loss_weight_unmasked_token": "of a generator",
        **TRAINING_KEYS,
    },
)  # fmt: skip
"""Of the files in the authors' repository and of the `config.json` files of their released models."""


VIT_SIZES = {
    "tiny": {"dim": 32, "depth": 2, "num_heads": 4},
    "micro": {"dim": 48, "depth": 3, "num_heads": 6},
    "small": {"dim": 512, "depth": 8, "num_heads": 8},
    "base": {"dim": 768, "depth": 12, "num_heads": 12},
    "large": {"dim": 1024, "depth": 24, "num_heads": 16},
}
"""The paper's sizes, and two for tests."""

KEY_MAP = KeyMap(
    {
        "latent_tokens": "encoder.latent_tokens",
        "encoder.conv_out.{}": "encoder.to_latents.{}",
        "decoder.decoder_embed.{}": "decoder.embed.{}",
        "decoder.mask_token": "decoder.mask_token",
        **{f"{net}.{theirs}": f"{net}.{ours}" for net in ("encoder", "decoder") for theirs, ours in (
            ("class_embedding", "class_token"),
            ("positional_embedding", "patch_positions"),
            ("latent_token_positional_embedding", "latent_positions"),
            ("patch_embed.{}", "patch_embed.{}"),
            ("ln_pre.{}", "norm_pre.{}"),
            ("ln_post.{}", "norm_post.{}"),
            ("transformer.{}.ln_1.{}", "blocks.{}.norm1.{}"),
            ("transformer.{}.attn.in_proj_weight", "blocks.{}.attn.qkv.weight"),
            ("transformer.{}.attn.in_proj_bias", "blocks.{}.attn.qkv.bias"),
            ("transformer.{}.attn.out_proj.{}", "blocks.{}.attn.proj.{}"),
            ("transformer.{}.ln_2.{}", "blocks.{}.norm2.{}"),
            ("transformer.{}.mlp.c_fc.{}", "blocks.{}.mlp.fc1.{}"),
            ("transformer.{}.mlp.c_proj.{}", "blocks.{}.mlp.fc2.{}"),
        )},
        "decoder.ffn.{}.{}": "head.layers.{}.{}",
        "decoder.conv_out.{}": "head.conv.{}",
        "quantize.embedding.weight": "quantizer.codebook",
        "quantize.embed_prob": None,  # a usage average of the authors' training code
        "pixel_quantize.embedding.weight": "pixel_codebook",
        **{f"pixel_{theirs}": f"pixel_{ours}" for theirs, ours in maskgit_vqgan.KEY_MAP.patterns.items() if theirs.startswith("decoder.")},
    }
)  # fmt: skip


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `TiTokConfig` from the authors' nested configuration.

    Flags missing there mean what the authors' code takes them to mean: a second-stage model whose latents are read interleaved.
    An optional top-level `overrides` holds sizes that their code hard-codes (`vit_sizes`, `pixel_vqgan`).

    Raises:
        ConfigError: see `read_sizes`.
    """
    sizes = read_sizes(config)
    model, pixel = config["model"]["vq_model"], config.get("overrides", {}).get("pixel_vqgan", {})
    is_legacy = model.get("is_legacy", True)
    vqgan = {**pixel.get("decoder", {}), **{key: value for key, value in pixel.items() if key != "decoder"}}
    has_pixel_decoder = sizes["quantizer"]["type"] == "vq" and model.get("finetune_decoder", True)
    return {
        **sizes,
        "latent_read": "interleaved" if is_legacy else "per_token",
        "head": "codes" if is_legacy else "pixels",
        "num_teacher_codes": pixel.get("num_embeddings", 1024),
        "pixel_decoder": maskgit_vqgan.read_config(vqgan)["net"] if has_pixel_decoder else None,
    }


def read_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `LatentViTConfig` from the authors' nested configuration.

    Raises:
        ConfigError: if it has an unknown key, lacks a size, or names a ViT size that nobody knows.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        model, size = config["model"]["vq_model"], config["dataset"]["preprocessing"]["crop_size"]
        known = {**VIT_SIZES, **{name: _our_names(vit) for name, vit in config.get("overrides", {}).get("vit_sizes", {}).items()}}
        vits = {}
        for net, short in (("encoder", "enc"), ("decoder", "dec")):
            name = model[f"vit_{short}_model_size"]
            if name not in known:
                raise ConfigError(f"vit_{short}_model_size of {SOURCE} is {name!r}; known sizes: {', '.join(known)}")
            vits[net] = {**known[name], "patch_size": model[f"vit_{short}_patch_size"]}
        kl_weight = config.get("losses", {}).get("kl_weight", 1e-6)
        quantizer: dict[str, Any] = {"type": "gaussian", "dim": model["token_size"], "kl_weight": kl_weight}
        if model.get("quantize_mode", "vq") == "vq":
            normalize = model.get("use_l2_norm", False)
            quantizer = {
                "type": "vq",
                "codebook_size": model["codebook_size"],
                "dim": model["token_size"],
                "normalize_latents": normalize,
                "normalize_codes": normalize,
                "commitment_weight": model.get("commitment_cost", 0.25),
            }
        return {"image_size": size, "num_latent_tokens": model["num_latent_tokens"], **vits, "quantizer": quantizer}


def _our_names(vit: Mapping[str, int]) -> dict[str, int]:
    """The authors' name for depth is layers, for num_heads heads."""
    return {"dim": vit["width"], "depth": vit["layers"], "num_heads": vit["heads"]}


def with_linear_layers(mapped: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renamed tensors of the authors, with their 1x1 convolutions over tokens as linear layers and the mask token as one row."""
    linear = ("encoder.to_latents.weight", "head.layers.0.weight", "head.layers.2.weight")
    flat = {key: mapped[key].flatten(1) for key in linear if key in mapped}
    if "decoder.mask_token" in mapped:
        flat["decoder.mask_token"] = mapped["decoder.mask_token"].flatten(0, 1)
    return {**mapped, **flat}


def objective_from_reference(config: Mapping[str, Any], *, perceptual_weights: Mapping[str, Path] | None = None) -> ReconstructionConfig:
    """The objective of a second-stage or single-stage model from `losses` of the authors' configuration.

    An optional top-level `discriminator` holds sizes that their code fixes. The weight of the KL divergence belongs to the quantizer here.

    Args:
        config: the authors' nested configuration.
        perceptual_weights: files of the frozen networks, by the authors' names (`lpips`, `convnext_s`); None leaves the perceptual term out.

    Raises:
        ConfigError: for unknown keys, a missing key, or a perceptual network without a file.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        losses = config["losses"]
        is_variational = config.get("model", {}).get("vq_model", {}).get("quantize_mode", "vq") == "vae"
        values = {
            "reconstruction": losses["reconstruction_loss"],
            "reconstruction_weight": losses["reconstruction_weight"],
            "log_variance": losses.get("logvar_init", 0.0) if is_variational else 0.0,
            "quantizer_weight": 1.0 if is_variational else losses["quantizer_weight"],  # their code does not weigh the KL divergence by it
            "perceptual": [] if perceptual_weights is None else _perceptual(losses["perceptual_loss"], perceptual_weights),
            "perceptual_weight": losses["perceptual_weight"],
            "gan": {
                "weight": losses["discriminator_weight"] * losses["discriminator_factor"],
                "discriminator_weight": losses["discriminator_factor"],
                "start_step": losses["discriminator_start"],
                "lecam_weight": losses["lecam_regularization_weight"],
                "lecam_decay": losses.get("lecam_ema_decay", 0.999),
                "discriminator": {"type": "blur_pool", **config.get("discriminator", {})},
            },
        }
    return ReconstructionConfig.parse(values, source="losses of the TiTok reference configuration")


def _perceptual(name: str, files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The terms of a name such as `convnext_s`, or `lpips-convnext_s-1.0-0.1`: networks, then their weights."""
    parts = name.split("-")
    networks = [part for part in parts if part in ("lpips", "convnext_s")]
    weights = [float(part) for part in parts[len(networks) :]] or [1.0] * len(networks)
    if not networks or len(weights) != len(networks) or set(networks) - set(files):
        raise ConfigError(f"perceptual_loss {name!r} needs a file for each of its networks ({', '.join(networks)}); got {sorted(files)}")
    return [{"name": network, "weights": files[network], "weight": weight} for network, weight in zip(networks, weights, strict=True)]
