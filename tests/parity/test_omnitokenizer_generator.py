"""OmniTokenizer's generators against the authors' code: logits with and without the class, losses, greedy and drawn samples, continued clips."""

from __future__ import annotations

import pytest
import torch
from next_token import greedy, recorded, teacher_forced
from reference_case import ReferenceCase, cases

import visiontok
from visiontok.generators.omnitokenizer.model import OmniTokenizerGenerator
from visiontok.tokens import Tokens

GENERATORS = cases("omnitokenizer", lambda case: "n_embd" in case.config)


@pytest.mark.parametrize("case", GENERATORS)
@torch.no_grad()
def test_generator(case: ReferenceCase) -> None:
    model = visiontok.from_reference("omnitokenizer", case.config, case.weights)
    assert isinstance(model, OmniTokenizerGenerator)
    tokens, classes = case.inputs["tokens"], case.inputs.get("classes")
    count = None if classes is not None else len(tokens)

    def draw(draws: str, **options) -> torch.Tensor:
        return model.generate(classes, num_samples=count, noise=recorded(case.inputs[draws]), **options).indices

    ours = {"logits": teacher_forced(model, tokens, classes)[0], "loss": model.loss(Tokens(tokens, model.layout), classes)["loss"]}
    if classes is None:
        ours["sample"] = draw("exponential")
        known = model.layout.at((2, *model.layout.extents[1:]))
        ours["sample_continued"] = draw("exponential_continued", start=Tokens(tokens[:, : known.length], known))
    else:
        none = torch.ones(len(tokens), dtype=torch.bool)
        ours["logits_without_class"] = teacher_forced(model, tokens, classes, none)[0]
        torch.testing.assert_close(teacher_forced(model, tokens, None)[0], ours["logits_without_class"], rtol=0, atol=0)
        ours["sample"] = draw("exponential", sampler=model.sampler(guidance=1.0, temperature=0.9))
        ours["sample_guided"] = draw("exponential_guided")
        ours["greedy_guided"] = draw("exponential", sampler=greedy(model))
    case.compare(ours, without_counterpart={"others_logits": "of the start and the classes, which are no codes"})
