"""Folders of interrupted runs: of training and of evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  (lists the fonts of the system once, by another program)
import numpy as np
import torch

from fuzzing.entries.tokens import written
from fuzzing.entry import Entry, Files
from visiontok.data import SkipReport
from visiontok.data.skips import Skip
from visiontok.evaluation.metrics.accumulator import Accumulator, State
from visiontok.evaluation.run_state import RunState
from visiontok.training.checkpoint import TrainingCheckpoint, save_checkpoint
from visiontok.training.run_folder import RunFolder
from visiontok.training.usage_curve import draw_usage

_RECIPE = {"kind": "tokenizer", "steps": 4, "output": "runs/x", "optimizer": {"lr": 0.1}}


def _runs() -> list[Files]:
    def write(root: Path) -> None:
        (root / "config.json").write_text(json.dumps({"recipe": _RECIPE, "versions": {"torch": "2"}}))
        (root / "metrics.jsonl").write_text("".join(json.dumps({"step": step, "loss": 1.0, "usage/codes": 0.5}) + "\n" for step in range(1, 5)))
        for step in (2, 4):
            state = {"model": {"weight": torch.ones(2)}, "optimizer": {"step": step}}
            save_checkpoint(root / "checkpoints", step=step, state=state, recipe=_RECIPE, keep_last=2)

    return [written(write)]


def _read_run(root: Path) -> None:
    folder = RunFolder(root)
    start = folder.plan(_RECIPE, resume="auto", overwrite=False)
    assert start.step in (0, 2, 4), start.step
    if start.checkpoint is not None:
        state = start.checkpoint.load()
        assert state["model"]["weight"].tolist() == [1.0, 1.0]
        assert state["optimizer"]["step"] == start.step
    folder.begin(start, {"recipe": _RECIPE}, fresh=False, keep_last=2)
    if folder.metrics.is_file():
        draw_usage(folder.metrics, folder.usage)
    assert dict(json.loads(folder.config.read_text()))["recipe"] == _RECIPE


def _checkpoints() -> list[Files]:
    state = {"model": {"weight": torch.ones(2)}, "optimizer": {"step": 2}}
    files = written(lambda root: save_checkpoint(root, step=2, state=state, recipe=_RECIPE, keep_last=1))
    return [{name.partition("/")[2]: data for name, data in files.items()}]


def _read_checkpoint(folder: Path) -> None:
    checkpoint = TrainingCheckpoint.open(folder)
    assert checkpoint.step >= 0, checkpoint.step
    assert set(checkpoint.load()) <= {"model", "optimizer"}, "files that no checkpoint holds"


class _Sum(Accumulator):
    """The sum and the count of what it saw."""

    def __init__(self) -> None:
        self.values = np.zeros(3)

    def merge(self, other: _Sum) -> None:
        self.values = self.values + other.values

    def state(self) -> State:
        return {"values": self.values}

    def load_state(self, state: State) -> None:
        self.values = state["values"]

    def compute(self) -> float:
        return float(self.values.sum())


def _states() -> list[Files]:
    def write(folder: Path) -> None:
        RunState(folder, {"suite": "x"}).save("pass", 7, SkipReport([Skip("a", "damaged")]), {"sum": _Sum()})

    return [written(write)]


def _read_state(folder: Path) -> None:
    state, skips, part = RunState(folder, {"suite": "x"}), SkipReport(), _Sum()
    position = state.restore("pass", skips, {"sum": part})
    assert position is None or position >= 0, position
    assert part.values.shape == (3,), part.values.shape


ENTRIES = (
    Entry("training-run", _runs, _read_run, cases=20),
    Entry("checkpoint", _checkpoints, _read_checkpoint, cases=80),
    Entry("evaluation-state", _states, _read_state, cases=80),
)
