"""Names from files and users that become part of a path or of a page: one place says what they may hold."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

_MOST_CHARACTERS = 100
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069/\\:*?"<>|]')


def check_name(name: str) -> str:
    """The name, if it can be that of a file on every system and leads into no other folder.

    Raises:
        ValueError: naming what it holds: a separator or a character that file names cannot have, a dot at its beginning, or nothing at all.
    """
    found = _FORBIDDEN.search(name)
    if found is not None:
        raise ValueError(f"the name {name[:60]!r} holds {found[0]!r}, which no part of a file's name can hold; use letters, digits, - and _")
    if not name.strip() or name != name.strip() or name.startswith(".") or len(name) > _MOST_CHARACTERS:
        raise ValueError(f"the name {name[:60]!r} must have 1 to {_MOST_CHARACTERS} characters and begin neither with a dot nor with a space")
    return name


Name = Annotated[str, AfterValidator(check_name)]
"""Part of a file's name."""


def file_stem(text: str) -> str:
    """Any text as the stem of a file's name: what cannot stand there becomes a hyphen; empty where nothing is left."""
    plain = unicodedata.normalize("NFC", _FORBIDDEN.sub("-", text)).strip(". ")
    return plain.encode("utf-8", errors="replace")[:_MOST_CHARACTERS].decode("utf-8", errors="ignore")
