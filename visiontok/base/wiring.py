"""The one way from a lower package up: what models offer as methods and only the hub can do.

The top package, which is imported before any other, connects them; the hub is loaded at the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol


class ModelStore(Protocol):
    """Where models are saved and shared: `visiontok.hub`, whose functions these are."""

    def save_pretrained(self, model: Any, folder: str | Path, *, card: Any, results: Sequence[Any]) -> Path: ...

    def push_to_hub(self, model: Any, repo_id: str, *, private: bool | None, token: str | bool | None, card: Any, results: Sequence[Any]) -> str: ...


_stores: list[Callable[[], Any]] = []


def connect(store: Callable[[], Any]) -> None:
    """Say what gives the store; called once, by the top package."""
    _stores[:] = [store]


def model_store() -> ModelStore:
    """The connected store."""
    store: ModelStore = _stores[0]()
    return store
