from __future__ import annotations

from collections.abc import Iterator

import families
import pytest

from visiontok import registry
from visiontok.registry import lookup


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The registry, with the families of this folder beside its own."""
    registry.bundled()
    own = tuple(registry.families().values())
    with monkeypatch.context() as patch:
        patch.setattr(lookup, "read_families", lambda package: [*own, *families.FAMILIES])
        _forget()
        yield
    _forget()


def _forget() -> None:
    registry.families.cache_clear()
    registry.checkpoints.cache_clear()
