"""`visiontok evaluate`: measure tokenizers on a suite; a table on the terminal, a JSON result per model on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import load_tokenizer
from visiontok.cli.output import print_table
from visiontok.errors import ConfigError

if TYPE_CHECKING:
    from visiontok.evaluation import Result


def evaluate(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite (digits, photos) or a YAML file.")],
    model: Annotated[list[str], typer.Option("--model", "-m", help="Name of a tokenizer, owner/name on the hub, or a folder; may be repeated.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results, or a .json file for a single one.")] = Path("eval/results"),
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the suite, for example size=256.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure the reconstructions of tokenizers.

    Every number goes into a JSON file with its protocol, its confidence interval over the images, and what was measured on what. Start it
    with torchrun to divide the images over processes; the numbers stay the same.

    \b
    Examples:
      visiontok evaluate digits --model ./runs/digits
      visiontok evaluate photos --model A --model B -o results
      visiontok evaluate photos --model titok-l32 --set size=256 -o titok-l32.json
      torchrun --nproc-per-node 8 -m visiontok.cli evaluate my-suite.yaml --model ./my-model
    """
    from visiontok.evaluation import evaluate_suite, load_suite

    names = list(dict.fromkeys(model))
    if output.suffix == ".json" and len(names) > 1:
        raise ConfigError(f"{output} is one file, but {len(names)} models were given; name a folder")
    chosen = load_suite(suite, settings or ())
    results = []
    with _processes() as is_first:
        for name in names:
            with _progress(name, shown=is_first) as progress:
                result = evaluate_suite(chosen, load_tokenizer(name, pick_device(device)), name=name, progress=progress)
            results.append(result)
            if is_first:
                path = output if output.suffix == ".json" else output / f"{chosen.name}--{re.sub(r'[^A-Za-z0-9.-]+', '-', name).strip('-.')}.json"
                result.save(path)
                typer.echo(f"{name}: written to {path}", err=True)
    if is_first:
        for pixels in dict.fromkeys(result.data.pixels_sha256 for result in results):
            _show([result for result in results if result.data.pixels_sha256 == pixels])


def _show(results: list[Result]) -> None:
    """The numbers of models that were measured on the same pixels, one column each, and what was published about them elsewhere."""
    labels = list(dict.fromkeys((value.name, value.part) for result in results for value in result.values))
    rows = []
    for label in labels:
        values = [next((value for value in result.values if (value.name, value.part) == label), None) for result in results]
        known = next(value for value in values if value is not None)
        rows.append([known.label, known.unit, *("-" if value is None else value.text for value in values)])
    models = [result.model.name if result.model else "" for result in results]
    print_table(["metric", "unit", *models], rows)
    data = results[0].data
    typer.echo(f"{data.images} images of {data.size[0]} x {data.size[1]} pixels; in brackets the interval over images.")
    for result, name in zip(results, models, strict=True):
        if result.data.skipped_count:
            typer.echo(f"{result.data.skipped_count} images could not be used: {'; '.join(result.data.skipped)}", err=True)
        for metric, reason in result.omitted.items():
            typer.echo(f"{metric} left out for {name}: {reason}", err=True)
        _show_published(name)


def _show_published(name: str) -> None:
    from visiontok import registry

    if name in registry.checkpoints():
        for figure in registry.checkpoints()[name][1].published:
            typer.echo(f"published, not measured here: {name} {figure.metric} {figure.value} on {figure.dataset} ({figure.source})")


@contextmanager
def _processes() -> Iterator[bool]:
    """Join the processes that torchrun started, if it did; gives whether this is the first one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("gloo")  # it carries statistics only, whatever device the models are on
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


@contextmanager
def _progress(name: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
