"""`visiontok reconstruct`: images and their reconstructions, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import Inputs, InputsArgument, ModelOption, TextOption, load_tokenizer
from visiontok.cli.output import png_names, print_table


def reconstruct(
    inputs: InputsArgument,
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder, created if missing.")] = Path("reconstructions"),
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Encode and decode images, and compare them with their reconstructions.

    Writes each image side by side with its reconstruction, and prints PSNR and bits. PSNR is computed at 8 bits between the preprocessed
    (resized and cropped) image and the reconstruction. Images that cannot be read are skipped and reported, and the exit code is then 1.

    \b
    Examples:
      visiontok reconstruct photo.jpg --model titok-b64
      visiontok reconstruct *.jpg -m ./runs/digits/final -o compared
    """
    import torch

    from visiontok.evaluation.metrics.fidelity import psnr
    from visiontok.signals.image_writing import save_image
    from visiontok.tokens import Latents

    tokenizer = load_tokenizer(model, pick_device(device), text=text)
    found = Inputs(inputs, tokenizer)
    names = dict(zip(inputs, png_names([str(path) for path in inputs]), strict=True))
    rows = []
    for path, original in found:
        tokens = tokenizer.encode(original, text=text)
        reconstruction = tokenizer.decode(tokens, text=text)
        original_8, decoded_8 = ((image.float().clamp(0, 1) * 255).round() for image in (original.values, reconstruction))
        save_image(torch.cat([original_8, decoded_8], dim=3)[0] / 255, output / names[path])
        bits = "-" if isinstance(tokens, Latents) else f"{float(tokens.bits[0]):g}"
        rows.append((str(path), f"{float(psnr(original_8, decoded_8, data_range=255)):.2f}", str(tokens.layout.length), bits))
    if rows:
        print_table(("image", "PSNR (dB)", "tokens", "bits"), rows)
        typer.echo(f"Originals and reconstructions side by side in {output}")
    found.finish()
