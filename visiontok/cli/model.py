"""How commands load models, and how those that read files handle the ones that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontok import registry
from visiontok.base.errors import ConfigError, SignalError
from visiontok.base.names import close_names
from visiontok.cli.completion import complete_tokenizers

if TYPE_CHECKING:
    import torch

    from visiontok.core.tokenizer import Tokenizer
    from visiontok.generators.base import Generator
    from visiontok.generators.eagle.model import EagleDrafter
    from visiontok.generators.gpt.model import GPT
    from visiontok.signals import SignalBatch


def registered_spelling(name: str | None) -> str | None:
    """A model's name as the registry spells it, since results and tokens keep it; paths and repositories stay as they are."""
    return name if name is None or Path(name).expanduser().is_dir() else registry.spelled(name)


def registered_spellings(names: list[str] | None) -> list[str] | None:
    """`registered_spelling` of options that may be repeated, each once."""
    return None if names is None else list(dict.fromkeys(str(registered_spelling(name)) for name in names))


ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Tokenizer: name (see `visiontok list`), owner/name on the hub, folder, or training run.",
        callback=registered_spelling,
        autocompletion=complete_tokenizers,
    ),
]
TextOption = Annotated[str | None, typer.Option("--text", help="Caption of the inputs, for text-conditioned tokenizers.")]
AllowOtherOption = Annotated[
    bool, typer.Option("--allow-other-tokenizer", help="Accept tokens of another tokenizer with the same layout; they may decode to nonsense.")
]
InputsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT", help="Image, video or sound files, as the tokenizer takes them, or .npy files with arrays (channels, ...)."),
]
LevelsOption = Annotated[
    int | None, typer.Option("--num-quantizers", "--levels", min=1, help="Keep this many first codebook levels; by default all.", metavar="N")
]
BandwidthOption = Annotated[
    float | None,
    typer.Option(
        "--bandwidth", help="Of audio codecs, in place of --num-quantizers: keep the levels that fit into these kilobits per second.", metavar="KBPS"
    ),
]

WindowOption = Annotated[
    float | None,
    typer.Option(
        "--window",
        help="Of audio codecs: take sounds that are longer than three windows in windows of so many seconds; by default 10 where this changes "
        "nothing, and 20 otherwise. Of tokenizers that read whole clips: take longer ones as clips of so many frames; by default those of training. "
        "inf takes everything whole.",
        metavar="LENGTH",
    ),
]


def load_tokenizer(name: str, device: torch.device, *, text: str | None = None) -> Tokenizer[Any]:
    """`from_pretrained`, for tokenizers only.

    Args:
        name: registered name, hub repository or folder.
        device: device of the model.
        text: caption of every input, for text-conditioned tokenizers.

    Raises:
        ConfigError: if the name is not a tokenizer's, or the tokenizer takes no text.
        HubError: if the text encoder cannot be loaded.
    """
    from visiontok.core.tokenizer import Tokenizer
    from visiontok.hub import from_pretrained

    model = from_pretrained(name, device=device)
    if not isinstance(model, Tokenizer):
        raise ConfigError(f"{name} is no tokenizer, which this command needs; see `visiontok list`")
    if text is None:
        return model
    if model.text is None:
        raise ConfigError(f"{name} takes no text; remove --text")
    return model.attach_text_encoder()


def levels_within(kilobits: float, tokenizer: Tokenizer[Any]) -> int:
    """The codebook levels of a codec that fit into a bitrate.

    Raises:
        ConfigError: if the tokenizer is no codec.
        TokenError: if not even the fewest levels that decode fit.
    """
    from visiontok.tokenizers.shared.codec import Codec

    if not isinstance(tokenizer, Codec):
        raise ConfigError(f"--bandwidth {kilobits:g}: a {type(tokenizer).__name__} is no audio codec; use --num-quantizers")
    return tokenizer.levels_within(kilobits)


def kept_levels(num_quantizers: int | None, bandwidth: float | None, tokenizer: Tokenizer[Any]) -> int | None:
    """The codebook levels that a command was asked to keep; None for all.

    Raises:
        ConfigError: if both options are given; see `levels_within` too.
    """
    if bandwidth is None:
        return num_quantizers
    if num_quantizers is not None:
        raise ConfigError(f"--num-quantizers {num_quantizers} and --bandwidth {bandwidth:g} both say how many levels: give one")
    return levels_within(bandwidth, tokenizer)


def set_window(length: float | None, tokenizer: Tokenizer[Any]) -> None:
    """Have a tokenizer take long signals in windows of so many seconds (sounds) or frames (clips); None for its own.

    Raises:
        ConfigError: if it takes none, or none of that length.
        TokenError: if it cuts sounds by itself.
    """
    from visiontok.core.windows import Windowed

    if length is None:
        return
    if not isinstance(tokenizer, Windowed):
        raise ConfigError(f"--window {length:g}: a {type(tokenizer).__name__} takes long signals in no windows that can be chosen; omit it")
    tokenizer.window = length


def load_for_data(name: str, device: torch.device) -> Tokenizer[Any]:
    """`load_tokenizer` for commands on data sets, whose samples carry their own captions: attaches the text encoder of text-conditioned tokenizers.

    Raises:
        ConfigError: if the name is not a tokenizer's.
        HubError: if the text encoder cannot be loaded.
    """
    model = load_tokenizer(name, device)
    return model if model.text is None else model.attach_text_encoder()


def load_generator(name: str, device: torch.device) -> Generator[Any]:
    """`from_pretrained`, for generators only.

    Raises:
        ConfigError: if the name is a tokenizer's or a drafter's.
    """
    from visiontok.core.tokenizer import Tokenizer
    from visiontok.generators.base import Generator
    from visiontok.hub import from_pretrained

    model = from_pretrained(name, device=device)
    if not isinstance(model, Generator):
        option = "--tokenizer" if isinstance(model, Tokenizer) else "--drafter"
        raise ConfigError(f"--model {name} is no generator; pass it as {option}, and a generator as --model")
    return model


def load_drafter(name: str, device: torch.device) -> GPT | EagleDrafter:
    """`from_pretrained`, for what can draft the tokens of a generator.

    Raises:
        ConfigError: if the name is that of a tokenizer, or of a generator that does not sample token by token.
    """
    from visiontok.generators.eagle.model import EagleDrafter
    from visiontok.generators.gpt.model import GPT
    from visiontok.hub import from_pretrained

    model = from_pretrained(name, device=device)
    if not isinstance(model, GPT | EagleDrafter):
        raise ConfigError(f"--drafter {name} drafts no tokens: name a small generator that samples token by token, such as a gpt, or an eagle")
    return model


def check_files(paths: Sequence[Path], instead: Callable[[Path], str]) -> None:
    """Look at the inputs before a model is loaded: at least one must be a file.

    Args:
        paths: as given.
        instead: the command for a folder or a data set.

    Raises:
        SignalError: for folders and data sets, with that command; if no input exists, with close names.
    """
    if any(path.exists() and not _holds_many(path) for path in paths):
        return
    many = next((path for path in paths if _holds_many(path)), None)
    if many is not None:
        raise SignalError(f"{many} is a {'folder' if many.is_dir() else 'data set'}; this command takes single files. Use: {instead(many)}")
    close = close_names(str(paths[0]), [str(each) for each in paths[0].parent.glob("*")], cutoff=0.6)
    raise SignalError(f"there is no file {', '.join(map(str, paths))}{f'. Did you mean {close[0]}?' if close else ''}")


def _holds_many(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.suffix in (".tar", ".parquet"))


class Inputs:
    """The input files of a command, read one by one with a progress bar on a terminal; those that cannot be used are named on stderr and skipped.
    Says what happens to their size.

    Args:
        paths: the files.
        tokenizer: prepares them.
    """

    def __init__(self, paths: Sequence[Path], tokenizer: Tokenizer[Any]) -> None:
        self._paths, self._tokenizer = paths, tokenizer
        self._skipped = 0
        if tokenizer.preprocessing.in_words and any(path.suffix != ".npy" for path in paths):
            typer.echo(tokenizer.preprocessing.in_words, err=True)

    def __iter__(self) -> Iterator[Path]:
        """Every file."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        yield from track(self._paths, "Files", console=console, transient=True, disable=not console.is_terminal)

    def prepared(self, path: Path) -> SignalBatch:
        """The content of a file as a batch of one, preprocessed for the tokenizer.

        Raises:
            SignalError: if it cannot be read.
        """
        from visiontok.data.arrays import read_array

        return self._tokenizer.prepare(read_array(path) if path.suffix == ".npy" else path)

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """A block that reads a file, which is skipped where it cannot be used."""
        try:
            yield
        except SignalError as error:
            self.skip(str(error))

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
