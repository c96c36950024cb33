"""YAML files with dotted overrides: the way in of recipes and evaluation suites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from visiontok.base.errors import ConfigError


def read_yaml(path: str | Path, overrides: Sequence[str] = (), *, what: str) -> dict[str, Any]:
    """The mapping in a YAML file, with overrides such as "optimizer.lr=1e-4" over it.

    Args:
        path: of the file.
        overrides: dotted keys and their values, as YAML.
        what: what errors call the file, for example "recipe".

    Raises:
        ConfigError: if the file cannot be read or is not a mapping, or an override is no assignment.
    """
    wrong = [override for override in overrides if "=" not in override or override.startswith("=")]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is not an override; write key=value, for example batch_size=8")
    try:
        content = OmegaConf.load(Path(path))
        if not isinstance(content, DictConfig):
            raise ConfigError(f"the {what} {path} must be a mapping of keys to values, not a list or a single value")
        values = OmegaConf.to_container(OmegaConf.merge(content, OmegaConf.from_dotlist(list(overrides))), resolve=True)
    except OSError as error:
        raise ConfigError(f"the {what} {path} cannot be read: {error.strerror or error}") from error
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ConfigError(f"the {what} {path} is not valid: {error}") from error
    assert isinstance(values, dict)  # the container of a mapping
    return {str(key): value for key, value in values.items()}
