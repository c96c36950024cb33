"""Command lines and names of data."""

from __future__ import annotations

import json
import os
from pathlib import Path

from typer.testing import CliRunner

from fuzzing.entries.sources import encoded, tar
from fuzzing.entry import Entry, Files
from visiontok.base.errors import VisiontokError
from visiontok.cli import app
from visiontok.data.config import describe_source, open_source, parse_source
from visiontok.training import load_recipe

_LINES = (
    ["list", "titok*"],
    ["info", "titok-l32"],
    ["info", "vqgan-photos-f4"],
    ["encode", "x.png", "--model", "vqgan-photos-f4", "-o", "t.npz"],
    ["reconstruct", "x.png", "--model", "vqgan-photos-f4", "-o", "r.png"],
    ["decode", "t.npz", "-o", "r.png"],
    ["tokenize", "folder:images", "--model", "vqgan-photos-f4", "-o", "tokens", "--num-workers", "0"],
    ["train", "small/none", "steps=1", "output=run"],
    ["evaluate", "photos", "--model", "none", "--set", "size=16"],
    ["compare", "a.json", "b.json"],
    ["leaderboard", "results", "-o", "page.md"],
    ["generate", "none", "--tokenizer", "none", "-o", "samples"],
    ["push", "none", "owner/name"],
)
_FILES: Files = {"x.png": encoded(size=(16, 16)), "images/a.png": encoded(size=(16, 16)), "a.json": b"{}", "b.json": b"[]", "results/a.json": b"{}"}
_SOURCES = ("digits:test", "shapes", "folder:images", "webdataset:{0..1}.tar", "parquet:*.parquet", "arrays:audio:x.npz", "images", "photos")
_OVERRIDES = (["steps=3", "optimizer.lr=1e-3"], ["data.source=digits:test", "batch_size=8", "seed=1"], ["model.config.image_size=16", "output=x"])


def _lines() -> list[Files]:
    return [{"line.args": json.dumps(line).encode(), **_FILES} for line in _LINES]


def _read_line(folder: Path) -> None:
    os.chdir(folder)
    words = json.loads((folder / "line.args").read_bytes())
    written = [word.replace("../../escape", "escape").replace("/absolute", f"{folder}/absolute") for word in words]  # outputs go where they are told
    result = CliRunner().invoke(app, [word.encode("utf-8", errors="replace").decode() for word in written])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.exit_code
    if result.exit_code:
        raise VisiontokError(result.output[-300:] or "nothing was said")


def _sources() -> list[Files]:
    shards: Files = {f"{number}.tar": tar([("a.png", encoded())]) for number in range(2)}
    return [{"line.args": json.dumps([name]).encode(), "images/a.png": encoded(), **shards} for name in _SOURCES]


def _read_source(folder: Path) -> None:
    os.chdir(folder)
    for name in json.loads((folder / "line.args").read_bytes()):
        config = parse_source(name)
        assert describe_source(config, open_source(config)).encode()


def _overrides() -> list[Files]:
    return [{"line.args": json.dumps(words).encode()} for words in _OVERRIDES]


def _read_overrides(folder: Path) -> None:
    load_recipe("small/vq", json.loads((folder / "line.args").read_bytes()))


def _is_line(name: str) -> bool:
    return name.endswith(".args")


ENTRIES = (
    Entry("command-line", _lines, _read_line, cases=60, mutable=_is_line),
    Entry("source-name", _sources, _read_source, cases=150, mutable=_is_line),
    Entry("overrides", _overrides, _read_overrides, cases=60, mutable=_is_line),
)
