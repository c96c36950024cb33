"""Naming a source in a recipe and on the command line."""

from pathlib import Path

import pytest
from bad_images import encoded
from pydantic import TypeAdapter

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, DataError, UnknownNameError
from visiontok.data import DataConfig, open_source, parse_source
from visiontok.data.config import describe_source
from visiontok.data.digits import DigitsConfig
from visiontok.data.folder import FolderConfig
from visiontok.data.parquet import ParquetConfig
from visiontok.data.photos import PhotosConfig
from visiontok.data.shapes import ShapesConfig
from visiontok.data.shard_names import expand_shards
from visiontok.data.token_shards import MANIFEST
from visiontok.data.webdataset import WebDatasetConfig


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("digits", DigitsConfig(split="train")),
        ("digits:test", DigitsConfig(split="test")),
        ("photos:heldout", PhotosConfig(split="heldout")),
        ("shapes", ShapesConfig()),
        ("folder:/data/a:b", FolderConfig(path="/data/a:b")),
        ("webdataset:/x/{00..03}.tar", WebDatasetConfig(path="/x/{00..03}.tar")),
        ("/x/{00..03}.tar", WebDatasetConfig(path="/x/{00..03}.tar")),
        ("parquet:/x/*.parquet", ParquetConfig(path="/x/*.parquet")),
        ("x/*.parquet", ParquetConfig(path="x/*.parquet")),
    ],
)
def test_the_short_form(text: str, config: Config) -> None:
    assert parse_source(text) == config


def test_a_bare_folder_is_a_folder_source(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    assert parse_source(str(tmp_path)) == FolderConfig(path=str(tmp_path))
    assert len(open_source(str(tmp_path))) == 1


@pytest.mark.parametrize(("suffix", "kind"), [("tar", "webdataset"), ("parquet", "parquet")])
def test_a_bare_folder_of_shards_is_told_from_one_of_images(suffix: str, kind: str, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number:03d}.{suffix}").touch()
    assert parse_source(str(tmp_path)).to_dict()["name"] == kind
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "a.png").write_bytes(encoded())
    with pytest.raises(ConfigError) as caught:
        parse_source(str(tmp_path))
    for spelling in (f"{kind}:{tmp_path}", f"folder:{tmp_path}"):
        assert spelling in str(caught.value)
        assert parse_source(spelling).to_dict()["name"] == spelling.partition(":")[0]


def test_folders_that_hold_no_images_say_how_to_name_what_they_hold(tmp_path: Path) -> None:
    for name in ("tars/a/0.tar", "arrays/0.npy", "flat/0.tar", "none/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for text, spelling in (
        (f"{tmp_path / 'tars'}", f"webdataset:{tmp_path / 'tars'}/**/*.tar"),
        (f"{tmp_path / 'arrays'}", f"arrays:MODALITY:{tmp_path / 'arrays'}"),
        (f"folder:{tmp_path / 'flat'}", f"webdataset:{tmp_path / 'flat'}"),
        (f"{tmp_path / 'none'}", ".png"),
    ):
        with pytest.raises(DataError) as caught:
            open_source(text)
        assert spelling in str(caught.value)
    expand_shards(f"{tmp_path / 'tars'}/**/*.tar", ".tar")


def test_a_token_set_and_a_single_file_are_no_sources(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / MANIFEST).touch()
    (tmp_path / "set" / "part-00000.parquet").touch()
    (tmp_path / "photo.png").touch()
    for path in (tmp_path / "set", tmp_path / "photo.png"):
        with pytest.raises(ConfigError, match=str(path)):
            parse_source(str(path))


def test_misspelt_names_get_close_matches() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean digits"):
        parse_source("digit:test")
    with pytest.raises(UnknownNameError, match=r"split of photos called 'held-out'. Did you mean heldout"):
        parse_source("photos:held-out")
    with pytest.raises(UnknownNameError, match="/nowhere/at/all"):
        parse_source("/nowhere/at/all")
    with pytest.raises(ConfigError, match="lacks a path: write folder:"):
        parse_source("folder:")


def test_a_recipe_names_its_source_with_options() -> None:
    adapter = TypeAdapter(DataConfig)
    assert adapter.validate_python({"name": "shapes", "size": 32}) == ShapesConfig(size=32)
    assert adapter.validate_python("digits:all") == DigitsConfig(split="all")
    for config in (DigitsConfig(split="all"), ParquetConfig(path="x", label="fine_label"), PhotosConfig(textures=True)):
        assert adapter.validate_python(config.to_dict()) == config
    for wrong in ({"name": "imagenet"}, {"name": "digits", "path": "x"}, {"name": "folder"}):
        with pytest.raises(ValueError):
            adapter.validate_python(wrong)


@pytest.mark.parametrize(
    ("name", "explicit"),
    [("photos", "photos:train"), ("digits", "digits:train"), ("shapes", "shapes:train"), ("folder", "folder:PATH")],
)
def test_a_name_that_is_also_a_folder_here_is_refused(name: str, explicit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name != "folder":
        parse_source(name)
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError) as caught:
        parse_source(name)
    for spelling in (explicit, f"./{name}", f"folder:{name}"):
        assert spelling in str(caught.value)
    assert parse_source(f"./{name}") == FolderConfig(path=f"./{name}")
    assert parse_source(f"folder:{name}") == FolderConfig(path=name)
    if name != "folder":
        assert parse_source(explicit).name == name


def test_what_was_opened_is_described_with_its_count(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    for text, described in (("digits:test", "digits:test: 355 samples"), (str(tmp_path), f"folder:{tmp_path}: 1 sample")):
        config = parse_source(text)
        assert describe_source(config, open_source(config)) == described
