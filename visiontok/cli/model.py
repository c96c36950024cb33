"""How commands load models, and how those that read files handle the ones that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontok.base.errors import ConfigError, SignalError

if TYPE_CHECKING:
    import torch

    from visiontok.core.tokenizer import Tokenizer
    from visiontok.generators.base import Generator
    from visiontok.signals import SignalBatch

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Tokenizer: name (see `visiontok list`), owner/name on the hub, or folder.")]
TextOption = Annotated[str | None, typer.Option("--text", help="Caption of the inputs, for text-conditioned tokenizers.")]
AllowOtherOption = Annotated[
    bool, typer.Option("--allow-other-tokenizer", help="Accept tokens of another tokenizer with the same layout; they may decode to nonsense.")
]
InputsArgument = Annotated[list[Path], typer.Argument(metavar="INPUT", help="Image files, or .npy files with arrays (channels, ...).")]


def load_tokenizer(name: str, device: torch.device, *, text: str | None = None) -> Tokenizer[Any]:
    """`from_pretrained`, for tokenizers only.

    Args:
        name: registered name, hub repository or folder.
        device: device of the model.
        text: caption of every input, for text-conditioned tokenizers.

    Raises:
        ConfigError: if the name is a generator's, or the tokenizer takes no text.
        HubError: if the text encoder cannot be loaded.
    """
    from visiontok.core.tokenizer import Tokenizer
    from visiontok.hub import from_pretrained

    model = from_pretrained(name, device=device)
    if not isinstance(model, Tokenizer):
        raise ConfigError(f"{name} is a generator; this command needs a tokenizer, see `visiontok list`")
    if text is None:
        return model
    if model.text is None:
        raise ConfigError(f"{name} takes no text; remove --text")
    return model.attach_text_encoder()


def load_for_data(name: str, device: torch.device) -> Tokenizer[Any]:
    """`load_tokenizer` for commands on data sets, whose samples carry their own captions: attaches the text encoder of text-conditioned tokenizers.

    Raises:
        ConfigError: if the name is a generator's.
        HubError: if the text encoder cannot be loaded.
    """
    model = load_tokenizer(name, device)
    return model if model.text is None else model.attach_text_encoder()


def load_generator(name: str, device: torch.device) -> Generator[Any]:
    """`from_pretrained`, for generators only.

    Raises:
        ConfigError: if the name is a tokenizer's.
    """
    from visiontok.generators.base import Generator
    from visiontok.hub import from_pretrained

    model = from_pretrained(name, device=device)
    if not isinstance(model, Generator):
        raise ConfigError(f"--model {name} is a tokenizer; pass it as --tokenizer, and a generator as --model")
    return model


class Inputs:
    """The input files of a command, read one by one; those that cannot be used are named on stderr and skipped.

    Args:
        paths: the files.
        tokenizer: prepares them.
    """

    def __init__(self, paths: Sequence[Path], tokenizer: Tokenizer[Any]) -> None:
        self._paths, self._tokenizer = paths, tokenizer
        self._skipped = 0

    def __iter__(self) -> Iterator[tuple[Path, SignalBatch]]:
        """Every readable file, and its content as a batch of one, preprocessed for the tokenizer."""
        from visiontok.data.arrays import read_array

        for path in self._paths:
            try:
                batch = self._tokenizer.prepare(read_array(path) if path.suffix == ".npy" else path)
            except SignalError as error:
                self.skip(str(error))
            else:
                yield path, batch

    def skip(self, reason: str) -> None:
        """Report a file that cannot be used."""
        typer.echo(f"Skipped: {reason}", err=True)
        self._skipped += 1

    def finish(self) -> None:
        """Call when all outputs are written.

        Raises:
            SignalError: if any file was skipped, so that the command ends with exit code 1.
        """
        if self._skipped:
            raise SignalError(f"{self._skipped} of {len(self._paths)} inputs could not be used")
