"""`visiontok verify`: whether saved models, token sets and token files are what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Folders of models, training runs or token sets, or .npz files of tokens; several may be given."),
    ],
) -> None:
    """Check that models and tokens are whole.

    Files are compared with the SHA-256 that was written beside them, configurations with weights, and every token with its vocabulary.
    The command goes through all paths and ends with an error if one is damaged.

    \b
    Examples:
      visiontok verify runs/digits
      visiontok verify runs/photos/final tokens/photos
    """
    from visiontok.base.errors import DataError, VisiontokError
    from visiontok.base.printable import printable, printable_lines

    damaged = []
    for path in paths:
        try:
            typer.echo(printable(f"{path}: {_verified(path)}"))
        except (VisiontokError, OSError) as error:
            damaged.append(str(path))
            typer.echo(printable_lines(f"{path}: {error}"), err=True)
    if damaged:
        raise DataError(f"{len(damaged)} of {len(paths)} cannot be used: {', '.join(damaged)}")


def _verified(path: Path) -> str:
    """What was found to be whole."""
    from visiontok.base.errors import DataError
    from visiontok.data.token_dataset import TokenDataset
    from visiontok.data.token_file import TokenFile
    from visiontok.data.token_shards import MANIFEST
    from visiontok.hub.loading import verify_model

    if path.is_file():
        return f"a file of {len(TokenFile.read(path).keys)} samples"
    model = path / "final" if (path / "final").is_dir() else path
    if (model / "config.json").is_file():
        return f"a saved {type(verify_model(model)).__name__}; weights and checksum fit"
    if (path / MANIFEST).is_file():
        dataset = TokenDataset(path)
        for start in range(0, len(dataset), 1024):
            dataset[start : start + 1024].tokens.validate()
        return f"a token set of {len(dataset)} samples in {len(dataset.shards)} shards; all checksums fit"
    raise DataError(f"{path} is no saved model (config.json), token set ({MANIFEST}) or .npz file")
