"""References of the form "${model.vq_model.num_latent_tokens}", which OmegaConf writes into files without resolving them.

Resolved here rather than by OmegaConf, because its resolvers also read the environment, and because a file from the hub must not be able
to grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_MOST_STEPS = 100_000
_LONGEST_TEXT = 10_000


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which every reference is replaced by the value that it names.

    Raises:
        ConfigError: for references to nothing, to themselves, or to anything but a value of the same configuration.
    """
    try:
        resolved: dict[str, Any] = _Resolver(config).value(config, ())
    except RecursionError as error:
        raise ConfigError("the configuration is nested, or its references are chained, too deeply") from error
    return resolved


class _Resolver:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.steps = 0

    def value(self, value: Any, trail: tuple[str, ...]) -> Any:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise ConfigError(f"the configuration unfolds into more than {_MOST_STEPS} values; its references multiply")
        if isinstance(value, Mapping):
            return {key: self.value(item, trail) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, trail) for item in value]
        return self.text(value, trail) if isinstance(value, str) and "${" in value else value

    def text(self, text: str, trail: tuple[str, ...]) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole:
            return self.target(whole[1], trail)
        if "${" in _REFERENCE.sub("", text):
            raise ConfigError(f"the configuration holds {text!r}; references within references are not resolved")
        filled = _REFERENCE.sub(lambda match: str(self.target(match[1], trail)), text)
        if len(filled) > _LONGEST_TEXT:
            raise ConfigError(f"the configuration's {text[:100]!r} grows beyond {_LONGEST_TEXT} characters")
        return filled

    def target(self, path: str, trail: tuple[str, ...]) -> Any:
        if not _PATH.fullmatch(path):
            raise ConfigError(f"the configuration refers to ${{{path}}}; only values of the same configuration are resolved, such as ${{model.size}}")
        if path in trail:
            raise ConfigError(f"the configuration's references go in a circle: {' -> '.join((*trail, path))}")
        value: Any = self.root
        for part in path.split("."):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise ConfigError(f"the configuration refers to ${{{path}}}, but holds no {part!r} there")
        return self.value(value, (*trail, path))
