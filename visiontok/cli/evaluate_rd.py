"""`visiontok evaluate rd`: quality against tokens and bits, as curves, numbers and samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable
from visiontok.base.printable import printable_lines
from visiontok.cli.completion import complete_suites, complete_tokenizers
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import load_for_data, registered_spellings
from visiontok.cli.output import print_notes, print_table, refuse_failures
from visiontok.cli.ranks import progress_bar

if TYPE_CHECKING:
    from visiontok.evaluation.reconstruction.rate_distortion import Curve


def evaluate_rd(
    suite: Annotated[
        str, typer.Argument(metavar="[SUITE]", help="Name of a suite (digits, photos) or a YAML file.", autocompletion=complete_suites)
    ] = "photos",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A tokenizer of flexible length, or of any; may be repeated.",
            show_default=False,
            callback=registered_spellings,
            autocompletion=complete_tokenizers,
        ),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option(
            "--fixed",
            help="A tokenizer to draw as one point, with all its tokens.",
            callback=registered_spellings,
            autocompletion=complete_tokenizers,
        ),
    ] = None,
    lengths: Annotated[str | None, typer.Option(metavar="1,2,4", help="Numbers of tokens; by default powers of two.")] = None,
    levels: Annotated[
        str | None, typer.Option(metavar="1,2,4", help="Numbers of codebook levels instead of lengths; of residual quantizers by default all.")
    ] = None,
    max_loss: Annotated[str | None, typer.Option("--max-loss", metavar="0.05,0.1", help="Target errors (mean absolute) instead of lengths.")] = None,
    examples: Annotated[int, typer.Option(min=1, max=32, help="Samples to show at every setting.")] = 6,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the JSON file and the HTML page.")] = Path("eval/results"),
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the suite, for example size=256.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Plot quality against the number of tokens and bits.

    Ordered tokenizers are evaluated on their first tokens or at target errors, residual ones on their first codebook levels, those that choose their
    number of tokens (KARL) at target errors or at exact numbers of tokens, all others as one point. Every quality that the suite names is drawn, PSNR
    and SSIM if it names none. A warning says where more tokens are worse. Writes SUITE-rd.json and SUITE-rd.html. An interrupted command resumes
    when it is repeated.

    \b
    Examples:
      visiontok evaluate rd --model runs/flextok/final --lengths 1,2,4,8,16
      visiontok evaluate rd digits --model runs/karl/final --max-loss 0.02,0.05,0.1
      visiontok evaluate rd -m flextok-d18-d28-in1k --fixed titok-l32 --set size=256 --lengths 1,4,16,64,256
    """
    from visiontok.evaluation import load_suite
    from visiontok.evaluation.reconstruction.rate_distortion import RateDistortion, Settings, evaluate_curve, rate_suite
    from visiontok.evaluation.reconstruction.rate_distortion_report import write_rate_distortion_report
    from visiontok.evaluation.run_state import RunStates

    if not model and not fixed:
        raise ConfigError("name at least one tokenizer, for example: visiontok evaluate rd --model ./runs/flextok --lengths 1,2,4")
    given = [option for option, value in (("--lengths", lengths), ("--levels", levels), ("--max-loss", max_loss)) if value is not None]
    if len(given) > 1:
        raise ConfigError(f"give one of {' and '.join(given)}, not {'both' if len(given) == 2 else 'all'}: each says how many tokens are decoded")
    check_writable(output)
    chosen = rate_suite(load_suite(suite, settings or ()))
    varied = Settings(
        lengths=None if lengths is None else tuple(map(int, _numbers(lengths, "--lengths", whole=True))),
        levels=None if levels is None else tuple(map(int, _numbers(levels, "--levels", whole=True))),
        max_losses=None if max_loss is None else _numbers(max_loss, "--max-loss", whole=False),
    )
    requested = [*((name, varied) for name in model or ()), *((name, Settings.none()) for name in fixed or ())]
    curves, galleries = [], []
    states = RunStates(output)
    for name, each in requested:
        curve, gallery = evaluate_curve(
            chosen,
            load_for_data(name, pick_device(device)),
            each,
            name=name,
            examples=examples,
            progress=lambda label: progress_bar(label, shown=True),
            states=states,
        )
        curves.append(curve)
        galleries.append(gallery)
    written = output / f"{chosen.name}-rd.json"
    RateDistortion(curves=tuple(curves)).save(written)
    write_rate_distortion_report(written.with_suffix(".html"), curves, galleries)
    states.clear()
    _show(curves)
    results = [result for curve in curves for result in curve.results]
    print_notes(results)
    for curve in curves:
        for fall in curve.falls:
            typer.echo(printable_lines(f"warning: {curve.model}: {fall}"), err=True)
    data = results[0].data
    typer.echo(f"{data.source}: {data.in_words}; written to {written}, report: {written.with_suffix('.html')}", err=True)
    refuse_failures(results)


def _show(curves: list[Curve]) -> None:
    from visiontok.evaluation.reconstruction.rate_distortion_report import qualities, shown

    names = qualities(curves)
    rows = []
    for curve in curves:
        for point in curve.points:
            numbers = [shown(point.qualities.get(name)) for name in names]
            rows.append([curve.model, point.label, f"{point.tokens:.4g}", f"{point.bits:.5g}", *numbers])
    print_table(["model", "setting", "tokens", "bits", *names], rows)


def _numbers(text: str, option: str, *, whole: bool) -> tuple[float, ...]:
    """The positive numbers of a list such as `1,2,4`, each once, rising."""
    try:
        numbers = sorted({float(int(part)) if whole else float(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or not 0 < numbers[0] <= numbers[-1] < float("inf"):
        raise ConfigError(
            f"{option} {text!r} is not a list of positive {'whole ' if whole else ''}numbers, such as {'1,2,4' if whole else '0.05,0.1'}"
        )
    return tuple(numbers)
