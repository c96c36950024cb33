"""`visiontok reconstruct`: what a tokenizer keeps of a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import ModelOption, Pictures, PicturesArgument, TextOption, load_tokenizer
from visiontok.cli.output import png_names, print_table


def reconstruct(
    pictures: PicturesArgument,
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures; made if it is missing.")] = Path("reconstructions"),
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Compare pictures with their reconstructions.

    Writes each picture beside its reconstruction, and prints PSNR and bits. PSNR compares the picture as the model sees it (resized and
    cropped) with the decoded one, both at 8 bits. Pictures that cannot be read are named and left out; the exit code is then 1.

    \b
    Examples:
      visiontok reconstruct photo.jpg --model titok-b64
      visiontok reconstruct *.jpg -m ./runs/digits/final -o compared
    """
    import torch

    from visiontok.evaluation.metrics.fidelity import psnr
    from visiontok.tokens import Latents
    from visiontok.training.pictures import save_picture

    tokenizer = load_tokenizer(model, pick_device(device), text=text)
    found = Pictures(pictures, tokenizer)
    names = dict(zip(pictures, png_names([str(picture) for picture in pictures]), strict=True))
    rows = []
    for picture, original in found:
        tokens = tokenizer.encode(original)
        reconstruction = tokenizer.decode(tokens)
        original_8, decoded_8 = ((image.float().clamp(0, 1) * 255).round() for image in (original, reconstruction))
        save_picture(torch.cat([original_8, decoded_8], dim=3)[0] / 255, output / names[picture])
        bits = "-" if isinstance(tokens, Latents) else f"{float(tokens.bits[0]):g}"
        rows.append((str(picture), f"{float(psnr(original_8, decoded_8, data_range=255)):.2f}", str(tokens.layout.length), bits))
    if rows:
        print_table(("picture", "PSNR in dB", "tokens", "bits"), rows)
        typer.echo(f"Originals beside reconstructions in {output}")
    found.finish()
