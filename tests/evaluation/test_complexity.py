"""Token counts against numbers of objects and against a search, on a tokenizer whose counts and losses are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from visiontok.base.config import Config
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import open_source
from visiontok.evaluation import BootstrapConfig, Suite, evaluate_suite
from visiontok.evaluation.metrics.registry import Batch, build_measures
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import Segment, TokenLayout, Tokens

PLACES = 8


class BarsConfig(Config):
    """`spare`: tokens that each picture gets beyond those that it needs."""

    spare: int = 0


class Bars(Tokenizer[BarsConfig]):
    """Pictures of 8 x 8 whose first row says by white pixels how many tokens they need: every token draws one more of them."""

    config_class = BarsConfig

    def __init__(self, config: BarsConfig) -> None:
        super().__init__(config)
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.layout = TokenLayout(modality="image", signal_shape=(8, 8), ragged=True, segments=(Segment(name="bars", shape=(PLACES,), vocab_size=2),))
        self.preprocessing = ImagePreprocessing(size=8)

    @property
    def lengths_supported(self) -> range:
        return range(1, PLACES + 1)

    def encode_prepared(self, prepared: Tensor, lengths: Tensor | None, generator: torch.Generator | None) -> Tokens:
        white = prepared[:, 0, 0] > 0.5
        counts = (white.sum(dim=1) + self.config.spare).clamp(1, PLACES) if lengths is None else lengths.expand(len(prepared))
        return Tokens.from_samples([row[:count].long() for row, count in zip(white, counts.tolist(), strict=True)], self.layout)

    def decode_tokens(self, tokens: Any) -> Tensor:
        pictures = torch.zeros(len(tokens.indices), 3, 8, 8)
        pictures[:, :, 0, : tokens.indices.shape[1]] = tokens.indices.masked_fill(~tokens.mask, 0).float()[:, None]
        return pictures

    def encode_latents(self, signal: Tensor) -> Tensor:
        raise NotImplementedError

    def decode_latents(self, latents: Tensor) -> Tensor:
        raise NotImplementedError


def measured(tokenizer: Bars, needs: list[int], objects: list[int] | None) -> dict[str, Any]:
    images = torch.zeros(len(needs), 3, 8, 8, dtype=torch.uint8)
    for image, need in zip(images, needs, strict=True):
        image[:, 0, :need] = 255
    suite = Suite.parse({"name": "bars", "data": {"name": "digits"}, "metrics": ["complexity"]})
    (measure,) = build_measures(suite, tokenizer.layout, [], tokenizer=tokenizer)[0].values()
    for rows in torch.arange(len(needs)).split(3):
        tokens = tokenizer.encode(images[rows])
        known = None if objects is None else torch.tensor(objects)[rows]
        measure.update(Batch(rows, images[rows], (tokenizer.decode(tokens) * 255).to(torch.uint8), tokens, objects=known))
    return {value.name.removeprefix("complexity."): value for value in measure.values(BootstrapConfig(resamples=100))}


def test_a_count_that_is_just_enough_is_what_the_search_finds() -> None:
    values = measured(Bars(BarsConfig()).eval(), [1, 5, 3, 8, 2], [1, 3, 2, 4, 1])
    assert values["search"].value == pytest.approx(1)
    assert values["beyond_search"].value == 0
    assert values["objects"].value == pytest.approx(0.9747, abs=1e-4)
    assert values["objects"].details == {"1": 1.5, "2": 3, "3": 5, "4": 8}


def test_tokens_to_spare_are_found_out() -> None:
    values = measured(Bars(BarsConfig(spare=2)).eval(), [1, 5, 3, 6, 2], None)
    assert values["search"].value == pytest.approx(1)
    assert values["beyond_search"].value == 2
    assert (values["objects"].value, values["objects"].count) == (None, 0)


def test_the_cost_counts_every_pass_of_the_search() -> None:
    values = measured(Bars(BarsConfig()).eval(), [1, 5, 3], None)
    # All 8, then three halvings of 8 lengths: four times encoded and decoded. Then once encoded at the length that was found.
    assert values["cost"].value == pytest.approx(1 / 9)


def test_numbers_of_objects_reach_the_measure_from_the_data() -> None:
    data = {"name": "shapes", "split": "test", "size": 16, "num_samples": 12, "max_objects": 3}
    suite = Suite.parse({"name": "shapes", "data": data, "metrics": ["complexity"], "size": 8, "batch_size": 5})
    value = evaluate_suite(suite, Bars(BarsConfig()), name="bars").value("complexity.objects")
    source = open_source(suite.data)
    assert value.count == 12
    assert set(value.details) == {str(source.read(index).objects) for index in range(12)}


def test_a_tokenizer_of_one_length_has_no_complexity() -> None:
    layout = TokenLayout(modality="image", signal_shape=(8, 8), segments=(Segment(name="q", shape=(4,), vocab_size=8),))
    suite = Suite.parse({"name": "x", "data": {"name": "digits"}, "metrics": ["complexity"]})
    built, omitted = build_measures(suite, layout, [], tokenizer=Bars(BarsConfig()))
    assert not built
    assert "does not choose the number" in omitted["complexity"]
