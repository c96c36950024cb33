"""Damaged inputs of every reader: each is read rightly, or refused with one of the library's errors. `make fuzz` tries more of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing.entries import ENTRIES
from fuzzing.mutate import case
from fuzzing.parent import Reader

_SEED = 2


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with Reader(tmp_path_factory.mktemp("failures")) as started:
        yield started


@pytest.mark.parametrize("name", ENTRIES)
def test_damaged_inputs_are_read_rightly_or_refused(reader: Reader, name: str) -> None:
    counts, failures = reader.read(name, seed=_SEED, count=ENTRIES[name].cases)
    assert not failures, "\n".join(map(str, failures))
    assert sum(counts.values()) == ENTRIES[name].cases
    assert counts["read"], "not even the valid inputs were read"


@pytest.mark.parametrize("name", ["tar-shards", "image-parquet", "token-file", "pickled-weights", "recipe"])
def test_a_case_follows_from_entry_seed_and_number(name: str) -> None:
    first, again = ([case(ENTRIES[name], ENTRIES[name].bases(), seed, number) for number in range(20)] for seed in (5, 5))
    assert first == again
    assert first != [case(ENTRIES[name], ENTRIES[name].bases(), 6, number) for number in range(20)]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("wrong-error", "ValueError"),
        ("wrong-result", "AssertionError"),
        ("crash", "ended with code"),
        ("code", "os.system"),
        ("write", "open"),
        ("memory", "MiB"),
        ("message", "UTF-8"),
    ],
)
def test_faults_are_found_and_their_inputs_kept(faulty: Reader, tmp_path: Path, name: str, what: str) -> None:
    counts, failures = faulty.read(name, seed=1, count=2)
    assert counts == {"read": 0, "refused": 0, "failed": 2}
    assert all(what in str(failure) and failure.command.endswith(f"CASE={failure.case}") for failure in failures)
    assert (failures[0].folder / "x.txt").read_bytes() == b"valid"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with Reader(tmp_path_factory.mktemp("failures"), entries="faulty_entries") as started:
        yield started
