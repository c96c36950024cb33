"""`visiontok export`: a generator in the format of another library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    generator: Annotated[str, typer.Argument(metavar="GENERATOR", help="Name, owner/name on the hub, or folder of a generator.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; made if it is missing.")],
    to: Annotated[Literal["transformers"], typer.Option("--to", help="The library that is to read it.")] = "transformers",
) -> None:
    """Write a generator as a checkpoint of another library.

    With transformers, a `gpt` with positions "rope-1d" on tokens of one codebook becomes a LlamaForCausalLM with the same logits, which
    vLLM, SGLang and fine-tuning tools read. A sample begins with a class token; config.json holds the token map under "visiontok". What
    Llama cannot express is refused with the reason.

    \b
    Examples:
      visiontok export runs/digits-llama/final -o digits-llama --to transformers
    """
    import torch

    from visiontok.cli.model import load_generator
    from visiontok.hub.transformers_export import export_to_transformers

    typer.echo(export_to_transformers(load_generator(generator, torch.device("cpu")), output))
