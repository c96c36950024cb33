import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app

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
    "pictures": {"every": 0},
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    OmegaConf.save(RECIPE | {"output": str(tmp_path / "run")}, path)
    return str(path)


def invoke(*arguments):
    return CliRunner().invoke(app, ["train", *arguments])


def test_a_recipe_becomes_a_model_and_its_folder_is_what_stdout_says(recipe, tmp_path):
    done = invoke(recipe, "--cpu")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'run' / 'final'}\n"
    assert "step 2/2" in done.stderr
    assert visiontok.from_pretrained(tmp_path / "run" / "final").layout.length == 4


def test_the_same_command_goes_on_and_overwrite_starts_anew(recipe, tmp_path):
    assert invoke(recipe, "--cpu").exit_code == 0
    again = invoke(recipe, "steps=4", "--cpu")
    assert again.exit_code == 0
    assert "the recipe changed: steps: 2 -> 4" in again.stderr
    assert "going on from step 2" in again.stderr
    refused = invoke(recipe, "--resume", "none")
    assert refused.exit_code == 1
    assert "already holds a run" in refused.stderr
    anew = invoke(recipe, "--resume", "none", "--overwrite", "--cpu")
    assert anew.exit_code == 0
    assert "step 1/2" in anew.stderr


def test_going_on_from_a_named_checkpoint(recipe, tmp_path):
    assert invoke(recipe, "--cpu", "checkpoints.every=1").exit_code == 0
    named = invoke(recipe, "--cpu", "checkpoints.every=1", "--resume", str(tmp_path / "run" / "checkpoints" / "step-00000001"))
    assert named.exit_code == 0, named.stderr
    assert "going on from step 1" in named.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lrr=1"], "did you mean lr?"),
        (["optimizer.lr"], "write key=value"),
        (["--overwrite"], "needs --resume none"),
        (["--resume", "nowhere"], "nowhere is not a complete checkpoint"),
        (["data.source=folder:/nowhere"], "/nowhere"),
        (["batch_size=3", "accumulate=2"], "does not divide"),
    ],
)
def test_mistakes_are_one_paragraph_and_leave_nothing_behind(recipe, tmp_path, arguments, message):
    failed = invoke(recipe, "--cpu", *arguments)
    assert failed.exit_code == 1
    assert failed.stdout == ""
    assert failed.stderr.startswith("Error: ")
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe_is_named():
    failed = invoke("no-such-recipe.yaml")
    assert failed.exit_code == 1
    assert "no-such-recipe.yaml cannot be read" in failed.stderr


def test_help_shows_examples():
    shown = invoke("--help")
    assert shown.exit_code == 0
    assert "visiontok train my.yaml optimizer.lr=3e-4" in shown.stdout
    assert "accelerate launch" in shown.stdout
