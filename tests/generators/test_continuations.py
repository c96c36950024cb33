"""Samples that begin with given tokens: what follows is what the generator writes behind them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.generators.decoding import SpeculativeSampler
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens
from visiontok.tokens.grid import grid_layout

CLIPS = grid_layout((4, 2, 3), stride=(4, 8, 8), vocab_size=7)
SOUND = TokenLayout(
    modality="audio",
    segments=(Segment(name="frames", shape=(6,), vocab_size=5, codebooks=3, stride=(10,), free_axes=(0,)),),
    signal_shape=(60,),
    rate=100,
    levels="any",
)
LATENTS = grid_layout((4, 2, 3), stride=(4, 8, 8), channels=3)


def gpt(layout: TokenLayout, **changes: Any) -> GPT:
    torch.manual_seed(0)
    sizes = {"dim": 24, "depth": 2, "num_heads": 2, "multiple_of": 8, "positions": "learned"}
    model = GPT(GPTConfig.parse({"layout": layout.to_dict(), **sizes, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def first(tokens: Any, count: int) -> Any:
    """The first positions along the first axis of full samples."""
    layout = tokens.layout.at([count, *tokens.layout.extents[1:]])
    return type(tokens)(tokens.data[:, : layout.length], layout)


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        (CLIPS, {}),
        (CLIPS, {"positions": "rope-1d"}),
        (SOUND, {}),
        (SOUND, {"pattern": "parallel"}),
        (SOUND, {"has_end": True}),
        (LATENTS, {}),
    ],
)
def test_what_a_sample_begins_with_stays_and_the_rest_is_what_the_same_draws_give(layout: TokenLayout, changes: dict[str, Any]) -> None:
    model = gpt(layout, **changes)
    whole = model.generate(num_samples=3, noise=SampleNoise(1, range(3))) if not changes.get("has_end") else None
    given = whole if whole is not None else Tokens(torch.randint(5, (3, 18)), layout)
    start = first(given, 2)
    found = model.generate(start=start, noise=SampleNoise(2, range(3)))
    count = start.layout.length
    assert torch.equal(found.data[:, :count], start.data)
    if whole is None:
        return
    assert found.layout == layout
    assert not torch.equal(found.data, given.data)
    alone = model.generate(start=start[1:2], noise=SampleNoise(2, [1]))
    torch.testing.assert_close(alone.data, found.data[1:2], rtol=0, atol=1e-5)


def test_greedy_continuations_of_greedy_samples_are_these() -> None:
    model = gpt(CLIPS)
    greedy = model.sampler(top_k=1)
    whole = model.generate(num_samples=1, sampler=greedy)
    for count in (1, 3):
        assert torch.equal(model.generate(start=first(whole, count), sampler=greedy).data, whole.data)


def test_continuations_of_other_extents_and_of_a_class() -> None:
    model = gpt(CLIPS, condition={"type": "classes", "num_classes": 2, "dropout": 0.1}, positions="rope-1d")
    layout = CLIPS.at([5, 2, 2])
    start = Tokens(torch.randint(7, (2, 8)), CLIPS.at([2, 2, 2]))
    found = model.generate(torch.tensor([0, 1]), start=start, layout=layout, sampler=model.sampler(guidance=2.0))
    assert found.layout == layout
    assert torch.equal(found.data[:, :8], start.data)


def test_starts_that_do_not_fit_are_refused() -> None:
    model = gpt(CLIPS)
    tokens = Tokens(torch.zeros(2, 24, dtype=torch.int64), CLIPS)
    with pytest.raises(TokenError, match=r"\(4, 2, 3\), in the order.*or ends there"):
        model.generate(start=tokens)
    with pytest.raises(TokenError, match=r"does not begin with one of the extents \(2, 2, 2\)"):
        model.generate(start=Tokens(torch.zeros(2, 8, dtype=torch.int64), CLIPS.at([2, 2, 2])))
    with pytest.raises(TokenError, match="not with"):
        model.generate(start=Tokens(torch.zeros(2, 18, dtype=torch.int64), SOUND))
    with pytest.raises(TokenError, match="2 samples to begin with for 3"):
        model.generate(start=first(tokens, 1), num_samples=3)
    delayed = gpt(SOUND, pattern="delay")
    with pytest.raises(TokenError, match="pattern 'delay'"):
        delayed.generate(start=Tokens(torch.zeros(1, 6, dtype=torch.int64), SOUND.at([2])))
    with pytest.raises(TokenError, match="7"):
        model.generate(start=Tokens(torch.full((2, 6), 7), CLIPS.at([1, 2, 3])))
    with pytest.raises(ConfigError, match="without a drafter"):
        model.generate(start=first(tokens, 1), sampler=SpeculativeSampler(gpt(CLIPS), model.sampler(), draft_length=2))


def test_latents_are_continued() -> None:
    model = gpt(LATENTS)
    start = Latents(torch.randn(2, 6, 3), LATENTS.at([1, 2, 3]))
    found = model.generate(start=start, noise=SampleNoise(0, range(2)))
    assert isinstance(found, Latents)
    assert torch.equal(found.values[:, :6], start.values)
