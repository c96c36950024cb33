"""What the tests of interrupted evaluations run in other processes, which a server starts that has everything imported."""

import multiprocessing
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from gray_patches import GrayPatches

from visiontok.cli.ranks import leaving_process_group
from visiontok.evaluation import GenerationSuite, Suite
from visiontok.evaluation.generation.evaluate import evaluate_generated
from visiontok.evaluation.reconstruction.evaluate import evaluate_models
from visiontok.evaluation.run_state import RunState

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "visiontok.evaluation.reconstruction.evaluate",
        "visiontok.evaluation.generation.evaluate",
        "visiontok.training",
        "visiontok.tokenizers.image.titok.model",
        "visiontok.generators.gpt.model",
    ]
)


def evaluate_as_one_of_two(suite: dict, output: Path, meeting: str, rank: int, reports) -> None:
    """One model over two processes, likewise."""
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    with leaving_process_group():
        evaluate(suite, output, reports, names=("a",))


def evaluate(suite: dict, output: Path, reports, *, names: Sequence[str] = ("a", "b")) -> None:
    """Models one after the other, slowly, with a state after every batch; reports how many samples are done."""
    torch.set_num_threads(1)

    def slowly(done: int, total: int) -> None:
        reports.send(done)
        time.sleep(0.02)

    RunState.is_due = property(lambda self: True)
    evaluate_models(
        Suite.parse(suite), names, load=lambda name: GrayPatches(), output=output, progress=lambda name: nullcontext(slowly), report=False
    )


def evaluate_given_samples(suite: dict, samples: Path, folder: Path, reports) -> None:
    """Given samples, slowly, with a state after every batch; reports how many samples of both sides are done."""
    torch.set_num_threads(1)
    RunState.is_due = property(lambda self: True)

    def slowly(done: int, total: int) -> None:
        reports.send(done)
        time.sleep(0.02)

    evaluate_generated(
        GenerationSuite.parse(suite),
        samples,
        folder / "r.json",
        maker=None,
        device=torch.device("cpu"),
        progress=lambda name: nullcontext(slowly),
    )


class Child:
    """A process that runs one of these functions."""

    def __init__(self, *arguments, target=evaluate) -> None:
        self._reports, end = context.Pipe(duplex=False)
        self._process = context.Process(target=target, args=(*arguments, end))
        self._process.start()
        end.close()

    def finish(self) -> list[int]:
        """What it reported until its end."""
        seen = []
        while True:
            try:
                seen.append(self._reports.recv())
            except EOFError:
                self._process.join()
                assert self._process.exitcode == 0
                return seen

    def kill_after(self, count: int) -> list[int]:
        """What it reported until it was killed (SIGKILL)."""
        seen = [self._reports.recv() for _ in range(count)]
        self._process.kill()
        self._process.join()
        return seen
