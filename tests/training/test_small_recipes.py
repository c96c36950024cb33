"""Every small recipe of a tokenizer learns, from its first steps on."""

import json
from pathlib import Path

import pytest
import training_children as children

from visiontok.base.resources import configs_folder
from visiontok.training import TokenizerRecipe, load_recipe

RECIPES = [path for path in sorted((configs_folder() / "small").glob("*.yaml")) if isinstance(load_recipe(path), TokenizerRecipe)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_small_recipe_lowers_its_loss(path: Path, tmp_path: Path):
    quick = ["steps=16", "batch_size=4", "schedule.warmup=4", "logging.every=1", "sample_images.every=0", "checkpoints.every=16"]
    recipe = load_recipe(path, [*quick, "validation.num_samples=4", f"output={tmp_path / 'run'}"])
    children.run(recipe.to_dict())
    term = "mel" if recipe.objective.name == "codec" else "reconstruction"
    losses = [json.loads(line)[term] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 16
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_robusttok_and_its_perturbed_form_differ_in_the_perturbation_alone():
    clean, perturbed = (load_recipe(f"small/{name}").to_dict() for name in ("robusttok", "robusttok-perturbed"))
    assert {key for key in perturbed if perturbed[key] != clean.get(key)} == {"output", "perturbation"}


def test_the_small_gan_weighs_its_term_by_gradients(tmp_path: Path):
    quick = ["steps=4", "logging.every=1", "sample_images.every=0", "objective.gan.start_step=2", f"output={tmp_path / 'run'}"]
    children.run(load_recipe("small/vq-gan", quick).to_dict())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("gan_adaptive_weight", 0) > 0 for line in lines] == [False, False, True, True]
