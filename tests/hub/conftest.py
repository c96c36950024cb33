from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants  # loaded lazily otherwise
import pytest
import tiny_family
from hub_server import HubServer

from visiontok import registry
from visiontok.registry import Family, lookup


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A registry that holds the tiny family and nothing else."""
    registry.bundled()  # is kept from here on: bundled models belong to families that the tiny registry does not hold
    with monkeypatch.context() as patch:
        put_in_registry(patch, tiny_family.FAMILY)
        yield
    forget_registry()


@pytest.fixture
def register(tiny: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts checkpoints of the tiny family into the registry in place of its own."""
    with monkeypatch.context() as patch:
        yield lambda *checkpoints: put_in_registry(patch, replace(tiny_family.FAMILY, checkpoints=checkpoints))
    forget_registry()


def put_in_registry(patch: pytest.MonkeyPatch, *families: Family) -> None:
    patch.setattr(lookup, "read_families", lambda package: list(families))
    forget_registry()


def forget_registry() -> None:
    registry.families.cache_clear()
    registry.checkpoints.cache_clear()


@pytest.fixture
def tiny_and_prior(tiny: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A registry in which one system is a tokenizer and a generator."""
    with monkeypatch.context() as patch:
        put_in_registry(patch, tiny_family.FAMILY, tiny_family.PRIOR_FAMILY)
        yield
    forget_registry()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub of one's own, an empty cache, no token, no Xet storage, and a client that does not sleep before it tries again."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
