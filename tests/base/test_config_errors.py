"""What an invalid configuration is told: which key, what is known there, and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError


class Plain(Config):
    type: Literal["plain"] = "plain"


class Classes(Config):
    type: Literal["classes"] = "classes"
    dropout: float = 0.1


class Whole(Config):
    condition: Annotated[Plain | Classes, Field(discriminator="type")] = Plain()
    size: int = 1

    @model_validator(mode="after")
    def _check(self) -> Whole:
        if self.size == 13:
            raise ValueError("size 13 is not allowed")
        return self


def test_a_key_of_another_choice_is_not_suggested() -> None:
    with pytest.raises(ConfigError) as caught:
        Whole.parse({"condition": {"type": "plain", "dropout": 0.1}})
    assert "condition.plain.dropout" in str(caught.value)
    assert "did you mean" not in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean dropout"):
        Whole.parse({"condition": {"type": "classes", "dropuot": 0.1}})


def test_a_rule_over_several_fields_is_told_without_the_whole_configuration() -> None:
    with pytest.raises(ConfigError) as caught:
        Whole.parse({"size": 13}, source="mine.yaml")
    assert str(caught.value) == "mine.yaml is not a valid Whole: size 13 is not allowed"
