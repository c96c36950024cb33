"""AdamW with two groups of parameters: with weight decay and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError

Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Config):
    """AdamW.

    Attributes:
        lr: peak learning rate.
        betas: decay of the first and second moments.
        eps: added to the root of the second moment.
        weight_decay: decoupled decay of matrices and kernels; never of parameters with fewer than two axes.
        no_decay: parameters whose name contains one of these fragments are not decayed either.
        clip: largest norm of the gradient; None leaves it as it is.
    """

    lr: Annotated[float, Field(gt=0)] = 1e-4
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    no_decay: tuple[str, ...] = ("ln", "norm", "bias", "gamma", "embed", "positions", "class_token", "latent_tokens", "mask_token", "codebook")
    clip: Annotated[float, Field(gt=0)] | None = 1.0


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.AdamW:
    """An optimizer over every parameter of `module` that requires a gradient.

    Raises:
        ConfigError: if every parameter is frozen.
    """
    trained = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError(f"every parameter of {type(module).__name__} is frozen: there is nothing to train; shorten `model.freeze`")
    decayed = [parameter for name, parameter in trained if _decays(name, parameter, config.no_decay)]
    kept = [parameter for name, parameter in trained if not _decays(name, parameter, config.no_decay)]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    fused = all(parameter.device.type in ("cpu", "cuda") for _, parameter in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def _decays(name: str, parameter: nn.Parameter, no_decay: Sequence[str]) -> bool:
    return parameter.ndim >= 2 and not any(fragment in name for fragment in no_decay)
