"""Which text goes with an image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from visiontok.base.errors import ConfigError, DataError
from visiontok.data import DataBatch, Texts, TextsConfig
from visiontok.signals import SignalBatch

BATCH = DataBatch(
    signals=SignalBatch.of(torch.zeros(2, 3, 4, 4)),
    labels=torch.tensor([1, 0]),
    captions=("a red circle", "a blue ring"),
    keys=("first", "second"),
    indices=torch.tensor([0, 1]),
    step=0,
)


def texts(source: str, class_names=None, **options):
    return Texts(TextsConfig.parse({"source": source, **options}), class_names)


def test_captions_or_sentences_with_class_names():
    assert texts("captions").of(BATCH) == ["a red circle", "a blue ring"]
    assert texts("class_names", ("cat", "{dog}")).of(BATCH) == ["A photo of a {dog}.", "A photo of a cat."]
    assert texts("class_names", ("cat", "dog"), prompt="{class_name}!").of(BATCH) == ["dog!", "cat!"]


def test_what_is_missing_is_named():
    with pytest.raises(DataError, match="names no classes"):
        texts("class_names")
    with pytest.raises(DataError, match="'first' has a caption"):
        texts("captions").of(replace(BATCH, captions=None))
    for batch in (replace(BATCH, labels=None), replace(BATCH, labels=torch.tensor([0, 2]))):
        with pytest.raises(DataError, match="one of the 2 named classes"):
            texts("class_names", ("cat", "dog")).of(batch)
    with pytest.raises(ConfigError, match="prompt"):
        texts("class_names", ("cat",), prompt="A photo.")
