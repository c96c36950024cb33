"""`visiontok encode`: images to tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import Inputs, InputsArgument, ModelOption, TextOption, load_tokenizer


def encode(
    inputs: InputsArgument,
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file (.npz).")] = Path("tokens.npz"),
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Encode images into one token file.

    The file holds the arrays indices, lengths and keys, the layout of the tokens and the identity of the tokenizer. Images that cannot be
    read are skipped and reported, and the exit code is then 1. For whole data sets, see `visiontok tokenize`.

    \b
    Examples:
      visiontok encode photo.jpg --model titok-l32 -o photo.npz
      visiontok encode *.png -m ./runs/digits/final
    """
    from visiontok.core.identity import identify
    from visiontok.data.token_file import TokenFile

    tokenizer = load_tokenizer(model, pick_device(device), text=text)
    found = Inputs(inputs, tokenizer)
    keys: list[str] = []
    batches: list[Any] = []
    for path, batch in found:
        tokens = tokenizer.encode(batch, text=text)
        if batches and tokens.layout != batches[0].layout:
            found.skip(f"{path} has another size than {keys[0]}, and this model keeps sizes; encode it into a separate file")
            continue
        keys.append(str(path))
        batches.append(tokens)
    if batches:
        layout = batches[0].layout
        TokenFile(type(batches[0]).cat(batches), tuple(keys), identify(tokenizer, model)).write(output)
        each = "" if layout.is_continuous else f", {layout.bits:g} bits each"
        typer.echo(f"{output}: {len(keys)} x {layout.length} tokens{each}")
    found.finish()
