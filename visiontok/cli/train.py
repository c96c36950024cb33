"""`visiontok train`: from a recipe to a trained model."""

from __future__ import annotations

from typing import Annotated

import typer

from visiontok.base.errors import ConfigError


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="YAML file, or the name of a recipe that comes with visiontok.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, by dotted keys.")] = None,
    resume: Annotated[
        str, typer.Option(metavar="auto|none|PATH", help="Go on from the newest checkpoint of the output folder, start anew, or go on from PATH.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --resume none: replace a run that lies in the output folder.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave the accelerator alone.")] = False,
) -> None:
    """Train a tokenizer or a generator.

    The output folder gets checkpoints, metrics.jsonl, TensorBoard curves, sample pictures and, in the end, the model in final/. The same
    command given again goes on where a stopped run was. Ctrl-C and SIGTERM save a checkpoint at the end of the step.

    \b
    Examples:
      visiontok train my.yaml
      visiontok train my.yaml optimizer.lr=3e-4 model.config.depth=8 output=runs/deeper
      visiontok train my.yaml steps=20000 --resume auto
      visiontok train my.yaml --resume runs/mine/checkpoints/step-00001000
      accelerate launch --num_processes 4 -m visiontok train my.yaml precision=bf16
      torchrun --standalone --nproc-per-node 2 -m visiontok train my.yaml --cpu
    """
    if overwrite and resume != "none":
        raise ConfigError("--overwrite replaces a run, so it needs --resume none")

    import torch

    from visiontok.training import load_recipe
    from visiontok.training import train as run_training

    try:
        result = run_training(load_recipe(recipe, overrides or []), resume=resume, overwrite=overwrite, cpu=cpu)
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if result.signal is not None:
        typer.echo(f"Stopped after step {result.step}; saved {result.checkpoint}. Go on with the same command (--resume auto).", err=True)
        raise typer.Exit(128 + result.signal)
    typer.echo(result.final)
