"""The model that a run starts from: new, pretrained, or new with parts of pretrained ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, merge
from visiontok.base.errors import ConfigError
from visiontok.core.keymap import check_state_dict
from visiontok.core.model import StartsFromBackbone
from visiontok.hub import create, from_pretrained
from visiontok.hub.card import AnyModel
from visiontok.losses.weight_files import read_state_dict
from visiontok.registry import Family, Kind, family_of, find_family


class PartsConfig(Config):
    """Weights that a new model takes from an existing one.

    Attributes:
        source: released name, hub repository or folder.
        parts: our part -> its part of the source: prefixes of parameter names, such as `pixel_decoder: decoder`.
    """

    source: str
    parts: dict[str, str] = Field(min_length=1)


class ModelConfig(Config):
    """What is trained.

    Attributes:
        family: registry name of the family of a new model.
        config: the family's configuration.
        init_parts: existing weights to put into parts of the new model.
        init_backbone: file with the published weights of a backbone, such as DINOv2's, for families whose networks start from one.
        init_from: released name, hub repository or folder whose configuration and weights to start from, instead of a new model.
        freeze: parts (prefixes of parameter names) that stay as they are.
    """

    family: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    init_parts: tuple[PartsConfig, ...] = ()
    init_backbone: Path | None = None
    init_from: str | None = None
    freeze: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if (self.family is None) == (self.init_from is None):
            raise ValueError("give `family` with its `config` for a new model, or `init_from` for existing weights, one of the two")
        if self.init_from is not None and (self.config or self.init_parts or self.init_backbone):
            raise ValueError("`init_from` has its own configuration and weights; remove `config`, `init_parts` and `init_backbone`")
        return self


def starting_model(config: ModelConfig, *, kind: Kind, defaults: Mapping[str, Any] | None = None) -> AnyModel:
    """The model in training mode, its new weights drawn from torch's global state.

    Args:
        config: which.
        kind: what the recipe trains.
        defaults: fields of a new model's configuration that follow from the data; the recipe's own win.

    Raises:
        ConfigError: for a family of the other kind, an invalid configuration, a part that does not exist, or a backbone that nothing starts from.
        CheckpointError: if weights are missing or do not fit.
    """
    if config.init_from is not None:
        model = from_pretrained(config.init_from)
        _check_kind(family_of(type(model)), kind, config.init_from)
    else:
        family = find_family(str(config.family))
        _check_kind(family, kind, family.name)
        model = create(family.name, **merge(defaults or {}, config.config))
    if config.init_backbone is not None:
        if not isinstance(model, StartsFromBackbone):
            raise ConfigError(f"model.init_backbone: no network of a {config.family} starts from a backbone; remove the key")
        model.load_backbone(read_state_dict(config.init_backbone))
    for entry in config.init_parts:
        source = from_pretrained(entry.source)
        for ours, theirs in entry.parts.items():
            _copy_part(model, ours, source, theirs, name=entry.source)
    model.train()
    for part in config.freeze:
        _freeze(model, part)
    return model


def _check_kind(family: Family, kind: Kind, name: str) -> None:
    if family.kind != kind:
        raise ConfigError(f"{name} is a {family.kind}, but the recipe trains a {kind}; set `kind: {family.kind}` or choose another model")


def _copy_part(model: nn.Module, ours: str, source: nn.Module, theirs: str, *, name: str) -> None:
    own, given = _part(model, ours), _part(source, theirs)
    if not own:
        raise ConfigError(f"model.init_parts: the new model has no part {ours!r}; its parts are {_top_parts(model)}")
    if not given:
        raise ConfigError(f"model.init_parts: {name} has no part {theirs!r}; its parts are {_top_parts(source)}")
    check_state_dict(own, given, source=f"part {theirs!r} of {name}")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(given[key])


def _freeze(model: nn.Module, part: str) -> None:
    """No gradients, and evaluation mode, so that no codebook or average inside moves either."""
    frozen = [parameter for name, parameter in model.named_parameters() if _within(name, part)]
    if not frozen:
        raise ConfigError(f"model.freeze: the model has no part {part!r} with parameters; its parts are {_top_parts(model)}")
    for parameter in frozen:
        parameter.requires_grad_(False)
    for name, module in model.named_modules():
        if _within(name, part):
            module.training = False


def _part(model: nn.Module, part: str) -> dict[str, Tensor]:
    """Tensors of a part by the rest of their name; the live ones, not copies."""
    return {name[len(part) :]: tensor for name, tensor in model.state_dict(keep_vars=True).items() if _within(name, part)}


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _top_parts(model: nn.Module) -> str:
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in model.state_dict()))
