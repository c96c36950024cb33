from pathlib import Path

import pytest
import torch

import visiontok
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.registry import checkpoints
from visiontok.tokens import Segment, TokenLayout
from visiontok.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "configs" / "generators"


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["maskgit-titok-l32", "maskgit-titok-b64", "maskgit-titok-s128"])
def test_recipes_build_the_published_generators(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    with torch.device("meta"):
        published = visiontok.create(name)
        ours = type(published)(published.config_class.parse({**recipe.model.config, "layout": published.layout}))
    assert ours.config == published.config
    assert recipe.tokenizer in checkpoints()
    assert checkpoints()[recipe.tokenizer][1].tokens == published.layout.length


def test_the_gpt_recipe_has_the_published_size():
    recipe = load_recipe(RECIPES / "gpt-b.yaml")
    grid = Segment(name="grid", shape=(16, 16), vocab_size=16384)
    layout = TokenLayout(modality="image", segments=(grid,), signal_shape=(256, 256))
    with torch.device("meta"):
        model = GPT(GPTConfig.parse({**recipe.model.config, "layout": layout, "condition": {"type": "classes", "num_classes": 1000}}))
    assert round(parameters(model) / 1e6) == 111
