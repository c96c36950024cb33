from __future__ import annotations

import math

import pytest
import torch

from visiontok.layers.modulated import ModulatedBlock
from visiontok.layers.modulation import Modulation
from visiontok.layers.patches import patchify, sincos_positions, unpatchify
from visiontok.layers.timesteps import TimestepEmbedding


def test_a_new_modulated_block_does_nothing_yet():
    block = ModulatedBlock(8, 2, hidden_dim=16, kinds=2)
    x = torch.randn(2, 5, 8)
    assert torch.equal(block(x, condition=torch.randn(2, 8), counts=(2, 3)), x)


def test_kinds_of_tokens_are_modulated_apart():
    modulation = Modulation(4, parts=3, kinds=2)
    torch.nn.init.normal_(modulation.linear.weight)
    parts = modulation(torch.randn(1, 4), (2, 1))
    assert [part.shape for part in parts] == [(1, 3, 4)] * 3
    for part in parts:
        assert torch.equal(part[:, 0], part[:, 1])
        assert not torch.equal(part[:, 1], part[:, 2])


@pytest.mark.parametrize("kept", [slice(2), slice(1, 4), slice(-2, None)])
@pytest.mark.parametrize("modulated", [True, False])
def test_a_block_computes_the_positions_that_are_kept_and_they_see_all(kept: slice, modulated: bool):
    block = ModulatedBlock(8, 2, hidden_dim=16, kinds=2 * modulated).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x, condition, bias = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 5, 8), (2, 8), (2, 1, 1, 5)))
    options = {"condition": condition, "counts": (2, 3)} if modulated else {}
    for mask in (None, torch.ones(5, 5, dtype=torch.bool).tril(), bias):
        torch.testing.assert_close(block(x, mask=mask, kept=kept, **options), block(x, mask=mask, **options)[:, kept])


def test_a_counted_key_stands_for_equal_ones():
    block = ModulatedBlock(8, 2, hidden_dim=16)
    x = torch.randn(1, 3, 8)
    repeated = torch.cat([x, x[:, -1:].expand(-1, 4, -1)], dim=1)
    mask = torch.tensor([0, 0, math.log(5)])[None, None, None]
    torch.testing.assert_close(block(x, mask=mask), block(repeated)[:, :3])


def test_patches():
    grid = torch.arange(2 * 4 * 6 * 3).view(2, 4, 6, 3)
    patches = patchify(grid, 2)
    assert patches.shape == (2, 6, 12)
    assert torch.equal(patches[0, 1], grid[0, :2, 2:4].flatten())
    assert torch.equal(unpatchify(patches.unflatten(1, (2, -1)), 2), grid)


def test_fixed_positions_tell_row_and_column():
    table = sincos_positions(3, 4, 8)
    assert table.shape == (12, 8)
    assert torch.equal(table[1, :4], table[2, :4])
    assert torch.equal(table[1, 4:], table[5, 4:])
    torch.testing.assert_close(table[4, :4], torch.tensor([math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01)]))
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions(2, 2, 6)


def test_time_is_told_precisely_in_half_precision():
    """Frequencies rounded to bfloat16 would be wrong by whole turns at a scale of 1000."""
    embedding = TimestepEmbedding(8, features=16, period=256.0, time_scale=1000.0)
    times = torch.tensor([0.7, 0.701])
    precise = embedding(times)
    torch.testing.assert_close(embedding.to(torch.bfloat16)(times).float(), precise, atol=0.05, rtol=0.05)
