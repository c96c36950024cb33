"""Training with a gradient scaler. Accelerate makes none on the CPU; where tests run there is often nothing else, so the tests make one."""

from __future__ import annotations

import importlib

import pytest
import torch
import training_children as children
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from test_resume import assert_equal, final_state

from visiontok.training.checkpoint import TrainingCheckpoint


@pytest.fixture
def scalers(monkeypatch):
    """The scalers of the runs, in order. They start at 256, or at `initial`; the scale doubles after every third update without overflow."""
    made = Scalers()

    def accelerator(recipe, *, cpu):
        assert recipe.precision == "fp16"
        AcceleratorState._reset_state()
        accelerator = Accelerator(mixed_precision="no", cpu=True)
        accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=made.initial, growth_interval=3)
        made.append(accelerator.scaler)
        return accelerator

    monkeypatch.setattr(importlib.import_module("visiontok.training.train"), "_accelerator", accelerator)
    yield made
    AcceleratorState._reset_state()


class Scalers(list):
    initial = 256.0


def scaler_of(folder, step):
    return TrainingCheckpoint.open(folder / "checkpoints" / f"step-{step:08d}").load()["scaler"]


def test_the_gradient_scaler_survives_a_resume(scalers, tokenizer_recipe, tmp_path):
    options = {"precision": "fp16", "accumulate": 1, "objective": {"name": "reconstruction"}, "schedule": {"steps": 8}}
    children.run(tokenizer_recipe(output=str(tmp_path / "whole"), **options))
    children.run(tokenizer_recipe(output=str(tmp_path / "parts"), **(options | {"steps": 5})))
    stopped = scaler_of(tmp_path / "parts", 5)
    assert stopped["scale"] == 512.0  # it moved, and does not start again at 256
    assert stopped["_growth_tracker"] == 2
    children.run(tokenizer_recipe(output=str(tmp_path / "parts"), **options))
    assert scalers[2].get_scale() == 1024.0  # doubled after step 3 and after step 6
    assert scaler_of(tmp_path / "parts", 8) == scaler_of(tmp_path / "whole", 8)
    assert_equal(final_state(tmp_path / "parts"), final_state(tmp_path / "whole"))


def test_the_scale_falls_on_overflow_and_no_weight_changes(scalers, tokenizer_recipe, tmp_path):
    scalers.initial = 2.0**100
    recipe = {"precision": "fp16", "accumulate": 1, "steps": 3, "checkpoints": {"every": 1}, "objective": {"name": "reconstruction"}}
    children.run(tokenizer_recipe(**recipe))
    assert [scaler_of(tmp_path / "run", step)["scale"] for step in (2, 3)] == [2.0**98, 2.0**97]
    before, after = (TrainingCheckpoint.open(tmp_path / "run" / "checkpoints" / f"step-{step:08d}").load()["model"] for step in (2, 3))
    trained = [name for name in before if name.startswith(("encoder.", "decoder.", "head."))]
    assert len(trained) > 10
    assert all(torch.equal(before[name], after[name]) for name in trained)
