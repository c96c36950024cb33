"""How the commands that work on pictures load their tokenizer and treat pictures that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontok.base.errors import ConfigError, SignalError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from visiontok.core.tokenizer import Tokenizer
    from visiontok.generators.base import Generator

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Name of a tokenizer (see `visiontok list`), owner/name on the hub, or a folder.")]
TextOption = Annotated[str | None, typer.Option("--text", help="What the pictures show, for tokenizers that read a text.")]
PicturesArgument = Annotated[list[Path], typer.Argument(metavar="PICTURE", help="Picture files.")]


def load_tokenizer(name: str, device: torch.device, *, text: str | None = None) -> Tokenizer[Any]:
    """`from_pretrained`, for tokenizers only.

    Args:
        name: of the tokenizer.
        device: where it is wanted.
        text: what it reads beside every picture.

    Raises:
        ConfigError: if the name is a generator's, or a text is given that the tokenizer does not read.
        HubError: if the text encoder cannot be had.
    """
    from visiontok.core.text_tokenizer import TextTokenizer
    from visiontok.core.tokenizer import Tokenizer
    from visiontok.hub import from_pretrained

    model = from_pretrained(name, device=device)
    if not isinstance(model, Tokenizer):
        raise ConfigError(f"{name} is a generator; this command needs a tokenizer, see `visiontok list`")
    if text is None:
        return model
    if not isinstance(model, TextTokenizer):
        raise ConfigError(f"{name} reads no text; leave --text out")
    return model.attach_text_encoder().given(text)


def load_for_data(name: str, device: torch.device) -> Tokenizer[Any]:
    """`load_tokenizer` for commands on data sets, whose pictures bring their own texts: a text encoder is attached where one is needed.

    Raises:
        ConfigError: if the name is a generator's.
        HubError: if the text encoder cannot be had.
    """
    from visiontok.core.text_tokenizer import TextTokenizer

    model = load_tokenizer(name, device)
    return model.attach_text_encoder() if isinstance(model, TextTokenizer) else model


def load_generator(name: str, device: torch.device) -> Generator[Any]:
    """`from_pretrained`, for generators only.

    Raises:
        ConfigError: if the name is a tokenizer's.
    """
    from visiontok.generators.base import Generator
    from visiontok.hub import from_pretrained

    model = from_pretrained(name, device=device)
    if not isinstance(model, Generator):
        raise ConfigError(f"--model {name} is a tokenizer; give it to --tokenizer, and a generator to --model")
    return model


class Pictures:
    """The pictures of a command line, read one by one; those that cannot be used are named on stderr and left out.

    Args:
        paths: of the pictures.
        tokenizer: that will see them.
    """

    def __init__(self, paths: Sequence[Path], tokenizer: Tokenizer[Any]) -> None:
        self._paths, self._tokenizer = paths, tokenizer
        self._left_out = 0

    def __iter__(self) -> Iterator[tuple[Path, Tensor]]:
        """Every readable picture as the batch of one (1, 3, H, W) that the tokenizer sees."""
        for path in self._paths:
            try:
                batch = self._tokenizer.prepare(path)
            except SignalError as error:
                self.leave_out(str(error))
            else:
                yield path, batch

    def leave_out(self, reason: str) -> None:
        """Name a picture that cannot be used."""
        typer.echo(f"Left out: {reason}", err=True)
        self._left_out += 1

    def finish(self) -> None:
        """Call when all results are written.

        Raises:
            SignalError: if any picture was left out, so that the command ends with exit code 1.
        """
        if self._left_out:
            raise SignalError(f"{self._left_out} of {len(self._paths)} pictures could not be used; the others are done")
