import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
import training_children as children
from omegaconf import OmegaConf
from safetensors.torch import load_file

import visiontok
from visiontok.base.errors import FolderInUseError
from visiontok.base.locks import exclusive
from visiontok.core.identity import identify
from visiontok.data import open_source
from visiontok.data.tokenizing import tokenize_source
from visiontok.training import parse_recipe, train
from visiontok.training.checkpoint import TrainingCheckpoint, list_checkpoints, step_of


def final_state(folder):
    """Every tensor that the run left: the exported model, and all parts of the last checkpoint."""
    folder = Path(folder)
    state = TrainingCheckpoint.open(list_checkpoints(folder / "checkpoints")[-1]).load()
    return {"final": load_file(folder / "final" / "model.safetensors"), **state}


def assert_equal(left, right, path="state"):
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_equal(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for number, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_equal(a, b, f"{path}.{number}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    else:
        assert left == right, path


def wait_until(condition, child, seconds=240):
    """Whether the condition came true before the child ended."""
    end = time.monotonic() + seconds
    while not condition():
        if child.exitcode is not None:
            return False
        assert time.monotonic() < end
        time.sleep(0.001)
    return True


@pytest.mark.parametrize("kind", ["tokenizer", "generator"])
def test_sigkill_at_any_moment_and_resume_gives_the_same_weights_bit_for_bit(kind, tokenizer_recipe, generator_recipe, tmp_path):
    """A checkpoint after every step, so that many of the kills land while one is written; two wait for exactly that."""
    make = {"tokenizer": tokenizer_recipe, "generator": generator_recipe}[kind]
    common = {"steps": 14, "checkpoints": {"every": 1}}
    children.run(make(output=str(tmp_path / "whole"), **common))

    recipe = make(output=str(tmp_path / "killed"), **common)
    checkpoints = tmp_path / "killed" / "checkpoints"
    moments, kills = random.Random(7), 0
    for kill in range(6):
        child = children.start(children.run, recipe)
        reached = len(list_checkpoints(checkpoints)) and list_checkpoints(checkpoints)[-1].name
        if kill % 3 == 2:
            alive = wait_until(lambda: any(checkpoints.glob(".writing-*")), child)
        else:
            alive = wait_until(lambda: any(folder.name > (reached or "") for folder in list_checkpoints(checkpoints)), child)  # noqa: B023
            time.sleep(moments.uniform(0, 0.15))
        if alive and child.exitcode is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
    children.run(recipe)
    assert kills >= 3
    assert_equal(final_state(tmp_path / "killed"), final_state(tmp_path / "whole"))


def test_sigkill_while_workers_stream_a_token_set(generator_recipe, tokenizer_folder, tmp_path):
    """Fifteen shards, of which two fit in memory at a time; the run goes over the end of an epoch."""
    tokenizer, window_bytes = visiontok.from_pretrained(tokenizer_folder), 2**11
    tokenize_source(open_source("digits:test"), tokenizer, tmp_path / "set", identity=identify(tokenizer, tokenizer_folder), shard_size=24)
    common = {"data": {"tokens": str(tmp_path / "set"), "num_workers": 2}, "steps": 18, "batch_size": 24, "checkpoints": {"every": 1}}
    whole = generator_recipe(output=str(tmp_path / "whole"), **common | {"data": {"tokens": str(tmp_path / "set")}})
    children.start(children.run, whole, "auto", window_bytes).join()

    recipe = generator_recipe(output=str(tmp_path / "killed"), **common)
    child = children.start(children.run, recipe, "auto", window_bytes)
    assert wait_until(lambda: any(step_of(path) >= 7 for path in list_checkpoints(tmp_path / "killed" / "checkpoints")), child)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    children.start(children.run, recipe, "auto", window_bytes).join()
    assert_equal(final_state(tmp_path / "killed"), final_state(tmp_path / "whole"))


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tokenizer_recipe, tmp_path, capsys):
    children.run(tokenizer_recipe(output=str(tmp_path / "whole")))
    recipe = tokenizer_recipe(output=str(tmp_path / "damaged"))
    children.run(recipe)
    newest = tmp_path / "damaged" / "checkpoints" / "step-00000008"
    (newest / "model.pt").write_bytes((newest / "model.pt").read_bytes()[:-100])

    train(parse_recipe(recipe), cpu=True)
    told = capsys.readouterr().err
    assert "step-00000008/model.pt is damaged" in told
    assert "falling back" in told
    assert "resuming from step 6" in told
    assert (newest.parent / "aside-0-step-00000008").is_dir()
    assert_equal(final_state(tmp_path / "damaged"), final_state(tmp_path / "whole"))


def test_a_second_training_in_the_same_folder_is_refused(tokenizer_recipe):
    recipe = tokenizer_recipe(steps=1)
    with exclusive(Path(recipe["output"])), pytest.raises(FolderInUseError, match=recipe["output"]):
        train(parse_recipe(recipe), cpu=True)
    assert not Path(recipe["output"]).exists()
    train(parse_recipe(recipe), cpu=True)


def test_an_output_that_cannot_be_written_ends_the_run_before_it_begins(tokenizer_recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train(parse_recipe(tokenizer_recipe(output=str(tmp_path / "file" / "run"))), cpu=True)


def test_with_every_checkpoint_damaged_the_run_starts_again(tokenizer_recipe, tmp_path):
    recipe = tokenizer_recipe(steps=3)
    children.run(recipe)
    whole = final_state(recipe["output"])
    for folder in list_checkpoints(Path(recipe["output"]) / "checkpoints"):
        (folder / "manifest.json").unlink()
    children.run(recipe)
    assert_equal(final_state(recipe["output"]), whole)


def test_metrics_have_one_line_per_step_after_a_resume(tokenizer_recipe, tmp_path):
    import json

    recipe = tokenizer_recipe(schedule={"steps": 8}, validation={"num_samples": 10, "every": 5})
    children.run(recipe | {"steps": 5})
    metrics = Path(recipe["output"]) / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"step": 6, "reconstruction": 9.0}\n{"step": 7, "recon')
    children.run(recipe)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    children.run(recipe | {"output": str(tmp_path / "whole")})
    whole = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    for line in [*lines, *whole]:
        for timing in ("samples_per_second", "loader_share"):
            line.pop(timing, None)
    assert lines == whole  # codebook usage over its window, too


def test_resuming_from_a_named_checkpoint_sets_later_ones_aside(tokenizer_recipe, tmp_path):
    recipe = tokenizer_recipe()
    children.run(recipe)
    whole = final_state(recipe["output"])
    checkpoints = Path(recipe["output"]) / "checkpoints"
    children.run(recipe, resume=str(checkpoints / "step-00000006"))
    assert_equal(final_state(recipe["output"]), whole)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["aside-0-step-00000008", "step-00000006", "step-00000008"]


def stopped(recipe, number, tmp_path):
    """The step at which a signal to the whole group of its processes, as from a terminal or a job scheduler, stopped a command, and its exit code."""
    OmegaConf.save(recipe, tmp_path / "recipe.yaml")
    child = children.start(children.run_command, "train", str(tmp_path / "recipe.yaml"), "--cpu")
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    assert wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") >= 2, child)
    os.killpg(child.pid, number)
    child.join(60)
    (saved,) = list_checkpoints(tmp_path / "stopped" / "checkpoints")
    step = TrainingCheckpoint.open(saved).step
    assert 2 <= step < 500
    assert not (tmp_path / "stopped" / "final").exists()
    return step, child.exitcode


def endless(tokenizer_recipe, tmp_path, **data):
    return tokenizer_recipe(
        output=str(tmp_path / "stopped"),
        steps=500,
        data=tokenizer_recipe()["data"] | data,
        schedule={"kind": "constant"},
        checkpoints={"every": 1000},
    )


def test_an_interrupt_saves_at_the_end_of_the_step(tokenizer_recipe, tmp_path):
    assert stopped(endless(tokenizer_recipe, tmp_path), signal.SIGINT, tmp_path)[1] == 130


def test_a_termination_saves_at_the_end_of_the_step(tokenizer_recipe, tmp_path):
    """Also while another process prepares batches."""
    recipe = endless(tokenizer_recipe, tmp_path, num_workers=1)
    step, code = stopped(recipe, signal.SIGTERM, tmp_path)
    assert code == 143

    recipe = recipe | {"steps": step + 2, "data": recipe["data"] | {"num_workers": 0}}
    children.run(recipe)
    children.run(recipe | {"output": str(tmp_path / "whole")})
    assert_equal(final_state(tmp_path / "stopped"), final_state(tmp_path / "whole"))
