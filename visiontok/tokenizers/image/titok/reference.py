"""The authors' configuration files of TiTok and TA-TiTok: which keys are read, which have no effect here, and their objective in our words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.losses import ReconstructionConfig

REFERENCE_KEYS = ReferenceKeys(
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
        "experiment.{*}": "names, folders and intervals of the authors' runs; a recipe has its own",
        "dataset.params.{*}": "files of the authors' data; a recipe names its own",
        "dataset.preprocessing.{*}": "crops and flips of training; a recipe's `data` says them",
        "optimizer.{*}": "a recipe's `optimizer` and `discriminator_optimizer` say it",
        "lr_scheduler.{*}": "a recipe's `schedule` says it",
        "training.{*}": "length, batch size and precision of training; a recipe says them",
    },
)  # fmt: skip
"""Of the files in the authors' repository and of the `config.json` files of their released models."""


def objective_from_reference(config: Mapping[str, Any], *, perceptual_weights: Mapping[str, Path] | None = None) -> ReconstructionConfig:
    """The objective of a second-stage or single-stage model from `losses` of the authors' configuration.

    An optional top-level `discriminator` holds sizes that their code fixes. The weight of the KL divergence belongs to the quantizer here.

    Args:
        config: the authors' nested configuration.
        perceptual_weights: files of the frozen networks, by the authors' names (`lpips`, `convnext_s`); None leaves the perceptual term out.

    Raises:
        ConfigError: for unknown keys, a missing key, or a perceptual network without a file.
    """
    REFERENCE_KEYS.check(config, source="the TiTok reference configuration")
    losses = config["losses"]
    try:
        values = {
            "reconstruction": losses["reconstruction_loss"],
            "reconstruction_weight": losses["reconstruction_weight"],
            "log_variance": losses.get("logvar_init", 0.0),
            "quantizer_weight": losses["quantizer_weight"],
            "perceptual": [] if perceptual_weights is None else _perceptual(losses["perceptual_loss"], perceptual_weights),
            "perceptual_weight": losses["perceptual_weight"],
            "gan": {
                "weight": losses["discriminator_weight"] * losses["discriminator_factor"],
                "start_step": losses["discriminator_start"],
                "lecam_weight": losses["lecam_regularization_weight"],
                "lecam_decay": losses.get("lecam_ema_decay", 0.999),
                "discriminator": dict(config.get("discriminator", {})),
            },
        }
    except KeyError as error:
        raise ConfigError(f"losses of the TiTok reference configuration lacks {error}") from error
    return ReconstructionConfig.parse(values, source="losses of the TiTok reference configuration")


def _perceptual(name: str, files: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The terms of a name such as `convnext_s`, or `lpips-convnext_s-1.0-0.1`: networks, then their weights."""
    parts = name.split("-")
    networks = [part for part in parts if part in ("lpips", "convnext_s")]
    weights = [float(part) for part in parts[len(networks) :]] or [1.0] * len(networks)
    if not networks or len(weights) != len(networks) or set(networks) - set(files):
        raise ConfigError(f"perceptual_loss {name!r} needs a file for each of its networks ({', '.join(networks)}); got {sorted(files)}")
    return [{"name": network, "weights": files[network], "weight": weight} for network, weight in zip(networks, weights, strict=True)]
