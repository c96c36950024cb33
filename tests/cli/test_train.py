import pytest
from command import refused, succeed
from omegaconf import OmegaConf

import visiontok
from visiontok.base.errors import ConfigError, DataError, TrainingError, VisiontokError

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
RECIPE = {
    "kind": "tokenizer",
    "steps": 2,
    "batch_size": 4,
    "model": {
        "family": "titok",
        "config": {
            "image_size": 16,
            "num_latent_tokens": 4,
            "encoder": VIT,
            "decoder": VIT,
            "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4},
        },
    },
    "data": {"source": "digits:train"},
    "logging": {"every": 1, "tensorboard": False},
    "sample_images": {"every": 0},
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    OmegaConf.save(RECIPE | {"output": str(tmp_path / "run")}, path)
    return str(path)


def test_a_recipe_becomes_a_model_and_its_folder_is_printed(recipe, tmp_path):
    done = succeed("train", recipe, "--cpu")
    assert done.stdout == f"{tmp_path / 'run' / 'final'}\n"
    assert "step 2/2" in done.stderr
    assert "digits:train: 1442 samples" in done.stderr
    assert visiontok.from_pretrained(tmp_path / "run" / "final").layout.length == 4


def test_the_same_command_resumes_and_overwrite_starts_anew(recipe, tmp_path):
    succeed("train", recipe, "--cpu")
    again = succeed("train", recipe, "steps=4", "--cpu")
    assert "steps: 2 -> 4" in again.stderr
    assert "step 3/4" in again.stderr
    assert "step 1/4" not in again.stderr
    error = refused("train", recipe, "--resume", "none")
    assert isinstance(error, TrainingError)
    assert str(tmp_path / "run") in str(error)
    anew = succeed("train", recipe, "--resume", "none", "--overwrite", "--cpu")
    assert "step 1/2" in anew.stderr


def test_resuming_from_a_named_checkpoint(recipe, tmp_path):
    succeed("train", recipe, "--cpu", "checkpoints.every=1")
    named = succeed("train", recipe, "--cpu", "checkpoints.every=1", "--resume", tmp_path / "run" / "checkpoints" / "step-00000001")
    assert "step 2/2" in named.stderr
    assert "step 1/2" not in named.stderr


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (["optimizer.lrr=1"], ConfigError, "lr"),
        (["optimizer.lr"], ConfigError, "optimizer.lr"),
        (["--overwrite"], ConfigError, "--resume"),
        (["--resume", "nowhere"], TrainingError, "nowhere"),
        (["data.source=folder:/nowhere"], DataError, "/nowhere"),
        (["batch_size=3", "accumulate=2"], ConfigError, "batch_size"),
    ],
)
def test_invalid_arguments_leave_nothing_behind(recipe, tmp_path, arguments, error, named):
    raised = refused("train", recipe, "--cpu", *arguments)
    assert isinstance(raised, error)
    assert named in str(raised)
    assert not (tmp_path / "run").exists()


def test_without_a_recipe_those_that_exist_are_listed():
    rows = dict(line.split(maxsplit=1) for line in succeed("train").stdout.splitlines()[1:])
    assert "small/vq" in rows
    assert all(rows.values())


@pytest.mark.parametrize(("given", "close"), [("vq", "small/vq"), ("small/vq-rest", "small/vq-reset"), ("titok-digits.yml", "demo/titok-digits")])
def test_an_unknown_recipe_lists_the_close_ones(given, close):
    error = refused("train", given)
    assert isinstance(error, VisiontokError)
    assert given in str(error)
    assert close in str(error)


def test_a_missing_recipe_is_named():
    error = refused("train", "no-such-recipe.yaml")
    assert isinstance(error, ConfigError)
    assert "no-such-recipe.yaml" in str(error)


def test_a_dry_run_tells_the_cost_and_writes_nothing(recipe, tmp_path):
    done = succeed("train", recipe, "--cpu", "--dry-run", "steps=1000")
    facts = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    model = visiontok.create("titok", **RECIPE["model"]["config"])
    assert facts["parameters"] == f"{model.num_parameters:,}"
    assert facts["steps"] == "1,000, 4,000 samples"
    assert float(facts["FLOPs per step"].split(",")[0]) > 0
    assert "digits:train" in facts["data"]
    assert "%" in facts["loader"]
    assert not (tmp_path / "run").exists()
