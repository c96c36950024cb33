"""`visiontok encode`: pictures to tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import ModelOption, Pictures, PicturesArgument, TextOption, load_tokenizer


def encode(
    pictures: PicturesArgument,
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .npz file to write.")] = Path("tokens.npz"),
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Encode pictures and write their tokens to one NumPy file.

    The file holds arrays indices, lengths and keys, the layout of the tokens and the identity of the tokenizer. Pictures that cannot be
    read are named and left out; the exit code is then 1. For whole data sets there is `visiontok tokenize`.

    \b
    Examples:
      visiontok encode photo.jpg --model titok-l32 -o photo.npz
      visiontok encode *.png -m ./runs/digits/final
    """
    from visiontok.data.token_file import TokenFile
    from visiontok.data.tokenizing import identify

    tokenizer = load_tokenizer(model, pick_device(device), text=text)
    found = Pictures(pictures, tokenizer)
    keys: list[str] = []
    batches: list[Any] = []
    for picture, batch in found:
        tokens = tokenizer.encode(batch)
        if batches and tokens.layout != batches[0].layout:
            found.leave_out(f"{picture} has another size than {keys[0]}, and this model keeps sizes; encode it into a file of its own")
            continue
        keys.append(str(picture))
        batches.append(tokens)
    if batches:
        layout = batches[0].layout
        TokenFile(type(batches[0]).cat(batches), tuple(keys), identify(tokenizer, model)).write(output)
        each = "" if layout.is_continuous else f", {layout.bits:g} bits each"
        typer.echo(f"{output}: {len(keys)} x {layout.length} tokens{each}")
    found.finish()
