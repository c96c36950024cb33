"""`visiontok quantize`: a continuous tokenizer becomes a discrete one, without training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable, clear_stale
from visiontok.base.markdown import escaped
from visiontok.cli.completion import complete_tokenizers
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import load_tokenizer, registered_spelling
from visiontok.cli.output import print_table
from visiontok.cli.ranks import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from visiontok.core.tokenizer import Tokenizer
    from visiontok.data import Source
    from visiontok.evaluation.reconstruction.quantizing import OperatingPoint
    from visiontok.hub import ModelCard

CURVE = "rate-distortion.png"
SPREAD = 5.0
"""The range that is taken where none is given, in root mean squares of the latents: the published one, if its latents have unit variance."""
_LARGEST = 256  # side of the squares for models that take any size, where none is given


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            metavar="TOKENIZER",
            help="A continuous tokenizer: name, owner/name on the hub, folder (diffusers' included), or training run.",
            callback=registered_spelling,
            autocompletion=complete_tokenizers,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the discrete tokenizer; made if it is missing.")],
    levels: Annotated[int, typer.Option(min=2, help="Values per dimension of a latent.")] = 64,
    compare: Annotated[str, typer.Option(metavar="8,16,32", help="Further numbers of levels to compare.")] = "4,8,16,32,128",
    latent_range: Annotated[
        float | None, typer.Option("--range", help="Latents beyond +-RANGE become the outermost value; by default 5 times their root mean square.")
    ] = None,
    data: Annotated[str, typer.Option(help="Images to compare on: photos:heldout, digits:test, folder:/path ...")] = "photos:heldout",
    size: Annotated[int | None, typer.Option(min=1, help="Side of the squares that images become; by default the model's own, at most 256.")] = None,
    num_samples: Annotated[int | None, typer.Option(min=1, help="That many images, drawn with a fixed seed; by default all.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per call of the model.")] = 8,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that lies in the output folder.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Turn a continuous tokenizer into a discrete one, one token per dimension of every latent.

    Nothing is trained: every scalar becomes the nearest of a few values that suit a normal distribution (TokenBridge, arXiv 2503.16430).
    Reconstructions are compared before and after, at several numbers of levels and on the same images; photographs are cut into squares
    side by side, other data is resized and cropped. Tokenizers that read a text are given the captions or class names of the data. The output
    folder can be loaded, pushed and trained on like any other model, and holds the curve of PSNR against bits.

    \b
    Examples:
      visiontok quantize kl16-256 -o kl16-64
      visiontok quantize sd-vae-ft-mse -o sd-vae-16 --levels 16 --compare 8,32 --num-samples 4
      visiontok quantize ./my-diffusers-vae -o discrete --range 4 --data folder:photos --size 256
      visiontok quantize titok-bl64-vae -o titok-64 --data webdataset:val.tar
    """
    counts = _level_counts(levels, compare)
    if latent_range is not None and not 0 < latent_range < math.inf:
        raise ConfigError(f"--range {latent_range} must be a positive number")

    from visiontok.data import Texts, texts_of
    from visiontok.evaluation.reconstruction.quantizing import draw_curve, evaluate_levels, latent_rms
    from visiontok.hub import save_pretrained
    from visiontok.hub.sources import Folder
    from visiontok.quantizers import DimensionWiseQuantizerConfig
    from visiontok.tokenizers.image.tokenbridge.model import TokenBridge

    if (output / "config.json").exists() and not Folder(output).is_interrupted and not overwrite:
        raise ConfigError(f"{output} holds a model already; choose another folder, or replace it with --overwrite")
    check_writable(output)
    clear_stale(output)
    tokenizer = load_tokenizer(model, pick_device(device))
    if not tokenizer.layout.is_continuous:
        raise ConfigError(f"{model} is discrete already; this command takes continuous tokenizers, such as kl16-256 or a diffusers AutoencoderKL")
    if not tokenizer.can_decode or tokenizer.preprocessing.spec.modality != "image":
        raise ConfigError(
            f"{model} does not decode to images, which this command compares before and after; TokenBridge.quantizing quantizes it in Python"
        )
    TokenBridge.quantizing(tokenizer, DimensionWiseQuantizerConfig())  # refused now rather than after the comparison
    side = _side(tokenizer, size)
    source = _images(data, side, num_samples)
    texts = None
    if tokenizer.text is not None:
        texts = Texts(texts_of(source, name=model), source.class_names)
        tokenizer.attach_text_encoder()
    if latent_range is None:
        with progress_bar("latents", shown=True) as progress:
            rms = latent_rms(tokenizer, source, size=side, batch_size=batch_size, progress=progress, texts=texts)
        latent_range = float(f"{SPREAD * rms:.4g}")
    with progress_bar("reconstructions", shown=True) as progress:
        points = evaluate_levels(
            tokenizer, source, levels=counts, latent_range=latent_range, size=side, batch_size=batch_size, progress=progress, texts=texts
        )
    quantized = TokenBridge.quantizing(tokenizer, DimensionWiseQuantizerConfig(levels=levels, range=latent_range))
    card = _card(model, levels, latent_range, points, dataset=data, side=side, images=len(source))
    draw_curve(points, output / CURVE, title=f"{_base_name(model)}, range +-{latent_range:g}, {len(source)} images of {data}", pixels=side**2)
    save_pretrained(quantized, output, card=card)  # last, so that a folder that holds a model holds all of it
    _show(points, side)
    typer.echo(f"{output}: {levels} levels, latents within +-{latent_range:g}; compared on {len(source)} images of {data}, {side} x {side}")


def _level_counts(levels: int, compare: str) -> list[int]:
    from visiontok.quantizers.dimension_wise import MOST_LEVELS

    try:
        counts = sorted({levels, *(int(part) for part in compare.split(",") if part.strip())})
    except ValueError:
        raise ConfigError(f"--compare {compare!r} is not a list of integers such as 8,16,32") from None
    if not 2 <= counts[0] <= counts[-1] <= MOST_LEVELS:
        raise ConfigError(f"numbers of levels must lie between 2 and {MOST_LEVELS}, got {', '.join(map(str, counts))}")
    return counts


def _side(tokenizer: Tokenizer[Any], size: int | None) -> int:
    preprocessing = tokenizer.preprocessing
    side = size or (preprocessing.fixed_size or (min(*preprocessing.usual_size, _LARGEST),))[0]
    if not preprocessing.fits((side, side)):
        takes = (
            f"images of {preprocessing.fixed_size} pixels only" if preprocessing.fixed_size else f"multiples of {preprocessing.multiples[0]} pixels"
        )
        raise ConfigError(f"--size {side}: this model takes {takes}")
    return side


def _images(data: str, side: int, num_samples: int | None) -> Source:
    from visiontok.data.config import describe_source, open_source, parse_source
    from visiontok.data.photos import PhotosSource
    from visiontok.evaluation.selection import Tiles, choose

    config = parse_source(data)
    source = open_source(config)
    typer.echo(describe_source(config, source), err=True)
    return choose(Tiles(source, side) if isinstance(source, PhotosSource) else source, num_samples, seed=0)


def _card(name: str, levels: int, latent_range: float, points: Sequence[OperatingPoint], *, dataset: str, side: int, images: int) -> ModelCard:
    from visiontok import registry
    from visiontok.hub import CardResult, ModelCard

    protocol = f"mean over {images} images of {side} x {side} pixels, 8 bits; posterior mode"
    results = []
    for point in points:
        form = "continuous latents" if point.bits is None else f"{point.levels} levels, {point.bits / side**2:.4g} bits per pixel"
        results += [
            CardResult(metric="PSNR", value=round(point.psnr, 3), unit="dB", dataset=dataset, protocol=f"{form}; {protocol}"),
            CardResult(metric="SSIM", value=round(point.ssim, 4), dataset=dataset, protocol=f"{form}; {protocol}"),
        ]
    base = escaped(_base_name(name))
    released = registry.checkpoints().get(name.partition("@")[0])
    return ModelCard(
        license=released[1].weights_license if released else "unknown",
        summary=f"{base}, quantized after training: {levels} values for each dimension of its latents within +-{latent_range:g}, as in TokenBridge "
        f"(arXiv 2503.16430).\n\n![PSNR against bits per pixel at several numbers of levels]({CURVE})",
        trained_on=f"Nothing: the weights are those of {base}, and the quantizer has none.",
        limitations=f"Whatever {base} loses is lost here too. The range was set once; latents of other kinds of images may reach beyond it.",
        results=tuple(results),
    )


def _base_name(model: str) -> str:
    """What the tokenizer is called elsewhere: of a folder only the last part, since its path means nothing on another machine."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


def _show(points: Sequence[OperatingPoint], side: int) -> None:
    rows = []
    for point in points:
        rates = ["-" if rate is None else f"{rate / side**2:.3f}" for rate in (point.bits, point.entropy_bits)]
        rows.append(("continuous" if point.levels is None else str(point.levels), *rates, f"{point.psnr:.2f}", f"{point.ssim:.4f}"))
    print_table(("levels", "bits per pixel", "after entropy", "PSNR in dB", "SSIM"), rows)
