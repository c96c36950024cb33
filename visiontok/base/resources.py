"""Where the data files of the package are: bundled models, recipes and evaluation suites.

A checkout holds them in `models/`, `configs/` and `eval/suites/` next to the package; an installed wheel carries them inside it.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def models_folder() -> Path:
    """One folder per bundled checkpoint, each in the layout of a hub repository."""
    return _find("models", "models")


def configs_folder() -> Path:
    """YAML recipes."""
    return _find("configs", "configs")


def suites_folder() -> Path:
    """Evaluation suites."""
    return _find("suites", "eval/suites")


def _find(installed: str, checkout: str) -> Path:
    inside = _PACKAGE / "_data"
    return inside / installed if inside.is_dir() else _PACKAGE.parent / checkout
