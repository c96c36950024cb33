"""Latents of any layout as tokens, one for every dimension, and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visiontok.base.errors import TokenError
from visiontok.core.quantized_latents import quantized_layout, to_latents, to_tokens
from visiontok.quantizers import DimensionWiseQuantizerConfig
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

QUANTIZER = DimensionWiseQuantizerConfig(levels=512, range=4.0).build()


def layout(dims: int, **changes) -> TokenLayout:
    segments = changes.pop("segments", [{"name": "latents", "shape": (6,), "channels": dims}])
    return TokenLayout.parse({"modality": "image", "segments": segments, "signal_shape": (8, 8), **changes})


def latents(kind: TokenLayout, samples: int = 3, seed: int = 0, **fields) -> Latents:
    values = torch.randn(samples, kind.length, kind.segments[0].channels, generator=torch.Generator().manual_seed(seed))
    return Latents(values.clamp(-2, 2), kind, **fields)


def assert_back_again(found: Latents) -> None:
    tokens = to_tokens(found, QUANTIZER).validate()
    back = to_latents(tokens, found.layout, QUANTIZER).validate()
    assert back.layout == found.layout
    torch.testing.assert_close(back.values, found.values * found.mask[..., None], atol=0.05, rtol=0)
    assert torch.equal(to_tokens(back, QUANTIZER).indices, tokens.indices)
    for name in ("lengths", "positions", "extents"):
        before, after = getattr(found, name), getattr(back, name)
        assert (before is None) == (after is None)
        assert before is None or torch.equal(before, after)
    assert back.extras.keys() == found.extras.keys()


@given(dims=st.integers(1, 5), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_whole_samples(dims, seed):
    found = latents(layout(dims), seed=seed, extras={"signal_size": torch.tensor([[8, 8]] * 3)})
    tokens = to_tokens(found, QUANTIZER)
    assert tokens.indices.shape == (3, 6 * dims)
    assert torch.equal(tokens.view().view(3, 6, dims), QUANTIZER(found.values).indices)
    assert_back_again(found)


@pytest.mark.parametrize("dims", [1, 4])
@pytest.mark.parametrize("prefixes", ["any", (2, 3)])
def test_prefixes_are_those_of_whole_positions(dims, prefixes):
    kind = layout(dims, prefixes=prefixes)
    assert_back_again(latents(kind).prefix(torch.tensor([2, 6, 3])))
    quantized = quantized_layout(kind, 512)
    assert quantized.allows_prefix(2 * dims)
    assert quantized.allows_prefix(dims) == (prefixes == "any")
    if dims > 1:
        assert not quantized.allows_prefix(2 * dims + 1)
        cut = Tokens(torch.zeros(1, 5, dtype=torch.int64), quantized)
        with pytest.raises(TokenError, match="4 dimensions"):
            to_latents(cut, kind, QUANTIZER)


def test_kept_positions():
    kind, random = layout(3, ragged=True), torch.Generator().manual_seed(0)
    positions = [torch.tensor([1, 4]), torch.tensor([0, 2, 5]), torch.tensor([], dtype=torch.int64)]
    samples = [torch.randn(len(part), 3, generator=random).clamp(-2, 2) for part in positions]
    found = Latents.from_samples(samples, kind, positions=positions)
    assert_back_again(found)
    assert to_tokens(found, QUANTIZER).positions[0, :6].tolist() == [3, 4, 5, 12, 13, 14]
    half = Tokens.from_samples([torch.zeros(3, dtype=torch.int64)], quantized_layout(kind, 512), positions=[torch.tensor([1, 2, 3])])
    with pytest.raises(TokenError, match="sample 0"):
        to_latents(half, kind, QUANTIZER)


def test_samples_of_different_extents_and_several_segments():
    coarse = Segment(name="coarse", shape=(2,), channels=3, stride=(8,), free_axes=(0,))
    fine = Segment(name="fine", shape=(4,), channels=3, stride=(4,), free_axes=(0,))
    kind = TokenLayout(modality="audio", segments=(coarse, fine), signal_shape=(16,), rate=16.0)
    found = Latents.cat([latents(kind.at((2, 4)), samples=2), latents(kind.at((3, 6)), samples=1, seed=1)])
    tokens = to_tokens(found, QUANTIZER).validate()
    assert tokens.sample_lengths.tolist() == (3 * found.sample_lengths).tolist()
    assert_back_again(found)


def test_the_order_of_positions_is_kept():
    kind = layout(2, order=(5, 4, 3, 2, 1, 0))
    assert quantized_layout(kind, 8).generation_order[:4].tolist() == [10, 11, 8, 9]


def test_tokens_are_not_quantized_again():
    with pytest.raises(TokenError, match="tokens already"):
        quantized_layout(quantized_layout(layout(2), 8), 8)
