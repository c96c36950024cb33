"""Training checkpoints: one folder per kept step, written atomically, checked when read.

checkpoints/step-00000200/
    manifest.json      the step, the recipe, and size and checksum of every other file
    model.pt ...       one file per part of the training state, readable with `torch.load(..., weights_only=True)`
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from visiontok.base.errors import TrainingError
from visiontok.base.files import sync

_PREFIX = "step-"
_MANIFEST = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """One written checkpoint.

    Attributes:
        folder: its path.
        step: finished steps.
        recipe: the recipe of the run that wrote it.
        files: size in bytes and BLAKE2b checksum by file name.
    """

    folder: Path
    step: int
    recipe: dict[str, Any]
    files: dict[str, tuple[int, str]]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read the manifest and check every file against it.

        Raises:
            TrainingError: naming the folder and what is wrong: no manifest, a missing, short or altered file.
        """
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != _FORMAT:
                raise TrainingError(f"{folder} has checkpoint format {manifest['format']}; this version reads {_FORMAT}")
            files = {str(name): (int(size), str(checksum)) for name, (size, checksum) in manifest["files"].items()}
            checkpoint = cls(folder=folder, step=int(manifest["step"]), recipe=dict(manifest["recipe"]), files=files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{folder} is not a complete checkpoint: its {_MANIFEST} cannot be read ({error!r})") from error
        for name, (size, checksum) in checkpoint.files.items():
            path = folder / name
            if not path.is_file():
                raise TrainingError(f"{folder} is not a complete checkpoint: {name} is missing")
            if path.stat().st_size != size:
                raise TrainingError(f"{path} is damaged: {path.stat().st_size} bytes where {size} were written")
            if _checksum(path) != checksum:
                raise TrainingError(f"{path} is damaged: its checksum is not the one that was written")
        return checkpoint

    def load(self) -> dict[str, Any]:
        """The parts of the state, on the CPU."""
        return {Path(name).stem: torch.load(self.folder / name, map_location="cpu", weights_only=True) for name in self.files}


def save_checkpoint(root: Path, *, step: int, state: Mapping[str, Any], recipe: Mapping[str, Any], keep_last: int) -> None:
    """Write `checkpoint_folder(root, step)` and remove all but the newest `keep_last` checkpoints.

    Everything goes to a temporary folder beside it and reaches the disk before the folder gets its name, so that a process killed at any
    moment leaves the checkpoints that were there.
    """
    clear_temporary(root)
    final = checkpoint_folder(root, step)
    temporary = root / f".writing-{final.name}"
    temporary.mkdir(parents=True)
    for name, part in state.items():
        torch.save(part, temporary / f"{name}.pt")
        sync(temporary / f"{name}.pt")
    files = {path.name: (path.stat().st_size, _checksum(path)) for path in sorted(temporary.iterdir())}
    manifest = {"format": _FORMAT, "step": step, "recipe": dict(recipe), "files": files}
    (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    sync(temporary / _MANIFEST)
    sync(temporary)
    if final.exists():
        set_aside(final)
    os.replace(temporary, final)
    sync(root)
    for old in list_checkpoints(root)[:-keep_last]:
        _remove(old)


def checkpoint_folder(root: Path, step: int) -> Path:
    """Path of the checkpoint after `step` finished steps."""
    return root / f"{_PREFIX}{step:08d}"


def list_checkpoints(root: Path) -> list[Path]:
    """The folders of finished checkpoints, oldest first; they may still prove to be damaged."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.name.startswith(_PREFIX) and path.name[len(_PREFIX) :].isdigit())


def set_aside(folder: Path) -> Path:
    """Rename a checkpoint so that no run resumes from it and no later one replaces it; nothing is deleted."""
    number = 0
    while (target := folder.with_name(f"aside-{number}-{folder.name}")).exists():
        number += 1
    os.replace(folder, target)
    return target


def clear_temporary(root: Path) -> None:
    """Remove what a killed process left half-written or half-removed."""
    for leftover in root.glob(".writing-*") if root.is_dir() else ():
        shutil.rmtree(leftover)


def _remove(folder: Path) -> None:
    """Take the name away first, so that a process killed in between leaves no half checkpoint under it."""
    doomed = folder.with_name(f".writing-removed-{folder.name}")
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
