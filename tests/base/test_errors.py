"""Messages of errors, and the boundary between parsers and the library's errors."""

import pickle

import pytest

from visiontok.base.errors import DataError, DependencyError, VisiontokError, damage_as


def test_messages_can_be_printed_and_read() -> None:
    error = DataError(f"b\udcff.png {'x' * 10**6}")
    assert str(error).encode("utf-8").startswith(b"b\\udcff.png xxx")
    assert len(str(error)) < 30_000
    for found in (error, DependencyError("no such package"), VisiontokError()):
        assert str(pickle.loads(pickle.dumps(found))) == str(found)


@pytest.mark.parametrize("raised", [ValueError("x"), RecursionError("x"), OverflowError("x"), MemoryError("x"), EOFError(), OSError(22, "x")])
def test_whatever_a_parser_raises_becomes_the_readers_error(raised: Exception) -> None:
    with pytest.raises(DataError, match=r"a\.png is damaged") as caught, damage_as(DataError, "a.png is damaged"):
        raise raised
    assert caught.value.__cause__ is raised


def test_errors_of_the_library_and_interrupts_pass_a_boundary() -> None:
    for raised in (DependencyError("x"), KeyboardInterrupt()):
        with pytest.raises(type(raised)) as caught, damage_as(DataError, "a.png is damaged"):
            raise raised
        assert caught.value is raised
