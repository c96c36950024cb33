"""Networks that the user points to: a folder in the layout of transformers, or a file. Nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visiontok.base.errors import CheckpointError
from visiontok.base.files import file_sha256

_UNUSED = ("masked_spec_embed",)
"""Ends of the names of tensors that only training reads; files may lack them."""


def found_network(path: str | Path, what: str, *, suffix: str = "", sha256: str = "") -> tuple[Path, str]:
    """Where a network is, and the SHA-256 of the names and contents of all its files.

    Args:
        path: of its folder, or of its file.
        what: it is, in words.
        suffix: of its file; empty for a folder in the layout of transformers.
        sha256: that it must have, or the first digits of it; empty for any.

    Raises:
        CheckpointError: if there is none, or another one.
    """
    where = Path(path).expanduser()
    if not (where.is_file() if suffix else (where / "config.json").is_file()):
        raise CheckpointError(f"there is no {what} at {where}. visiontok downloads none: get one, and give its path")
    files = [where] if suffix else sorted(each for each in where.rglob("*") if each.is_file() and not each.name.startswith("."))
    digest = hashlib.sha256("\n".join(f"{each.name}:{file_sha256(each)}" for each in files).encode()).hexdigest()
    if not digest.startswith(sha256):
        raise CheckpointError(f"{where} is another {what}: the SHA-256 of its files is {digest}, expected {sha256}")
    return where, digest


@contextmanager
def belonging_to(path: Path, what: str) -> Iterator[None]:
    """Errors of the libraries that read a network become a CheckpointError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is no {what}: {error}") from error


def whole_network(kind: Any, path: Path) -> Any:
    """A network of transformers in evaluation mode, none of whose weights is missing.

    Args:
        kind: one of the library's classes that have `from_pretrained`.
        path: of its folder.

    Raises:
        ValueError: if weights are missing, which transformers draws at random.
    """
    network, info = kind.from_pretrained(str(path), local_files_only=True, output_loading_info=True)
    missing = sorted(name for name in info["missing_keys"] if not name.endswith(_UNUSED))
    if missing:
        raise ValueError(f"its files lack {len(missing)} of the tensors of {type(network).__name__}, such as {missing[0]}")
    return network.eval()
