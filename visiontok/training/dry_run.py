"""What a training run would cost, from a few of its steps; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from visiontok.base.errors import ConfigError
from visiontok.base.memory import peak_bytes
from visiontok.tokens import Latents, Tokens
from visiontok.training.build import build_task
from visiontok.training.recipe import Recipe
from visiontok.training.step_clock import StepClock, loader_in_words

MEASURED = 3
"""Steps that are timed, after two that are not: one whose products are counted, and one whose memory is."""

PROCESSES = (1, 2, 4, 8)
"""Numbers of processes for which the memory of each is told."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run would cost on this machine.

    Attributes:
        parameters: of the model.
        steps: of the run.
        samples: in all steps together.
        flops_per_step: of matrix products, convolutions and attention, forward and backward; with gradient checkpointing also of what is computed
            again.
        tokens_per_step: positions that a generator learns from in a step; None for tokenizers.
        state_bytes: of weights, optimizer and moving average: of a checkpoint, and of the memory between steps.
        gradient_bytes: of the gradients of all parameters, in float32.
        activation_bytes: the most that a step takes beside these, for activations and what else it computes with.
        gathered_bytes: of weights and gradients that a process of a sharded run holds whole at the most; None where the run is not to be sharded.
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
    activation_bytes: int
    gathered_bytes: int | None
    peak_bytes: int | None
    step_seconds: float
    loader_seconds: float
    data: str

    @property
    def loader_share(self) -> float:
        """Of a step's time, from 0 to 1."""
        return self.loader_seconds / self.step_seconds

    def memory(self, processes: int) -> int:
        """Estimated bytes of each of some processes that divide the batch, and in a sharded run the rest too."""
        if self.gathered_bytes is None or processes == 1:
            return self.state_bytes + self.gradient_bytes + self.activation_bytes // processes
        return (self.state_bytes + self.gradient_bytes + self.activation_bytes) // processes + self.gathered_bytes

    def facts(self) -> dict[str, str]:
        """In words, for people."""
        flops = {"FLOPs per step": f"{self.flops_per_step:.3g}, forward and backward"}
        if self.tokens_per_step:
            flops["FLOPs per token"] = f"{self.flops_per_step / self.tokens_per_step:.3g}"
        parts = {"weights, optimizer and averages": self.state_bytes, "gradients": self.gradient_bytes, "activations": self.activation_bytes}
        kind = "replicated" if self.gathered_bytes is None else "sharded"
        return {
            "data": self.data,
            "parameters": f"{self.parameters:,}",
            "steps": f"{self.steps:,}, {self.samples:,} samples",
            **flops,
            "memory": ", ".join(f"{_mib(size)} for {what}" for what, size in parts.items()),
            f"{kind} memory": ", ".join(f"{_mib(self.memory(count))} in each of {count}" for count in PROCESSES) + " processes",
            "peak memory": "" if self.peak_bytes is None else _mib(self.peak_bytes),
            "checkpoint": _mib(self.state_bytes),
            "time": f"{self.step_seconds:.3g} s per step here, {self.steps * self.step_seconds / 3600:.3g} hours in all",
            "loader": loader_in_words(self.loader_share),
        }


def dry_run(recipe: Recipe, *, cpu: bool = False) -> DryRun:
    """Build a run, take a few steps in memory, and forget them.

    Args:
        recipe: of the run.
        cpu: do not use an accelerator even where there is one.

    Raises:
        ConfigError: if a launcher started several processes; the cost of each is told by one.
        VisiontokError: for what the recipe names and cannot be had.
    """
    accelerator = Accelerator(mixed_precision=recipe.precision, cpu=cpu or not torch.accelerator.is_available())
    if accelerator.num_processes > 1:
        raise ConfigError(f"a dry run takes one process and tells what each of several would need, but {accelerator.num_processes} were launched")
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    task = build_task(recipe, accelerator)
    batches = task.batches(0)
    batch = next(batches)
    with FlopCounterMode(display=False) as counter:
        task.step(batch, 0)
    step_bytes = peak_bytes(lambda: task.step(batch, 1))
    clock = StepClock()
    for step in range(2, 2 + MEASURED):
        batch = clock.next(batches)
        task.step(batch, step)
        _synchronize(accelerator)
        clock.done()
    tokens = getattr(batch, "tokens", None)
    gradient_bytes = 4 * task.num_parameters
    on_accelerator = accelerator.device.type != "cpu"
    return DryRun(
        parameters=task.num_parameters,
        steps=recipe.steps,
        samples=recipe.steps * task.batch_size,
        flops_per_step=counter.get_total_flops(),
        tokens_per_step=int(tokens.mask.sum()) if isinstance(tokens, Tokens | Latents) else None,
        state_bytes=sum(value.nbytes for value in tree_leaves(task.state()) if isinstance(value, Tensor)),
        gradient_bytes=gradient_bytes,
        activation_bytes=max(0, step_bytes - gradient_bytes),
        gathered_bytes=4 * task.gathered_parameters or None,
        peak_bytes=torch.accelerator.max_memory_allocated() if on_accelerator and hasattr(torch.accelerator, "max_memory_allocated") else None,
        step_seconds=clock.seconds / MEASURED,
        loader_seconds=clock.waited / MEASURED,
        data=task.data,
    )


def _synchronize(accelerator: Accelerator) -> None:
    if accelerator.device.type != "cpu":
        torch.accelerator.synchronize()


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
