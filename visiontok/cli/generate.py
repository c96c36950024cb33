"""`visiontok generate`: sample tokens from a generator and decode them to images, clips or sound."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable, clear_stale
from visiontok.base.locks import exclusive
from visiontok.cli.completion import complete_drafters, complete_generators, complete_tokenizers
from visiontok.cli.continuation import Continuation, continuation
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import AllowOtherOption, load_drafter, load_generator, load_tokenizer, registered_spelling
from visiontok.cli.output import save_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from visiontok.core.identity import TokenizerIdentity
    from visiontok.core.tokenizer import Tokenizer
    from visiontok.generators.base import Generator
    from visiontok.generators.decoding import DraftedSampler
    from visiontok.generators.eagle.model import EagleDrafter
    from visiontok.generators.gpt.model import GPT
    from visiontok.signals import SignalSpec
    from visiontok.signals.writing import SignalWriter
    from visiontok.tokens import Tokens

_OVERVIEWS = {".png": "an image", ".mp4": "a clip"}
"""Suffixes of files that show all samples together."""
_GRID = 64
"""Maximum number of images in the grid of a folder."""
_STRIPS = 8
"""Maximum number of rows of a folder's strip of steps."""


def generate(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Generator: name (see `visiontok list`), owner/name on the hub, folder, or training run.",
            callback=registered_spelling,
            autocompletion=complete_generators,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .png file for one grid of all images, .mp4 of all clips; else a folder, created if missing.")
    ],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            "-t",
            help="Tokenizer that decodes; by default the one whose tokens the generator was trained on.",
            callback=registered_spelling,
            autocompletion=complete_tokenizers,
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", "-c", help="Class, by index or name; may be given several times, used in turn. By default every class."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="Caption, for generators that read one; may be given several times, used in turn.")] = None,
    continued: Annotated[
        list[Path] | None,
        typer.Option(
            "--continue", help="Clip that samples begin with, for generators of clips; may be given several times, used in turn.", metavar="CLIP"
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", min=1, help="Begin with the first N frames of such a clip, as far as they are whole tokens; by default all.", metavar="N"
        ),
    ] = None,
    num: Annotated[int, typer.Option("--n", "-n", min=1, help="Number of images.")] = 16,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance scale.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k most likely tokens; 0 keeps all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling: smallest set of tokens of this total probability; 1 keeps all.")] = None,
    drafter: Annotated[
        str | None,
        typer.Option(
            help="Smaller generator of the same tokens, or an eagle trained for the generator: the same distribution in fewer passes.",
            callback=registered_spelling,
            autocompletion=complete_drafters,
        ),
    ] = None,
    draft_length: Annotated[int, typer.Option(min=1, help="Tokens that the drafter proposes per pass.")] = 4,
    draft_tree: Annotated[
        Literal["none", "eagle", "lantern", "dynamic"],
        typer.Option(help="What the drafter proposes: one sequence of --draft-length, EAGLE's or LANTERN++'s static tree, or EAGLE-2's dynamic one."),
    ] = "none",
    int8: Annotated[
        bool, typer.Option("--int8", help="Round the weights to 8 bits: faster for one image at a time on a CPU, and not the same images.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Number of decoding steps of masked generators.")] = None,
    steps_strip: Annotated[
        bool,
        typer.Option(
            "--steps-strip",
            help="Images from their first 1, 2, 4 ... tokens, where prefixes decode: in the file instead of the grid, in a folder as steps.png.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed. The images do not depend on the batch size.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    allow_other_tokenizer: AllowOtherOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Sample images or other signals: a generator draws tokens, and a tokenizer decodes them.

    A .png file gets one grid of all images, a .mp4 file one of all clips. A folder gets one PNG per image, grid.png with the first 64 of them, and
    tokens.npz, which `visiontok decode` reads; clips become mp4 files there, with grid.mp4, sound becomes wav files, and other signals .npy arrays.
    Clips of one frame are images.
    Where clips are continued, report.html there shows them as they really go on and as samples do, moving and frame by frame; it needs no network.
    Sampling parameters default to the generator's configuration. Samples that continue clips have no class unless --class is given.

    \b
    Examples:
      visiontok generate --model maskgit-titok-l32 --class 207 --n 4 --seed 0 -o grid.png
      visiontok generate -m runs/digits-gpt/final -t runs/digits/final --class 3 --class 7 --guidance 2 --top-k 100 -o digits
      visiontok generate -m runs/captions-gpt/final -t runs/flextok/final --text "a red circle" --n 4 -o circles.png
      visiontok generate -m runs/flextok-gpt/final -t runs/flextok/final --n 4 --steps-strip -o strip.png
      visiontok generate -m runs/clip-gpt/final -t runs/clip/final --continue clip.mp4 --frames 5 --n 4 -o continued.mp4
    """
    from visiontok.core.identity import check_same_tokenizer, identify
    from visiontok.layers.int8_linear import round_weights
    from visiontok.signals.stills import shown_spec
    from visiontok.signals.writing import writer_of

    check_writable(output)
    chosen_device = pick_device(device)
    generator = load_generator(model, chosen_device)
    if int8:
        round_weights(generator)
    tokenizer = tokenizer or _tokenizer_of(generator, model)
    decoder = load_tokenizer(tokenizer, chosen_device)
    if not decoder.layout.accepts(generator.layout):
        raise ConfigError(f"{model} generates tokens of another layout than {tokenizer} decodes: {generator.layout} instead of {decoder.layout}")
    own = identify(decoder, tokenizer)
    check_same_tokenizer(generator.config.tokenizer, own, what=f"the generator {model}", allow_other=allow_other_tokenizer)
    if frames is not None and not continued:
        raise ConfigError(f"--frames {frames} is of the clips that are continued: give one with --continue")
    labels = None if continued and not classes else _labels(generator, classes, num)
    options = {"guidance": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p, "num_steps": steps}
    sampler = _sampler(generator, {name: value for name, value in options.items() if value is not None}, model)
    if drafter is not None:
        sampler = _drafted(sampler, load_drafter(drafter, chosen_device), draft_tree, draft_length, model)
    known = None
    if continued:
        known = continuation(continued, frames=frames, generator=generator, tokenizer=decoder, name=model)
    generator.check_sampler(sampler, unconditional=labels is None and (known is None or not known.is_condition))
    condition = _condition(generator, labels, text)
    if steps_strip and decoder.layout.prefixes == "none":
        raise ConfigError(f"--steps-strip decodes prefixes, and {tokenizer} decodes all {generator.layout.length} tokens of a sample or none")
    spec = decoder.spec if known else shown_spec(decoder.spec, generator.layout.signal_shape)  # what is continued is shown as clips
    batches = _batches(generator, decoder, condition, known, sampler, spec, num=num, batch_size=batch_size, seed=seed)
    writer = writer_of(spec)
    if output.suffix.lower() in _OVERVIEWS:
        if writer.suffix != output.suffix.lower():
            kind = _OVERVIEWS[output.suffix.lower()]
            raise ConfigError(f"{output} is {kind}, and {tokenizer} decodes to {spec.modality}: give --output a folder")
        written = _write_file(batches, decoder, output, writer, steps_strip=steps_strip)
    else:
        written = _write_folder(batches, decoder, own, labels, output, writer, num=num, steps_strip=steps_strip, known=known)
    typer.echo(written)
    if drafter is not None:
        typer.echo(f"{sampler.acceptance_length:.2f} steps per pass of {model}")


def _batches(
    generator: Generator[Any],
    decoder: Tokenizer[Any],
    condition: Callable[[Sequence[int]], Any],
    known: Continuation | None,
    sampler: Any,
    spec: SignalSpec,
    *,
    num: int,
    batch_size: int,
    seed: int,
) -> Iterator[tuple[range, Any, Tensor]]:
    """Numbers of samples, their tokens, and their signals as they are shown, on the CPU. Every sample has draws of its own."""
    from rich.console import Console
    from rich.progress import track

    from visiontok.generators.decoding import SampleNoise
    from visiontok.signals.stills import shown

    console = Console(stderr=True)
    for start in track(range(0, num, batch_size), "Sampling", console=console, disable=not console.is_terminal):
        rows = range(start, min(start + batch_size, num))
        given = {"condition": condition(rows), **({} if known is None else known.given(rows))}
        count = len(rows) if given["condition"] is None else None
        tokens = generator.generate(**given, num_samples=count, noise=SampleNoise(seed, rows), sampler=sampler)
        yield rows, tokens, shown(decoder.decode(tokens).float().cpu(), spec)


def _write_file(batches: Iterator[tuple[range, Any, Tensor]], decoder: Tokenizer[Any], path: Path, writer: SignalWriter, *, steps_strip: bool) -> str:
    """One image of all samples; returns what was written, in words."""
    from visiontok.signals.image_writing import save_image

    found = [(tokens, signals) for _, tokens, signals in batches]
    if steps_strip:
        save_image(_steps_strip(decoder, _joined([tokens for tokens, _ in found])), path)
    else:
        save_signal(_grid([signals for _, signals in found]), path, writer)
    return f"{sum(len(signals) for _, signals in found)} {writer.noun}s in {path}"


def _write_folder(
    batches: Iterator[tuple[range, Any, Tensor]],
    decoder: Tokenizer[Any],
    identity: TokenizerIdentity,
    labels: list[int] | None,
    folder: Path,
    writer: SignalWriter,
    *,
    num: int,
    steps_strip: bool,
    known: Continuation | None,
) -> str:
    """A file per sample, an overview, the tokens, and a report where clips are continued; returns what was written, in words."""
    from visiontok.data.token_file import TokenFile
    from visiontok.signals.image_writing import save_image

    names = [f"{row:05d}" if labels is None else f"{row:05d}-class-{labels[row]:04d}" for row in range(num)]
    parts, shown = [], []
    with exclusive(folder):
        clear_stale(folder)
        for rows, tokens, signals in batches:
            parts.append(tokens)
            shown.append(signals[: max(0, _GRID - rows.start)])
            for row, signal in zip(rows, signals, strict=True):
                save_signal(signal, folder / f"{names[row]}{writer.suffix}", writer)
        if writer.suffix in _OVERVIEWS:
            save_signal(_grid(shown), folder / f"grid{writer.suffix}", writer)
        whole = _joined(parts)
        if steps_strip:
            save_image(_steps_strip(decoder, whole[:_STRIPS]), folder / "steps.png")
        TokenFile(whole, tuple(names), identity, None if labels is None else tuple(labels)).write(folder / "tokens.npz")
        if known is not None:
            known.write_report(folder / "report.html", [signal for signals in shown for signal in signals])
    written = f"{num} {writer.noun}s"
    written += f", grid{writer.suffix}" if writer.suffix in _OVERVIEWS else ""
    written += ", steps.png" if steps_strip else ""
    written += "" if known is None else ", report.html"
    return f"{written} and tokens.npz in {folder}"


def _joined(parts: list[Any]) -> Any:
    return type(parts[0]).cat(parts)


def _grid(signals: list[Tensor]) -> Tensor:
    """A square of images, (3, height, width), or of clips, (3, T, height, width)."""
    import torch

    from visiontok.signals.animation import animation_grid
    from visiontok.signals.image_writing import image_grid

    joined = torch.cat(signals)
    columns = math.isqrt(len(joined) - 1) + 1
    if joined.ndim == 4:
        return image_grid(joined, columns=columns)
    return animation_grid([*joined], columns=columns)


def _tokenizer_of(generator: Generator[Any], name: str) -> str:
    """The tokenizer whose tokens a generator was trained on, by the registry or by its configuration."""
    from visiontok.registry import bundled, checkpoints

    if name in checkpoints() and checkpoints()[name][1].tokenizer:
        return str(checkpoints()[name][1].tokenizer)
    if generator.config.tokenizer is None:
        raise ConfigError(f"{name} does not say whose tokens it was trained on: name the tokenizer with --tokenizer")
    found = generator.config.tokenizer.name
    if "/" not in found and found not in checkpoints() and found not in bundled():
        raise ConfigError(f"{name} was trained on the tokens of {found!r}, a tokenizer that has no published name: give its folder with --tokenizer")
    return found


def _condition(generator: Generator[Any], labels: list[int] | None, text: list[str] | None) -> Callable[[Sequence[int]], Any]:
    """Gives the conditions of some samples, by their numbers; None where there are none."""
    import torch

    from visiontok.generators.condition import Condition, TextCondition

    config = generator.config.condition
    if not isinstance(config, TextCondition):
        if text:
            raise ConfigError(f"this generator reads no text (its condition is {config.type!r}): remove --text")
        return lambda rows: None if labels is None else torch.tensor([labels[row] for row in rows])
    if not text:
        raise ConfigError("this generator reads captions: give one or several with --text")
    encoder = config.text.build().to(generator.device)
    return lambda rows: Condition(text=encoder([text[row % len(text)] for row in rows]))


def _steps_strip(decoder: Tokenizer[Any], tokens: Tokens) -> Tensor:
    """One row per sample: decoded from its first 1, 2, 4 ... tokens, or from every listed prefix (scales), and from all."""
    import torch

    from visiontok.signals.image_writing import as_rgb, image_grid

    length, prefixes = tokens.layout.length, tokens.layout.prefixes
    counts = [count for count in (prefixes if isinstance(prefixes, tuple) else map((2).__pow__, range(length.bit_length()))) if count < length]
    columns = [decoder.decode(tokens.prefix(count)) for count in counts] + [decoder.decode(tokens)]
    images = as_rgb(torch.stack(columns, dim=1).flatten(0, 1), decoder.spec)
    if images is None:
        raise ConfigError("--steps-strip shows images, and these signals are none")
    return image_grid(images.cpu(), columns=len(columns))


def _labels(generator: Generator[Any], classes: list[str] | None, num: int) -> list[int] | None:
    """The class of every image; None for unconditional generators."""
    if not generator.num_classes:
        if classes:
            raise ConfigError("this generator is not conditioned on classes: remove --class")
        return None
    chosen = [_class_index(word, generator) for word in classes] if classes else range(generator.num_classes)
    return [chosen[row % len(chosen)] for row in range(num)]


def _class_index(word: str, generator: Generator[Any]) -> int:
    """Of a class name, or of an index."""
    from visiontok.base.names import unknown

    names = generator.class_names
    if word in names:
        return names.index(word)
    if word.isdecimal() and int(word) < generator.num_classes:
        return int(word)
    if names and not word.isdecimal():
        raise unknown("class", word, names)
    what = "a class index" if names else "an index, as this generator has no class names"
    raise ConfigError(f"--class {word!r}: expected {what} from 0 to {generator.num_classes - 1}")


def _sampler(generator: Generator[Any], changes: dict[str, Any], name: str) -> Any:
    known = type(generator.config.sampling).model_fields
    options = {"num_steps": "steps"}
    for key in changes:
        if key not in known:
            option = options.get(key, key).replace("_", "-")
            raise ConfigError(f"--{option} does not apply to {name}: its sampler takes {', '.join(known)}")
    return generator.sampler(**changes)


def _drafted(sampler: Any, drafter: GPT | EagleDrafter, tree: str, draft_length: int, name: str) -> DraftedSampler:
    from visiontok.generators.decoding import (
        EAGLE_TREE,
        LANTERN_TREE,
        DraftTree,
        DynamicTree,
        NextTokenSampler,
        SpeculativeSampler,
        StaticTree,
        TreeSampler,
    )
    from visiontok.generators.gpt.model import GPT

    if not isinstance(sampler, NextTokenSampler):
        raise ConfigError(f"--drafter needs a generator that samples token by token, such as a gpt; {name} does not")
    if tree == "dynamic":
        return TreeSampler(drafter, sampler, tree=DynamicTree())
    if tree == "none" and isinstance(drafter, GPT):
        return SpeculativeSampler(drafter, sampler, draft_length=draft_length)
    shapes = {"none": DraftTree.chain(draft_length), "eagle": DraftTree(EAGLE_TREE), "lantern": DraftTree(LANTERN_TREE)}
    return TreeSampler(drafter, sampler, tree=StaticTree(shapes[tree]))
