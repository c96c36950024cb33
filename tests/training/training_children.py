"""What the training tests run in other processes."""

import contextlib
import copy
import io
import os
import signal
import sys
import time

import torch
from accelerate import Accelerator
from forked import free_port, join, start

from visiontok.cli.ranks import leaving_process_group
from visiontok.data import token_dataset
from visiontok.layers.block import recompute_activations
from visiontok.training import parse_recipe, train
from visiontok.training.build import build_task
from visiontok.training.checkpoint import save_checkpoint
from visiontok.training.generator_task import GeneratorTask
from visiontok.training.sharding import own_part, shard, whole


def run(recipe, resume="auto", window_bytes=None):
    """Train quietly; with `window_bytes` on token sets that are shuffled in windows of that size."""
    torch.set_num_threads(1)
    if window_bytes is not None:
        token_dataset.WINDOW_BYTES = window_bytes
    with contextlib.redirect_stderr(io.StringIO()):
        train(parse_recipe(recipe), resume=resume, cpu=True)


def run_command(*arguments):
    """The command line, with its exit code, in a process group of its own."""
    os.setsid()
    torch.set_num_threads(1)
    from visiontok.cli import main

    sys.argv = ["visiontok", *arguments]
    main()


def run_rank(recipe, rank, world_size, port, folder, poison_step):
    """One of several processes; leaves its weights, what it holds of them, and the error if there was one, in `folder`."""
    join(rank, world_size, port)
    with leaving_process_group():
        tasks = []

        def build(recipe, accelerator):
            tasks.append(build_task(recipe, accelerator))
            if poison_step is not None and rank == 1:
                poison(tasks[0], poison_step)
            return tasks[0]

        with contextlib.redirect_stderr(io.StringIO()):
            try:
                train(parse_recipe(recipe), build=build, cpu=True)
            except Exception as error:
                (folder / f"error-{rank}.txt").write_text(f"{type(error).__name__}: {error}")
        torch.save({name: own_part(tensor).detach() for name, tensor in tasks[0].updater.module.named_parameters()}, folder / f"{rank}-own.pt")
        torch.save(tasks[0].state()["model"], folder / f"{rank}.pt")


def shard_every_generator(precision, rank, world_size, port, folder):
    """Sharded generators that compute their blocks again, against whole ones, on the same batch; leaves the largest differences in `folder`."""
    from small_generators import GENERATORS, small_generator, training_step  # which every child would import

    join(rank, world_size, port)
    with leaving_process_group():
        accelerator = Accelerator(mixed_precision=precision, cpu=True)
        dtype = {"no": torch.float32, "bf16": torch.bfloat16}[precision]
        differences = {}
        for name in GENERATORS:
            plain, batch = small_generator(name)
            sharded = copy.deepcopy(plain)
            recompute_activations(sharded)
            shard(sharded, accelerator)
            loss, same_loss = (training_step(model, batch, dtype) for model in (plain, sharded))
            pairs = zip(plain.parameters(), sharded.parameters(), strict=True)
            errors = [(whole(part.grad) - full.grad).norm() / (1e-3 + full.grad.norm()) for full, part in pairs]
            differences[name] = float((loss - same_loss).abs()), float(max(errors))
        torch.save(differences, folder / f"{rank}.pt")


def write_checkpoints(root, step):
    """Write one checkpoint after another, until killed."""
    torch.set_num_threads(1)
    while True:
        step += 1
        state = {name: {"x": torch.full((50_000,), float(step))} for name in "abcd"}
        save_checkpoint(root, step=step, state=state, recipe={}, keep_last=2)


def poison(task, step):
    """Make the loss of a generator, or the reconstruction term of a tokenizer, NaN at one step."""
    owner, method = (task.model, "loss") if isinstance(task, GeneratorTask) else (task.objective, "generator_terms")
    terms = getattr(owner, method)

    def poisoned(*arguments, **options):
        values = terms(*arguments, **options)
        name = "loss" if "loss" in values else "reconstruction"
        return {**values, name: values[name] * float("nan")} if options["step"] == step else values

    setattr(owner, method, poisoned)


def run_ranks(recipe, folder, *, world_size=2, poison_step=None, stop_rank=None, stop_when=None):
    """Train in several processes on this machine; returns the weights of every rank. One of them may get SIGTERM when something is so."""
    folder.mkdir()
    port = free_port()
    ranks = [start(run_rank, recipe, rank, world_size, port, folder, poison_step) for rank in range(world_size)]
    if stop_rank is not None:
        while not stop_when():
            assert all(rank.exitcode is None for rank in ranks)
            time.sleep(0.01)
        os.kill(ranks[stop_rank].pid, signal.SIGTERM)
    for rank in ranks:
        rank.join(120)
        assert rank.exitcode == 0
    errors = [path.read_text() for path in folder.glob("error-*.txt")]
    assert len(errors) == (0 if poison_step is None else world_size), errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world_size)]
