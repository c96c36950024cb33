"""Weight files of other projects' networks: found in a folder or at a path, checked by their SHA-256, never downloaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from visiontok.base.errors import CheckpointError
from visiontok.base.files import file_sha256
from visiontok.base.torch_files import read_torch

FOLDER_VARIABLE = "VISIONTOK_WEIGHTS"


@dataclass(frozen=True)
class WeightFile:
    """A file that somebody else publishes, or a folder of files.

    Attributes:
        name: under which it lies in the folder.
        size: in words, before it is downloaded.
        sha256: its digest, or the leading digits of it that the publisher puts into the name; empty where none is published, so that the digest is
            recorded with every value but cannot be checked.
        source: who publishes it and where to get it.
        license: of the weights.
        git_sha1: of the file as git stores it, where a repository is all that publishes a digest.
    """

    name: str
    size: str
    sha256: str
    source: str
    license: str
    git_sha1: str = ""


@dataclass(frozen=True, eq=False)
class LoadedWeights:
    """Tensors by name, and the digest of the file they came from."""

    tensors: dict[str, Tensor]
    sha256: str


def weights_folder() -> Path:
    """Where weight files are looked for: `VISIONTOK_WEIGHTS`, or `~/.cache/visiontok/weights`."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "visiontok" / "weights")


def verified_weights(file: WeightFile, path: str | Path | None = None) -> LoadedWeights:
    """Read a weight file, from the given path or from the first of our own folder and torch.hub's checkpoints that holds it.

    Raises:
        CheckpointError: see `find_weights`; or if it cannot be read.
    """
    found, digest = find_weights(file, path)
    return LoadedWeights(_read(found), digest)


def find_weights(file: WeightFile, path: str | Path | None = None) -> tuple[Path, str]:
    """The path of a weight file and its digest.

    Args:
        file: what is requested; a file with another digest is refused.
        path: of the file, whatever it is called there.

    Raises:
        CheckpointError: if there is no such file (says what it is and how to get it), or it is another one.
    """
    found = _find(file, path)
    digest = file_sha256(found)
    if not digest.startswith(file.sha256):
        raise CheckpointError(
            f"{found} is not {file.name}: its SHA-256 is {digest}, expected {file.sha256}{'' if len(file.sha256) == 64 else '...'}. "
            f"Get it again from {file.source}"
        )
    if file.git_sha1 and (blob := _git_sha1(found)) != file.git_sha1:
        raise CheckpointError(f"{found} is not {file.name}: its SHA-1 in git is {blob}, expected {file.git_sha1}. Get it again from {file.source}")
    return found, digest


def _git_sha1(path: Path) -> str:
    """Of a file as a git object: behind a header with its size."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def find_folder(file: WeightFile, path: str | Path | None = None) -> Path:
    """Where a network in the layout of transformers is: its folder at the given path, or that of its name in our own folder.

    Raises:
        CheckpointError: if there is no such folder with a config.json; says what it is and how to get it.
    """
    candidates = [Path(path).expanduser()] if path is not None else [weights_folder() / file.name]
    return _first(file, candidates, [candidate / "config.json" for candidate in candidates])


def _find(file: WeightFile, path: str | Path | None) -> Path:
    folders = [weights_folder(), Path(torch.hub.get_dir()) / "checkpoints"]
    candidates = [Path(path)] if path is not None else [folder / file.name for folder in folders]
    return _first(file, candidates, candidates)


def _first(file: WeightFile, candidates: Sequence[Path], needed: Sequence[Path]) -> Path:
    """The first of the candidates whose needed file is there."""
    for candidate, required in zip(candidates, needed, strict=True):
        if required.is_file():
            return candidate
    looked = " and ".join(str(candidate) for candidate in candidates)
    raise CheckpointError(
        f"the weights {file.name} ({file.size}, license: {file.license}) are missing; looked for {looked}. visiontok does not download them: "
        f"get them from {file.source}, and put them into {weights_folder()} (or set {FOLDER_VARIABLE} to its folder, or give their path)"
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        loaded: Any = load_file(path) if path.suffix == ".safetensors" else read_torch(path)
    except Exception as error:  # both libraries raise many types of exceptions for damaged files
        raise CheckpointError(f"{path} is not a readable weight file: {error}") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} holds {type(loaded).__name__}, expected tensors by name")
    return loaded
