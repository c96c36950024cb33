"""The objective and the perturbation of the authors' training of RobustTok and ImageFolder / XQ-GAN, from their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.losses import ReconstructionConfig
from visiontok.quantizers.perturbation import LatentPerturbationConfig
from visiontok.tokenizers.image.robusttok.reference import CONFIG_KEYS, SOURCE, read_image_size, read_vit


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


def objective_from_reference(config: Mapping[str, Any], *, steps_per_epoch: int, files: FrozenWeights) -> ReconstructionConfig:
    """The objective of the authors' training; missing keys have the defaults of their code.

    Their pixels are in [-1, 1], ours in [0, 1]: a squared distance there is four times ours, an absolute one twice.

    Args:
        config: the authors' flat configuration.
        steps_per_epoch: of their training, whose configuration counts epochs.
        files: of the frozen networks.

    Raises:
        ConfigError: for unknown keys, and for losses that no release was trained with.
    """
    CONFIG_KEYS.check(config, source=SOURCE)
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
    return ReconstructionConfig.parse(values, source=SOURCE)


def perturbation_from_reference(config: Mapping[str, Any], *, steps_per_epoch: int) -> LatentPerturbationConfig | None:
    """The perturbation of the authors' training, None where there is none.

    Raises:
        ConfigError: for unknown keys or values out of range.
    """
    CONFIG_KEYS.check(config, source=SOURCE)
    if not config.get("alpha", 0.0) or not config.get("beta", 0.0):
        return None
    start, end = config.get("anneal_start", 200), config.get("anneal_end", 200)
    annealing = {"start": start, "end": end, "end_ratio": config.get("end_ratio", 0.5), "steps_per_unit": steps_per_epoch} if end > start else None
    values = {name: config.get(name, default) for name, default in (("alpha", 0.0), ("beta", 0.0), ("delta", 100))}
    return LatentPerturbationConfig.parse({**values, "annealing": annealing}, source=SOURCE)


def _semantic(config: Mapping[str, Any], steps_per_epoch: int, files: FrozenWeights) -> dict[str, Any]:
    guide, feature = config["semantic_guide"], config.get("guide_type_1", "class")
    if guide != "dinov2" or feature != "class":
        raise ConfigError(f"semantic_guide {guide!r} with guide_type_1 {feature!r}: released models have dinov2 and class, and others are not built")
    normalize = config.get("clip_norm", False)
    return {
        "weight": config.get("sem_loss_weight", 0.1),
        "teacher": {
            "weights": files.dinov2,
            "backbone": read_vit(config["encoder_model"], config),
            "image_size": read_image_size(config),
        },
        "projection": "encoder.to_latents",
        "normalize": normalize,
        "scale": config.get("sem_loss_scale", 1.0),
        "scale_rise": {"end": 100.0, "units": 200, "steps_per_unit": steps_per_epoch} if normalize else None,
        "excluded_share": config.get("codebook_drop", 0.0),
    }


def _gan(config: Mapping[str, Any], steps_per_epoch: int, files: FrozenWeights) -> dict[str, Any]:
    discriminators: dict[str, dict[str, Any]] = {"dinodisc": {"type": "dino", "weights": files.dino}, "patchgan": {"type": "patchgan"}}
    try:
        discriminator = discriminators[config.get("disc_type", "patchgan")]
        discriminator_loss = {"hinge": "hinge", "vanilla": "logistic"}[config.get("disc_loss", "hinge")]
        generator_loss = {"hinge": "hinge"}[config.get("gen_loss", "hinge")]
    except KeyError as error:
        raise ConfigError(f"{SOURCE} trains with {error}, which no release does and which is not built") from error
    weight = config.get("disc_weight", 0.5)  # of both sides, LeCam included
    return {
        "weight": weight,
        "discriminator_weight": weight,
        "adaptive": {"last_layer": "decoder.to_pixels.weight"} if config.get("disc_adaptive_weight", False) else None,
        "generator_loss": generator_loss,
        "discriminator_loss": discriminator_loss,
        "start_step": config.get("disc_epoch_start", 0) * steps_per_epoch,
        "lecam": "logits",
        "lecam_weight": weight * (config.get("lecam_loss_weight") or 0.0),
        "augmentation": {} if discriminator["type"] == "dino" else None,
        "discriminator": discriminator,
    }
