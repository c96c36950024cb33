"""AdamW with groups of parameters: with weight decay and without, and where parts have a learning rate of their own."""

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
        lr_factors: of parts with another learning rate, by the beginning of their parameters' names: `{prior.: 50}` is 50 times that of the rest.
    """

    lr: Annotated[float, Field(gt=0)] = 1e-4
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    no_decay: tuple[str, ...] = ("ln", "norm", "bias", "gamma", "embed", "positions", "class_token", "latent_tokens", "mask_token", "codebook")
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    lr_factors: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)

    def lr_factor(self, name: str) -> float:
        """Of the parameter of that name."""
        return next((factor for start, factor in self.lr_factors.items() if name.startswith(start)), 1.0)


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.AdamW:
    """An optimizer over every parameter of `module` that requires a gradient.

    Raises:
        ConfigError: if every parameter is frozen.
    """
    trained = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError(f"every parameter of {type(module).__name__} is frozen: there is nothing to train; shorten `model.freeze`")
    unknown = [start for start in config.lr_factors if not any(name.startswith(start) for name, _ in trained)]
    if unknown:
        raise ConfigError(f"lr_factors names {unknown[0]!r}, with which no trained parameter of {type(module).__name__} begins")
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for factor in sorted({config.lr_factor(name) for name, _ in trained}):
        groups[factor, True], groups[factor, False] = [], []
    for name, parameter in trained:
        groups[config.lr_factor(name), _decays(name, parameter, config.no_decay)].append(parameter)
    fused = all(parameter.device.type in ("cpu", "cuda") for _, parameter in trained)
    settings = [
        {"params": parameters, "weight_decay": config.weight_decay if decays else 0.0, "lr_factor": factor}
        for (factor, decays), parameters in groups.items()
        if parameters
    ]
    return torch.optim.AdamW(settings, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def _decays(name: str, parameter: nn.Parameter, no_decay: Sequence[str]) -> bool:
    return parameter.ndim >= 2 and not any(fragment in name for fragment in no_decay)
