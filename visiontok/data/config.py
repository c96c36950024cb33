"""Which sources exist, how a recipe or a command line names them, and how they are opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import BeforeValidator, Field

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, damage_as
from visiontok.base.modality import AXES
from visiontok.base.names import unknown
from visiontok.base.printable import printable
from visiontok.data.arrays import ArraysConfig, ArraysSource
from visiontok.data.clips import ClipsConfig, ClipsSource
from visiontok.data.digits import DigitsConfig, DigitsSource
from visiontok.data.folder import FolderConfig, FolderSource
from visiontok.data.listing import holds_any
from visiontok.data.media import SUFFIXES
from visiontok.data.moving_digits import MovingDigitsConfig, MovingDigitsSource
from visiontok.data.moving_shapes import MovingShapesConfig, MovingShapesSource
from visiontok.data.parquet import ParquetConfig, ParquetSource
from visiontok.data.photos import PhotosConfig, PhotosSource
from visiontok.data.recordings import RecordingsConfig, RecordingsSource
from visiontok.data.shapes import ShapesConfig, ShapesSource
from visiontok.data.sounds import SOUNDS, SoundsConfig, SoundsSource
from visiontok.data.source import Source
from visiontok.data.token_shards import MANIFEST
from visiontok.data.webdataset import WebDatasetConfig, WebDatasetSource

DataConfig: TypeAlias = Annotated[
    DigitsConfig
    | PhotosConfig
    | ShapesConfig
    | MovingDigitsConfig
    | MovingShapesConfig
    | SoundsConfig
    | RecordingsConfig
    | ClipsConfig
    | FolderConfig
    | WebDatasetConfig
    | ParquetConfig
    | ArraysConfig,
    Field(discriminator="name"),
    BeforeValidator(lambda value: parse_source(value) if isinstance(value, str) else value),
]
"""The configuration of any source, told apart by `name`, or the short form that `parse_source` reads."""

_CONFIGS: dict[str, type[Config]] = {
    "digits": DigitsConfig,
    "photos": PhotosConfig,
    "shapes": ShapesConfig,
    "moving-digits": MovingDigitsConfig,
    "moving-shapes": MovingShapesConfig,
    **dict.fromkeys(SOUNDS, SoundsConfig),
    "recordings": RecordingsConfig,
    "clips": ClipsConfig,
    "folder": FolderConfig,
    "webdataset": WebDatasetConfig,
    "parquet": ParquetConfig,
    "arrays": ArraysConfig,
}
_SOURCES: dict[str, Callable[[Any], Source]] = {
    "digits": DigitsSource,
    "photos": PhotosSource,
    "shapes": ShapesSource,
    "moving-digits": MovingDigitsSource,
    "moving-shapes": MovingShapesSource,
    **dict.fromkeys(SOUNDS, SoundsSource),
    "recordings": RecordingsSource,
    "clips": ClipsSource,
    "folder": FolderSource,
    "webdataset": WebDatasetSource,
    "parquet": ParquetSource,
    "arrays": ArraysSource,
}


_SHARDS = {".tar": "webdataset", ".parquet": "parquet"}


def open_source(source: DataConfig | str) -> Source:
    """Open a source from its configuration, or from the short form that `parse_source` reads.

    Raises:
        DataError: if it cannot be opened or holds nothing.
    """
    config = parse_source(source) if isinstance(source, str) else source
    return _SOURCES[config.name](config)


def parse_source(text: str) -> DataConfig:
    """Read the short form: `digits:test`, `shapes`, `moving-digits`, `sounds`, `folder:/path`, `webdataset:/path/{00..03}.tar`,
    `parquet:/path/*.parquet`, `arrays:audio:/path/clips.npz`; `folder:audio:/path` where a folder or shards hold images and sound.

    What names no source is taken for a path: of a tar shard or Parquet file, or of a folder that exists, which holds images, clips or sound, or
    directly in it tar shards or Parquet files.

    Raises:
        UnknownNameError: if there is no such source, split or modality; with close matches.
        ConfigError: if a path is missing, the name is also that of a file or folder here, or a folder holds data of several kinds.
    """
    name, colon, rest = text.partition(":")
    with damage_as(ConfigError, f"the data source {text!r:.200} is not a path that this system takes"):
        if name in _CONFIGS and not colon and Path(text).exists():
            raise ConfigError(
                f"{text!r} names {_meaning(name)} and also a file or folder here: write {_spelled_out(name)}, or ./{text} or folder:{text}"
            )
        if name not in _CONFIGS:
            name, rest = _kind_of_path(text), text
    kind = _CONFIGS[name]
    values: dict[str, Any] = {"name": name}
    if "modality" in kind.model_fields:
        modality, _, after = rest.partition(":")
        if modality in AXES:
            values["modality"], rest = modality, after
        elif kind.model_fields["modality"].is_required():
            raise unknown(f"modality of {name}", modality, AXES)
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
    count = len(source.skipped)
    skipped = f", {count} {'entries' if count > 1 else 'entry'} skipped" if count else ""
    return f"{source_name(config.to_dict())}: {len(source)} sample{'s' if len(source) != 1 else ''}{skipped}"


def source_name(values: Mapping[str, Any]) -> str:
    """The short form of a source's configuration, given as plain values: `photos:heldout`, `arrays:audio:/path/clips.npz`."""
    return printable(":".join(str(values[part]) for part in ("name", "modality", "path", "split") if values.get(part)))


def _meaning(name: str) -> str:
    return "a kind of data source" if "path" in _CONFIGS[name].model_fields else "a built-in data set"


def _spelled_out(name: str) -> str:
    """The short form that cannot be taken for a path."""
    fields = _CONFIGS[name].model_fields
    return f"{name}:{get_args(fields['split'].annotation)[0]}" if "split" in fields else f"{name}:PATH"


def _kind_of_path(text: str) -> str:
    path = Path(text).expanduser()
    if path.is_dir():
        return _kind_of_folder(path)
    if path.suffix in _SHARDS:
        return _SHARDS[path.suffix]
    if path.is_file():
        raise ConfigError(f"{text!r} is a file; a data source is a folder, a .tar or .parquet file, or arrays: arrays:MODALITY:{text}")
    beside = [str(each) for each in path.parent.glob("*")] if path.parent.is_dir() else []
    raise unknown("data source, file or folder", text, [*_CONFIGS, *beside])


def _kind_of_folder(path: Path) -> str:
    """Of images, clips or sound, or of the shards that lie directly in it.

    Raises:
        ConfigError: if it holds both, or is a token set.
    """
    if (path / MANIFEST).is_file():
        raise ConfigError(f"{path} is a token set, which is encoded already: train a generator on it with data.tokens={path}")
    kinds = sorted({_SHARDS[each.suffix] for each in path.iterdir() if each.suffix in _SHARDS and not each.name.startswith(".")})
    if kinds and holds_any(path, SUFFIXES):
        kinds.append("folder")
    if len(kinds) > 1:
        raise ConfigError(f"{path} holds data of several kinds: write {' or '.join(f'{kind}:{path}' for kind in kinds)}")
    return kinds[0] if kinds else "folder"
