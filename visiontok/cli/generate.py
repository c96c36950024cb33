"""`visiontok generate`: sample tokens from a generator and decode them to images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable, clear_stale
from visiontok.base.locks import exclusive
from visiontok.cli.completion import complete_generators, complete_tokenizers
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import AllowOtherOption, load_generator, load_tokenizer, registered_spelling
from visiontok.cli.output import save_signal, suffix_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from visiontok.core.tokenizer import Tokenizer
    from visiontok.generators.base import Generator
    from visiontok.generators.condition import Condition
    from visiontok.tokens import Tokens

_GRID = 64
"""Maximum number of images in the grid."""
_STRIPS = 8
"""Maximum number of rows of the strip of steps."""


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
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder, created if missing.")],
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
    classes: Annotated[str | None, typer.Option(help="Class indices, used in turn: 0,1,2. By default every class.")] = None,
    class_names: Annotated[str | None, typer.Option(help="Class names, used in turn: cat,dog.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Caption, for generators that read one; may be given several times, used in turn.")] = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Number of images.")] = 16,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance scale.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k most likely tokens; 0 keeps all.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling: smallest set of tokens of this total probability; 1 keeps all.")] = None,
    drafter: Annotated[
        str | None,
        typer.Option(
            help="Smaller generator of the same tokens, for speculative decoding: the same distribution in fewer passes.",
            callback=registered_spelling,
            autocompletion=complete_generators,
        ),
    ] = None,
    draft_length: Annotated[int, typer.Option(min=1, help="Tokens that the drafter proposes per pass.")] = 4,
    steps: Annotated[int | None, typer.Option(help="Number of decoding steps of masked generators.")] = None,
    steps_strip: Annotated[
        bool,
        typer.Option("--steps-strip", help="Also write steps.png: the first images from 1, 2, 4 ... tokens, where prefixes decode."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed. The images do not depend on the batch size.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    allow_other_tokenizer: AllowOtherOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Sample images or other signals: a generator draws tokens, and a tokenizer decodes them.

    The output folder holds one PNG per image, grid.png with the first 64 of them, and tokens.npz, which `visiontok decode` reads. Signals
    that are no images become .npy arrays. Sampling parameters default to the generator's configuration.

    \b
    Examples:
      visiontok generate --model maskgit-titok-l32 --classes 207,360 --num 8 -o images
      visiontok generate -m runs/digits-gpt/final -t runs/digits/final --guidance 2 --top-k 100 --seed 1 -o digits
      visiontok generate -m runs/flextok-gpt/final -t runs/flextok/final --steps-strip -o strips
    """
    import torch
    from rich.console import Console
    from rich.progress import track

    from visiontok.core.identity import check_same_tokenizer, identify
    from visiontok.data.token_file import TokenFile
    from visiontok.generators.decoding import SampleNoise
    from visiontok.signals.image_writing import image_grid, save_image

    check_writable(output)
    chosen_device = pick_device(device)
    generator = load_generator(model, chosen_device)
    tokenizer = tokenizer or _tokenizer_of(generator, model)
    decoder = load_tokenizer(tokenizer, chosen_device)
    if not decoder.layout.accepts(generator.layout):
        raise ConfigError(f"{model} generates tokens of another layout than {tokenizer} decodes: {generator.layout} instead of {decoder.layout}")
    own = identify(decoder, tokenizer)
    check_same_tokenizer(generator.config.tokenizer, own, what=f"the generator {model}", allow_other=allow_other_tokenizer)
    labels = _labels(generator, classes, class_names, num)
    options = {"guidance": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p, "num_steps": steps}
    sampler = _sampler(generator, {name: value for name, value in options.items() if value is not None}, model)
    if drafter is not None:
        sampler = _speculative(sampler, load_generator(drafter, chosen_device), draft_length, drafter)
    generator.check_sampler(sampler, unconditional=labels is None)
    texts = _texts(generator, text, num)
    if steps_strip and decoder.layout.prefixes == "none":
        raise ConfigError(f"--steps-strip decodes prefixes, and {tokenizer} decodes all {generator.layout.length} tokens of a sample or none")
    names = [f"{row:05d}" if labels is None else f"{row:05d}-class-{labels[row]:04d}" for row in range(num)]
    batches: list[Any] = []
    shown, suffix = [], suffix_of(decoder.spec)
    console = Console(stderr=True)
    with exclusive(output):
        clear_stale(output)
        for start in track(range(0, num, batch_size), "Sampling", console=console, disable=not console.is_terminal):
            rows = range(start, min(start + batch_size, num))
            condition: Any = None
            if labels is not None:
                condition = torch.tensor([labels[row] for row in rows])
            elif texts is not None:
                condition = texts(list(rows))
            count = len(rows) if condition is None else None
            batches.append(generator.generate(condition, num_samples=count, noise=SampleNoise(seed, rows), sampler=sampler))
            images = decoder.decode(batches[-1]).float().cpu()
            shown.append(images[: max(0, _GRID - start)])
            for row, image in zip(rows, images, strict=True):
                save_signal(image, output / f"{names[row]}{suffix}")
        if suffix == ".png":
            first = torch.cat(shown)
            save_image(image_grid(first, columns=math.isqrt(len(first) - 1) + 1), output / "grid.png")
        tokens: Any = type(batches[0]).cat(batches)
        if steps_strip:
            save_image(_steps_strip(decoder, tokens[:_STRIPS]), output / "steps.png")
        TokenFile(tokens, tuple(names), own, None if labels is None else tuple(labels)).write(output / "tokens.npz")
    written = f"{num} images, grid.png" if suffix == ".png" else f"{num} arrays"
    written += ", steps.png" if steps_strip else ""
    typer.echo(f"{written} and tokens.npz in {output}")
    if drafter is not None:
        typer.echo(f"{sampler.acceptance_length:.2f} steps per pass of {model}, at most {draft_length}")


def _tokenizer_of(generator: Generator[Any], name: str) -> str:
    """The tokenizer whose tokens a generator was trained on, by the registry or by its configuration."""
    from visiontok.registry import checkpoints

    if name in checkpoints() and checkpoints()[name][1].tokenizer:
        return str(checkpoints()[name][1].tokenizer)
    if generator.config.tokenizer is None:
        raise ConfigError(f"{name} does not say whose tokens it was trained on: name the tokenizer with --tokenizer")
    return generator.config.tokenizer.name


def _texts(generator: Generator[Any], text: list[str] | None, num: int) -> Callable[[list[int]], Condition] | None:
    """Embeds the captions of some samples; None for generators that read none."""
    from visiontok.generators.condition import Condition, TextCondition

    config = generator.config.condition
    if not isinstance(config, TextCondition):
        if text:
            raise ConfigError(f"this generator reads no text (its condition is {config.type!r}): remove --text")
        return None
    if not text:
        raise ConfigError("this generator reads captions: give one or several with --text")
    encoder = config.text.build().to(generator.device)
    return lambda rows: Condition(text=encoder([text[row % len(text)] for row in rows]))


def _steps_strip(decoder: Tokenizer[Any], tokens: Tokens) -> Tensor:
    """One row per sample: decoded from its first 1, 2, 4 ... tokens, or as many of these as decode, and from all."""
    import torch

    from visiontok.signals.image_writing import as_rgb, image_grid

    length = tokens.layout.length
    counts = [2**power for power in range(length.bit_length()) if 2**power < length and tokens.layout.allows_prefix(2**power)]
    columns = [decoder.decode(tokens.prefix(count)) for count in counts] + [decoder.decode(tokens)]
    images = as_rgb(torch.stack(columns, dim=1).flatten(0, 1), decoder.spec)
    if images is None:
        raise ConfigError("--steps-strip shows images, and these signals are none")
    return image_grid(images.cpu(), columns=len(columns))


def _labels(generator: Generator[Any], classes: str | None, class_names: str | None, num: int) -> list[int] | None:
    """The class of every image; None for unconditional generators."""
    if classes is not None and class_names is not None:
        raise ConfigError("give --classes or --class-names, not both")
    if not generator.num_classes:
        if classes is not None or class_names is not None:
            raise ConfigError("this generator is unconditional: remove --classes and --class-names")
        return None
    if classes is not None:
        chosen = [_class_index(part, generator.num_classes) for part in classes.split(",")]
    elif class_names is not None:
        chosen = [_named(part.strip(), generator.class_names) for part in class_names.split(",")]
    else:
        chosen = list(range(generator.num_classes))
    return [chosen[row % len(chosen)] for row in range(num)]


def _class_index(text: str, num_classes: int) -> int:
    if not text.strip().isdecimal() or int(text) >= num_classes:
        raise ConfigError(f"--classes holds {text.strip()!r}; expected class indices from 0 to {num_classes - 1}, separated by commas")
    return int(text)


def _named(name: str, known: tuple[str, ...]) -> int:
    from visiontok.base.names import unknown

    if not known:
        raise ConfigError("this generator has no class names; use --classes with class indices")
    if name not in known:
        raise unknown("class", name, known)
    return known.index(name)


def _sampler(generator: Generator[Any], changes: dict[str, Any], name: str) -> Any:
    known = type(generator.config.sampling).model_fields
    options = {"num_steps": "steps"}
    for key in changes:
        if key not in known:
            option = options.get(key, key).replace("_", "-")
            raise ConfigError(f"--{option} does not apply to {name}: its sampler takes {', '.join(known)}")
    return generator.sampler(**changes)


def _speculative(sampler: Any, drafter: Generator[Any], draft_length: int, name: str) -> Any:
    from visiontok.generators.decoding import NextTokenSampler, SpeculativeSampler
    from visiontok.generators.gpt.model import GPT

    if not isinstance(sampler, NextTokenSampler) or not isinstance(drafter, GPT):
        raise ConfigError(f"--drafter {name} needs two generators that sample token by token, such as gpt")
    return SpeculativeSampler(drafter, sampler, draft_length=draft_length)
