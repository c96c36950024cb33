"""Configurations that are built directly raise what `parse` raises."""

from __future__ import annotations

import pytest
from pydantic import Field

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.tokens import Segment, TokenLayout


class Inner(Config):
    size: Positive


class Outer(Config):
    inner: Inner
    share: float = Field(default=0.5, ge=0, le=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"size": 0}}, r"inner\.size.*0"),
        ({"inner": {"sise": 1}}, r"sise.*size"),
        ({"inner": {"size": 1}, "share": 2}, r"share.*2"),
        ({}, "inner"),
        ({"inner": {"size": 1}, "shares": 0.1}, r"shares.*share"),
    ],
)
def test_the_constructor_and_parse_raise_alike(values, message):
    for build in (lambda: Outer(**values), lambda: Outer.parse(values)):
        with pytest.raises(ConfigError, match=message):
            build()


def test_a_layout_of_nothing():
    with pytest.raises(ConfigError, match=r"vocab_size.*channels"):
        Segment(name="grid", shape=(4,))
    with pytest.raises(ConfigError, match="signal_shape"):
        TokenLayout(modality="image", segments=(Segment(name="grid", shape=(4,), vocab_size=8),), signal_shape=(4,))
    assert Outer(inner={"size": 1}) == Outer.parse({"inner": {"size": 1}}) == Outer(inner=Inner(size=1))
