"""Training on a token set of samples of different lengths, and samples that end as those do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import training_children as children
from training_recipes import GPT

import visiontok
from visiontok.base.noise import SampleNoise
from visiontok.core.identity import TokenizerIdentity
from visiontok.data.token_shards import TokenSetHeader, TokenShardWriter
from visiontok.tokens import Segment, TokenLayout, Tokens

CLIPS = TokenLayout(
    modality="audio", segments=(Segment(name="codes", shape=(4,), vocab_size=8, stride=(16,), free_axes=(0,)),), signal_shape=(64,), rate=100.0
)
LISTS = TokenLayout(modality="image", segments=(Segment(name="list", shape=(4,), vocab_size=8),), signal_shape=(8, 8), ragged=True)


@pytest.mark.parametrize("layout", [CLIPS, LISTS], ids=["extents", "lengths"])
def test_a_generator_learns_how_long_samples_are(layout, generator_recipe, tmp_path):
    """Sample i holds i % 4 + 1 tokens, all of the code i % 4."""
    samples = [torch.full((row % 4 + 1,), row % 4) for row in range(40)]
    extents = None if layout.ragged else torch.tensor([[len(sample)] for sample in samples])
    header = TokenSetHeader(layout=layout, tokenizer=TokenizerIdentity(name="some", weights_sha256="0" * 64), source="test")
    writer = TokenShardWriter(tmp_path / "set", header)
    writer.write(0, Tokens.from_samples(samples, layout, extents=extents), keys=[str(row) for row in range(40)])
    writer.finish()
    model = {"family": "gpt", "config": GPT | {"has_end": True, "condition": {"type": "none"}}}
    recipe = generator_recipe(data={"tokens": str(tmp_path / "set")}, tokenizer=None, model=model, steps=80)
    children.run(recipe)
    trained = visiontok.from_pretrained(Path(recipe["output"]) / "final")
    drawn = trained.generate(num_samples=50, noise=SampleNoise(0, range(50))).validate()
    lengths = drawn.sample_lengths.tolist()
    right = [set(row[:length]) == {length - 1} for row, length in zip(drawn.indices.tolist(), lengths, strict=True)]
    assert sum(right) > 35
    assert set(lengths) == {1, 2, 3, 4}
