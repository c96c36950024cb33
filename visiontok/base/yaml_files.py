"""YAML files with dotted overrides: the way in of recipes, evaluation suites and studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from visiontok.base.errors import ConfigError
from visiontok.base.interpolation import resolve
from visiontok.base.yaml_text import parse_yaml, read_yaml_values


def read_yaml(path: str | Path, overrides: Sequence[str] = (), *, what: str) -> dict[str, Any]:
    """The mapping in a YAML file, with overrides such as "optimizer.lr=1e-4" over it, and references such as "${model.dim}" resolved.

    References lead to values of the same file only: the environment is never read.

    Args:
        path: of the file.
        overrides: dotted keys and their values, as YAML.
        what: what errors call the file, for example "recipe".

    Raises:
        ConfigError: if the file cannot be read or is not a mapping, or an override is no assignment; see also `parse_yaml`.
    """
    wrong = [override for override in overrides if "=" not in override or override.startswith("=")]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is not an override; write key=value, for example batch_size=8")
    content = read_yaml_values(path, what=f"the {what} ")
    if not isinstance(content, dict):
        raise ConfigError(f"the {what} {path} must be a mapping of keys to values, not a list or a single value")
    try:
        values = OmegaConf.create(content)
        for override in overrides:
            key, _, value = override.partition("=")
            OmegaConf.update(values, key, parse_yaml(value, source=f"the override {override}"))
        return resolve(OmegaConf.to_container(values, resolve=False))
    except ConfigError as error:
        raise ConfigError(f"the {what} {path} is not valid: {error}") from error
    except (OmegaConfBaseException, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"the {what} {path} is not valid: {error}") from error
