"""Sharded training of generators in two processes, against one process that holds everything."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
import training_children as children
from safetensors.torch import load_file
from test_processes import assert_same_curve, curve
from test_resume import assert_equal, final_state
from training_recipes import GPT, TITOK

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.training import parse_recipe, train
from visiontok.training.checkpoint import list_checkpoints

shards_here = pytest.mark.skipif(not hasattr(torch.cpu.Stream, "record_event"), reason="this torch shards on accelerators only")

DEEP = GPT | {"depth": 3, "condition": {"dropout": 0.5}}


def exported(folder):
    return load_file(Path(folder) / "final" / "model.safetensors")


def assert_close(left, right, *, atol):
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.allclose(tensor, right[name], rtol=0, atol=atol), (name, (tensor - right[name]).abs().max())


@shards_here
@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "gradient_checkpointing": True}, {"ema": None}], ids=str)
def test_two_sharded_processes_train_as_one_does(changes, generator_recipe, tmp_path):
    """Losses, norms of gradients, validation of the average, sample images, and the exported average."""
    options = {"model": {"family": "gpt", "config": DEEP}, "ema": {"decay": 0.9}, "sample_images": {"every": 6, "count": 4}, **changes}
    children.run(generator_recipe(output=str(tmp_path / "one"), **options))
    children.run_ranks(generator_recipe(output=str(tmp_path / "two"), parallel="fsdp", **options), tmp_path / "ranks")
    assert_same_curve(curve(tmp_path / "two"), curve(tmp_path / "one"))
    assert_close(exported(tmp_path / "two"), exported(tmp_path / "one"), atol=1e-4)
    model = visiontok.from_pretrained(tmp_path / "two" / "final")
    assert model.generate(torch.arange(3)).indices.shape == (3, 4)
    assert (tmp_path / "two" / "samples" / "step-00000006.png").is_file()

    own = [torch.load(tmp_path / "ranks" / f"{rank}-own.pt", weights_only=True) for rank in (0, 1)]
    whole = model.state_dict()
    for name, part in own[0].items():
        assert len(part) == -(-len(whole[name]) // 2), name
        assert len(part) + len(own[1][name]) == len(whole[name])
