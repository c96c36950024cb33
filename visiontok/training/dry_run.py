"""What a training run would cost, from a few of its steps; nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from visiontok.tokens import Latents, Tokens
from visiontok.training.build import build_task
from visiontok.training.recipe import Recipe

MEASURED = 3
"""Steps that are timed, after one that is not."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run would cost on this machine.

    Attributes:
        parameters: of the model.
        steps: of the run.
        samples: in all steps together.
        flops_per_step: of matrix products, convolutions and attention, forward and backward, of this process.
        tokens_per_step: positions that a generator learns from in a step, of this process; None for tokenizers.
        state_bytes: of weights, optimizer and moving average: of a checkpoint, and about of the memory beside gradients and activations.
        gradient_bytes: of the gradients of all parameters, in float32.
        peak_bytes: of the accelerator's memory; None on the CPU.
        step_seconds: of one step, with its batch.
        loader_seconds: of these, waiting for the batch.
        data: what was opened.
    """

    parameters: int
    steps: int
    samples: int
    flops_per_step: int
    tokens_per_step: int | None
    state_bytes: int
    gradient_bytes: int
    peak_bytes: int | None
    step_seconds: float
    loader_seconds: float
    data: str

    @property
    def loader_share(self) -> float:
        """Of a step's time, from 0 to 1; above a half, data is the bottleneck."""
        return self.loader_seconds / self.step_seconds

    def facts(self) -> dict[str, str]:
        """In words, for people."""
        flops = {"FLOPs per step": f"{self.flops_per_step:.3g}, forward and backward, of one process"}
        if self.tokens_per_step:
            flops["FLOPs per token"] = f"{self.flops_per_step / self.tokens_per_step:.3g}"
        bottleneck = "data" if self.loader_share > 0.5 else "computation"
        return {
            "data": self.data,
            "parameters": f"{self.parameters:,}",
            "steps": f"{self.steps:,}, {self.samples:,} samples",
            **flops,
            "memory": f"{_mib(self.state_bytes)} for weights, optimizer and averages, {_mib(self.gradient_bytes)} for gradients, and activations",
            "peak memory": "" if self.peak_bytes is None else _mib(self.peak_bytes),
            "checkpoint": _mib(self.state_bytes),
            "time": f"{self.step_seconds:.3g} s per step here, {self.steps * self.step_seconds / 3600:.3g} hours in all",
            "loader": f"{self.loader_share:.0%} of a step's time; the bottleneck is {bottleneck}",
        }


def dry_run(recipe: Recipe, *, cpu: bool = False) -> DryRun:
    """Build a run, take a few steps in memory, and forget them.

    Args:
        recipe: of the run.
        cpu: do not use an accelerator even where there is one.

    Raises:
        VisiontokError: for what the recipe names and cannot be had.
    """
    accelerator = Accelerator(mixed_precision=recipe.precision, cpu=cpu or not torch.accelerator.is_available())
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    task = build_task(recipe, accelerator)
    batches = task.batches(0)
    batch = next(batches)
    with FlopCounterMode(display=False) as counter:
        task.step(batch, 0)
    loading = 0.0
    began = time.perf_counter()
    for step in range(1, 1 + MEASURED):
        waiting = time.perf_counter()
        batch = next(batches)
        loading += time.perf_counter() - waiting
        task.step(batch, step)
        _synchronize(accelerator)
    elapsed = time.perf_counter() - began
    tokens = getattr(batch, "tokens", None)
    on_accelerator = accelerator.device.type != "cpu"
    return DryRun(
        parameters=task.num_parameters,
        steps=recipe.steps,
        samples=recipe.steps * task.batch_size,
        flops_per_step=counter.get_total_flops(),
        tokens_per_step=int(tokens.mask.sum()) if isinstance(tokens, Tokens | Latents) else None,
        state_bytes=sum(value.nbytes for value in tree_leaves(task.state()) if isinstance(value, Tensor)),
        gradient_bytes=4 * task.num_parameters,
        peak_bytes=torch.accelerator.max_memory_allocated() if on_accelerator and hasattr(torch.accelerator, "max_memory_allocated") else None,
        step_seconds=elapsed / MEASURED,
        loader_seconds=loading / MEASURED,
        data=task.data,
    )


def _synchronize(accelerator: Accelerator) -> None:
    if accelerator.device.type != "cpu":
        torch.accelerator.synchronize()


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
