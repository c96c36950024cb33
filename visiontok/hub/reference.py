"""`from_reference`: the authors' own configuration and tensors in, a model out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok import registry
from visiontok.base.errors import CheckpointError, ConfigError, UnknownNameError
from visiontok.base.interpolation import resolve
from visiontok.core.keymap import KeyMap
from visiontok.hub.card import AnyModel
from visiontok.hub.wrappers import Weights, common_prefix, unwrap, within_prefix


def from_reference(system: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor], kind: registry.Kind | None = None) -> AnyModel:
    """A model from the authors' own configuration and weights, in evaluation mode.

    Args:
        system: whose; see `systems` of the family (`visiontok info FAMILY`).
        config: as released; references such as "${model.size}" are resolved.
        state_dict: as released. Containers ("state_dict", "model", "ema" ...) and prefixes ("module.", "_orig_mod." ...) are taken off.
        kind: "tokenizer" or "generator", where the authors released both under this system; by default the names of the tensors tell.

    Raises:
        UnknownNameError: with close matches; if the system is both kinds, and neither `kind` nor the names of the tensors tell which is meant.
        ConfigError: if the configuration has unknown keys or values.
        CheckpointError: listing unmapped, missing or wrongly shaped tensors, and the wrappers that were found around them.
    """
    weights = unwrap(state_dict, source="the state dict")
    return build_from_reference(family_for(system, weights, kind), config, weights)


def family_for(system: str, weights: Weights, kind: registry.Kind | None) -> registry.Family:
    """The family that reads these weights: where the system is both a tokenizer and a generator, the one whose key map knows more of the names.

    Raises:
        UnknownNameError: with close matches, or if it cannot be told.
    """
    families = registry.families_of_system(system)
    if kind is not None or len(families) == 1:
        return registry.find_system(system, kind)
    known = {family.name: _known(family, weights) for family in families}
    best = max(known.values())
    if best == 0 or list(known.values()).count(best) > 1:
        counts = ", ".join(f"{family.kind} {family.name} knows {known[family.name]}" for family in families)
        raise UnknownNameError(
            f"reference system {system!r} is a tokenizer and a generator, and the names of the {len(weights.tensors)} tensors do not tell which "
            f"this is ({counts}): say kind='tokenizer' or kind='generator'"
        )
    return next(family for family in families if known[family.name] == best)


def build_from_reference(family: registry.Family, config: Mapping[str, Any], weights: Weights) -> AnyModel:
    """Build a family's model from the authors' configuration and weights.

    Raises:
        ConfigError, CheckpointError: as `from_reference`.
    """
    model_class = family.model_class()
    keys = getattr(model_class, "reference_keys", None)
    if keys is not None:
        weights = within_prefix(weights, keys)
    try:
        return model_class.from_reference(resolve(config), weights.tensors)
    except (ConfigError, CheckpointError) as error:
        within = f" These are the names within {weights}." if weights.wrappers else ""
        prefix = common_prefix(weights)
        unknown = f" Every name begins with {prefix!r}: if that is a wrapper, take it off." if prefix and keys and not _covered(keys, weights) else ""
        if not within + unknown:
            raise
        raise type(error)(f"{error}{within}{unknown}") from error


def _known(family: registry.Family, weights: Weights) -> int:
    keys = getattr(family.model_class(), "reference_keys", None)
    return 0 if keys is None else _covered(keys, within_prefix(weights, keys))


def _covered(keys: KeyMap, weights: Weights) -> int:
    return sum(keys.covers(name) for name in weights.tensors)
