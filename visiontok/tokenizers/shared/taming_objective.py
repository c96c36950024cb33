"""The training files of the repository SEED-Voken (Open-MAGVIT2, IBQ), whose losses descend from the first VQGAN's, in our words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.losses import ReconstructionConfig

_FILE_KEYS = ReferenceKeys(
    read=("model.init_args.{*}",),
    ignored={
        "model.class_path": "names a class of the authors' code, which is never imported",
        "seed_everything": "set by a recipe's `seed`",
        "trainer.{*}": "devices, precision, length and callbacks of training; set by a recipe",
        "data.{*}": "data of training; set by a recipe's `data`",
        "ckpt_path": "a file of the authors' runs",
    },
)

_PARAMS = "lossconfig.params"

LOSS_KEYS = (
    *(f"{_PARAMS}.{key}" for key in (
        "disc_start", "disc_factor", "disc_weight", "gen_loss_weight", "lecam_loss_weight", "disc_loss", "disc_num_layers", "disc_ndf", "use_blur",
        "disc_num_stages", "disc_hidden_channels", "perceptual_weight", "disc_in_channels", "disc_num_channels", "disc_conditional", "use_actnorm",
        "blur_resample", "blur_kernel_size",
    )),
)  # fmt: skip
"""Keys of the authors' losses that both tokenizers have and `read_objective` reads."""

IGNORED_KEYS: Mapping[str, str] = {
    "lossconfig.target": "names a class of the authors' code, which is never imported",
    f"{_PARAMS}.pixelloss_weight": "the authors' loss does not read it",
    **dict.fromkeys(("image_key", "monitor", "stage", "use_shared_epoch", "colorize_nlabels"), "names and stages of the authors' training"),
    **dict.fromkeys(("ckpt_path", "ignore_keys", "image_pretrain_path"), "files of the authors' runs"),
    **dict.fromkeys(
        (
            "learning_rate", "resume_lr", "warmup_epochs", "scheduler_type", "min_learning_rate", "lr_drop_epoch", "lr_drop_rate", "lr_drop_iter",
            "gradient_clip_val", "sche_type", "wpe", "wp", "wp0", "max_iter", "wp_iter",
        ),
        "a recipe's `optimizer` and `schedule` say it",
    ),
}  # fmt: skip
"""Arguments of both tokenizers that decide nothing here."""

_FIXED: Mapping[str, Any] = {
    "disc_in_channels": 3, "disc_num_channels": 3, "disc_conditional": False, "use_actnorm": False, "blur_resample": True, "blur_kernel_size": 4,
}  # fmt: skip
"""Values that every release has, and that the discriminators here have too."""


def model_arguments(config: Mapping[str, Any], *, source: str) -> Mapping[str, Any]:
    """The arguments of the authors' model: the configuration itself, or what is under `model.init_args` of a whole training file.

    Raises:
        ConfigError: for unknown keys of a whole file.
    """
    if "model" not in config:
        return config
    with _FILE_KEYS.reading(config, source=source):
        return config["model"]["init_args"]


def read_objective(arguments: Mapping[str, Any], *, vgg: Path, source: str) -> ReconstructionConfig:
    """The objective of the authors' training; missing keys have the defaults of their code.

    Their pixels are in [-1, 1], ours in [0, 1]: an absolute distance there is twice ours.

    Args:
        arguments: of the authors' model, their keys checked.
        vgg: file with torchvision's VGG-16, for LPIPS.
        source: what the configuration is called in errors.

    Raises:
        ConfigError: for losses that no release was trained with.
    """
    loss = arguments.get("lossconfig", {}).get("params", {})
    for key, value in _FIXED.items():
        if loss.get(key, value) != value:
            raise ConfigError(f"{_PARAMS}.{key} of {source} is {loss[key]!r}; every release has {value!r}, and others are not built")
    losses = {"hinge": "hinge", "vanilla": "logistic"}
    if loss.get("disc_loss", "hinge") not in losses:
        raise ConfigError(f"{_PARAMS}.disc_loss of {source} is {loss['disc_loss']!r}; known: {', '.join(losses)}")
    fixed_weight = loss.get("gen_loss_weight")
    weight = loss.get("disc_weight", 1.0) if fixed_weight is None else fixed_weight
    discriminator: dict[str, Any] = {"type": "patchgan", "channels": loss.get("disc_ndf", 64), "num_layers": loss.get("disc_num_layers", 3)}
    if loss.get("use_blur", False):
        sizes = {"hidden_channels": loss.get("disc_hidden_channels", 128), "num_stages": loss.get("disc_num_stages", 4)}
        discriminator = {"type": "blur_pool", **sizes}
    factor = loss.get("disc_factor", 1.0)
    values = {
        "reconstruction": "l1",
        "reconstruction_weight": 2.0,
        "perceptual": [{"name": "lpips", "weights": vgg}] if loss.get("perceptual_weight", 1.0) else [],
        "perceptual_weight": loss.get("perceptual_weight", 1.0),
        "gan": {
            "weight": weight * factor,
            "discriminator_weight": factor,
            "adaptive": {"last_layer": "decoder.conv_out.weight"} if fixed_weight is None else None,
            "generator_loss": "non_saturating",
            "discriminator_loss": losses[loss.get("disc_loss", "hinge")],
            "start_step": loss.get("disc_start", 0),
            "lecam": "logits",
            "lecam_weight": factor * (loss.get("lecam_loss_weight") or 0.0),
            "discriminator": discriminator,
        },
    }
    return ReconstructionConfig.parse(values, source=source)
