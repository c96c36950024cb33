"""What file names and files hold is shown, never obeyed."""

from __future__ import annotations

import pytest

from visiontok.base.errors import DataError
from visiontok.base.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("photo.png", "photo.png"),
        ("日本 é\u3000.png", "日本 é\u3000.png"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b31mb", r"a\x9b31mb"),
        ("a\rb\nc\td\0", r"a\rb\nc\td\x00"),
        ("gnp\u202e.exe", r"gnp\u202e.exe"),
        ("b\udcff", r"b\udcff"),
    ],
)
def test_names(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(shown) == shown


def test_lines_keep_their_breaks() -> None:
    assert printable_lines("one\n\ttwo\x1b[31m\rthree") == "one\n\ttwo\\x1b[31m\\rthree"


def test_errors_do_not_control_the_terminal() -> None:
    assert str(DataError("there is no file \x1b]0;owned\x07.png")) == r"there is no file \x1b]0;owned\x07.png"
