"""JSON from files that others may have written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.base.files import read_text
from visiontok.base.plain_values import check_plain

MAX_BYTES = 2**28
"""The largest file that is read. Results with many metrics have some hundred thousand bytes."""


def parse_json(text: str | bytes, *, source: str) -> Any:
    """The value that a text describes.

    Raises:
        ConfigError: naming the source, if it is no JSON, holds a key twice, an integer beyond 64 bits, or is nested too deeply.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        check_plain(value)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError among them; integers of thousands of digits
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{source} is not readable JSON: {reason}") from error
    return value


def read_json(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value in a file.

    Raises:
        ConfigError: naming the file, if it is missing, no regular file, too large, or see `parse_json`.
    """
    try:
        text = read_text(path, max_bytes=max_bytes)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not readable JSON: {error}") from error
    return parse_json(text, source=str(path))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return values
