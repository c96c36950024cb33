"""`from_reference`: the authors' own configuration and tensors in, a model out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok import registry
from visiontok.base.errors import CheckpointError, ConfigError, UnknownNameError
from visiontok.base.interpolation import resolve
from visiontok.core.keymap import KeyMap, matches
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
    """The family that reads these weights: of several with this system, the one whose key map knows most of the names, and needs the fewest others.

    Raises:
        UnknownNameError: with close matches, or if it cannot be told.
    """
    families = registry.families_of_system(system, kind)
    if len(families) == 1:
        return families[0]
    maps = {family.name: getattr(family.model_class(), "reference_keys", None) for family in families}
    fits = {name: (0, 0) if keys is None else _fit(keys, weights) for name, keys in maps.items()}
    best = max(fits.values())
    unmapped = [name for name, keys in maps.items() if keys is None]  # their names depend on the configuration
    if best[0] == 0 and len(unmapped) == 1:
        best = fits[unmapped[0]]
    elif best[0] == 0 or list(fits.values()).count(best) > 1:
        counts = ", ".join(f"{family.kind} {family.name} knows {fits[family.name][0]}" for family in families)
        raise UnknownNameError(
            f"reference system {system!r} has several models, and the names of the {len(weights.tensors)} tensors do not tell which this is "
            f"({counts}): say kind='tokenizer' or kind='generator'"
        )
    return next(family for family in families if fits[family.name] == best)


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


def _fit(keys: KeyMap, weights: Weights) -> tuple[int, int]:
    """How many names a key map knows, and minus how many of its patterns no name has."""
    own = within_prefix(weights, keys)
    unused = [pattern for pattern, target in keys.patterns.items() if target and not any(matches(pattern, name) for name in own.tensors)]
    return _covered(keys, own), -len(unused)


def _covered(keys: KeyMap, weights: Weights) -> int:
    return sum(keys.covers(name) for name in weights.tensors)
