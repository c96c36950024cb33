"""Families by their registry names, for tokenizers that contain another one: a family's name is that of its folder."""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any

from visiontok.base.errors import UnknownNameError
from visiontok.core.tokenizer import Tokenizer

MODALITIES = ("image", "video", "audio")


def tokenizer_class(family: str) -> type[Tokenizer[Any]]:
    """The class of a tokenizer family. Names cannot reach outside of this package.

    Raises:
        UnknownNameError: if there is no such family.
    """
    folder = family.replace("-", "_")
    for modality in MODALITIES if re.fullmatch("[a-z0-9_]+", folder) else ():
        package = f"visiontok.tokenizers.{modality}"
        if importlib.util.find_spec(package) and importlib.util.find_spec(f"{package}.{folder}"):
            module = importlib.import_module(f"{package}.{folder}.model")
            return next(
                found
                for found in vars(module).values()
                if isinstance(found, type) and issubclass(found, Tokenizer) and found.__module__ == module.__name__
            )
    raise UnknownNameError(f"there is no tokenizer family called {family!r}")


def family_name(model: Tokenizer[Any]) -> str:
    """The registry name of a tokenizer's family."""
    return type(model).__module__.split(".")[-2].replace("_", "-")
