"""`visiontok decode`: tokens to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import TextOption, load_tokenizer
from visiontok.cli.output import png_names


def decode(
    tokens: Annotated[Path, typer.Argument(metavar="TOKENS", help="A .npz file that `visiontok encode` or `visiontok generate` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures; made if it is missing.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Tokenizer that decodes; by default the one that the file names.")] = None,
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Decode a file of tokens into pictures.

    There is one PNG per sample, named after it.

    \b
    Examples:
      visiontok decode tokens.npz -o pictures
      visiontok decode tokens.npz --model titok-l32 -o pictures
    """
    from visiontok.data.token_file import TokenFile
    from visiontok.data.tokenizing import identify
    from visiontok.training.pictures import save_picture

    found = TokenFile.read(tokens)
    name = model or found.tokenizer.name
    tokenizer = load_tokenizer(name, pick_device(device), text=text)
    if identify(tokenizer, name).weights_sha256 != found.tokenizer.weights_sha256:
        typer.echo(f"Warning: {tokens} names {found.tokenizer.name} with other weights than {name} has; the pictures may mean nothing.", err=True)
    for row, file_name in enumerate(png_names(found.keys)):
        save_picture(tokenizer.decode(found.tokens[row : row + 1])[0].float(), output / file_name)
    typer.echo(f"{len(found.keys)} pictures in {output}")
