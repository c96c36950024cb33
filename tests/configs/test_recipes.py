"""Every shipped recipe is valid, and so is the model that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from visiontok.base.resources import configs_folder
from visiontok.registry import find_family
from visiontok.training.recipe import TokenizerRecipe, load_recipe

RECIPES = sorted(configs_folder().rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(configs_folder())))
def test_the_recipe_and_its_model_are_valid(path: Path):
    recipe = load_recipe(path)
    if recipe.model.family is None or not isinstance(recipe, TokenizerRecipe):
        return  # the layout of a generator comes from its data, the sizes of a drafter from its generator
    family = find_family(recipe.model.family).model_class()
    with torch.device("meta"):
        model = family(family.config_class.parse(recipe.model.config))
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_the_published_titok_recipes_build_the_released_sizes():
    from visiontok.registry import checkpoints

    for name, stage in (("l32", "-stage2"), ("b64", "-stage2"), ("s128", "-stage2"), ("bl64-vq8k", ""), ("bl64-vae", "")):
        config = load_recipe(configs_folder() / "tokenizers" / f"titok-{name}{stage}.yaml").model.config
        family, checkpoint = checkpoints()[f"titok-{name}"]
        released = family.model_class().config_from_reference(checkpoint.reference_config, {})
        ours = family.model_class().config_class.parse(config)
        assert ours.replace(quantizer={"clustering": None} if name.endswith("vq8k") else {}) == released


def test_the_published_tatitok_recipes_build_the_released_sizes():
    from visiontok.registry import checkpoints

    for name in ("tatitok-bl128-vq", "tatitok-bl32-vae"):
        config = load_recipe(configs_folder() / "tokenizers" / f"{name}.yaml").model.config
        family, checkpoint = checkpoints()[name]
        released = family.model_class().config_from_reference(checkpoint.reference_config, {})
        ours = family.model_class().config_class.parse(config)
        assert ours.replace(quantizer={"clustering": None} if name.endswith("vq") else {}) == released


def test_the_published_larp_recipe_builds_the_released_size():
    from visiontok.registry import checkpoints

    config = load_recipe(configs_folder() / "tokenizers" / "larp-l-long.yaml").model.config
    family, checkpoint = checkpoints()["larp-l-long"]
    released = family.model_class().config_from_reference(checkpoint.reference_config, {})
    ours = family.model_class().config_class.parse(config)
    assert ours.replace(prior={"sampling_ramp_steps": released.prior.sampling_ramp_steps}) == released


@pytest.mark.parametrize(("recipe", "name"), [("video/cosmos-dv8x16x16", "cosmos-0.1-dv8x16x16"), ("cosmos-di16x16", "cosmos-0.1-di16x16")])
def test_the_cosmos_recipes_build_the_released_sizes(recipe: str, name: str):
    from visiontok.registry import checkpoints

    config = load_recipe(configs_folder() / "tokenizers" / f"{recipe}.yaml").model.config
    family, checkpoint = checkpoints()[name]
    released = family.model_class().config_from_reference(checkpoint.reference_config, {})
    assert family.model_class().config_class.parse(config) == released
