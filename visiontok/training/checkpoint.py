"""Training checkpoints: one folder per kept step, written atomically, checked when read.

checkpoints/step-00000200/
    manifest.json      the step, the recipe, and size and checksum of every other file
    model.pt ...       one file per part of the training state, readable with `torch.load(..., weights_only=True)`
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiontok.base.errors import TrainingError
from visiontok.base.file_names import check_name
from visiontok.base.files import TEMPORARY, remove_folder, remove_temporaries, sync
from visiontok.base.json_text import read_json
from visiontok.base.torch_files import read_torch, write_torch

_PREFIX = "step-"
_MANIFEST = "manifest.json"
_FORMAT = 1
_NAME = re.compile(rf"{_PREFIX}[0-9]{{8,18}}")


@dataclass(frozen=True)
class TrainingCheckpoint:
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
    def open(cls, folder: Path) -> TrainingCheckpoint:
        """Read the manifest and check every file against it.

        Raises:
            TrainingError: naming the folder and what is wrong: no manifest, a missing, short or altered file.
        """
        try:
            manifest = read_json(folder / _MANIFEST)
            if manifest["format"] != _FORMAT:
                raise TrainingError(f"{folder} has checkpoint format {manifest['format']}; this version reads {_FORMAT}")
            files = {check_name(name): (int(size), str(checksum)) for name, (size, checksum) in manifest["files"].items()}
            checkpoint = cls(folder=folder, step=manifest["step"], recipe=dict(manifest["recipe"]), files=files)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise TrainingError(f"{folder} is not a complete checkpoint: its {_MANIFEST} cannot be read ({error!r})") from error
        wrong_name = _NAME.fullmatch(folder.name) is not None and step_of(folder) != checkpoint.step
        if type(checkpoint.step) is not int or checkpoint.step < 0 or wrong_name:
            raise TrainingError(f"{folder} is not a checkpoint: its {_MANIFEST} names the step {checkpoint.step!r}")
        unknown = sorted({path.name for path in folder.glob("*.pt")} - set(files))
        if unknown:
            raise TrainingError(f"{folder} is damaged: its {_MANIFEST} does not name {unknown[0]}")
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
        """The parts of the state, on the CPU.

        Raises:
            TrainingError: naming the file that cannot be read, although it is what the manifest says.
        """
        return {Path(name).stem: self._read(self.folder / name) for name in self.files}

    def advice(self) -> str:
        """What to do when this checkpoint cannot be used."""
        before = [folder for folder in list_checkpoints(self.folder.parent) if step_of(folder) < self.step]
        if not before:
            return "There is no checkpoint before it: start again with `--resume none --overwrite`"
        return f"Resume from the checkpoint before it with `--resume {before[-1]}`"

    def _read(self, path: Path) -> Any:
        try:
            return read_torch(path)
        except Exception as error:  # damaged files fail in as many ways as there are bytes
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrainingError(f"{path} cannot be read, although its checksum is the one in {_MANIFEST} ({reason}). {self.advice()}") from error


def save_checkpoint(root: Path, *, step: int, state: Mapping[str, Any], recipe: Mapping[str, Any], keep_last: int) -> None:
    """Write `checkpoint_folder(root, step)` and remove all but the newest `keep_last` checkpoints.

    Everything goes to a temporary folder beside it and reaches the disk before the folder gets its name, so that a process killed at any
    moment, and a full disk, leave the checkpoints that were there.

    Raises:
        TrainingError: if it cannot be written, naming the newest checkpoint that is there.
    """
    remove_temporaries(root)
    final = checkpoint_folder(root, step)
    temporary = root / f"{TEMPORARY}{final.name}"
    try:
        temporary.mkdir(parents=True)
        for name, part in state.items():
            write_torch(temporary / f"{name}.pt", part)
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
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = list_checkpoints(root)
        left = f"The newest checkpoint is {kept[-1]}; repeat the command to resume from it" if kept else "There is no earlier checkpoint"
        raise TrainingError(f"the checkpoint {final} could not be written: {error.strerror or error}. {left}") from error
    prune(root, keep_last=keep_last)


def prune(root: Path, *, keep_last: int) -> None:
    """Remove all but the newest checkpoints."""
    for old in list_checkpoints(root)[:-keep_last]:
        remove_folder(old)


def checkpoint_folder(root: Path, step: int) -> Path:
    """Path of the checkpoint after `step` finished steps."""
    return root / f"{_PREFIX}{step:08d}"


def list_checkpoints(root: Path) -> list[Path]:
    """The folders of finished checkpoints, oldest first; they may still prove to be damaged."""
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if _NAME.fullmatch(path.name)), key=step_of)


def step_of(folder: Path) -> int:
    """The finished steps that the name of a checkpoint's folder says."""
    return int(folder.name[len(_PREFIX) :])


def set_aside(folder: Path) -> Path:
    """Rename a checkpoint so that no run resumes from it and no later one replaces it; nothing is deleted."""
    number = 0
    while (target := folder.with_name(f"aside-{number}-{folder.name}")).exists():
        number += 1
    os.replace(folder, target)
    return target


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
