"""`visiontok evaluate`: evaluate tokenizers or generators on a suite; a table on the terminal, a JSON result per model and one page on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable
from visiontok.cli.completion import complete_generators, complete_models, complete_suites, complete_tokenizers
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import AllowOtherOption, load_for_data, load_generator, load_tokenizer, registered_spelling, registered_spellings
from visiontok.cli.output import print_notes, print_table, refuse_failures
from visiontok.cli.ranks import processes, progress_bar

if TYPE_CHECKING:
    import torch

    from visiontok.evaluation import GenerationSuite, Result, Suite


def evaluate(
    suite: Annotated[
        str | None,
        typer.Argument(metavar="SUITE", help="Name of a suite (digits, photos, token-density) or a YAML file.", autocompletion=complete_suites),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Name of a model, owner/name on the hub, folder, or training run; may be repeated.",
            callback=registered_spellings,
            autocompletion=complete_models,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results, or a .json file for a single one.")] = Path("eval/results"),
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the suite, for example size=256.")] = None,
    lengths: Annotated[str | None, typer.Option(metavar="1,2,4", help="Evaluate at these numbers of first tokens.")] = None,
    levels: Annotated[str | None, typer.Option(metavar="1,2,4", help="Evaluate at these numbers of first codebook levels.")] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            "-g",
            help="A model of the tokenizer's tokens, for bits under a prior.",
            callback=registered_spelling,
            autocompletion=complete_generators,
        ),
    ] = None,
    repeat: Annotated[Path | None, typer.Option("--repeat", metavar="RESULT", help="Evaluate this result again and list what changed.")] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            "-t",
            help="Of a generator: the tokenizer that decodes.",
            callback=registered_spelling,
            autocompletion=complete_tokenizers,
        ),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Generated samples: a folder or an .npz file. With --model they are sampled into it first.")
    ] = None,
    allow_other_tokenizer: AllowOtherOption = False,
    card: Annotated[bool, typer.Option("--card", help="Put the results on the model card; for models in a local folder.")] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write an HTML page beside the results.")] = True,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read samples; 0 reads in a thread.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Evaluate tokenizers and their reconstructions, or the samples of generators.

    Writes a JSON file with every value, its protocol, its confidence interval over the samples, and the model and data it belongs to; Parquet files
    with the values of single samples; and an HTML page with the models side by side and the best and worst reconstructions. Metrics
    that do not apply to a model are omitted, with the reason. Start it with torchrun to divide the samples over processes; the values stay the same.
    An interrupted command resumes when it is repeated.

    Suites with `task: generation` evaluate existing --samples, of any sampler, or first sample them from a generator, in the number and order of
    classes that the suite defines; existing samples are not sampled again.

    --repeat takes suite and models from a result (of a tokenizer, of generated samples, or of `evaluate rd`), evaluates again and prints what
    changed; the exit code is 1 if a value did. If the samples were existing ones, name them again with --samples.

    \b
    Examples:
      visiontok evaluate digits --model runs/digits/final --card
      visiontok evaluate photos --model vqgan-photos-f4 --model runs/photos/final -o results
      visiontok evaluate photos --model titok-l32 --set size=256 -o titok-l32.json
      visiontok evaluate token-density --model runs/digits/final --generator runs/digits-gpt/final
      visiontok evaluate digits-generation -m runs/digits-gpt/final -t runs/digits/final --samples digits.npz
      visiontok evaluate --repeat results/photos--vqgan-photos-f4.json
      torchrun --standalone --nproc-per-node 2 -m visiontok evaluate my-suite.yaml --model runs/digits/final
    """
    from visiontok.cli.evaluate_again import repeat as evaluate_again
    from visiontok.evaluation import Suite, load_any_suite
    from visiontok.evaluation.suites import list_suites

    if repeat is not None:
        if suite is not None or settings or lengths or levels:
            raise ConfigError("--repeat takes everything from the result; omit SUITE, --set, --lengths and --levels")
        evaluate_again(repeat, model or [], generator, tokenizer, samples, pick_device(device))
        return
    names = model or []
    if card and (others := [name for name in names if not Path(name).is_dir()] or ([] if names else ["no model"])):
        raise ConfigError(f"--card writes into the folder of a model, but {', '.join(others)} is none; give --model FOLDER or omit it")
    if suite is None:
        raise ConfigError(f"name a suite ({', '.join(list_suites())}), for example: visiontok evaluate photos --model vqgan-photos-f4")
    check_writable(output)
    cut = [f"{name}=[{numbers}]" for name, numbers in (("lengths", lengths), ("levels", levels)) if numbers]
    chosen = load_any_suite(suite, [*(settings or ()), *cut])
    if isinstance(chosen, Suite):
        if tokenizer is not None or samples is not None:
            raise ConfigError(f"--tokenizer and --samples belong to suites of generated samples; {suite} evaluates tokenizers")
        prior = (generator, allow_other_tokenizer)
        results = _tokenizers(chosen, names, prior, output, pick_device(device), report=report, workers=workers)
    else:
        if generator is not None:
            raise ConfigError(f"--generator belongs to suites that evaluate tokenizers; {suite} evaluates generated samples: give --model")
        decoder = (tokenizer, allow_other_tokenizer)
        results = _generated(chosen, names, decoder, samples, output, pick_device(device), report=report)
    if card:
        for name, result in zip(names, results, strict=False):
            _put_on_card(name, result)
    for samples_sha256 in dict.fromkeys(result.data.samples_sha256 for result in results):
        _show([result for result in results if result.data.samples_sha256 == samples_sha256])
    refuse_failures(results)


def _tokenizers(
    suite: Suite, names: list[str], prior: tuple[str | None, bool], output: Path, device: torch.device, *, report: bool, workers: int
) -> list[Result]:
    """Evaluate each model, perhaps under a prior, which may be another tokenizer's; no results in all processes but the first."""
    from visiontok.data.config import describe_source, open_source
    from visiontok.evaluation import NamedGenerator
    from visiontok.evaluation.reconstruction.evaluate import evaluate_models, report_path

    if not names:
        raise ConfigError(f"name at least one model, for example: visiontok evaluate {suite.name} --model vqgan-photos-f4")
    if output.suffix == ".json" and len(names) > 1:
        raise ConfigError(f"{output} is one file, but {len(names)} models were given; name a folder")
    with processes() as is_first:
        source = open_source(suite.data)
        if is_first:
            typer.echo(describe_source(suite.data, source), err=True)
        generator, allow_other_tokenizer = prior
        results = evaluate_models(
            suite,
            names,
            load=lambda name: load_for_data(name, device),
            output=output,
            progress=lambda name: progress_bar(name, shown=is_first),
            generator=None if generator is None else NamedGenerator(generator, load_generator(generator, device)),
            allow_other_tokenizer=allow_other_tokenizer,
            report=report,
            num_workers=workers,
            source=source,
        )
    if not is_first:
        return []
    for path, result in results:
        typer.echo(f"{result.title}: written to {path}", err=True)
    if report:
        typer.echo(f"report: {report_path(output, suite)}", err=True)
    return [result for _, result in results]


def _generated(
    suite: GenerationSuite,
    names: list[str],
    decoder: tuple[str | None, bool],
    samples: Path | None,
    output: Path,
    device: torch.device,
    *,
    report: bool,
) -> list[Result]:
    """Sample if a generator is given, with a decoder that may be another tokenizer than its own, and evaluate.

    There are no results in all processes but the first.
    """
    from visiontok.evaluation.generation.evaluate import SampleMaker, evaluate_generated
    from visiontok.evaluation.results.result import result_path

    tokenizer, allow_other_tokenizer = decoder
    if len(names) > 1:
        raise ConfigError("a suite of generated samples evaluates one generator at a time")
    if not names and samples is None:
        raise ConfigError(f"{suite.name} evaluates generated samples: give --samples, or --model and --tokenizer to sample them")
    if names and tokenizer is None:
        raise ConfigError(f"sampling from {names[0]} needs --tokenizer")
    path = result_path(output, suite.name, names[0] if names else str(samples))
    with processes() as is_first:
        maker = None
        if names and tokenizer is not None:
            maker = SampleMaker(load_generator(names[0], device), load_tokenizer(tokenizer, device), names[0], tokenizer, allow_other_tokenizer)
        are_clips = maker is not None and maker.spec.modality == "video"
        where = samples or path.with_suffix(".npz" if are_clips else "")
        result = evaluate_generated(
            suite, where, path, maker=maker, device=device, progress=lambda label: progress_bar(label, shown=is_first), report=report
        )
    if result is None:
        return []
    typer.echo(f"samples in {where}, compared with {result.data.source}; written to {path}", err=True)
    return [result]


def _put_on_card(folder: str, result: Result) -> None:
    from visiontok.evaluation.results.card import card_results
    from visiontok.hub import add_results

    add_results(folder, card_results(result))


def _show(results: list[Result]) -> None:
    """The numbers of models on the same samples, one column each, and what was published about them elsewhere."""
    keys = list(dict.fromkeys(value.key for result in results for value in result.values))
    rows = []
    for key in keys:
        values = [next((value for value in result.values if value.key == key), None) for result in results]
        known = next(value for value in values if value is not None)
        rows.append([known.label, known.unit, *("-" if value is None else value.text for value in values)])
    print_table(["metric", "unit", *(result.title for result in results)], rows)
    data = results[0].data
    typer.echo(f"{data.source}: {data.in_words}; in brackets the interval over samples.")
    if data.skipped_count:
        typer.echo(f"{data.skipped_count} sample{'s' if data.skipped_count != 1 else ''} could not be used: {'; '.join(data.skipped)}", err=True)
    for result in results:
        if result.generated_skipped:
            typer.echo(f"{len(result.generated_skipped)} samples could not be read: {'; '.join(result.generated_skipped)}", err=True)
    print_notes(results)
    for result in results:
        _show_published(result.title)


def _show_published(name: str) -> None:
    from visiontok import registry

    if name in registry.checkpoints():
        for figure in registry.checkpoints()[name][1].published:
            typer.echo(f"published, not computed here: {name} {figure.metric} {figure.value} on {figure.dataset} ({figure.source})")
