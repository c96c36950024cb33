"""Names and texts from files on Markdown pages, such that they show as what they are and open no link, table, heading or tag."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`<|]|!(?=\[)|\](?=[(\[:]))")
"""What begins code, a tag, a cell, an image or the address of a link; single brackets and underscores within words mean nothing."""


def escaped(text: str) -> str:
    """One line of text, also in a cell of a table: runs of space, line ends among it, become one space, and what Markdown reads is escaped."""
    return _SPECIAL.sub(r"\\\1", _one_line(text))


def code(text: str) -> str:
    """One line of text as a code span, also in a cell of a table."""
    line = _one_line(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
