from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import refused, succeed
from example_files import titok

import visiontok
from visiontok.base.errors import DataError
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_file import TokenFile
from visiontok.data.token_shards import TokenSetHeader, TokenShardWriter
from visiontok.tokens import Segment, TokenLayout, Tokens

IDENTITY = TokenizerIdentity(name="toy", weights_sha256="0" * 64)
LAYOUT = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(2, 2), vocab_size=9),), signal_shape=(8, 8))
TOKENS = Tokens(torch.tensor([[0, 8, 3, 1], [2, 2, 2, 2]]), LAYOUT)


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """A model, the folder of a run, a token set and a token file: what is named, and the file in it that is damaged below."""
    model = visiontok.save_pretrained(titok(image_size=16, tokens=4), tmp_path / "model")
    run = visiontok.save_pretrained(titok(image_size=16, tokens=4), tmp_path / "run" / "final").parent
    writer = TokenShardWriter(tmp_path / "set", TokenSetHeader(layout=LAYOUT, tokenizer=IDENTITY, source="test"))
    writer.write(0, TOKENS, keys=["a", "b"])
    writer.finish()
    TokenFile(TOKENS, ("a", "b"), IDENTITY).write(tmp_path / "t.npz")
    return {
        "model": model / "model.safetensors",
        "run": run / "final" / "model.safetensors",
        "set": tmp_path / "set" / "part-00000.parquet",
        "t.npz": tmp_path / "t.npz",
    }


def test_what_is_whole(saved: dict[str, Path], tmp_path: Path) -> None:
    lines = succeed("verify", *(tmp_path / name for name in saved)).stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(tmp_path / name) for name in saved]


@pytest.mark.parametrize("name", ["model", "run", "set", "t.npz"])
def test_a_flipped_bit(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    path = saved[name]
    data = bytearray(path.read_bytes())
    data[data.find(b"indices.npy") + 60 if name == "t.npz" else len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match=name):
        raise _verify(tmp_path, saved)


def test_what_cannot_be_verified(tmp_path: Path) -> None:
    assert isinstance(refused("verify", tmp_path), DataError)
    assert isinstance(refused("verify", tmp_path / "absent"), DataError)


def _verify(folder: Path, saved: dict[str, Path]) -> Exception:
    """The error of verifying all of them, whose other lines say that the rest is whole."""
    from typer.testing import CliRunner

    from visiontok.cli import app

    result = CliRunner().invoke(app, ["--debug", "verify", *(str(folder / name) for name in saved)])
    assert len(result.stdout.splitlines()) == len(saved) - 1
    assert isinstance(result.exception, Exception)
    return result.exception
