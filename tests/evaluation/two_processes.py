"""A suite evaluated by two gloo processes: this one and another Python."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from visiontok.cli.ranks import leaving_process_group
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation import Result, Suite, evaluate_suite

SECOND_RANK = """
import sys
sys.path.insert(0, {folder!r})
import torch.distributed as dist
from {module} import {kind}
from visiontok.cli.ranks import leaving_process_group
from visiontok.evaluation import Suite, evaluate_suite
dist.init_process_group("gloo", init_method={meeting!r}, rank=1, world_size=2)
with leaving_process_group():
    evaluate_suite(Suite.parse({suite!r}), {kind}(), name={name!r})
"""


def sharded_by_two(suite: Suite, kind: type[Tokenizer[Any]], *, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """What the first process returns. `kind` is a tokenizer of a module beside this file, built without arguments in both."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    meeting = f"file://{tmp_path / 'meeting'}"
    script = SECOND_RANK.format(
        folder=str(Path(__file__).parent), module=kind.__module__, kind=kind.__name__, meeting=meeting, suite=suite.to_dict(), name=name
    )
    second = subprocess.Popen([sys.executable, "-c", script])
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=2, timeout=timedelta(seconds=200))
    with leaving_process_group():
        result = evaluate_suite(suite, kind(), name=name)
    assert second.wait(timeout=60) == 0
    return result
