from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visiontok.base.errors import TokenError
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_file import TokenFile
from visiontok.tokens import PAD, Latents, Segment, TokenLayout, Tokens

IDENTITY = TokenizerIdentity(name="toy", weights_sha256="0" * 64)
FULL = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(2, 2), vocab_size=9),), signal_shape=(8, 8))
RAGGED = TokenLayout(modality="image", segments=(Segment(name="kept", shape=(4,), vocab_size=9),), signal_shape=(8, 8), ragged=True)
CONTINUOUS = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(4,), channels=2),), signal_shape=(8, 8))


def full() -> Tokens:
    return Tokens(torch.tensor([[0, 8, 3, 1], [2, 2, 2, 2]]), FULL)


def test_round_trip_of_full_samples(tmp_path: Path) -> None:
    TokenFile(full(), ("a/b.png", "ü"), IDENTITY, labels=(3, 1)).write(tmp_path / "t.npz")
    found = TokenFile.read(tmp_path / "t.npz")
    assert isinstance(found.tokens, Tokens)
    assert torch.equal(found.tokens.indices, full().indices)
    assert (found.tokens.layout, found.keys, found.tokenizer, found.labels) == (FULL, ("a/b.png", "ü"), IDENTITY, (3, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["t.npz"]


def test_round_trip_of_kept_subsets(tmp_path: Path) -> None:
    tokens = Tokens(torch.tensor([[5, 6, PAD], [1, 2, 3]]), RAGGED, lengths=torch.tensor([2, 3]), positions=torch.tensor([[0, 3, PAD], [0, 1, 2]]))
    TokenFile(tokens, ("a", "b"), IDENTITY).write(tmp_path / "t.npz")
    found = TokenFile.read(tmp_path / "t.npz").tokens
    assert isinstance(found, Tokens)
    for name in ("indices", "lengths", "positions"):
        assert torch.equal(getattr(found, name), getattr(tokens, name))


def test_round_trip_of_continuous_latents(tmp_path: Path) -> None:
    latents = Latents(torch.randn(3, 4, 2), CONTINUOUS)
    TokenFile(latents, ("a", "b", "c"), IDENTITY).write(tmp_path / "t.npz")
    found = TokenFile.read(tmp_path / "t.npz").tokens
    assert isinstance(found, Latents)
    assert torch.equal(found.values, latents.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": np.array([[0, 9, 3, 1], [2, 2, 2, 2]])}, "9 of sample 0 at segment 'grid'"),
        ({"indices": np.zeros((2, 4))}, "int64"),
        ({"keys": np.array(["a"])}, "2 samples but 1 keys"),
        ({"labels": np.array([1, 2, 3])}, "2 samples but 3 labels"),
        ({"layout": np.array("{}")}, "t.npz"),
        ({"tokenizer": np.array("no json")}, "t.npz"),
        ({"keys": None}, "keys"),
        ({"indices": None}, "indices"),
        ({"keys": np.array([{}, {}], dtype=object)}, "t.npz"),
    ],
)
def test_wrong_contents_are_named(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    TokenFile(full(), ("a", "b"), IDENTITY).write(tmp_path / "t.npz")
    arrays = {**np.load(tmp_path / "t.npz"), **change}
    np.savez(tmp_path / "t.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(TokenError, match=message):
        TokenFile.read(tmp_path / "t.npz")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_always_a_token_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "t.npz"
    TokenFile(full(), ("a", "b"), IDENTITY).write(path)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    for offset, byte in data.draw(st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=6)):
        if offset < len(whole):
            whole[offset] = byte
    path.write_bytes(whole)
    with suppress(TokenError):  # any other error fails the test
        assert len(TokenFile.read(path).keys) == 2
