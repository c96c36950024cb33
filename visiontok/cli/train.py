"""`visiontok train`: train a model from a recipe."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.resources import configs_folder, yaml_files
from visiontok.cli.completion import complete_recipes
from visiontok.cli.output import print_facts, print_table
from visiontok.cli.ranks import leaving_process_group


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="YAML file, or name of a bundled recipe; without it, list those.", autocompletion=complete_recipes),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides of the recipe, by dotted keys.")] = None,
    resume: Annotated[
        str,
        typer.Option(metavar="auto|none|PATH", help="Resume from the latest checkpoint in the output folder, start anew, or resume from PATH."),
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --resume none: replace the run in the output folder.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Train on the CPU.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take a few steps in memory and print what the run would cost; nothing is written.")
    ] = False,
) -> None:
    """Train a tokenizer or a generator.

    The output folder holds checkpoints, metrics.jsonl, TensorBoard curves, sample images and finally the model in final/. A stopped run
    resumes when the command is repeated. Ctrl-C and SIGTERM save a checkpoint at the end of the current step.

    \b
    Examples:
      visiontok train
      visiontok train my.yaml
      visiontok train my.yaml optimizer.lr=3e-4 model.config.quantizer.codebook_size=1024 output=runs/larger
      visiontok train my.yaml steps=20
      visiontok train my.yaml --dry-run
      visiontok train my.yaml --resume runs/mine/checkpoints/step-00000010
      torchrun --standalone --nproc-per-node 2 -m visiontok train my.yaml output=runs/parallel --cpu
    """
    if recipe is None:
        print_table(("recipe", "what"), [(name, _summary(path)) for name, path in yaml_files(configs_folder(), deep=True).items()])
        return
    if overwrite and resume != "none":
        raise ConfigError("--overwrite requires --resume none")

    from visiontok.training import dry_run as cost
    from visiontok.training import load_recipe
    from visiontok.training import train as run_training

    if dry_run:
        print_facts(cost(load_recipe(recipe, overrides or []), cpu=cpu).facts())
        return
    with leaving_process_group():
        result = run_training(load_recipe(recipe, overrides or []), resume=resume, overwrite=overwrite, cpu=cpu)
    if result.signal is not None:
        typer.echo(f"Stopped after step {result.step}; saved {result.checkpoint}. Repeat the command to resume.", err=True)
        raise typer.Exit(128 + result.signal)
    typer.echo(result.final)


def _summary(path: Path) -> str:
    """The first sentence of the comment at the head of a recipe."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"[.;:] ", comment)[0].rstrip(".")
