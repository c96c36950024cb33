"""Families by their registry names, for tokenizers that contain another one: a family's name is that of its folder."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from visiontok.base.errors import UnknownNameError
from visiontok.base.json_text import read_json
from visiontok.core.tokenizer import Tokenizer


def tokenizer_class(family: str) -> type[Tokenizer[Any]]:
    """The class of a tokenizer family, which the table in its folder names. Names cannot reach outside of this package.

    Raises:
        UnknownNameError: if there is no such family.
    """
    folder, root = family.replace("-", "_"), Path(__file__).parents[1]
    tables = list(root.glob(f"*/{folder}/checkpoints.json")) if re.fullmatch("[a-z0-9_]+", folder) else []
    if not tables:
        raise UnknownNameError(f"there is no tokenizer family called {family!r}")
    module = ".".join(("visiontok.tokenizers", *tables[0].parent.relative_to(root).parts, "model"))
    found: type[Tokenizer[Any]] = getattr(importlib.import_module(module), read_json(tables[0])["class_name"])
    return found


def family_name(model: Tokenizer[Any]) -> str:
    """The registry name of a tokenizer's family.

    Raises:
        UnknownNameError: if it is of none.
    """
    name = type(model).__module__.split(".")[-2:][0].replace("_", "-")
    if tokenizer_class(name) is not type(model):
        raise UnknownNameError(f"a {type(model).__name__} is not of the tokenizer family {name!r}, nor of another one of this library")
    return name
