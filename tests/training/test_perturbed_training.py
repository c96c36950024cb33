"""Latent perturbation is three lines of a recipe, for any tokenizer with a codebook."""

import json
from pathlib import Path

import pytest
import training_children as children

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.training import parse_recipe

PERTURBED = {"alpha": 1.0, "beta": 0.5, "delta": 8, "annealing": {"start": 1, "end": 3}}


def lines(recipe):
    return [json.loads(line) for line in (Path(recipe["output"]) / "metrics.jsonl").read_text().splitlines()]


def test_perturbed_codes_change_training_and_nothing_that_is_saved(tokenizer_recipe, tmp_path):
    runs = {}
    for name, perturbation in (("clean", None), ("perturbed", PERTURBED)):
        recipe = tokenizer_recipe(output=str(tmp_path / name), steps=4, perturbation=perturbation, objective={"name": "reconstruction"}, accumulate=1)
        config = recipe["model"]["config"] | {"quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}
        recipe["model"] = {"family": "titok", "config": config}
        children.run(recipe)
        runs[name] = lines(recipe), visiontok.from_pretrained(tmp_path / name / "final")
    (clean, before), (perturbed, after) = runs["clean"], runs["perturbed"]
    assert clean[0]["reconstruction"] != perturbed[0]["reconstruction"]
    assert clean[0]["commitment"] == perturbed[0]["commitment"]
    assert before.config == after.config
    assert set(before.state_dict()) == set(after.state_dict())


def test_values_out_of_range_are_named(tokenizer_recipe):
    with pytest.raises(ConfigError, match=r"perturbation\.alpha"):
        parse_recipe(tokenizer_recipe(perturbation=PERTURBED | {"alpha": 1.5}))
