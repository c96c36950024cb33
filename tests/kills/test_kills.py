"""Every command that writes, killed at its file operations and repeated, ends with what an uninterrupted one writes, and with nothing beside it."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import kill_harness
import numpy as np
import pytest
import torch
from small_models import SMALL
from video_files import frames, video

import visiontok
from visiontok.cli.quantize import quantize
from visiontok.cli.study import study
from visiontok.core.identity import identify
from visiontok.data.folder import FolderConfig, FolderSource
from visiontok.data.shapes import ShapesConfig, ShapesSource
from visiontok.data.tokenizing import tokenize_source
from visiontok.evaluation import Suite, model_identity
from visiontok.evaluation.generation.sampling import SamplePlan, write_samples
from visiontok.evaluation.reconstruction.evaluate import evaluate_models
from visiontok.evaluation.run_state import RunState
from visiontok.signals.video_frames import FrameSampling
from visiontok.training import parse_recipe, train

VIT = {"dim": 8, "depth": 1, "num_heads": 2, "patch_size": 8}
TITOK = {"image_size": 16, "num_latent_tokens": 2, "encoder": VIT, "decoder": VIT, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}

STUDY = {
    "title": "Small",
    "question": "Does it go on?",
    "setting": "One step each.",
    "seeds": [0],
    "data": {
        "digits": {
            "overrides": ["data.source=digits:test", "steps=1", "batch_size=4", "sample_images.every=0", "logging.tensorboard=false"],
            "reconstruction": {"name": "digits", "data": {"name": "digits", "split": "test"}, "num_samples": 4, "metrics": ["psnr"]},
        }
    },
    "arms": {"vq": {"recipe": "small/vq"}, "fsq": {"recipe": "small/fsq"}},
    "shown": ["psnr.mean_db"],
    "comparisons": [{"type": "difference", "question": "Which is sharper?", "metric": "psnr.mean_db", "arms": ["vq", "fsq"]}],
}

pytestmark = pytest.mark.skipif("fork" not in kill_harness.multiprocessing.get_all_start_methods(), reason="new processes take seconds each")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def training(folder: Path, *, images: bool = False) -> None:
    recipe = {
        "kind": "tokenizer",
        "output": str(folder / "run"),
        "steps": 2,
        "batch_size": 4,
        "model": {"family": "titok", "config": TITOK},
        "data": {"source": {"name": "shapes", "size": 16, "num_samples": 8, "max_objects": 1}},
        "checkpoints": {"every": 1, "keep_last": 1},
        "logging": {"every": 1, "tensorboard": False},
        "sample_images": {"every": int(images), "count": 2},
    }
    with contextlib.redirect_stderr(io.StringIO()):
        train(parse_recipe(recipe), cpu=True)


def tokenizing(folder: Path) -> None:
    model = tiny()
    source = ShapesSource(ShapesConfig(size=16, num_samples=5, max_objects=1))
    tokenize_source(source, model, folder / "tokens", identity=identify(model, "tiny"), batch_size=2, shard_size=2)


def tokenizing_clips(folder: Path) -> None:
    clips = folder.with_name("clips")
    if not clips.exists():
        clips.mkdir()
        for number, count in enumerate((6, 9, 3)):
            (clips / f"{number}.mp4").write_bytes(video(frames(count, height=16, width=16)))
    torch.manual_seed(0)
    model = visiontok.create("conv-clip", **SMALL["conv-clip"]).eval()
    source = FolderSource(FolderConfig(path=str(clips), sampling=FrameSampling(fps=5)))
    tokenize_source(source, model, folder / "tokens", identity=identify(model, "tiny"), batch_size=2, shard_size=1, clip_length=2)


def evaluating(folder: Path) -> None:
    RunState.is_due = property(lambda self: True)  # a state after every batch
    suite = {"name": "gray", "data": {"name": "shapes", "size": 16, "num_samples": 4, "max_objects": 1}, "metrics": ["psnr", "codebook"]}
    evaluate_models(
        Suite.parse({**suite, "batch_size": 2, "size": 16, "bootstrap": {"resamples": 100}}),
        ["a"],
        load=lambda name: tiny(),
        output=folder / "results",
        progress=lambda name: contextlib.nullcontext(lambda done, total: None),
        report=False,
    )


def sampling(folder: Path) -> None:
    tokenizer = tiny()
    sizes = {"dim": 8, "depth": 1, "num_heads": 2, "multiple_of": 8}
    generator = visiontok.create("gpt", layout=tokenizer.layout.to_dict(), condition={"type": "classes", "num_classes": 2}, **sizes).eval()
    plan = SamplePlan(num_samples=3, generator=model_identity(generator, "g"), tokenizer=model_identity(tokenizer, "t"))
    write_samples(plan, generator, tokenizer, folder / "images", batch_size=2)
    write_samples(plan, generator, tokenizer, folder / "images.npz", batch_size=2)


def quantizing(folder: Path) -> None:
    model = folder.with_name("continuous")
    if not model.exists():
        torch.manual_seed(0)
        visiontok.save_pretrained(visiontok.create("titok", **{**TITOK, "quantizer": {"type": "gaussian", "dim": 4}}), model)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        quantize(str(model), folder / "discrete", levels=4, compare="2", data="digits:test", num_samples=3)


def studying(folder: Path) -> None:
    path = folder.with_name("small.yaml")
    path.write_text(json.dumps(STUDY))
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        study(str(path), runs=folder / "runs", output=folder / "results")


def tiny():
    torch.manual_seed(0)
    return visiontok.create("titok", **TITOK).eval()


def comparable(folder: Path) -> dict[str, bytes]:
    """All files but for what tells the time of a run."""
    found = kill_harness.files(folder)
    for name, content in found.items():
        if name.endswith("metrics.jsonl"):
            lines = [json.loads(line) for line in content.splitlines()]
            found[name] = json.dumps(
                [{key: value for key, value in line.items() if not key.endswith(("per_second", "loader_share"))} for line in lines]
            ).encode()
        if name.endswith("run.json") or name == "results/small.json":
            found[name] = re.sub(rb'"(seconds|started|finished)": [^,}\n]*', rb"", content)
        if name == "results/small.html":  # which shows how long the runs took
            found[name] = b""
        if name.endswith("gray--a.json"):
            result = json.loads(content)
            found[name] = json.dumps(result | {"run": None}).encode()
        if name.endswith(".npz"):  # whose directory tells the time
            with np.load(folder / name) as arrays:
                found[name] = b"".join(array.encode() + arrays[array].tobytes() for array in arrays.files)
    for name in found:
        if name.endswith("config.json") or name.endswith("manifest.json"):
            found[name] = found[name].replace(str(folder).encode(), b"FOLDER")
    return found


COMMANDS = {
    "train": training,
    "tokenize": tokenizing,
    "tokenize clips": tokenizing_clips,
    "evaluate": evaluating,
    "sample": sampling,
    "quantize": quantizing,
    "study": studying,
}
SLOW_COMMANDS = COMMANDS | {"train with images": partial(training, images=True)}


def check(command: Callable[[Path], None], tmp_path: Path, choose: Callable[[list[str]], list[int]]) -> None:
    command(tmp_path / "first")  # imports and caches, so that all children start alike
    log = kill_harness.operations(command, tmp_path / "whole")
    expected = comparable(tmp_path / "whole")
    for number in choose(log):
        folder = tmp_path / str(number)
        kill_harness.kill_and_repeat(command, folder, number)
        found = comparable(folder)
        assert found.keys() == expected.keys(), log[number]
        assert [name for name in expected if found[name] != expected[name]] == [], log[number]


@pytest.mark.parametrize(
    ("command", "every"), [("train", 3), ("tokenize", 2), ("tokenize clips", 2), ("evaluate", 2), ("sample", 2), ("quantize", 2), ("study", 20)]
)
def test_killed_at_an_operation_of_every_kind(command, every, tmp_path):
    check(COMMANDS[command], tmp_path, lambda log: kill_harness.one_of_each_kind(log)[every // 2 :: every])


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW_COMMANDS)
def test_killed_at_every_operation(command, tmp_path):
    check(SLOW_COMMANDS[command], tmp_path, lambda log: list(range(len(log))))
