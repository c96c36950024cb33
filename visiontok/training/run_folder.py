"""The folder of one run: its contents, its owner, and the checkpoint to resume from.

.lock                  held while a process trains here
config.json            the recipe, the versions of the libraries, and which weights are shown and exported
metrics.jsonl          one line per logged step
checkpoints/           see `checkpoint.py`
samples/  tensorboard/
usage.png              the curve of codebook usage, drawn whenever sample images are
validation.json        of tokenizers, the evaluation of the trained model on the validation samples, as `visiontok evaluate` writes it
final/                 the trained model, in the layout that `from_pretrained` reads
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiontok.base.errors import ConfigError, TrainingError
from visiontok.base.files import contents, remove_folder, remove_temporaries, replacing
from visiontok.base.json_text import read_json
from visiontok.training.checkpoint import TrainingCheckpoint, list_checkpoints, prune, set_aside, step_of

_FREE_SECTIONS = ("output", "steps", "parallel", "gradient_checkpointing", "threads", "checkpoints", "logging", "sample_images")
_FREE_KEYS = ("num_workers", "cache_bytes")
_FREE_PATHS = ("validation.every",)
"""What a resumed run may change: it leaves the mathematics of the steps alone, but for `steps`, which may be the length of a cosine."""


@dataclass(frozen=True)
class Start:
    """How a run begins.

    Attributes:
        checkpoint: to resume from; None starts at step 0.
        damaged: newer checkpoints that cannot be read.
        notes: lines for the user.
    """

    checkpoint: TrainingCheckpoint | None = None
    damaged: tuple[Path, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def step(self) -> int:
        return 0 if self.checkpoint is None else self.checkpoint.step


class RunFolder:
    """Paths and rules of a run's output folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.json"
        self.checkpoints = root / "checkpoints"
        self.metrics = root / "metrics.jsonl"
        self.tensorboard = root / "tensorboard"
        self.samples = root / "samples"
        self.usage = root / "usage.png"
        self.validation = root / "validation.json"
        self.final = root / "final"

    def plan(self, recipe: Mapping[str, Any], *, resume: str, overwrite: bool) -> Start:
        """Decide where to begin; only reads, so that every process can call it.

        Args:
            recipe: the recipe as plain values.
            resume: "auto" (newest readable checkpoint of this folder, or the beginning), "none" (the beginning), or a checkpoint's folder.
            overwrite: with "none", whether a run in the folder may be replaced.

        Raises:
            TrainingError: if the folder holds something else, or a run that may not be continued with this recipe; if the checkpoint is damaged.
        """
        self.refuse_strangers()
        if resume == "none":
            if self._is_run() and not overwrite:
                raise TrainingError(
                    f"{self.root} already holds a run. Continue it with `--resume auto`, replace it with `--resume none --overwrite`, "
                    "or choose another folder with `output=...`."
                )
            return Start()
        if resume != "auto":
            checkpoint = TrainingCheckpoint.open(Path(resume))
            if self._is_run():
                self._changes(self._written_recipe(), recipe, str(self.root))
            return Start(checkpoint=checkpoint, notes=self._changes(checkpoint.recipe, recipe, resume))
        if not self._is_run():
            return Start()
        notes = self._changes(self._written_recipe(), recipe, str(self.root))
        damaged: list[Path] = []
        for folder in reversed(list_checkpoints(self.checkpoints)):
            try:
                return Start(checkpoint=TrainingCheckpoint.open(folder), damaged=tuple(damaged), notes=notes)
            except TrainingError as error:
                damaged.append(folder)
                notes = (*notes, f"{error}; falling back to the checkpoint before it")
        return Start(damaged=tuple(damaged), notes=notes)

    def begin(self, start: Start, config: Mapping[str, Any], *, fresh: bool, keep_last: int) -> None:
        """Carry the plan out: clear a replaced run, set unusable and later checkpoints aside, cut the metrics, write `config.json`.

        Killed at any moment, the folder is still that of a run, or empty. What an earlier kill left is removed, checkpoints beyond the newest
        `keep_last` among it.
        """
        for folder in (self.root, self.samples, self.checkpoints):
            remove_temporaries(folder)
        if fresh:
            self._clear()
        for folder in start.damaged:
            set_aside(folder)
        for folder in list_checkpoints(self.checkpoints):
            if step_of(folder) > start.step:
                set_aside(folder)
        prune(self.checkpoints, keep_last=keep_last)
        if self.metrics.exists():
            if not self.metrics.is_file():
                raise TrainingError(f"{self.metrics} is no regular file, so the metrics of this run cannot be continued: remove it")
            kept = [line for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines() if _step_of(line) <= start.step]
            with replacing(self.metrics) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        with replacing(self.config) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def _is_run(self) -> bool:
        return self.config.is_file()

    def _written_recipe(self) -> dict[str, Any]:
        try:
            return dict(read_json(self.config)["recipe"])
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{self.config} cannot be read, so nobody knows which recipe this run followed: {error}") from error

    def refuse_strangers(self) -> None:
        """A folder with files of other origin is not ours to write to; what a run leaves that was killed before its first file is none of them.

        Raises:
            TrainingError: naming it.
        """
        if not self._is_run() and self.root.exists() and (not self.root.is_dir() or contents(self.root)):
            raise TrainingError(f"{self.root} exists and is not the folder of a run; choose an empty or new folder with `output=...`")

    def _changes(self, before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> tuple[str, ...]:
        changes = changed_keys(before, now)
        refused = [line for key, line in changes.items() if not _may_change(key)]
        if refused:
            raise TrainingError(
                f"the run in {where} followed another recipe; these keys would change what its steps compute: {'; '.join(refused)}. "
                "Take them back, train in another folder with `output=...`, or replace the run with `--resume none --overwrite`."
            )
        told = [line for key, line in changes.items() if key != "output"]
        return (f"the recipe changed: {'; '.join(told)}",) if told else ()

    def _clear(self) -> None:
        """Remove what a run writes, and nothing else; `config.json`, by which the folder is known as a run's, is replaced rather than removed."""
        for folder in (self.checkpoints, self.tensorboard, self.samples, self.final):
            if folder.is_dir():
                remove_folder(folder)
        for file in (self.metrics, self.usage, self.validation):
            file.unlink(missing_ok=True)


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """`{"optimizer.lr": "optimizer.lr: 0.001 -> 0.0001"}` for every leaf that differs."""
    left, right = _leaves(before), _leaves(now)
    return {
        key: f"{key}: {left.get(key, 'absent')} -> {right.get(key, 'absent')}"
        for key in sorted({*left, *right})
        if left.get(key, _ABSENT) != right.get(key, _ABSENT)
    }


def _may_change(key: str) -> bool:
    parts = key.split(".")
    return parts[0] in _FREE_SECTIONS or parts[-1] in _FREE_KEYS or key in _FREE_PATHS


_ABSENT = object()


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            leaves.update(_leaves(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _step_of(line: str) -> float:
    """The step of a line of metrics; a partial line of a killed process counts as later than any step."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
