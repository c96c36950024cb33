"""`visiontok reconstruct`: images, clips, sound and other signals beside their reconstructions."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable
from visiontok.cli.clips import ClipLengthOption, ClipOptions, FpsOption, FramesOption, SizeOption, is_clip, opened_clip
from visiontok.cli.comparison import compare, compare_clip, save_comparison
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import (
    Inputs,
    InputsArgument,
    ModelOption,
    TextOption,
    WindowOption,
    check_files,
    levels_within,
    load_tokenizer,
    set_window,
)
from visiontok.cli.output import file_names, print_table

if TYPE_CHECKING:
    from visiontok.core.tokenizer import Tokenizer
    from visiontok.evaluation.results.report import Section

_SHOWN = 8
"""The most inputs in the report."""


def reconstruct(
    inputs: InputsArgument,
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder, created if missing.")] = Path("reconstructions"),
    num_quantizers: Annotated[
        str | None, typer.Option("--num-quantizers", "--levels", metavar="1,2,4", help="Reconstruct from these numbers of first codebook levels.")
    ] = None,
    bandwidth: Annotated[
        str | None,
        typer.Option(
            "--bandwidth",
            metavar="1.5,3,6",
            help="Of audio codecs, in place of --num-quantizers: reconstruct from the levels that fit into these kilobits per second.",
        ),
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html into the folder.")] = True,
    window: WindowOption = None,
    fps: FpsOption = None,
    frames: FramesOption = None,
    clip_length: ClipLengthOption = None,
    size: SizeOption = None,
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Encode and decode images, clips, sound, or arrays of other signals, and compare them with their reconstructions.

    Writes each image and clip side by side with its reconstructions (clips as mp4, with the sound of the file), and the reconstructions of sound
    as wav files, of other signals as .npy arrays.
    Prints PSNR, of sound SI-SDR, and bits; both are computed between the preprocessed (resized, cropped, resampled) input and the
    reconstruction, with the values that files hold (images at 8 bits, sound at 16). report.html shows the first inputs with their
    differences and codes, and plays sound; it needs no network. Inputs that cannot be read are skipped and reported, and the exit code is
    then 1.

    \b
    Examples:
      visiontok reconstruct photo.jpg --model titok-b64
      visiontok reconstruct *.jpg -m runs/digits/final -o compared
      visiontok reconstruct speech.wav --model encodec-24khz --num-quantizers 1,2,4,8
      visiontok reconstruct speech.wav --model encodec-24khz --bandwidth 1.5,3,6
      visiontok reconstruct clip.mp4 --model emu3-chat-vq-video --fps 8 --clip-length 16
    """
    check_files(inputs, lambda path: _reconstructing(path, model))
    from visiontok.data.media import SUFFIXES
    from visiontok.evaluation.results.report import write_report
    from visiontok.evaluation.results.report.side_by_side import seconds_shown, side_by_side
    from visiontok.signals.writing import writer_of

    if output.suffix.lower() in SUFFIXES and not output.is_dir():
        raise ConfigError(f"{output} is the name of a file; this command writes a folder: use -o {output.with_suffix('')}")
    check_writable(output)
    tokenizer = load_tokenizer(model, pick_device(device), text=text)
    spec, writer, counts = tokenizer.spec, writer_of(tokenizer.spec), _counts(num_quantizers, bandwidth, tokenizer)
    clips = ClipOptions(fps, frames, clip_length, size)
    clips.apply(tokenizer, model)
    set_window(window, tokenizer)
    found = Inputs(inputs, tokenizer)
    names = dict(zip(inputs, file_names([str(path) for path in inputs], writer.suffix), strict=True))
    seconds = seconds_shown(spec, sounds=min(len(inputs), _SHOWN) * (1 + len(counts)))
    rows: list[tuple[str, ...]] = []
    sections: list[Section] = []
    for path in found:
        with found.skipping():
            if is_clip(path, tokenizer):
                with opened_clip(path, tokenizer, clips) as clip:
                    comparison = compare_clip(clip, path, output / names[path], tokenizer, counts, writer)
            else:
                comparison = compare(found.prepared(path), tokenizer, counts, writer, text=text)
                save_comparison(comparison, output / names[path], counts, writer)
            for count, facts in zip(counts, comparison.facts, strict=True):
                rows.append((str(path), *([] if count is None else [str(count)]), *facts.values()))
            if report and len(sections) < _SHOWN:
                decoded = {_label(count, facts): signal for count, facts, signal in zip(counts, comparison.facts, comparison.decoded, strict=True)}
                own = spec.replace(rate=comparison.rate)
                section = side_by_side(str(path), comparison.original, decoded, spec=own, tokens=comparison.tokens, seconds=seconds)
                sections += [] if section is None else [section]
    if rows:
        print_table(("input", *([] if counts == [None] else ["levels"]), *facts), rows)
        typer.echo(f"{'Originals and reconstructions side by side' if writer.side_by_side else 'Reconstructions'} in {output}")
    if sections:
        summary = "" if len(sections) == len(inputs) else f"The first {len(sections)} of {len(inputs)} inputs."
        write_report(output / "report.html", f"Reconstructions by {model}", sections, summary=summary)
        typer.echo(f"Report: {output / 'report.html'}")
    found.finish()


def _counts(text: str | None, bandwidths: str | None, tokenizer: Tokenizer[Any]) -> Sequence[int | None]:
    """The numbers of codebook levels; None for all of them."""
    if bandwidths is not None:
        if text is not None:
            raise ConfigError(f"--num-quantizers {text} and --bandwidth {bandwidths} both say how many levels: give one")
        try:
            rates = [float(word) for word in bandwidths.split(",")]
        except ValueError as error:
            raise ConfigError(f"--bandwidth {bandwidths}: expected kilobits per second, such as 1.5,3,6") from error
        return sorted({levels_within(rate, tokenizer) for rate in rates})
    if text is None:
        return [None]
    supported = [*tokenizer.levels_supported]
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not word.isdecimal() or int(word) not in supported]
    if wrong:
        raise ConfigError(f"--num-quantizers {text}: {wrong[0]!r} is no number of codebook levels that decode: {', '.join(map(str, supported))}")
    return sorted({int(word) for word in words})


def _label(count: int | None, facts: dict[str, str]) -> str:
    """Of a reconstruction in the report."""
    name = "reconstruction" if count is None else f"{count} level{'s' if count > 1 else ''}"
    rate = f", {facts['kbit/s']} kbit/s" if facts.get("kbit/s", "-") != "-" else ""
    decibels = [f", {column.removesuffix(' (dB)')} {value} dB" for column, value in facts.items() if column.endswith(" (dB)") and value != "-"]
    return "".join([name, rate, *decibels])


def _reconstructing(path: Path, model: str) -> str:
    """The command for the files in a folder; for data sets, the one that evaluates reconstructions."""
    if not path.is_dir():
        return shlex.join(["visiontok", "evaluate", "photos", "--set", f"data={path.absolute()}", "--model", model])
    suffixes = Counter(file.suffix for file in path.iterdir() if file.is_file() and file.suffix)
    pattern = f"*{suffixes.most_common(1)[0][0]}" if suffixes else "*"
    return f"visiontok reconstruct {shlex.quote(str(path))}/{pattern} --model {shlex.quote(model)}"
