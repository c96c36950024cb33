"""LARP's generators against the authors' code: logits, losses, greedy and seeded samples. Its tokenizer is not covered yet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from next_token import greedy, teacher_forced
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.generators.condition import Condition
from visiontok.generators.decoding import NextTokenSampler, Temperature, TopK, TopP
from visiontok.generators.decoding.guidance import ConstantGuidance
from visiontok.tokens import Tokens

SEPARATOR = 1


class SeededDraws:
    """What `torch.multinomial` draws after `torch.manual_seed`."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype).exponential_(generator=self.generator)


def generator_of(case: ReferenceCase) -> tuple[Any, Condition]:
    weights = {name.removeprefix("ar."): tensor for name, tensor in case.weights.items() if name.startswith("ar.")}
    model = visiontok.from_reference("larp", case.config["ar"], weights, kind="generator")
    given = case.inputs["cond"].long()
    if given.ndim == 1:
        return model, Condition(classes=given)
    return model, Condition(tokens=Tokens(given[:, :-SEPARATOR], model.layout))


@pytest.mark.parametrize("case", cases("larp", lambda case: "ar" in case.config))
@torch.no_grad()
def test_generator(case: ReferenceCase):
    model, condition = generator_of(case)
    tokens = case.outputs["token_indices"]
    ours = {
        "ar_logits": teacher_forced(model, tokens, condition)[0],
        "ar_loss": model.loss(Tokens(tokens, model.layout), condition)["loss"],
    }
    for name in case.outputs:
        if not name.startswith(("ar_greedy", "ar_sample")):
            continue
        scale = float(name.split("_cfg")[1].split("_")[0])
        filters = (Temperature(0.9), TopK(12), TopP(0.95)) if name.startswith("ar_sample") else greedy(model).filters
        sampler = NextTokenSampler(ConstantGuidance(scale), filters)
        ours[name] = model.generate(condition, sampler=sampler, noise=SeededDraws(5)).indices
    case.compare(ours, without_counterpart={name: "of the tokenizer" for name in case.outputs if not name.startswith("ar_")})
