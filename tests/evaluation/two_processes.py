"""A suite evaluated by two gloo processes: this one and another."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from forked import start

from visiontok.cli.ranks import leaving_process_group
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation import Result, Suite, evaluate_suite

LOOPBACK = ("GLOO_SOCKET_IFNAME", "lo")


def sharded_by_two(suite: Suite, kind: type[Tokenizer[Any]], *, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """What the first process returns. `kind` is a tokenizer of a module beside this file, built without arguments in both."""
    monkeypatch.setenv(*LOOPBACK)
    meeting = f"file://{tmp_path / 'meeting'}"
    second = start(_second_rank, suite, kind, name, meeting)
    result = _evaluate(0, suite, kind, name, meeting)
    second.join(60)
    assert second.exitcode == 0
    return result


def _evaluate(rank: int, suite: Suite, kind: type[Tokenizer[Any]], name: str, meeting: str) -> Result:
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=200))
    with leaving_process_group():
        return evaluate_suite(suite, kind(), name=name)


def _second_rank(suite: Suite, kind: type[Tokenizer[Any]], name: str, meeting: str) -> None:
    torch.set_num_threads(1)
    os.environ.update([LOOPBACK])
    _evaluate(1, suite, kind, name, meeting)
