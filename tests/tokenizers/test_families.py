from __future__ import annotations

import pytest

from visiontok import registry
from visiontok.base.errors import UnknownNameError
from visiontok.core.tokenizer import Tokenizer
from visiontok.tokenizers.shared.families import family_name, tokenizer_class


class Stray(Tokenizer):
    pass


@pytest.mark.parametrize("family", [family for family in registry.families().values() if family.kind == "tokenizer"], ids=lambda family: family.name)
def test_names_are_those_of_the_registry(family: registry.Family) -> None:
    found = tokenizer_class(family.name)
    assert found is family.model_class()
    assert family_name(object.__new__(found)) == family.name


@pytest.mark.parametrize("name", ["no-such", "", "../titok", "gpt", "titok.model"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(UnknownNameError):
        tokenizer_class(name)


def test_classes_of_no_family_are_unknown() -> None:
    with pytest.raises(UnknownNameError):
        family_name(object.__new__(Stray))
