"""Tokens of one signal in chunks, and joined again."""

from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import TokenError
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens, join_chunks, split_chunks

RATES = TokenLayout(
    modality="audio",
    segments=(
        Segment(name="coarse", shape=(5,), vocab_size=50, stride=(20,), free_axes=(0,)),
        Segment(name="fine", shape=(10,), vocab_size=50, codebooks=2, stride=(10,), free_axes=(0,)),
    ),
    signal_shape=(100,),
    rate=100.0,
)
VIDEO = TokenLayout(
    modality="video",
    segments=(Segment(name="grid", shape=(6, 2, 3), channels=4, stride=(2, 8, 8), free_axes=(0, 1, 2)),),
    signal_shape=(12, 16, 24),
)


def test_chunks_of_several_rates_are_cut_at_the_same_places() -> None:
    tokens = Tokens(torch.arange(25)[None].repeat(2, 1), RATES, extras={"signal_size": torch.tensor([[97], [93]])})
    parts = split_chunks(tokens, 47)
    assert [part.layout.extents for part in parts] == [(2, 4), (2, 4), (1, 2)]
    assert parts[1].indices[0].tolist() == [2, 3, *range(13, 21)]
    assert [part.extras["signal_size"].tolist() for part in parts] == [[[40], [40]], [[40], [40]], [[17], [13]]]
    again = join_chunks(parts)
    assert again.layout == tokens.layout
    assert torch.equal(again.indices, tokens.indices)
    assert torch.equal(again.extras["signal_size"], tokens.extras["signal_size"])
    assert len(split_chunks(tokens, 1)) == 5
    assert len(split_chunks(tokens, 1000)) == 1


def test_latents_of_clips_are_cut_in_time() -> None:
    latents = Latents(torch.randn(1, 36, 4, generator=torch.Generator().manual_seed(0)), VIDEO, extras={"signal_size": torch.tensor([[12, 15, 24]])})
    parts = split_chunks(latents, 8)
    assert [part.layout.extents for part in parts] == [(4, 2, 3), (2, 2, 3)]
    assert [part.layout.signal_shape for part in parts] == [(8, 16, 24), (4, 16, 24)]
    assert parts[1].extras["signal_size"].tolist() == [[4, 15, 24]]
    assert torch.equal(parts[0].view(), latents.view()[:, :4])
    again = join_chunks(parts)
    assert again.layout == latents.layout
    assert torch.equal(again.values, latents.values)


def test_what_are_no_chunks_of_one_signal_is_refused() -> None:
    tokens = Tokens(torch.zeros(1, 25, dtype=torch.int64), RATES)
    with pytest.raises(TokenError, match="no chunk"):
        join_chunks([])
    with pytest.raises(TokenError, match="chunk 1"):
        join_chunks([tokens, Tokens(torch.zeros(2, 25, dtype=torch.int64), RATES)])
    with pytest.raises(TokenError, match="loudness"):
        split_chunks(Tokens(tokens.indices, RATES, extras={"loudness": torch.ones(1, 3)}), 40)
    fixed = TokenLayout(modality="audio", segments=(Segment(name="x", shape=(4,), vocab_size=2),), signal_shape=(8,))
    with pytest.raises(TokenError, match="first axis"):
        split_chunks(Tokens(torch.zeros(1, 4, dtype=torch.int64), fixed), 2)
    ragged = Tokens.cat([tokens, Tokens(torch.zeros(1, 15, dtype=torch.int64), RATES.at((3, 6)))])
    with pytest.raises(TokenError, match="groups"):
        split_chunks(ragged, 40)
