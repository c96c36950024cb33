from __future__ import annotations

import pytest

from visiontok.base.errors import ConfigError
from visiontok.core.reference_keys import ReferenceKeys

KEYS = ReferenceKeys(read=("model.dim", "losses.{}"), ignored={"experiment.{*}": "names of runs"})


def test_read_and_ignored_keys_and_notes_pass():
    KEYS.check({"model": {"dim": 3}, "losses": {"kl": 1.0}, "experiment": {"a": {"b": 1}, "c": []}, "_sizes": {"x": 1}}, source="a file")


@pytest.mark.parametrize(
    ("config", "named"),
    [({"model": {"dmi": 3}}, ["model.dmi", "model.dim"]), ({"losses": {"a": {"b": 1}}}, ["losses.a.b"]), ({"data": {}}, ["data"])],
)
def test_unknown_keys_are_named_with_what_they_may_have_meant(config, named):
    with pytest.raises(ConfigError) as error:
        KEYS.check(config, source="a file")
    assert all(name in str(error.value) for name in named)
