"""What JSON and YAML files may hold: plain values, of a depth and a size that no later step chokes on."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 64
"""Containers within containers. Files of models and results have less than a dozen."""

MAX_VALUES = 10_000_000
"""Values in all, those that aliases repeat counted every time."""

_LARGEST_INTEGER = 2**64


def check_plain(values: Any) -> None:
    """Make sure that values are null, booleans, numbers, texts, and lists and mappings of them.

    Raises:
        ValueError: naming what is nested too deeply, too large, of another kind, or an integer beyond 64 bits.
    """
    waiting: list[tuple[Any, int, str]] = [(values, 0, "")]
    visited = 0
    while waiting:
        value, depth, path = waiting.pop()
        visited += 1
        if visited > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values")
        if isinstance(value, dict | list):
            if depth >= MAX_DEPTH:
                raise ValueError(f"{path[:60]} ... is nested more than {MAX_DEPTH} levels deep")
            if isinstance(value, dict):
                waiting += [(item, depth + 1, f"{path}.{key}" if path else str(key)) for key, item in value.items()]
            else:
                waiting += [(item, depth + 1, f"{path}[{index}]") for index, item in enumerate(value)]
        elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            raise ValueError(f"{path or 'the value'} is an integer of {value.bit_length()} bits; at most 64 are read")
        elif isinstance(value, str):
            if not value.isascii() and _has_lone_surrogate(value):
                raise ValueError(f"{path or 'the value'} is a text that is no Unicode: {value[:40]!r}")
        elif value is not None and not isinstance(value, bool | int | float):
            raise ValueError(f"{path or 'the value'} is a {type(value).__name__}; expected null, booleans, numbers, texts, lists and mappings")


def _has_lone_surrogate(text: str) -> bool:
    """Half of a character, which JSON can spell and no file can hold."""
    return any("\ud800" <= character <= "\udfff" for character in text)
