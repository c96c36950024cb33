"""`visiontok decode`: tokens to images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import TextOption, load_tokenizer
from visiontok.cli.output import png_names


def decode(
    tokens: Annotated[Path, typer.Argument(metavar="TOKENS", help="A .npz file written by `visiontok encode` or `visiontok generate`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder, created if missing.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Tokenizer that decodes; by default the one named in the file.")] = None,
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Decode a token file into images.

    Writes one PNG per sample, named after the sample.

    \b
    Examples:
      visiontok decode tokens.npz -o images
      visiontok decode tokens.npz --model titok-l32 -o images
    """
    from visiontok.core.identity import identify
    from visiontok.data.token_file import TokenFile
    from visiontok.signals.image_writing import save_image

    found = TokenFile.read(tokens)
    name = model or found.tokenizer.name
    tokenizer = load_tokenizer(name, pick_device(device), text=text)
    if identify(tokenizer, name).weights_sha256 != found.tokenizer.weights_sha256:
        typer.echo(f"Warning: {tokens} names {found.tokenizer.name} with other weights than {name}; the images may be meaningless.", err=True)
    for row, file_name in enumerate(png_names(found.keys)):
        save_image(tokenizer.decode(found.tokens[row : row + 1], text=text)[0].float(), output / file_name)
    typer.echo(f"{len(found.keys)} images in {output}")
