"""Attention in blocks against attention with a mask over the whole sequence, and transformers that do not look ahead."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from visiontok.layers.causal_transformer import CausalTransformer, ScaledBlock, WindowAttention
from visiontok.layers.local_attention import attend_in_blocks, recent
from visiontok.layers.norms import RMSNorm
from visiontok.layers.rope import halves_of_pairs, pairs_of_halves


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_blocks_give_what_the_whole_mask_gives(length: int, kv_heads: int) -> None:
    window = 4
    query = drawn(2, 4, length, 6)
    key, value = (drawn(2, kv_heads, length, 6, seed=seed) for seed in (1, 2))
    behind = torch.arange(length)[:, None] - torch.arange(length)
    whole = (behind >= 0) & (behind < window)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=whole, enable_gqa=True)
    torch.testing.assert_close(attend_in_blocks(query, key, value, recent(window, query.device)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [2, 4, 7, 12])
def test_biases_of_blocks(length: int) -> None:
    """By distance, for the own block and the whole one before."""
    window = 4
    query, key, value = (drawn(1, 2, length, 6, seed=seed) for seed in range(3))
    by_distance = drawn(2, 2 * window, seed=3)
    distance = torch.arange(window)[:, None] + window - torch.arange(2 * window)
    mask = by_distance[:, distance.clamp_min(0)].masked_fill(distance < 0, -torch.inf)
    rows, columns = torch.arange(length)[:, None], torch.arange(length)
    seen = (columns <= rows) & (columns >= (rows // window - 1) * window)
    whole = by_distance[:, (rows - columns).clamp(0, 2 * window - 1)].masked_fill(~seen, -torch.inf)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=whole)
    torch.testing.assert_close(attend_in_blocks(query, key, value, mask), expected, rtol=1e-5, atol=1e-5)


def test_no_frame_reads_later_ones_or_beyond_the_window() -> None:
    torch.manual_seed(0)
    dim, window = 8, 3
    block = ScaledBlock(
        dim,
        attn=WindowAttention(dim, 2, window=window, num_kv_heads=1, head_dim=6),
        norms=[RMSNorm(dim), RMSNorm(dim)],
        mlp=torch.nn.Linear(dim, dim),
        layer_scale=None,
    )
    model = CausalTransformer([block], rope_base=10000.0)
    x = drawn(1, 10, dim)
    changed = x.clone()
    changed[:, 4] += 1
    differs = (model(x) - model(changed)).abs().amax(dim=(0, 2)) > 1e-6
    assert differs.nonzero().flatten().tolist() == [4, 5, 6]


def test_rows_in_halves_and_in_pairs() -> None:
    weight = drawn(12, 3)
    assert torch.equal(halves_of_pairs(pairs_of_halves(weight, 6), 6), weight)
    assert pairs_of_halves(torch.arange(6.0)[:, None], 6).flatten().tolist() == [0, 3, 1, 4, 2, 5]
