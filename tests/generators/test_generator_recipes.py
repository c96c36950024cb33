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


PUBLISHED_MILLIONS = {
    "llamagen-b-256": 111, "llamagen-l-384": 343, "llamagen-xl-384": 775, "llamagen-xxl-384": 1400, "llamagen-3b-384": 3100,
    "ibq-ar-b": 342, "ibq-ar-l": 649, "ibq-ar-xl": 1100, "ibq-ar-xxl": 2100,
    "open-magvit2-ar-b": 343, "open-magvit2-ar-l": 804, "open-magvit2-ar-xl": 1500,
    "larp-l-long-ar": 632,
    "mar-base": 208, "mar-large": 478, "mar-huge": 942, "tokenbridge-ar-large": 487, "tokenbridge-ar-huge": 910,
    "rar-b": 260.9, "rar-l": 461.7, "rar-xl": 955.4, "rar-xxl": 1498.5,
    "xar-b": 172.6, "xar-l": 608.4, "xar-h": 1186.0,
}  # fmt: skip


@pytest.mark.parametrize(("name", "millions"), PUBLISHED_MILLIONS.items())
def test_released_generators_have_the_published_number_of_parameters(name, millions):
    with torch.device("meta"):
        model = visiontok.create(name)
    assert parameters(model) == checkpoints()[name][1].parameters
    assert parameters(model) / 1e6 == pytest.approx(millions, rel=0.03 if millions >= 1000 else 0.005)


def test_the_recipe_of_the_masked_elm_generator_builds_the_released_one():
    found = load_recipe(RECIPES / "elm-mlm-l-1x16.yaml")
    with torch.device("meta"):
        published = visiontok.create("elm-mlm-l-1x16")
        condition = {"type": "classes", "num_classes": 1000, **found.model.config["condition"]}
        ours = visiontok.create(found.model.family, **{**found.model.config, "layout": published.layout, "condition": condition})
    assert ours.config == published.config
    assert found.tokenizer == checkpoints()["elm-mlm-l-1x16"][1].tokenizer


@pytest.mark.parametrize("name", ["elm-mlm-l-1x16", "elm-mlm-xl-1x16", "elm-mlm-xxl-1x16"])
def test_released_masked_generators_have_as_many_parameters_as_their_entries_say(name):
    with torch.device("meta"):
        assert parameters(visiontok.create(name)) == checkpoints()[name][1].parameters


@pytest.mark.parametrize(
    ("recipe", "checkpoint"),
    [
        ("llamagen-l", "llamagen-l-256"),
        ("ibq-ar-b", "ibq-ar-b"),
        ("open-magvit2-ar-b", "open-magvit2-ar-b"),
        ("elm-ar-l-2x10", "elm-ar-l-2x10"),
        ("larp-l-long-ar", "larp-l-long-ar"),
        ("omnitokenizer-ucf-ar", "omnitokenizer-ucf-ar"),
        ("omnitokenizer-imagenet-ar", "omnitokenizer-imagenet-ar"),
        ("mar-b", "mar-base"),
        ("tokenbridge-ar-l", "tokenbridge-ar-large"),
        ("rar-b", "rar-b"),
        ("xar-b", "xar-b"),
    ],
)
def test_recipes_of_class_conditional_generators_build_the_published_generators(recipe, checkpoint):
    found = load_recipe(RECIPES / f"{recipe}.yaml")
    with torch.device("meta"):
        published = visiontok.create(checkpoint)
        given = {**found.model.config, "layout": published.layout}
        given["condition"] = {"type": "classes", "num_classes": published.num_classes, **given["condition"]}
        ours = visiontok.create(found.model.family, **given)
    assert ours.config.replace(sampling=published.config.sampling) == published.config
    assert found.tokenizer == checkpoints()[checkpoint][1].tokenizer
