"""YAML from files that others may have written: plain values, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from visiontok.base.errors import ConfigError
from visiontok.base.files import read_text
from visiontok.base.plain_values import MAX_DEPTH, check_plain

MAX_BYTES = 2**19
"""The largest text that is parsed. Recipes have a few thousand bytes."""

_MOST_NODES = 100_000
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge"))
_ODD_NUMBER = re.compile(
    r"[-+]?(0[0-9_]+|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Numbers and booleans as JSON has them: `1e-4` is a number, `no` a text, and a date a text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _kind, _form, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9_]+)([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+", "-+0123456789."),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_form})$"), list(_first))


def parse_yaml(text: str, *, source: str) -> Any:
    """The plain values that a text describes.

    Raises:
        ConfigError: naming the source, if it is no YAML, holds a key twice, other types than plain values, a number whose notation is read
            differently by different programs (octal, `1:30`), or is nested or multiplied by aliases too far.
    """
    try:
        if len(text) > MAX_BYTES:
            raise ValueError(f"it has {len(text)} characters; at most {MAX_BYTES} are read")
        _check_depth(text)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check(root)
            values = loader.construct_document(root)
        finally:
            loader.dispose()
        check_plain(values)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{source} is not valid: {reason}") from error
    return values


def read_yaml_values(path: str | Path, *, what: str = "") -> Any:
    """The plain values in a file, references as they stand there.

    Raises:
        ConfigError: naming the file after `what`, if it is missing, no regular file, or see `parse_yaml`.
    """
    try:
        return parse_yaml(read_text(path, max_bytes=MAX_BYTES), source=f"{what}{path}")
    except OSError as error:
        raise ConfigError(f"{what}{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what}{path} is not valid: {error}") from error


def _check_depth(text: str) -> None:
    """Look at the brackets and indentation alone, because nodes are built by recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"line {event.start_mark.line + 1} is nested more than {MAX_DEPTH} levels deep")


def _check(root: yaml.Node) -> None:
    """Look at all nodes as often as aliases repeat them, before anything is built."""
    waiting, visited = [(root, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        visited += 1
        where = f"line {node.start_mark.line + 1}"
        if visited > _MOST_NODES:
            raise ValueError(f"its aliases unfold into more than {_MOST_NODES} values")
        if depth > MAX_DEPTH:
            raise ValueError(f"{where} is nested more than {MAX_DEPTH} levels deep, or holds itself")
        if node.tag not in _TAGS:
            raise ValueError(f"{where} has the type {node.tag.rpartition(':')[2]}; expected texts, numbers, true, false, null, lists and mappings")
        if isinstance(node, yaml.ScalarNode):
            if not node.style and _ODD_NUMBER.fullmatch(node.value):
                raise ValueError(f"{where}: {node.value[:40]} is no finite decimal number; write one, or quotes around a text")
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(item, depth + 1) for item in node.value]
        else:
            keys: set[Hashable] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.value in keys:
                    raise ValueError(f"line {key.start_mark.line + 1}: the key {str(key.value)[:40]!r} stands twice, or is no single value")
                keys.add(key.value)
                waiting += [(key, depth + 1), (value, depth + 1)]
