import numpy as np
import pytest

from visiontok.data import open_source
from visiontok.data.holdout import Subset, hold_out, lowest_hashes


def keys(rows, of):
    return {of[row] for row in rows}


def held_out(names, most):
    trained, held = hold_out(iter(names), most, total=len(names))
    return trained[:], held


def test_every_sample_is_trained_on_or_held_out_but_never_both():
    names = [f"images/{number}.png" for number in range(1000)]
    trained, held = held_out(names, 30)
    assert sorted([*trained, *held]) == list(range(1000))
    assert len(held) == 30
    remaining = hold_out(names, 30, total=1000)[0]
    assert len(remaining) == 970
    assert remaining[np.asarray([969, 0, 5])].tolist() == [trained[969], trained[0], trained[5]]


def test_what_is_held_out_follows_from_the_keys_and_not_from_their_order():
    names = [f"images/{number}.png" for number in range(1000)]
    shuffled = [names[row] for row in np.random.default_rng(0).permutation(1000)]
    assert keys(held_out(names, 30)[1], names) == keys(held_out(shuffled, 30)[1], shuffled)
    assert keys(held_out(names, 10)[1], names) < keys(held_out(names, 30)[1], names)


@pytest.mark.parametrize(("samples", "expected"), [(0, 0), (19, 0), (20, 1), (100, 5), (10_000, 256)])
def test_a_twentieth_is_held_out_at_most(samples, expected):
    assert len(held_out([str(number) for number in range(samples)], 256)[1]) == expected


def test_samples_of_one_key_stay_together():
    names = [f"image-{number // 4}" for number in range(400)]
    trained, held = held_out(names, 10)
    assert not keys(trained, names) & keys(held, names)
    assert 10 <= len(held) <= 13


@pytest.mark.parametrize(("count", "expected"), [(0, []), (2, 2), (3, [0, 1, 2]), (9, [0, 1, 2])])
def test_all_samples_are_chosen_where_more_are_asked_for(count, expected):
    chosen = lowest_hashes(["a", "b", "\udcff"], count).tolist()
    assert chosen == expected if isinstance(expected, list) else len(chosen) == expected


def test_a_subset_reads_its_samples_under_their_keys():
    whole = open_source("digits:test")
    part = Subset(whole, [7, 3])
    assert [part.key(0), part.key(1)] == [whole.key(3), whole.key(7)]
    assert part.read(1).label == whole.read(7).label
    assert part.identity != whole.identity


def test_many_keys_are_hashed_in_parts(monkeypatch):
    names = [f"image-{number // 2}" for number in range(1000)]
    whole = lowest_hashes(names, 31)
    monkeypatch.setattr("visiontok.data.holdout._CHUNK", 7)
    assert np.array_equal(lowest_hashes(iter(names), 31), whole)
