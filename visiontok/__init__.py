"""visiontok: discrete tokenizers of images, video and audio, under one interface.

Importing the package is cheap: names load their modules, and torch, when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from visiontok.base import wiring

__version__ = "0.1.0"

_PUBLIC = {
    "Latents": "visiontok.tokens",
    "MeanAbsoluteError": "visiontok.core.quality",
    "Psnr": "visiontok.core.quality",
    "Segment": "visiontok.tokens",
    "TokenLayout": "visiontok.tokens",
    "TokenStream": "visiontok.tokens",
    "Tokens": "visiontok.tokens",
    "Tokenizer": "visiontok.core.tokenizer",
    "TokenizerOutput": "visiontok.core.tokenizer",
    "Generator": "visiontok.generators.base",
    "VisiontokError": "visiontok.base.errors",
    "create": "visiontok.hub",
    "from_pretrained": "visiontok.hub",
    "from_reference": "visiontok.hub",
    "list_drafters": "visiontok.registry",
    "list_generators": "visiontok.registry",
    "list_tokenizers": "visiontok.registry",
    "push_to_hub": "visiontok.hub",
    "save_pretrained": "visiontok.hub",
}

_PACKAGES = ("data", "evaluation", "metrics", "quantizers")

__all__ = [
    "Generator",
    "Latents",
    "MeanAbsoluteError",
    "Psnr",
    "Segment",
    "TokenLayout",
    "TokenStream",
    "Tokenizer",
    "TokenizerOutput",
    "Tokens",
    "VisiontokError",
    "__version__",
    "create",
    "from_pretrained",
    "from_reference",
    "list_drafters",
    "list_generators",
    "list_tokenizers",
    "push_to_hub",
    "save_pretrained",
]

if TYPE_CHECKING:
    from visiontok.base.errors import VisiontokError
    from visiontok.core.quality import MeanAbsoluteError, Psnr
    from visiontok.core.tokenizer import Tokenizer, TokenizerOutput
    from visiontok.generators.base import Generator
    from visiontok.hub import create, from_pretrained, from_reference, push_to_hub, save_pretrained
    from visiontok.registry import list_drafters, list_generators, list_tokenizers
    from visiontok.tokens import Latents, Segment, TokenLayout, Tokens, TokenStream


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"visiontok.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'visiontok' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


wiring.connect(lambda: importlib.import_module("visiontok.hub"))


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
