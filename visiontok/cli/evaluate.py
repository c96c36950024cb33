"""`visiontok evaluate`: measure tokenizers on a suite; a table on the terminal, a JSON result per model and one page on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiontok.base.errors import ConfigError
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import load_for_data
from visiontok.cli.output import print_table
from visiontok.cli.ranks import processes, progress_bar

if TYPE_CHECKING:
    from visiontok.evaluation import Result


def evaluate(
    suite: Annotated[str | None, typer.Argument(metavar="SUITE", help="Name of a suite (digits, photos) or a YAML file.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Name of a tokenizer, owner/name on the hub, or a folder; may be repeated.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results, or a .json file for a single one.")] = Path("eval/results"),
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the suite, for example size=256.")] = None,
    lengths: Annotated[str | None, typer.Option(metavar="1,2,4", help="Measure at these numbers of first tokens.")] = None,
    repeat: Annotated[Path | None, typer.Option("--repeat", metavar="RESULT", help="Measure this result again and tell what changed.")] = None,
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", "-t", help="Of a generator: the tokenizer that decodes.")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Generated pictures: a folder or an .npz file. With --model they are sampled into it first.")
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="Put the results on the model card; for models in a local folder.")] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write an HTML page beside the results.")] = True,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures; 0 reads in a thread.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Measure the reconstructions of tokenizers, or the samples of generators.

    Every number goes into a JSON file with its protocol, its confidence interval over the images, and what was measured on what; an HTML
    page shows them side by side, with the best and the worst reconstructions. Start it with torchrun to divide the images over processes;
    the numbers stay the same. After an interruption, the same command goes on where it stopped.

    Suites with `task: generation` measure given --samples, also those of other people's samplers, or sample them first from a generator, in
    the number and order of classes that the suite says; what lies there already is not sampled again.

    --repeat takes suite and models from a result (of reconstructions, of generated pictures, or of `evaluate rd`), measures again and prints
    what changed; it ends with exit code 1 if a number did. Pictures that were given are given again with --samples.

    \b
    Examples:
      visiontok evaluate digits --model runs/digits/final --card
      visiontok evaluate photos --model vqgan-photos-f4 --model runs/photos/final -o results
      visiontok evaluate photos --model titok-l32 --set size=256 -o titok-l32.json
      visiontok evaluate digits-generation -m runs/digits-gpt/final -t runs/digits/final --samples digits.npz
      visiontok evaluate --repeat results/photos--vqgan-photos-f4.json
      torchrun --standalone --nproc-per-node 2 -m visiontok evaluate my-suite.yaml --model runs/digits/final
    """
    from visiontok.cli.evaluate_again import repeat as evaluate_again
    from visiontok.cli.evaluate_generated import evaluate_generated
    from visiontok.evaluation import Suite
    from visiontok.evaluation.reconstruction.session import evaluate_models, report_path
    from visiontok.evaluation.suites import load_any_suite

    if repeat is not None:
        if suite is not None or settings or lengths:
            raise ConfigError("--repeat takes everything from the result; leave out SUITE, --set and --lengths")
        evaluate_again(repeat, [*dict.fromkeys(model or ())], tokenizer, samples, pick_device(device))
        return
    names = list(dict.fromkeys(model or ()))
    if card and not (names and all(Path(name).is_dir() for name in names)):
        raise ConfigError(f"--card writes into the folder of a model, but {', '.join(names) or 'no model'} is none; give --model FOLDER or omit it")
    if suite is None:
        raise ConfigError("name a suite, for example: visiontok evaluate photos --model vqgan-photos-f4")
    chosen = load_any_suite(suite, [*(settings or ()), *([f"lengths=[{lengths}]"] if lengths else [])])
    place = pick_device(device)
    if not isinstance(chosen, Suite):
        with processes() as is_first:
            result = evaluate_generated(chosen, names, tokenizer, samples, output, place, shown=is_first, report=report)
        if result is not None:
            _show([result])
            if card:
                _put_on_card(names[0], result)
        return
    if tokenizer is not None or samples is not None:
        raise ConfigError(f"--tokenizer and --samples belong to suites of generated pictures; {suite} measures reconstructions")
    if not names:
        raise ConfigError(f"name at least one model, for example: visiontok evaluate {suite} --model vqgan-photos-f4")
    if output.suffix == ".json" and len(names) > 1:
        raise ConfigError(f"{output} is one file, but {len(names)} models were given; name a folder")
    with processes() as is_first:
        results = evaluate_models(
            chosen,
            names,
            load=lambda name: load_for_data(name, place),
            output=output,
            progress=lambda name: progress_bar(name, shown=is_first),
            report=report,
            num_workers=workers,
        )
    if not is_first:
        return
    for path, result in results:
        typer.echo(f"{result.model.name if result.model else 'samples'}: written to {path}", err=True)
    if card:
        for name, (_, result) in zip(names, results, strict=True):
            _put_on_card(name, result)
    if report:
        typer.echo(f"report: {report_path(output, chosen)}", err=True)
    for pixels in dict.fromkeys(result.data.pixels_sha256 for _, result in results):
        _show([result for _, result in results if result.data.pixels_sha256 == pixels])


def _put_on_card(folder: str, result: Result) -> None:
    from visiontok.evaluation.results.card import card_results
    from visiontok.hub import add_results

    add_results(folder, card_results(result))


def _show(results: list[Result]) -> None:
    """The numbers of models that were measured on the same pixels, one column each, and what was published about them elsewhere."""
    places = list(dict.fromkeys(value.place for result in results for value in result.values))
    rows = []
    for place in places:
        values = [next((value for value in result.values if value.place == place), None) for result in results]
        known = next(value for value in values if value is not None)
        rows.append([known.label, known.unit, *("-" if value is None else value.text for value in values)])
    models = [result.model.name if result.model else "samples" for result in results]
    print_table(["metric", "unit", *models], rows)
    data = results[0].data
    typer.echo(f"{data.images} images of {data.size[0]} x {data.size[1]} pixels; in brackets the interval over images.")
    if data.skipped_count:
        typer.echo(f"{data.skipped_count} images could not be used: {'; '.join(data.skipped)}", err=True)
    for result in results:
        if result.generated_skipped:
            typer.echo(f"{len(result.generated_skipped)} samples could not be read: {'; '.join(result.generated_skipped)}", err=True)
    for result, name in zip(results, models, strict=True):
        for metric, reason in result.omitted.items():
            typer.echo(f"{metric} left out for {name}: {reason}", err=True)
        _show_published(name)


def _show_published(name: str) -> None:
    from visiontok import registry

    if name in registry.checkpoints():
        for figure in registry.checkpoints()[name][1].published:
            typer.echo(f"published, not measured here: {name} {figure.metric} {figure.value} on {figure.dataset} ({figure.source})")
