from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import ConfigError
from visiontok.decoders.flow.sampling import flow_times
from visiontok.tokenizers.image.selftok.visible_tokens import VisibleTokens

PUBLISHED = VisibleTokens(stages=(200, 400, 600, 800, 1000), tokens_per_stage=(192, 184, 72, 48, 16))


def test_the_published_schedule():
    times = torch.tensor([0, 1, 199, 200, 400, 600, 800, 999, 1000])
    assert PUBLISHED.at(times).tolist() == [1, 1, 192, 193, 377, 449, 497, 512, 512]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 200)), min_size=1, max_size=6))
def test_more_noise_shows_more_tokens(parts):
    ends = [end for end, _ in parts]
    stages = tuple(sum(ends[: number + 1]) * 1000 // sum(ends) for number in range(len(ends)))
    if len(set(stages)) < len(stages) or stages[0] == 0:
        return
    schedule = VisibleTokens(stages=stages, tokens_per_stage=tuple(count for _, count in parts))
    seen = schedule.at(torch.arange(1001))
    assert bool((seen.diff() >= 0).all())
    assert (int(seen[0]), int(seen[-1])) == (1, sum(count for _, count in parts))


def test_fifty_steps_count_some_thousandths_one_too_low():
    """In float32 460 thousandths are a little less, and truncated: the authors' decoder sees the tokens of 459 there."""
    thousandths = (1000 * flow_times(50)[:-1]).int().tolist()
    wrong = {1000 - 20 * step: found for step, found in enumerate(thousandths) if found != 1000 - 20 * step}
    assert wrong == {number: number - 1 for number in (460, 400, 360, 300, 200, 180, 100)}


@pytest.mark.parametrize(
    ("stages", "tokens", "message"), [((500, 1000), (4,), "stages"), ((500, 900), (4, 4), "1000"), ((600, 500, 1000), (1, 1, 1), "rise")]
)
def test_schedules_that_are_none(stages, tokens, message):
    with pytest.raises(ConfigError, match=message):
        VisibleTokens.parse({"stages": stages, "tokens_per_stage": tokens})
