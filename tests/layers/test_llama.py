import pytest
import torch

from visiontok.layers.kv_cache import KVCache
from visiontok.layers.llama import LlamaBlock, SwiGLU, swiglu_dim
from visiontok.layers.norms import RMSNorm
from visiontok.layers.rope import apply_rope, grid_positions, rope_table


def block(**changes) -> LlamaBlock:
    torch.manual_seed(0)
    return LlamaBlock(16, 4, norm=RMSNorm, feed_forward=SwiGLU(16, 24, dropout=0.0), **changes).eval()


def causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


@pytest.mark.parametrize("num_kv_heads", [None, 2])
def test_reading_with_a_cache_gives_what_reading_at_once_gives(num_kv_heads):
    layer, x = block(num_kv_heads=num_kv_heads), torch.randn(2, 6, 16)
    rope = rope_table(grid_positions((6,)), 4)
    whole = layer(x, rope=rope, mask=causal(6))
    cache = KVCache(2, num_kv_heads or 4, 6, 4, device=x.device, dtype=x.dtype)
    parts = [layer(x[:, :3], rope=rope[:3], mask=causal(3), cache=cache)]
    parts += [layer(x[:, step : step + 1], rope=rope[step : step + 1], cache=cache) for step in range(3, 6)]
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-6)


def test_the_mask_decides_what_a_token_sees():
    layer, x = block(), torch.randn(1, 5, 16)
    changed = x.clone()
    changed[:, 3] += 1
    with_mask = [layer(values, mask=causal(5)) for values in (x, changed)]
    assert torch.equal(with_mask[0][:, :3], with_mask[1][:, :3])
    assert not torch.allclose(with_mask[0][:, 4], with_mask[1][:, 4])
    assert not torch.allclose(layer(x)[:, 0], layer(changed)[:, 0])


def test_rope_scores_depend_on_the_distance_only():
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    table = rope_table(grid_positions((5, 7)), 8)

    def score(first: tuple[int, int], second: tuple[int, int]) -> float:
        rows = [table[[row * 7 + column]] for row, column in (first, second)]
        return float((apply_rope(query, rows[0]) * apply_rope(key, rows[1])).sum())

    assert score((1, 2), (3, 5)) == pytest.approx(score((0, 0), (2, 3)), abs=1e-5)
    assert score((1, 2), (3, 5)) != pytest.approx(score((1, 2), (3, 4)), abs=1e-3)
    assert score((1, 2), (3, 5)) != pytest.approx(score((1, 2), (2, 5)), abs=1e-3)


def test_rope_table_values():
    table = rope_table(grid_positions((2, 3)), 8, base=100.0, zero_rows=1)
    assert table.shape == (7, 4, 2)
    assert not table[0].any()
    angles = torch.tensor([1.0, 0.1, 2.0, 0.2])  # row 1, column 2; two frequencies per axis: 1 and 100 ** (-2 / 4)
    assert torch.allclose(table[6], torch.stack([angles.cos(), angles.sin()], dim=-1))


def test_with_a_base_below_one_frequencies_rise():
    table = rope_table(grid_positions((2, 3)), 8, base=0.25)
    angles = torch.tensor([1.0, 2.0, 2.0, 4.0])  # row 1, column 2; two frequencies per axis: 1 and 0.25 ** (-2 / 4)
    assert torch.allclose(table[5], torch.stack([angles.cos(), angles.sin()], dim=-1))


def test_zero_rows_silence_a_token():
    layer, x = block(), torch.randn(1, 3, 16)
    rope = rope_table(grid_positions((2,)), 4, zero_rows=1)
    query = layer.attention.wqkv(x)[..., :16].unflatten(-1, (4, 4)).transpose(1, 2)
    assert not apply_rope(query, rope)[:, :, 0].any()


def test_rope_refuses_a_head_that_the_axes_do_not_divide():
    with pytest.raises(ValueError, match="multiple of 6"):
        rope_table(grid_positions((2, 2, 2)), 8)


def test_rms_norm_computes_in_float32():
    x = torch.randn(3, 16, dtype=torch.bfloat16) * 100
    norm = RMSNorm(16).bfloat16()
    expected = (x.float() / (x.float().square().mean(-1, keepdim=True) + 1e-5).sqrt()).bfloat16()
    assert torch.equal(norm(x), expected)


def test_heads_must_fit():
    with pytest.raises(ValueError, match="num_heads 3"):
        LlamaBlock(16, 3, norm=RMSNorm, feed_forward=SwiGLU(16, 8, dropout=0.0))


@pytest.mark.parametrize(("dim", "multiple", "width"), [(768, 256, 2048), (1024, 256, 2816), (48, 32, 128)])
def test_swiglu_dims_of_published_sizes(dim, multiple, width):
    assert swiglu_dim(dim, multiple) == width
