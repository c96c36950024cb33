"""`visiontok reconstruct`: images and other signals beside their reconstructions."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from visiontok.base.files import check_writable
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import Inputs, InputsArgument, ModelOption, TextOption, check_files, load_tokenizer
from visiontok.cli.output import file_names, print_table, save_signal, suffix_of


def reconstruct(
    inputs: InputsArgument,
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder, created if missing.")] = Path("reconstructions"),
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Encode and decode images, or arrays of other signals, and compare them with their reconstructions.

    Writes each image side by side with its reconstruction, or the reconstruction of an array as .npy, and prints PSNR and bits. PSNR is
    computed between the preprocessed (resized and cropped) input and the reconstruction, of images at 8 bits. Inputs that cannot be read are
    skipped and reported, and the exit code is then 1.

    \b
    Examples:
      visiontok reconstruct photo.jpg --model titok-b64
      visiontok reconstruct *.jpg -m runs/digits/final -o compared
    """
    check_files(inputs, lambda path: _reconstructing(path, model))
    import torch

    from visiontok.evaluation.metrics.fidelity import psnr_from_mse
    from visiontok.tokens import Latents

    check_writable(output)
    tokenizer = load_tokenizer(model, pick_device(device), text=text)
    found = Inputs(inputs, tokenizer)
    suffix = suffix_of(tokenizer.spec)
    peak = 255.0 if suffix == ".png" else tokenizer.spec.peak
    names = dict(zip(inputs, file_names([str(path) for path in inputs], suffix), strict=True))
    rows = []
    for path, original in found:
        tokens = tokenizer.encode(original, text=text)
        before, after = original.values.float(), tokenizer.decode(tokens, text=text).float()
        if suffix == ".png":
            before, after = ((image.clamp(0, 1) * 255).round() for image in (before, after))
            save_signal(torch.cat([before, after], dim=3)[0] / 255, output / names[path])
        else:
            save_signal(after[0], output / names[path])
        decibels = "-"
        if peak is not None and before.shape == after.shape:
            decibels = f"{float(psnr_from_mse((before.double() - after.double()).square().mean(), data_range=peak)):.2f}"
        bits = "-" if isinstance(tokens, Latents) else f"{float(tokens.bits[0]):g}"
        rows.append((str(path), decibels, str(tokens.layout.length), bits))
    if rows:
        print_table(("input", "PSNR (dB)", "tokens", "bits"), rows)
        typer.echo(f"{'Originals and reconstructions side by side' if suffix == '.png' else 'Reconstructions'} in {output}")
    found.finish()


def _reconstructing(path: Path, model: str) -> str:
    """The command for the files in a folder; for data sets, the one that evaluates reconstructions."""
    if not path.is_dir():
        return shlex.join(["visiontok", "evaluate", "photos", "--set", f"data={path.absolute()}", "--model", model])
    suffixes = Counter(file.suffix for file in path.iterdir() if file.is_file() and file.suffix)
    pattern = f"*{suffixes.most_common(1)[0][0]}" if suffixes else "*"
    return f"visiontok reconstruct {shlex.quote(str(path))}/{pattern} --model {shlex.quote(model)}"
