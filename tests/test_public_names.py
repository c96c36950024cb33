"""What `import visiontok` offers: every name once, from one module, and nothing that is not there."""

from __future__ import annotations

import importlib

import pytest

import visiontok
import visiontok.evaluation


def test_the_list_is_complete_sorted_and_without_doubles() -> None:
    assert sorted(visiontok.__all__) == sorted({*visiontok._PUBLIC, "__version__"})
    assert dir(visiontok) == sorted([*visiontok.__all__, *visiontok._PACKAGES])


@pytest.mark.parametrize("name", sorted(visiontok._PUBLIC))
def test_a_name_is_that_of_its_module(name: str) -> None:
    assert getattr(visiontok, name) is getattr(importlib.import_module(visiontok._PUBLIC[name]), name)


def test_both_quality_targets_are_public() -> None:
    assert visiontok.MeanAbsoluteError(0.05).error == 0.05
    assert visiontok.Psnr(24).decibels == 24


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pnsr'"):
        _ = visiontok.Pnsr


def test_every_name_of_the_evaluation_exists() -> None:
    assert len(set(visiontok.evaluation.__all__)) == len(visiontok.evaluation.__all__)
    for name in visiontok.evaluation.__all__:
        assert hasattr(visiontok.evaluation, name)
