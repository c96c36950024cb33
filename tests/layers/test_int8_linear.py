"""Weights of 8 bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visiontok.base.errors import ConfigError, VisiontokError
from visiontok.generators.backbones.llama_step import can_stream
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.layers.int8_linear import Int8Linear, round_weights
from visiontok.tokens import Segment, TokenLayout

LAYOUT = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(4, 4), vocab_size=20),), signal_shape=(16, 16))


@given(inputs=st.integers(1, 70), outputs=st.integers(1, 70), scale=st.sampled_from([1e-6, 1.0, 1e4]), seed=st.integers(0, 9))
def test_rounding_is_within_half_a_step_of_the_largest_weight_of_an_output(inputs: int, outputs: int, scale: float, seed: int):
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(linear.weight, std=scale, generator=torch.Generator().manual_seed(seed))
    linear.weight.data[0] = 0
    error = (Int8Linear(linear).weight - linear.weight).abs()
    assert (error <= 0.501 * linear.weight.abs().amax(dim=1, keepdim=True) / 127).all()


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_few_and_many_rows_give_the_same_map(rows: int):
    torch.manual_seed(0)
    linear, x = Int8Linear(nn.Linear(64, 96, bias=False)), torch.randn(rows, 64)
    torch.testing.assert_close(linear(x), x @ linear.weight.T, rtol=0.02, atol=0.02)
    torch.testing.assert_close(linear(x[:, None]).squeeze(1), linear(x))


def test_a_generator_samples_with_rounded_weights():
    torch.manual_seed(0)
    model = GPT(GPTConfig(layout=LAYOUT, condition={"type": "classes", "num_classes": 3}, dim=32, depth=2, num_heads=4)).eval()
    nn.init.normal_(model.head.table.weight, std=0.3)
    before = model.generate(torch.arange(3), sampler=model.sampler(top_k=1)).indices
    round_weights(model)
    assert can_stream(model.backbone)
    assert {type(block.attention.wo) for block in model.backbone.blocks} == {Int8Linear}
    after = model.generate(torch.arange(3), sampler=model.sampler(top_k=1)).indices
    assert (after == before).float().mean() > 0.5  # a wrong map would give 1 / 20
    alone = model.generate(torch.tensor([1]), sampler=model.sampler(top_k=1)).indices
    assert (alone == after[1:2]).float().mean() > 0.5


def test_rounded_weights_are_not_saved(tmp_path):
    model = GPT(GPTConfig(layout=LAYOUT, condition={"type": "classes", "num_classes": 3}, dim=32, depth=1, num_heads=4)).eval()
    round_weights(model)
    with pytest.raises(VisiontokError, match="rounded"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_blocks_with_biases_are_refused_also_beside_maps_without():
    text = {"type": "text", "text": {"length": 2, "dim": 3}}
    model = GPT(GPTConfig(layout=LAYOUT, condition=text, dim=32, depth=1, num_heads=4, block="gpt2")).eval()
    with pytest.raises(ConfigError, match="biases"):
        round_weights(model)


def test_a_model_without_such_maps_is_refused():
    with pytest.raises(ConfigError, match="LayerNorm"):
        round_weights(nn.LayerNorm(3))
