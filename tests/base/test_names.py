from __future__ import annotations

import pytest

from visiontok.base.names import close_names, matches, unknown


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("maskgit-titok-l32", "titok", True),
        ("titok-l32", "TiTok", True),
        ("titok-l32", "titok*", True),
        ("maskgit-titok-l32", "titok*", False),
        ("titok-l32", "*-l?2", True),
        ("titok-l32", "titok-[bs]*", False),
        ("titok-l32", "", True),
    ],
)
def test_patterns(name: str, pattern: str, expected: bool) -> None:
    assert matches(name, pattern) is expected


@pytest.mark.parametrize(
    ("typed", "known", "first"),
    [
        ("tikot", ["titok", "karl", "gpt"], "titok"),
        ("TITOK", ["titok", "karl"], "titok"),
        ("vq", ["small/vq", "small/ibq", "generators/gpt-b"], "small/vq"),
        ("small/vqq", ["small/vq", "small/ibq"], "small/vq"),
    ],
)
def test_the_likeliest_name_comes_first(typed: str, known: list[str], first: str) -> None:
    assert close_names(typed, known)[0] == first


def test_an_error_names_what_is_close_or_all_or_where_to_look() -> None:
    many = [f"name-{letter}" for letter in "abcdefghijklmnop"]
    assert "titok" in str(unknown("family", "titk", ["titok", *many]))
    assert "'zzz'" in str(unknown("family", "zzz", ["a", "b"]))
    assert "Known: a, b." in str(unknown("family", "zzz", ["b", "a"]))
    assert "visiontok list" in str(unknown("family", "zzz", many, see="visiontok list"))
