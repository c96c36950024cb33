"""The authors' flat configurations of RobustTok and ImageFolder / XQ-GAN: which keys are read, and the objective and perturbation in our words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.losses import ReconstructionConfig
from visiontok.quantizers.perturbation import PerturbationConfig

VIT_SIZES = {
    "small": {"dim": 384, "depth": 12, "num_heads": 6},
    "base": {"dim": 768, "depth": 12, "num_heads": 12},
    "large": {"dim": 1024, "depth": 24, "num_heads": 16},
}
"""DINOv2's sizes, by the second word of timm's names such as `vit_base_patch14_dinov2`."""

_SOURCE = "the RobustTok reference configuration"
_RECIPE = "a recipe's optimizers, schedule and `ema` say it"
_RUN = "files, folders and intervals of the authors' runs; a recipe has its own"
_DETAIL = "a second semantic loss, on CLIP's features; with it the authors' training stops at an assertion, and no checkpoint needs it"

REFERENCE_KEYS = ReferenceKeys(
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
        "vq_model": "its name says the stride, which follows from the ViTs' patches",
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
        "disc_reinit": "0 in every release: the discriminator is never drawn anew",
        "debug_disc": "prints",
        **dict.fromkeys(("lr", "disc_lr", "lr_scheduler", "weight_decay", "disc_weight_decay", "beta1", "beta2", "max_grad_norm", "ema"), _RECIPE),
        **dict.fromkeys(
            ("global_batch_size", "epochs", "global_seed", "num_workers", "gradient_accumulation_steps", "mixed_precision", "compile", "dataset"),
            "length, batch size, data and precision of training; a recipe says them",
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


@dataclass(frozen=True)
class FrozenWeights:
    """Files of the frozen networks of training.

    Attributes:
        vgg: torchvision's VGG-16, for LPIPS.
        dino: DINO ViT-S/16, for the discriminator.
        dinov2: for the semantic loss.
    """

    vgg: Path
    dino: Path
    dinov2: Path


def vit_from_reference(name: str, config: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of a ViT by timm's name, or those of `_tiny` in the configuration."""
    tiny = config.get("_tiny", {})
    sizes = {"dim": tiny["embed_dim"], "depth": tiny["depth"], "num_heads": tiny["num_heads"]} if tiny else VIT_SIZES[name.split("_")[1]]
    return {**sizes, "patch_size": tiny.get("patch_size", 16)}


def image_size_from_reference(config: Mapping[str, Any]) -> int:
    """Side of the square image."""
    return int(config.get("_tiny", {}).get("img_size", config.get("image_size", 256)))


def objective_from_reference(config: Mapping[str, Any], *, steps_per_epoch: int, files: FrozenWeights) -> ReconstructionConfig:
    """The objective of the authors' training; where their configuration is silent, their code's defaults stand.

    Their pixels lie in [-1, 1], ours in [0, 1]: a squared distance there is four times ours, an absolute one twice.

    Args:
        config: the authors' flat configuration.
        steps_per_epoch: of their training, whose configuration counts epochs.
        files: of the frozen networks.

    Raises:
        ConfigError: for unknown keys, and for losses that no release was trained with.
    """
    REFERENCE_KEYS.check(config, source=_SOURCE)
    if config.get("dependency_loss_weight", 0.0):
        raise ConfigError(f"dependency_loss_weight is {config['dependency_loss_weight']}; no release was trained with that loss, and it is not built")
    distance = config.get("reconstruction_loss", "l2")
    values = {
        "reconstruction": distance,
        "reconstruction_weight": config.get("reconstruction_weight", 1.0) * (4.0 if distance == "l2" else 2.0),
        "perceptual": [{"name": "lpips", "weights": files.vgg}],
        "perceptual_weight": config.get("perceptual_weight", 1.0),
        "semantic": _semantic(config, steps_per_epoch, files) if config.get("semantic_guide", "none") != "none" else None,
        "gan": _gan(config, steps_per_epoch, files),
    }
    return ReconstructionConfig.parse(values, source=_SOURCE)


def perturbation_from_reference(config: Mapping[str, Any], *, steps_per_epoch: int) -> PerturbationConfig | None:
    """The perturbation of the authors' training, None where there is none.

    Raises:
        ConfigError: for unknown keys or values out of range.
    """
    REFERENCE_KEYS.check(config, source=_SOURCE)
    if not config.get("alpha", 0.0) or not config.get("beta", 0.0):
        return None
    start, end = config.get("anneal_start", 200), config.get("anneal_end", 200)
    annealing = {"start": start, "end": end, "end_ratio": config.get("end_ratio", 0.5), "steps_per_unit": steps_per_epoch} if end > start else None
    values = {name: config.get(name, default) for name, default in (("alpha", 0.0), ("beta", 0.0), ("delta", 100))}
    return PerturbationConfig.parse({**values, "annealing": annealing}, source=_SOURCE)


def _semantic(config: Mapping[str, Any], steps_per_epoch: int, files: FrozenWeights) -> dict[str, Any]:
    guide, feature = config["semantic_guide"], config.get("guide_type_1", "class")
    if guide != "dinov2" or feature != "class":
        raise ConfigError(f"semantic_guide {guide!r} with guide_type_1 {feature!r}: released models have dinov2 and class, and others are not built")
    normalize = config.get("clip_norm", False)
    return {
        "weight": config.get("sem_loss_weight", 0.1),
        "teacher": {
            "weights": files.dinov2,
            "backbone": vit_from_reference(config["encoder_model"], config),
            "image_size": image_size_from_reference(config),
        },
        "projection": "encoder.to_latents",
        "normalize": normalize,
        "scale": config.get("sem_loss_scale", 1.0),
        "scale_rise": {"end": 100.0, "units": 200, "steps_per_unit": steps_per_epoch} if normalize else None,
        "excluded_share": config.get("codebook_drop", 0.0),
    }


def _gan(config: Mapping[str, Any], steps_per_epoch: int, files: FrozenWeights) -> dict[str, Any]:
    try:
        discriminator = {"dinodisc": {"type": "dino", "weights": files.dino}, "patchgan": {"type": "patchgan"}}[config.get("disc_type", "patchgan")]
        discriminator_loss = {"hinge": "hinge", "vanilla": "logistic"}[config.get("disc_loss", "hinge")]
        generator_loss = {"hinge": "hinge"}[config.get("gen_loss", "hinge")]
    except KeyError as error:
        raise ConfigError(f"{_SOURCE} trains with {error}, which no release does and which is not built") from error
    return {
        "weight": config.get("disc_weight", 0.5),
        "adaptive": {"last_layer": "decoder.to_pixels.weight"} if config.get("disc_adaptive_weight", False) else None,
        "generator_loss": generator_loss,
        "discriminator_loss": discriminator_loss,
        "start_step": config.get("disc_epoch_start", 0) * steps_per_epoch,
        "lecam": "logits",
        "lecam_weight": config.get("lecam_loss_weight") or 0.0,
        "augmentation": {} if discriminator["type"] == "dino" else None,
        "discriminator": discriminator,
    }
