"""MQT against the authors' code: every prefix, and the positions that serve as keys."""

from __future__ import annotations

import pytest
import torch
from reference_case import ReferenceCase, cases

import visiontok


@pytest.mark.parametrize("case", cases("mqt"))
def test_every_prefix(case: ReferenceCase):
    model = visiontok.from_reference("mqt", case.config, case.weights)
    found = {"key_pos_embed": model.encoder.key_positions}
    for length in case.config["num_visual_tokens"]:
        found[f"out_{length}"] = model.encode(case.inputs["features"].transpose(1, 2), num_tokens=length).values
    case.compare(found)


@pytest.mark.parametrize("case", cases("mqt"))
def test_save_and_load(case: ReferenceCase, tmp_path):
    model = visiontok.from_reference("mqt", case.config, case.weights)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert loaded.config == model.config
    features = case.inputs["features"].transpose(1, 2)
    assert torch.equal(loaded.encode(features).values, model.encode(features).values)


@pytest.mark.parametrize("case", cases("mqt"))
def test_a_fresh_model_has_the_published_table_of_positions(case: ReferenceCase):
    reference = visiontok.from_reference("mqt", case.config, case.weights)
    fresh = type(reference)(reference.config)
    assert torch.equal(fresh.encoder.positions, reference.encoder.positions)
