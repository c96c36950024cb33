"""Packages that only some models need: imported when such a model is built, with a clear error if they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from visiontok.base.errors import DependencyError


def import_optional(module: str, *, extra: str) -> ModuleType:
    """The module of an optional package.

    Args:
        module: for example "diffusers".
        extra: of visiontok that installs its package.

    Raises:
        DependencyError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DependencyError(f"{error.name} is not installed, which this needs: pip install 'visiontok[{extra}]'") from error


def import_optional_class(package: str, name: str, *, extra: str) -> Any:
    """A class of an optional package.

    Raises:
        DependencyError: if the package is not installed, or is of a version without this class.
    """
    import torch

    with torch.device("cpu"):  # packages compute while they are imported, and a model may just be built on the meta device
        module = import_optional(package, extra=extra)
        found = getattr(module, name, None)
    if found is None:
        version = getattr(module, "__version__", "")
        raise DependencyError(f"the installed {package} {version} has no {name}, which this needs: pip install --upgrade {package}")
    return found
