"""PURE's entropy-based top-k against the authors' code."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

from visiontok.generators.decoding import EntropyTopK, TopK
from visiontok.generators.decoding.filters import entropy


@pytest.mark.parametrize("case", cases("pure-sampling"))
def test_entropy_top_k(case: ReferenceCase):
    rule, scores = EntropyTopK(case.config["min_top_k"], case.config["max_top_k"]), case.inputs["scores"]
    nats, filtered = entropy(scores), rule(scores)
    case.compare(
        {
            "curve_top_k": rule.k(case.inputs["curve_entropy"]),
            "entropy": nats,
            "top_k": rule.k(nats),
            "kept": filtered.isfinite().sum(dim=-1),
            "filtered_scores": filtered,
            "text_filtered_scores": TopK(case.config["text_top_k"])(scores[:1])[0],
        }
    )
    assert torch.equal(rule(scores[None])[0], filtered)
