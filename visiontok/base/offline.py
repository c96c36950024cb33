"""Whether the hub may be asked, as the environment says now: its client reads the variables once, when it is imported."""

from __future__ import annotations

import os

_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` is set."""
    return any(os.environ.get(variable, "").upper() in _TRUE for variable in _VARIABLES)
