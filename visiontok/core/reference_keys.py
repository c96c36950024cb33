"""Which keys of the authors' configurations a family reads, and why it ignores the others: no key is dropped silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.base.names import close_names
from visiontok.core.keymap import matches


@dataclass(frozen=True)
class ReferenceKeys:
    """The keys of the authors' configuration of one family.

    Keys are dotted paths into the nested configuration, in the patterns of `KeyMap`: `{}` stands for one component, a final `{*}` for any rest.
    Top-level keys that begin with an underscore hold notes about the file and are never an error.

    Attributes:
        read: keys that have an effect here.
        ignored: keys without an effect here -> the reason.
    """

    read: tuple[str, ...]
    ignored: Mapping[str, str] = field(default_factory=dict)

    def check(self, config: Mapping[str, Any], *, source: str) -> None:
        """Make sure that every key is known.

        Args:
            config: the authors' configuration.
            source: what it is called in the error.

        Raises:
            ConfigError: listing the keys that are neither read nor known to be ignored, and suggesting similar ones.
        """
        known = (*self.read, *self.ignored)
        own = {name: value for name, value in config.items() if not str(name).startswith("_")}
        unknown = [key for key in _leaves(own) if not any(matches(pattern, key) for pattern in known)]
        if unknown:
            listed = "; ".join(f"{key}{_suggestion(key, self.read)}" for key in unknown[:10])
            raise ConfigError(
                f"{source} has {len(unknown)} unknown key{'s' if len(unknown) > 1 else ''}: {listed}. "
                "Every key must be read or known to be without effect; remove it, or correct its name"
            )

    @contextmanager
    def reading(self, config: Mapping[str, Any], *, source: str) -> Iterator[None]:
        """Within it, read the configuration: every key is known, and a required key that is missing is named.

        Raises:
            ConfigError: as `check`, and for a key that the code within looks up and does not find.
        """
        self.check(config, source=source)
        try:
            yield
        except KeyError as error:
            raise ConfigError(f"{source} lacks the key {error}") from error


def check_values(config: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]], *, source: str, prefix: str = "") -> None:
    """Values that are given must be among those that are known here.

    Args:
        config: the authors' configuration, or a part of it.
        known: keys of the part -> their values; other keys are not looked at.
        source: what the configuration is called in the error.
        prefix: of the part's keys within the whole, with its dot.

    Raises:
        ConfigError: naming the key and its value.
    """
    for name, values in known.items():
        if name in config and config[name] not in values:
            raise ConfigError(f"{prefix}{name} of {source} is {config[name]!r}; known here: {', '.join(map(repr, values))}")


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values that are no mappings with entries."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _suggestion(key: str, known: tuple[str, ...]) -> str:
    close = close_names(key, known, count=2, cutoff=0.75)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
