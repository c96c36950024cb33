"""From a tensor in a layout's shape to tokens and back: `from_view` is the inverse of `view`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visiontok.base.errors import TokenError
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


def layout(*shape: int, modality: str = "image", signal_shape: tuple[int, ...] = (64, 64), codebooks: int = 1, **options) -> TokenLayout:
    free = options.pop("free_axes", ())
    kind = {"channels": options.pop("channels")} if "channels" in options else {"vocab_size": 16, "codebooks": codebooks}
    return TokenLayout(modality=modality, segments=(Segment(name="s", shape=shape, free_axes=free, **kind),), signal_shape=signal_shape, **options)


GRID, LINE = layout(4, 6), layout(8)
LEVELS = layout(4, 4, codebooks=3)
FREE = layout(4, 4, free_axes=(0, 1))
VIDEO = layout(2, 3, 4, modality="video", signal_shape=(8, 64, 64))
CONTINUOUS = layout(4, 4, channels=5)
TWO = GRID.replace(segments=[GRID.segments[0].to_dict(), {"name": "t", "shape": (3,), "vocab_size": 4}])


@pytest.mark.parametrize("of", [GRID, LINE, LEVELS, FREE, VIDEO, CONTINUOUS])
def test_from_view_is_the_inverse_of_view(of):
    data = torch.rand(3, of.length, 5) if of.is_continuous else torch.randint(0, 16, (3, of.length))
    batch = (Latents if of.is_continuous else Tokens)(data, of)
    again = type(batch).from_view(batch.view(), of)
    assert torch.equal(again.data, batch.data)
    assert again.layout == of


def test_free_axes_take_any_number_of_positions():
    tokens = Tokens.from_view(torch.zeros(2, 3, 7, dtype=torch.int64), FREE)
    assert tokens.layout == FREE.at([3, 7])
    assert tokens.view().shape == (2, 3, 7)


def test_storage_order_and_prefixes_where_they_say_enough():
    assert Tokens.from_view(torch.zeros(2, 24, dtype=torch.int64), GRID).layout == GRID
    assert Tokens.from_view(torch.zeros(2, 27, dtype=torch.int64), TWO).layout == TWO
    ordered = LINE.replace(prefixes=[2, 4])
    assert Tokens.from_view(torch.zeros(2, 4, dtype=torch.int64), ordered).indices.shape == (2, 4)
    assert len(Tokens.from_view(torch.zeros(0, 4, 6, dtype=torch.int64), GRID)) == 0


@pytest.mark.parametrize(
    ("shape", "of", "expected"),
    [
        ((2, 6, 4), GRID, r"\(2, 6, 4\).*\(B, 4, 6\) or \(B, 24\)"),
        ((24,), GRID, r"\(24,\)"),
        ((2, 4, 4), LEVELS, r"\(B, 4, 4, 3\) or \(B, 48\)"),
        ((2, 16), FREE, r"\(2, 16\).*\(B, any, any\)"),
        ((2, 7), LINE, r"\(2, 7\).*\(B, 8\)"),
        ((2, 3), LINE.replace(prefixes=[2, 4]), r"\(2, 3\)"),
        ((2, 4, 6), TWO, r"\(B, 27\)"),
    ],
)
def test_other_shapes_are_refused(shape, of, expected):
    with pytest.raises(TokenError, match=expected):
        Tokens.from_view(torch.zeros(shape, dtype=torch.int64), of)


def test_other_types_are_refused():
    with pytest.raises(TokenError, match="float32"):
        Tokens.from_view(torch.zeros(2, 8), LINE)
    with pytest.raises(TokenError, match="int64"):
        Latents.from_view(torch.zeros(2, 4, 4, 5, dtype=torch.int64), CONTINUOUS)
    with pytest.raises(TokenError, match=r"\(2, 4, 4, 6\).*\(B, 4, 4, 5\)"):
        Latents.from_view(torch.zeros(2, 4, 4, 6), CONTINUOUS)


def test_numpy_is_a_copy():
    tokens = Tokens(torch.randint(0, 16, (2, 8)), LINE)
    found = tokens.numpy()
    assert found.dtype == np.int64
    assert np.array_equal(found, tokens.indices)
    found[:] = -5
    assert int(tokens.indices.min()) >= 0
    values = torch.rand(2, 16, 5).bfloat16().requires_grad_(True)
    assert Latents(values, CONTINUOUS).numpy().dtype == np.float32


def test_one_vocabulary_has_a_size():
    assert GRID.vocab_size == LEVELS.vocab_size == 16
    with pytest.raises(TokenError, match="4, 16"):
        _ = TWO.vocab_size
    with pytest.raises(TokenError, match="continuous"):
        _ = CONTINUOUS.vocab_size
