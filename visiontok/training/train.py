"""`train`: from a recipe to a trained model in its folder."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, broadcast_object_list
from rich.console import Console

from visiontok.base.errors import ConfigError, FolderInUseError, TrainingError
from visiontok.base.locks import exclusive
from visiontok.training.build import build_task
from visiontok.training.checkpoint import TrainingCheckpoint
from visiontok.training.interrupts import StopRequest
from visiontok.training.logging import MetricsWriter, open_writers
from visiontok.training.loop import TrainingResult, load_scaler, run_steps
from visiontok.training.progress import ProgressDisplay
from visiontok.training.recipe import Recipe
from visiontok.training.run_folder import RunFolder, Start
from visiontok.training.task import Task

_OTHER_SHARDING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)

_LIBRARIES = ("visiontok", "torch", "torchvision", "accelerate", "numpy")


def train(
    recipe: Recipe,
    *,
    resume: str = "auto",
    overwrite: bool = False,
    cpu: bool = False,
    console: Console | None = None,
    build: Callable[[Recipe, Accelerator], Task[Any]] = build_task,
) -> TrainingResult:
    """Train to the recipe's last step and write the model to `final/` in its output folder.

    Started by `accelerate launch` or `torchrun`, every process calls this and takes its share of each batch.

    Args:
        recipe: see `recipe.py`.
        resume: "auto" resumes from the latest readable checkpoint of the output folder, if there is one; "none" starts anew; a path resumes
            from the checkpoint there.
        overwrite: with resume "none", replace a run in the output folder.
        cpu: do not use an accelerator even where there is one.
        console: where progress goes; None for stderr, of the first process only.
        build: makes the task; give your own to train something else under the same guarantees.

    Returns:
        how it ended; `signal` is set if Ctrl-C or SIGTERM stopped it after a step, with a checkpoint.

    Raises:
        TrainingError: if the folder holds another run or a recipe that differs, the checkpoint is damaged or cannot be written, or a loss term is
            NaN.
        FolderInUseError: if another process trains in the folder.
        OSError: if the folder cannot be written.
        VisiontokError: for what the recipe names and cannot be had.
    """
    accelerator = _accelerator(recipe, cpu=cpu)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    recipe.check_division(accelerator.num_processes)
    values = recipe.to_dict()
    folder = RunFolder(recipe.output)
    folder.refuse_strangers()
    console = console or Console(stderr=True, quiet=not accelerator.is_main_process)
    with StopRequest() as stop, _deterministic_where_free(accelerator.device), ExitStack() as stack:
        _lock(folder, accelerator, stack)
        start = folder.plan(values, resume=resume, overwrite=overwrite)
        torch.manual_seed(recipe.seed)  # every process draws the same initial weights
        task = build(recipe, accelerator)
        if start.checkpoint is not None:
            _restore(task, start.checkpoint, accelerator)
        accelerator.wait_for_everyone()  # nobody changes the folder before all have read it
        writers: list[MetricsWriter] = []
        if accelerator.is_main_process:
            folder.begin(start, _run_config(recipe), fresh=resume == "none", keep_last=recipe.checkpoints.keep_last)
            writers = open_writers(recipe.logging, metrics=folder.metrics, tensorboard=folder.tensorboard, run_config=values, start=start.step)
            for writer in writers:
                stack.callback(writer.close)
        display = stack.enter_context(ProgressDisplay(console, start=start.step, steps=recipe.steps, unit=task.unit))
        for note in [*_opening(start, folder), *([f"data: {task.data}"] if task.data else [])]:
            display.say(note)
        result = run_steps(
            task,
            recipe,
            folder,
            start=start.step,
            checkpoint=None if start.checkpoint is None else start.checkpoint.folder,
            accelerator=accelerator,
            writers=writers,
            display=display,
            stop=stop,
        )
        if len(task.skipped()):
            display.say(str(task.skipped()))
        if result.signal is None:
            validation = result.validation or task.validate(recipe.steps)  # a finished run that is started again takes no step
            task.export(folder.final, () if validation is None else validation.results)
            if accelerator.is_main_process and validation is not None and validation.result is not None:
                validation.result.save(folder.validation)
        accelerator.wait_for_everyone()
    return result if result.signal is not None else replace(result, final=folder.final)


def _accelerator(recipe: Recipe, *, cpu: bool) -> Accelerator:
    """Device and processes as the launcher set them, precision as the recipe says.

    Raises:
        ConfigError: if the device cannot compute in this precision.
    """
    AcceleratorState._reset_state()  # the precision of an earlier run in this process; its process group stays
    # Codebooks and other buffers are kept equal by those who move them; copying rank 0's over at every step would only cost time.
    handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    cpu = cpu or not torch.accelerator.is_available()  # only when told so does accelerate join processes without an accelerator
    try:
        accelerator = Accelerator(mixed_precision=recipe.precision, cpu=cpu, kwargs_handlers=handlers)
    except ValueError as error:
        raise ConfigError(f"precision {recipe.precision!r} cannot be used here: {error}; choose no or bf16") from error
    if recipe.precision == "fp16" and accelerator.scaler is None:
        raise ConfigError(f"precision 'fp16' needs an accelerator; the {accelerator.device.type} computes in bf16 or no reduced precision")
    if accelerator.distributed_type in _OTHER_SHARDING:
        kind = accelerator.distributed_type.value
        raise ConfigError(f"the launcher's settings ask accelerate for {kind}: turn it off there, and set parallel=fsdp to shard a generator")
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if accelerator.num_processes != launched:
        raise ConfigError(f"the launcher started {launched} processes, but {accelerator.num_processes} found together; check its settings")
    return accelerator


def _lock(folder: RunFolder, accelerator: Accelerator, stack: ExitStack) -> None:
    """Keep other trainings out of the folder until the stack unwinds. The first process locks, and all learn if it could not.

    Raises:
        FolderInUseError: if another training writes there.
        OSError: if the folder cannot be written.
    """
    problem: list[Exception | None] = [None]
    if accelerator.is_main_process:
        try:
            stack.enter_context(exclusive(folder.root))
        except (FolderInUseError, OSError) as error:
            problem = [error]
    (found,) = broadcast_object_list(problem)
    if found is not None:
        raise found


def _restore(task: Task[Any], checkpoint: TrainingCheckpoint, accelerator: Accelerator) -> None:
    state = checkpoint.load()
    try:
        task.load_state(state)
        load_scaler(state, accelerator)
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise TrainingError(f"{checkpoint.folder} does not fit this recipe's model and optimizer ({reason}). {checkpoint.advice()}") from error


def _run_config(recipe: Recipe) -> dict[str, Any]:
    """What `config.json` says: the recipe, which weights are shown and exported, and what computed them."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"recipe": recipe.to_dict(), "final_weights": recipe.final_weights, "versions": versions}


def _opening(start: Start, folder: RunFolder) -> list[str]:
    """The first lines of a run."""
    if start.checkpoint is None:
        return [*start.notes, f"training in {folder.root}"]
    return [*start.notes, f"resuming from step {start.step} ({start.checkpoint.folder})"]


@contextmanager
def _deterministic_where_free(device: torch.device) -> Iterator[None]:
    """On the CPU, have torch choose algorithms whose sums have a fixed order; on accelerators they cost time, so there the choice is the user's."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filling = memory.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filling
