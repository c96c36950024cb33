from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter

from visiontok.base.errors import ConfigError
from visiontok.base.noise import RecordedNoise, SampleNoise
from visiontok.layers.nested_dropout import ListedLengths, NestedDropout, PowerLengths, UniformLengths, prefix_mask

DRAWS = 20_000


def shares(schedule, longest: int) -> dict[int, float]:
    lengths, counts = schedule.draw(DRAWS, longest, noise=torch.Generator().manual_seed(0)).unique(return_counts=True)
    return dict(zip(lengths.tolist(), (counts / DRAWS).tolist(), strict=True))


@pytest.mark.parametrize(
    ("schedule", "longest", "expected"),
    [
        (UniformLengths(), 4, {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25}),
        (UniformLengths(shortest=3), 4, {3: 0.5, 4: 0.5}),
        (UniformLengths(shortest=2, step=2), 7, {2: 1 / 3, 4: 1 / 3, 6: 1 / 3}),
        (PowerLengths(), 8, {1: 0.25, 2: 0.25, 4: 0.25, 8: 0.25}),
        (PowerLengths(), 6, {1: 0.25, 2: 0.25, 4: 0.25, 6: 0.25}),
        (PowerLengths(), 1, {1: 1.0}),
        (PowerLengths(draws="rounded"), 8, {1: 1 / 8, 2: 1 / 8, 4: 2 / 8, 8: 4 / 8}),
        (PowerLengths(draws="rounded"), 6, {1: 1 / 6, 2: 1 / 6, 4: 2 / 6, 6: 2 / 6}),
        (ListedLengths(lengths=(2, 7)), 8, {2: 0.5, 7: 0.5}),
        (ListedLengths(lengths=(2, 7), weights=(3, 1)), 8, {2: 0.75, 7: 0.25}),
    ],
)
def test_lengths_come_as_often_as_the_schedule_says(schedule, longest, expected):
    found = shares(schedule, longest)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=0.015)


def test_draws_repeat_with_the_seed():
    torch.manual_seed(3)
    first = UniformLengths().draw(16, 100)
    torch.manual_seed(3)
    assert torch.equal(UniformLengths().draw(16, 100), first)
    assert first.dtype == torch.int64


SCHEDULES = [UniformLengths(shortest=2, step=3), PowerLengths(), PowerLengths(draws="rounded"), ListedLengths(lengths=(2, 7), weights=(3, 1))]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_length_of_a_sample_depends_on_its_own_draw_alone(schedule):
    whole = schedule.draw(6, 20, noise=SampleNoise(0, range(6)))
    assert torch.equal(schedule.draw(2, 20, noise=SampleNoise(0, [4, 1])), whole[[4, 1]])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_extreme_draws_give_the_extreme_lengths(schedule):
    draws = torch.tensor([0.0, 1 - 2**-24], dtype=torch.float32)
    shortest, longest = schedule.draw(2, 20, noise=RecordedNoise(uniform=[draws])).tolist()
    every = set(schedule.draw(DRAWS, 20, noise=torch.Generator().manual_seed(0)).tolist())
    assert (shortest, longest) == (min(every), max(every))


def test_the_default_dtype_changes_nothing():
    expected = [schedule.draw(50, 20, noise=torch.Generator().manual_seed(0)) for schedule in SCHEDULES]
    torch.set_default_dtype(torch.float16)
    try:
        found = [schedule.draw(50, 20, noise=torch.Generator().manual_seed(0)) for schedule in SCHEDULES]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_lengths_that_the_sample_does_not_have():
    with pytest.raises(ConfigError, match="12"):
        ListedLengths(lengths=(4, 12)).draw(1, 8)
    with pytest.raises(ConfigError, match="9"):
        UniformLengths(shortest=9).draw(1, 8)
    with pytest.raises(ValueError, match="weights"):
        ListedLengths(lengths=(1, 2), weights=(1,))


def test_a_configuration_names_its_schedule():
    parse = TypeAdapter(NestedDropout).validate_python
    assert parse({"schedule": "powers_of_two", "draws": "rounded"}) == PowerLengths(draws="rounded")
    assert parse({"schedule": "uniform"}) == UniformLengths()


def test_mask():
    assert prefix_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]
