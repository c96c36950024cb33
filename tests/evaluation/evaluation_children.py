"""What the tests of interrupted measurements run in other processes, which a server starts that has everything imported."""

import multiprocessing
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from grey_patches import GreyPatches

from visiontok.evaluation import GenerationSuite, Suite
from visiontok.evaluation.generation.session import measure_generated
from visiontok.evaluation.reconstruction.session import evaluate_models
from visiontok.evaluation.run_state import Unfinished

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "visiontok.evaluation.reconstruction.session",
        "visiontok.evaluation.generation.session",
        "visiontok.training",
        "visiontok.tokenizers.image.titok.model",
        "visiontok.generators.gpt.model",
    ]
)


def evaluate_as_one_of_two(suite: dict, output: Path, meeting: str, rank: int, told) -> None:
    """One model over two processes, likewise."""
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        evaluate(suite, output, told, names=("a",))
    finally:
        dist.destroy_process_group()


def evaluate(suite: dict, output: Path, told, *, names: Sequence[str] = ("a", "b")) -> None:
    """Models one after the other, slowly, with a state after every batch; tells how many images are done."""
    torch.set_num_threads(1)

    def slowly(done: int, total: int) -> None:
        told.send(done)
        time.sleep(0.02)

    Unfinished.is_due = property(lambda self: True)
    evaluate_models(
        Suite.parse(suite), names, load=lambda name: GreyPatches(), output=output, progress=lambda name: nullcontext(slowly), report=False
    )


def measure_samples(suite: dict, samples: Path, folder: Path, told) -> None:
    """Given samples, slowly, with a state after every batch; tells how many pictures of both sides are done."""
    torch.set_num_threads(1)
    Unfinished.is_due = property(lambda self: True)

    def slowly(done: int, total: int) -> None:
        told.send(done)
        time.sleep(0.02)

    measure_generated(
        GenerationSuite.parse(suite),
        samples,
        folder / "r.json",
        sampler=None,
        device=torch.device("cpu"),
        progress=lambda name: nullcontext(slowly),
    )


class Child:
    """A process that runs one of these functions."""

    def __init__(self, *arguments, target=evaluate) -> None:
        self._told, end = context.Pipe(duplex=False)
        self._process = context.Process(target=target, args=(*arguments, end))
        self._process.start()
        end.close()

    def finish(self) -> list[int]:
        """What it told until its end."""
        seen = []
        while True:
            try:
                seen.append(self._told.recv())
            except EOFError:
                self._process.join()
                assert self._process.exitcode == 0
                return seen

    def kill_after(self, count: int) -> list[int]:
        """What it told until it was killed (SIGKILL)."""
        seen = [self._told.recv() for _ in range(count)]
        self._process.kill()
        self._process.join()
        return seen
