"""Processes that start at once, since they come from a server that has everything imported; alone, or several as torchrun starts them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["visiontok.training", "visiontok.tokenizers.image.titok.model", "visiontok.generators.gpt.model", "sklearn.datasets"])


def start(function: Callable[..., None], *arguments: object) -> ForkServerProcess:
    child = context.Process(target=_call, args=(function, *arguments))
    child.start()
    return child


def _call(function: Callable[..., None], *arguments: object) -> None:
    """With workers of loaders as a command has them: otherwise they came from another server, which would have to import everything first."""
    multiprocessing.set_start_method("fork", force=True)
    function(*arguments)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def join(rank: int, world_size: int, port: int) -> None:
    """Become one of several processes, as a launcher would have it."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)


def torchrun(arguments: Sequence[str]) -> None:
    """What `torchrun --standalone --nproc-per-node N -m visiontok ...` starts in the current folder; all must succeed."""
    standalone, processes, count, module, name, *command = arguments
    assert (standalone, processes, module, name) == ("--standalone", "--nproc-per-node", "-m", "visiontok")
    port, folder = free_port(), Path.cwd()
    ranks = [start(_run_command, rank, int(count), port, folder, command) for rank in range(int(count))]
    for rank in ranks:
        rank.join(240)
    assert [rank.exitcode for rank in ranks] == [0] * len(ranks), "\n".join((folder / f"rank-{rank}.log").read_text() for rank in range(len(ranks)))


def _run_command(rank: int, world_size: int, port: int, folder: Path, command: Sequence[str]) -> None:
    from visiontok.cli import main

    os.chdir(folder)
    join(rank, world_size, port)
    sys.argv = ["visiontok", *command]
    with Path(f"rank-{rank}.log").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        main()
