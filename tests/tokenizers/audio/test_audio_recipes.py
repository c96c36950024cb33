"""Recipes of published codecs: the networks of the released models, and the losses of their authors."""

from __future__ import annotations

import pytest
import torch

from visiontok.base.resources import configs_folder
from visiontok.losses.sound_discriminators import SoundDiscriminators
from visiontok.registry import checkpoints
from visiontok.training import load_recipe

RECIPES = {"wavtokenizer-320": "wavtokenizer-small-320", "speechtokenizer-hubert-avg": "speechtokenizer-hubert-avg"}


@pytest.mark.parametrize("name", RECIPES)
def test_the_networks_are_those_of_the_released_model(name: str) -> None:
    family, entry = checkpoints()[RECIPES[name]]
    recipe = load_recipe(configs_folder() / "tokenizers" / "audio" / f"{name}.yaml")
    config_class = family.model_class().config_class
    released = family.model_class().config_from_reference(entry.reference_config, {})
    own = config_class.parse(recipe.model.config)
    codes = released.quantizer
    assert own.replace(quantizer=codes) == released
    assert own.quantizer.replace(kmeans=None, dead_code_reset=None) == codes
    assert recipe.data.size % own.sample_rate == 0
    gan = recipe.objective.gan
    with torch.device("meta"):
        discriminators = SoundDiscriminators(gan.discriminators, channels=1)
    assert sum(parameter.numel() for parameter in discriminators.parameters()) > 4e7
    if name.startswith("wav"):
        assert sum(discriminators.weights[:5]) == pytest.approx(1)
        assert sum(discriminators.weights[5:8]) == pytest.approx(1)
