"""Which sources exist, how a recipe or a command line names them, and how they are opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import Field

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.modality import AXES
from visiontok.base.names import unknown
from visiontok.data.arrays import ArraysConfig, ArraysSource
from visiontok.data.digits import DigitsConfig, DigitsSource
from visiontok.data.folder import FolderConfig, FolderSource
from visiontok.data.parquet import ParquetConfig, ParquetSource
from visiontok.data.photos import PhotosConfig, PhotosSource
from visiontok.data.shapes import ShapesConfig, ShapesSource
from visiontok.data.skips import printable
from visiontok.data.source import Source
from visiontok.data.webdataset import WebDatasetConfig, WebDatasetSource

DataConfig: TypeAlias = Annotated[
    DigitsConfig | PhotosConfig | ShapesConfig | FolderConfig | WebDatasetConfig | ParquetConfig | ArraysConfig,
    Field(discriminator="name"),
]
"""The configuration of any source, told apart by `name`."""

_CONFIGS: dict[str, type[Config]] = {
    "digits": DigitsConfig,
    "photos": PhotosConfig,
    "shapes": ShapesConfig,
    "folder": FolderConfig,
    "webdataset": WebDatasetConfig,
    "parquet": ParquetConfig,
    "arrays": ArraysConfig,
}
_SOURCES: dict[str, Callable[[Any], Source]] = {
    "digits": DigitsSource,
    "photos": PhotosSource,
    "shapes": ShapesSource,
    "folder": FolderSource,
    "webdataset": WebDatasetSource,
    "parquet": ParquetSource,
    "arrays": ArraysSource,
}


def open_source(source: DataConfig | str) -> Source:
    """Open a source from its configuration, or from the short form that `parse_source` reads.

    Raises:
        DataError: if it cannot be opened or holds nothing.
    """
    config = parse_source(source) if isinstance(source, str) else source
    return _SOURCES[config.name](config)


def parse_source(text: str) -> DataConfig:
    """Read the short form: `digits:test`, `shapes`, `folder:/path`, `webdataset:/path/{00..03}.tar`, `parquet:/path/*.parquet`,
    `arrays:audio:/path/clips.npz`.

    What names no source is taken for a path: of tar shards or Parquet files by its suffix, otherwise of a folder that exists.

    Raises:
        UnknownNameError: if there is no such source, split or modality; with close matches.
        ConfigError: if a path is missing, or the name is also that of a file or folder here.
    """
    name, colon, rest = text.partition(":")
    if name in _CONFIGS and not colon and Path(text).exists():
        raise ConfigError(f"{text!r} names {_meaning(name)} and also a file or folder here: write {_spelled_out(name)}, or ./{text} or folder:{text}")
    if name not in _CONFIGS:
        name, rest = _kind_of_path(text), text
    kind = _CONFIGS[name]
    values: dict[str, Any] = {"name": name}
    if "modality" in kind.model_fields:
        modality, _, rest = rest.partition(":")
        if modality not in AXES:
            raise unknown(f"modality of {name}", modality, AXES)
        values["modality"] = modality
    if "path" in kind.model_fields:
        if not rest:
            raise ConfigError(f"the data source {text!r} lacks a path: write {text.rstrip(':')}:/path/to/data")
        values["path"] = rest
    elif rest:
        splits = get_args(kind.model_fields["split"].annotation)
        if rest not in splits:
            raise unknown(f"split of {name}", rest, splits)
        values["split"] = rest
    return kind.parse(values, source=f"the data source {text!r}")  # type: ignore[return-value]


def describe_source(config: DataConfig, source: Source) -> str:
    """The source that was opened and its count, as commands print it: `photos:train: 12 samples`."""
    values = config.to_dict()
    name = ":".join(str(values[part]) for part in ("name", "modality", "path", "split") if part in values)
    skipped = f", {len(source.skipped)} entries skipped" if source.skipped else ""
    return f"{printable(name)}: {len(source)} sample{'s' if len(source) != 1 else ''}{skipped}"


def _meaning(name: str) -> str:
    return "a kind of data source" if "path" in _CONFIGS[name].model_fields else "a built-in data set"


def _spelled_out(name: str) -> str:
    """The short form that cannot be taken for a path."""
    fields = _CONFIGS[name].model_fields
    return f"{name}:{get_args(fields['split'].annotation)[0]}" if "split" in fields else f"{name}:PATH"


def _kind_of_path(text: str) -> str:
    path = Path(text).expanduser()
    by_suffix = {".tar": "webdataset", ".parquet": "parquet"}
    if path.suffix in by_suffix:
        return by_suffix[path.suffix]
    if path.is_dir():
        return "folder"
    raise unknown("data source or folder", text, _CONFIGS)
