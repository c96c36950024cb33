"""Names that users type: which known ones a name is close to, which ones a pattern selects, and the error for those that do not exist."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable

from visiontok.base.errors import UnknownNameError

_SHOWN = 12


def close_names(name: str, known: Iterable[str], *, count: int = 3, cutoff: float = 0.4) -> list[str]:
    """Known names like `name`, in any case, the likeliest first.

    Args:
        name: as typed.
        known: names that exist.
        count: at most so many.
        cutoff: similarity from 0 (all) to 1 (equal); of names with folders, such as "small/vq", the last part counts too.
    """
    typed, last = name.lower(), name.lower().rpartition("/")[2]
    scores = {each: max(_similarity(typed, each.lower()), _similarity(last, each.lower().rpartition("/")[2])) for each in sorted(known)}
    return sorted((each for each, score in scores.items() if score >= cutoff), key=lambda each: -scores[each])[:count]


def unknown(what: str, name: str, known: Iterable[str], *, see: str = "") -> UnknownNameError:
    """An error that lists the names closest to `name`.

    Args:
        what: what has no such name: "model", "suite".
        name: as typed.
        known: names that exist.
        see: the command that lists all of them, where there is one.
    """
    names = sorted(known)
    close = close_names(name, names)
    if close:
        hint = f"Did you mean {', '.join(close)}?"
    elif len(names) > _SHOWN and see:
        hint = f"See all with: {see}"
    else:
        hint = f"Known: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else '.'}"
    return UnknownNameError(f"there is no {what} called {name!r}. {hint}")


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern selects a name, in any case: a shell pattern ("vit*") selects whole names, any other text those that contain it."""
    name, pattern = name.lower(), pattern.lower()
    return fnmatch.fnmatchcase(name, pattern) if any(sign in pattern for sign in "*?[") else pattern in name


def _similarity(typed: str, name: str) -> float:
    return difflib.SequenceMatcher(None, name, typed).ratio()
