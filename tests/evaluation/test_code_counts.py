from collections import Counter

import numpy as np
import pytest
import torch

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.code_counts import CodeCounts
from visiontok.tokens import Segment, TokenLayout, Tokens

GRID = TokenLayout(modality="image", signal_shape=(8, 8), segments=(Segment(name="grid", shape=(2, 3), vocab_size=(4, 6), codebooks=2),))
SCALES = TokenLayout(
    modality="image",
    signal_shape=(8, 8),
    segments=(
        Segment(name="coarse", shape=(1,), vocab_size=5, codebook="shared"),
        Segment(name="fine", shape=(2, 2), vocab_size=5, codebook="shared"),
        Segment(name="style", shape=(1,), vocab_size=3),
    ),
)
KEPT = TokenLayout(modality="image", signal_shape=(8, 8), ragged=True, segments=(Segment(name="q", shape=(4,), vocab_size=(3, 7), codebooks=2),))


def random_tokens(layout: TokenLayout, count: int, seed: int = 0) -> Tokens:
    draw = np.random.default_rng(seed)
    return Tokens(torch.from_numpy(draw.integers(0, layout.vocab_sizes, (count, layout.length))), layout)


def by_name(accumulator: CodeCounts) -> dict[str, list[int]]:
    return {use.name: use.counts.tolist() for use in accumulator.compute()}


def test_each_codebook_and_the_joint_ids() -> None:
    tokens = random_tokens(GRID, 50)
    accumulator = CodeCounts(GRID)
    accumulator.update(tokens)
    pairs = tokens.indices.reshape(-1, 2).numpy()
    joint = Counter(int(a) * 6 + int(b) for a, b in pairs)
    assert by_name(accumulator) == {
        "grid[0]": np.bincount(pairs[:, 0], minlength=4).tolist(),
        "grid[1]": np.bincount(pairs[:, 1], minlength=6).tolist(),
        "grid joint": [joint[key] for key in sorted(joint)],
    }
    assert [use.vocab_size for use in accumulator.compute()] == [4, 6, 24]


def test_segments_with_one_codebook_are_counted_together() -> None:
    tokens = random_tokens(SCALES, 20)
    accumulator = CodeCounts(SCALES)
    accumulator.update(tokens)
    assert by_name(accumulator) == {
        "shared": np.bincount(tokens.indices[:, :5].flatten(), minlength=5).tolist(),
        "style": np.bincount(tokens.indices[:, 5], minlength=3).tolist(),
    }


def test_kept_subsets_count_only_what_they_hold() -> None:
    tokens = Tokens.from_samples(
        [torch.tensor([2, 6, 1]), torch.tensor([5])],
        KEPT,
        positions=[torch.tensor([0, 1, 4]), torch.tensor([3])],
    )
    accumulator = CodeCounts(KEPT)
    accumulator.update(tokens)
    assert by_name(accumulator) == {"q[0]": [0, 1, 1], "q[1]": [0, 0, 0, 0, 0, 1, 1], "q joint": [1]}


@pytest.mark.parametrize("layout", [GRID, SCALES])
def test_sharding_and_state_are_exact(layout: TokenLayout) -> None:
    tokens = random_tokens(layout, 31)
    whole = CodeCounts(layout)
    whole.update(tokens)
    shards = []
    for rank in range(3):
        shard = CodeCounts(layout)
        for row in range(rank, 31, 3):
            shard.update(tokens[row : row + 1])
        restored = CodeCounts(layout)
        restored.load_state(shard.state())
        shards.append(restored)
    shards[2].merge(shards[0])
    shards[2].merge(shards[1])
    assert by_name(shards[2]) == by_name(whole)
    assert shards[2].compute()[0].samples == 31


def test_a_joint_vocabulary_that_no_data_could_fill_is_not_counted() -> None:
    layout = TokenLayout(modality="image", signal_shape=(8, 8), segments=(Segment(name="q", shape=(2,), vocab_size=1024, codebooks=8),))
    accumulator = CodeCounts(layout)
    accumulator.update(random_tokens(layout, 2))
    assert [use.name for use in accumulator.compute()] == [f"q[{i}]" for i in range(8)]


def test_tokens_of_another_layout_are_refused() -> None:
    with pytest.raises(EvaluationError, match="another layout"):
        CodeCounts(GRID).update(random_tokens(SCALES, 1))
    with pytest.raises(EvaluationError, match="no codebook"):
        CodeCounts(TokenLayout(modality="image", signal_shape=(8, 8), segments=(Segment(name="z", shape=(4,), channels=16),)))
