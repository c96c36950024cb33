import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from visiontok.base.errors import ConfigError
from visiontok.base.resources import configs_folder
from visiontok.training import TokenizerRecipe, load_recipe, parse_recipe


@pytest.fixture
def file(tmp_path, tokenizer_recipe):
    path = tmp_path / "recipe.yaml"
    OmegaConf.save(tokenizer_recipe(), path)
    return path


def test_overrides_reach_every_depth(file):
    recipe = load_recipe(file, ["optimizer.lr=3e-4", "model.config.quantizer.codebook_size=32", "ema=null", "data.source=photos:train"])
    assert isinstance(recipe, TokenizerRecipe)
    assert recipe.optimizer.lr == 3e-4
    assert recipe.model.config["quantizer"]["codebook_size"] == 32
    assert recipe.ema is None
    assert recipe.final_weights == "model"
    assert recipe.data.source.name == "photos"


def test_a_recipe_survives_json(file):
    recipe = load_recipe(file)
    assert parse_recipe(recipe.to_dict()) == recipe


def test_bundled_recipes_are_known_by_name(tmp_path, monkeypatch):
    assert load_recipe("generators/gpt-b") == load_recipe(configs_folder() / "generators" / "gpt-b.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "generators").mkdir()
    (tmp_path / "generators" / "gpt-b").write_text("kind: mine")  # a file of that name goes first
    with pytest.raises(ConfigError, match="'mine'"):
        load_recipe("generators/gpt-b")


def test_the_documented_recipes_are_valid(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    whole = [text for text in shown if text.startswith("kind:")]
    assert len(whole) == 2
    for text in whole:
        (tmp_path / "recipe.yaml").write_text(text)
        load_recipe(tmp_path / "recipe.yaml")
    tokenizer = next(yaml.safe_load(text) for text in whole if "tokenizer" in text.splitlines()[0])
    parts = [yaml.safe_load(text) for text in shown if text not in whole]
    assert any("objective" in part for part in parts)
    for part in parts:
        parse_recipe(tokenizer | part)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", "optimiser: unknown key .* did you mean optimizer"),
        ("optimizer.learning_rate=1", r"optimizer.learning_rate: unknown key .* known here: lr, betas"),
        ("objective.gan.strat_step=1", "did you mean start_step"),
        ("optimizer.lr=-1", "optimizer.lr: Input should be greater than 0"),
        ("precision=fp8", "precision: Input should be 'no', 'bf16' or 'fp16'"),
        ("kind=tokeniser", "`kind` is 'tokeniser'; set it to tokenizer, generator or drafter"),
        ("model.init_from=titok-l32", "one of the two"),
        ("data.source=digit:train", "digit"),
        ("data.source=digits:tset", "tset"),
        ("steps", "is not an override; write key=value"),
        ("=3", "is not an override; write key=value"),
    ],
)
def test_a_wrong_key_or_value_is_named(file, override, message):
    with pytest.raises(Exception, match=message) as caught:
        load_recipe(file, [override])
    assert type(caught.value).__module__ == "visiontok.base.errors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid"),
        ("- 1", "must be a mapping"),
        ("", "must be a mapping|kind"),
        ("a: ${b}", "is not valid"),
        ("kind: [tokenizer]", "kind"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "none.yaml")


def test_yaml_cannot_run_code(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("kind: !!python/object/apply:os.system ['touch pwned']")
    with pytest.raises(ConfigError, match="is not valid"):
        load_recipe(path)


def test_the_batch_must_divide_evenly(file):
    recipe = load_recipe(file, ["batch_size=12", "accumulate=2"])
    recipe.check_division(3)
    with pytest.raises(ConfigError, match="choose a multiple of 8"):
        recipe.check_division(4)


def test_a_generator_that_encodes_images_needs_a_tokenizer(generator_recipe):
    with pytest.raises(ConfigError, match="name the `tokenizer`"):
        parse_recipe(generator_recipe(tokenizer=None))
    with pytest.raises(ConfigError, match="one of the two"):
        parse_recipe(generator_recipe(data={}))
