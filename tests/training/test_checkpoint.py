import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import training_children as children

from visiontok.base.errors import TrainingError
from visiontok.base.torch_files import write_torch
from visiontok.training import checkpoint
from visiontok.training.checkpoint import TrainingCheckpoint, checkpoint_folder, list_checkpoints, save_checkpoint, set_aside


def save(root, step, value=1.0, keep_last=2):
    state = {"model": {"weight": torch.full((3,), value)}, "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1}]}}
    save_checkpoint(root, step=step, state=state, recipe={"steps": 10}, keep_last=keep_last)
    return checkpoint_folder(root, step)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    checkpoint = TrainingCheckpoint.open(save(tmp_path, 7))
    state = checkpoint.load()
    assert (checkpoint.step, checkpoint.recipe) == (7, {"steps": 10})
    assert torch.equal(state["model"]["weight"], torch.ones(3))
    assert state["optimizer"]["param_groups"] == [{"lr": 0.1}]


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10, 9):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000009", "step-00000010"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000009", "step-00000010"]


def test_writing_a_step_again_keeps_the_earlier_one_aside(tmp_path):
    save(tmp_path, 3, value=1.0)
    save(tmp_path, 3, value=2.0)
    assert torch.equal(TrainingCheckpoint.open(tmp_path / "step-00000003").load()["model"]["weight"], torch.full((3,), 2.0))
    assert torch.equal(TrainingCheckpoint.open(tmp_path / "aside-0-step-00000003").load()["model"]["weight"], torch.ones(3))
    assert list_checkpoints(tmp_path) == [tmp_path / "step-00000003"]


def damage_truncate(folder):
    path = folder / "model.pt"
    path.write_bytes(path.read_bytes()[:-10])


def damage_flip(folder):
    path = folder / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change_manifest(**changes):
    def damage(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, "model.pt is damaged"),
        (damage_flip, "optimizer.pt is damaged"),
        (lambda folder: (folder / "model.pt").unlink(), "model.pt is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[1]"), "manifest.json cannot be read"),
        (change_manifest(files={}), "does not name model.pt"),
        (change_manifest(step=6), "names the step 6"),
        (change_manifest(step=5.0), "names the step 5.0"),
        (change_manifest(step=True), "names the step True"),
    ],
)
def test_damage_is_found_and_named(tmp_path, damage, message):
    folder = save(tmp_path, 5)
    damage(folder)
    with pytest.raises(TrainingError, match=message):
        TrainingCheckpoint.open(folder)


@pytest.mark.parametrize("name", ["../model.pt", "/etc/passwd", "a/b.pt", ""])
def test_a_manifest_names_files_of_its_own_folder_only(tmp_path, name):
    folder = save(tmp_path, 5)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"].pop("model.pt")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match=r"manifest\.json"):
        TrainingCheckpoint.open(folder)


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04", b"\x80\x02})" + b"\x85" * 10_000 + b"K\x01s."])
def test_a_file_that_cannot_be_read_though_its_manifest_fits_points_to_the_checkpoint_before(tmp_path, content):
    save(tmp_path, 4)
    folder = save(tmp_path, 5)
    (folder / "model.pt").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.pt"] = [len(content), hashlib.blake2b(content, digest_size=16).hexdigest()]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match=r"step-00000005/model\.pt.*--resume .*step-00000004"):
        TrainingCheckpoint.open(folder).load()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_leaves_the_checkpoints_that_were_there(tmp_path, monkeypatch):
    save(tmp_path, 4)
    monkeypatch.setattr(checkpoint, "write_torch", lambda path, part: write_torch(path if path.name == "model.pt" else Path("/dev/full"), part))
    with pytest.raises(TrainingError, match=r"step-00000005 .*No space left.*step-00000004"):
        save(tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]
    assert TrainingCheckpoint.open(tmp_path / "step-00000004").load()["model"]


def test_checkpoints_hold_no_code(tmp_path):
    folder = save(tmp_path, 1)
    torch.save({"weight": print}, folder / "model.pt")
    checkpoint = TrainingCheckpoint(folder=folder, step=1, recipe={}, files={"model.pt": (0, "")})
    with pytest.raises(TrainingError, match=r"model\.pt"):
        checkpoint.load()


def test_setting_aside_finds_a_free_name(tmp_path):
    assert set_aside(save(tmp_path, 1)).name == "aside-0-step-00000001"
    assert set_aside(save(tmp_path, 1)).name == "aside-1-step-00000001"


def test_sigkill_while_writing_leaves_only_whole_checkpoints(tmp_path):
    """The writer does nothing but write, so every kill lands in the middle of a checkpoint, a pruning or a rename."""
    newest = 0
    for delay in (0.0, 0.013, 0.027, 0.04):
        writer = children.start(children.write_checkpoints, tmp_path, newest)
        while not any(folder.name > f"step-{newest:08d}" for folder in list_checkpoints(tmp_path)):
            assert writer.exitcode is None
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        for folder in list_checkpoints(tmp_path):
            checkpoint = TrainingCheckpoint.open(folder)
            assert all(torch.equal(part["x"], torch.full((50_000,), float(checkpoint.step))) for part in checkpoint.load().values())
            assert checkpoint.step >= newest
            newest = max(newest, checkpoint.step)
    assert newest > 0
    save(tmp_path, newest + 1)
    assert not list(tmp_path.glob(".*"))
