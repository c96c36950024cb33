import json

import pytest

from visiontok.base.errors import TrainingError
from visiontok.base.files import TEMPORARY, contents
from visiontok.training.checkpoint import save_checkpoint
from visiontok.training.run_folder import RunFolder, changed_keys

RECIPE = {"output": "here", "steps": 10, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}, "logging": {"every": 1}, "ema": {"decay": 0.9}}


@pytest.fixture
def folder(tmp_path):
    """A run with a checkpoint after step 4."""
    folder = RunFolder(tmp_path / "run")
    folder.begin(folder.plan(RECIPE, resume="auto", overwrite=False), {"recipe": RECIPE}, fresh=False, keep_last=2)
    save_checkpoint(folder.checkpoints, step=4, state={"model": {}}, recipe=RECIPE, keep_last=2)
    return folder


def test_changed_keys_are_found_at_every_depth():
    now = {"output": "here", "steps": 20, "optimizer": {"lr": 0.1, "betas": [0.9, 0.9]}, "logging": {"every": 1}, "ema": None}
    assert changed_keys(RECIPE, now) == {
        "steps": "steps: 10 -> 20",
        "optimizer.betas": "optimizer.betas: [0.9, 0.99] -> [0.9, 0.9]",
        "ema": "ema: absent -> None",
        "ema.decay": "ema.decay: 0.9 -> absent",
    }


def test_the_same_recipe_goes_on(folder):
    start = folder.plan(RECIPE, resume="auto", overwrite=False)
    assert (start.step, start.notes, start.damaged) == (4, (), ())


def test_length_and_logging_may_change(folder):
    start = folder.plan(RECIPE | {"steps": 20, "logging": {"every": 5}, "output": "elsewhere"}, resume="auto", overwrite=False)
    assert start.step == 4
    assert start.notes == ("the recipe changed: logging.every: 1 -> 5; steps: 10 -> 20",)


def test_what_changes_the_mathematics_is_refused_by_name(folder):
    with pytest.raises(TrainingError, match=r"optimizer.lr: 0.1 -> 0.2.*--resume none --overwrite"):
        folder.plan(RECIPE | {"optimizer": {"lr": 0.2, "betas": [0.9, 0.99]}}, resume="auto", overwrite=False)


def test_a_run_is_replaced_only_when_asked(folder):
    with pytest.raises(TrainingError, match="already holds a run"):
        folder.plan(RECIPE, resume="none", overwrite=False)
    notes = folder.root / "notes.txt"
    notes.write_text("mine")
    start = folder.plan(RECIPE | {"ema": None}, resume="none", overwrite=True)
    folder.begin(start, {"recipe": RECIPE | {"ema": None}}, fresh=True, keep_last=2)
    assert not folder.checkpoints.exists()
    assert json.loads(folder.config.read_text())["recipe"]["ema"] is None
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("resume", ["auto", "none"])
def test_a_folder_of_something_else_is_left_alone(tmp_path, resume):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(TrainingError, match="not the folder of a run"):
        RunFolder(tmp_path).plan(RECIPE, resume=resume, overwrite=True)
    with pytest.raises(TrainingError, match="not the folder of a run"):
        RunFolder(tmp_path / "thesis.tex").plan(RECIPE, resume=resume, overwrite=True)


@pytest.mark.parametrize("resume", ["auto", "none"])
def test_what_a_run_leaves_that_was_killed_before_its_first_file_is_no_stranger(tmp_path, resume):
    for name in (".lock", ".lock.json", f"{TEMPORARY}0123456789ab.json"):
        (tmp_path / name).write_text("{")
    folder = RunFolder(tmp_path)
    start = folder.plan(RECIPE, resume=resume, overwrite=False)
    folder.begin(start, {"recipe": RECIPE}, fresh=resume == "none", keep_last=2)
    assert [path.name for path in contents(tmp_path)] == ["config.json"]
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


def test_checkpoints_that_a_killed_run_did_not_remove_are_removed(folder):
    for step in (5, 6):
        save_checkpoint(folder.checkpoints, step=step, state={"model": {}}, recipe=RECIPE, keep_last=9)
    (folder.checkpoints / f"{TEMPORARY}removed-step-00000003").mkdir()
    folder.begin(folder.plan(RECIPE, resume="auto", overwrite=False), {"recipe": RECIPE}, fresh=False, keep_last=2)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["step-00000005", "step-00000006"]


@pytest.mark.parametrize("content", ["[" * 100_000, '{"recipe": ' + "1" * 5000 + "}", "[]", '{"recipe": 3}'])
def test_a_hostile_config_is_an_error(folder, content):
    folder.config.write_text(content)
    with pytest.raises(TrainingError, match=r"config\.json"):
        folder.plan(RECIPE, resume="auto", overwrite=False)


def test_an_unreadable_config_is_not_taken_for_a_match(folder):
    folder.config.write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"):
        folder.plan(RECIPE, resume="auto", overwrite=False)


def test_a_named_checkpoint_must_be_whole_and_of_the_same_recipe(folder, tmp_path):
    saved = folder.checkpoints / "step-00000004"
    other = RunFolder(tmp_path / "other")
    assert other.plan(RECIPE, resume=str(saved), overwrite=False).step == 4
    with pytest.raises(TrainingError, match=r"step-00000004 followed another recipe.*ema"):
        other.plan(RECIPE | {"ema": None}, resume=str(saved), overwrite=False)
    with pytest.raises(TrainingError, match="not a complete checkpoint"):
        other.plan(RECIPE, resume=str(tmp_path / "nowhere"), overwrite=False)


def test_metrics_that_are_no_file_are_an_error(folder):
    folder.metrics.mkdir()
    with pytest.raises(TrainingError, match=r"metrics\.jsonl"):
        folder.begin(folder.plan(RECIPE, resume="auto", overwrite=False), {"recipe": RECIPE}, fresh=False, keep_last=2)
