"""Texts of files and users, as they can be shown: on a terminal, in a file, on a page."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_CONTROL_OF_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def as_unicode(text: str) -> str:
    """A text with what is not UTF-8 as escapes; equal to the text where all of it is."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def printable(name: str) -> str:
    """A name with what is not UTF-8, and what would control a terminal or turn the order of its letters, as escapes; equal to the name where it
    holds nothing of this kind."""
    return _CONTROL_OF_NAMES.sub(_escaped, as_unicode(name))


def printable_lines(text: str) -> str:
    """As `printable`, for texts of several lines, which keep their breaks and tabs."""
    return _CONTROL.sub(_escaped, as_unicode(text))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
