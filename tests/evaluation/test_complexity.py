"""Token counts against numbers of objects and against a search, on a tokenizer whose counts and losses are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from selected import batch, selected, values
from torch import Tensor

from visiontok.base.config import Config
from visiontok.core.tokenizer import EncodeOptions, Tokenizer
from visiontok.data import open_source
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import Segment, TokenLayout, Tokens

POSITIONS = 8


class BarsConfig(Config):
    """`spare`: tokens that each image gets beyond those that it needs."""

    spare: int = 0


class Bars(Tokenizer[BarsConfig]):
    """Images of 8 x 8 whose first row says by white pixels how many tokens they need: every token draws one more of them."""

    config_class = BarsConfig

    def __init__(self, config: BarsConfig) -> None:
        super().__init__(config)
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.layout = TokenLayout(
            modality="image", signal_shape=(8, 8), ragged=True, segments=(Segment(name="bars", shape=(POSITIONS,), vocab_size=2),)
        )
        self.preprocessing = ImagePreprocessing(size=8)

    @property
    def is_stochastic(self) -> bool:
        return False

    @property
    def lengths_supported(self) -> range:
        return range(1, POSITIONS + 1)

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens:
        white = signal[:, 0, 0] > 0.5
        counts = (white.sum(dim=1) + self.config.spare).clamp(1, POSITIONS) if options.lengths is None else options.lengths
        return Tokens.from_samples([row[:count].long() for row, count in zip(white, counts.tolist(), strict=True)], self.layout)

    def decode_tokens(self, tokens: Any, options: Any) -> Tensor:
        images = torch.zeros(len(tokens.indices), 3, 8, 8)
        images[:, :, 0, : tokens.indices.shape[1]] = tokens.indices.masked_fill(~tokens.mask, 0).float()[:, None]
        return images

    def encode_latents(self, signal: Tensor) -> Tensor:
        raise NotImplementedError

    def decode_latents(self, latents: Tensor) -> Tensor:
        raise NotImplementedError


def evaluated(tokenizer: Bars, needs: list[int], objects: list[int] | None) -> dict[str, Any]:
    images = torch.zeros(len(needs), 3, 8, 8, dtype=torch.uint8)
    for image, need in zip(images, needs, strict=True):
        image[:, 0, :need] = 255
    running, _ = selected(["complexity"], tokenizer.layout, tokenizer=tokenizer)
    for rows in torch.arange(len(needs)).split(3):
        tokens = tokenizer.encode(images[rows])
        known = None if objects is None else torch.tensor(objects)[rows]
        running.update(batch(rows, images[rows], (tokenizer.decode(tokens) * 255).to(torch.uint8), tokens, objects=known))
    return {name.removeprefix("complexity."): value for name, value in values(running).items()}


def test_a_count_that_is_just_enough_is_what_the_search_finds() -> None:
    found = evaluated(Bars(BarsConfig()).eval(), [1, 5, 3, 8, 2], [1, 3, 2, 4, 1])
    assert found["search"].value == pytest.approx(1)
    assert found["beyond_search"].value == 0
    assert found["objects"].value == pytest.approx(0.9747, abs=1e-4)
    assert found["objects"].details == {"1": 1.5, "2": 3, "3": 5, "4": 8}


def test_tokens_to_spare_are_found_out() -> None:
    found = evaluated(Bars(BarsConfig(spare=2)).eval(), [1, 5, 3, 6, 2], None)
    assert found["search"].value == pytest.approx(1)
    assert found["beyond_search"].value == 2
    assert (found["objects"].value, found["objects"].count) == (None, 0)


def test_the_cost_counts_every_pass_of_the_search() -> None:
    found = evaluated(Bars(BarsConfig()).eval(), [1, 5, 3], None)
    # All 8, then three halvings of 8 lengths: four times encoded and decoded. Then once encoded at the length that was found.
    assert found["cost"].value == pytest.approx(1 / 9)


def test_numbers_of_objects_reach_the_metric_from_the_data() -> None:
    data = {"name": "shapes", "split": "test", "size": 16, "num_samples": 12, "max_objects": 3}
    suite = Suite.parse({"name": "shapes", "data": data, "metrics": ["complexity"], "size": 8, "batch_size": 5})
    value = evaluate_suite(suite, Bars(BarsConfig()), name="bars").value("complexity.objects")
    source = open_source(suite.data)
    assert value.count == 12
    assert set(value.details) == {str(source.read(index).objects) for index in range(12)}


def test_a_tokenizer_of_one_length_has_no_complexity() -> None:
    layout = TokenLayout(modality="image", signal_shape=(8, 8), segments=(Segment(name="q", shape=(4,), vocab_size=8),))
    _, omitted = selected(["complexity"], layout, tokenizer=Bars(BarsConfig()))
    assert list(omitted) == ["complexity"]
