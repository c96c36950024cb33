"""Training a drafter by recipe: it learns, resumes exactly, and refuses what does not fit its generator."""

import json
from pathlib import Path

import pytest
import torch
import training_children as children
from safetensors.torch import load_file

import visiontok
from visiontok.base.errors import ConfigError, IdentityError
from visiontok.core.identity import identify
from visiontok.data import open_source
from visiontok.data.tokenizing import tokenize_source
from visiontok.generators.decoding import TreeSampler
from visiontok.generators.eagle.model import EagleDrafter
from visiontok.training import parse_recipe, train

SIZES = {"dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8}


@pytest.fixture(scope="module")
def folder(tokenizer_folder, tmp_path_factory):
    """A token set, a generator for it, and one for the tokens of another tokenizer."""
    folder = tmp_path_factory.mktemp("drafter")
    tokenizer = visiontok.from_pretrained(tokenizer_folder)
    identity = identify(tokenizer, tokenizer_folder)
    tokenize_source(open_source("digits:test"), tokenizer, folder / "tokens", identity=identity)
    for name, of in (("generator", identity), ("other", identity.replace(weights_sha256="0" * 64))):
        torch.manual_seed(0)
        condition = {"type": "classes", "num_classes": 10}
        model = visiontok.create("gpt", layout=tokenizer.layout, condition=condition, tokenizer=of, **SIZES)
        torch.nn.init.normal_(model.head.table.weight, std=0.3)
        model.save_pretrained(folder / name)
    return folder


def recipe(folder: Path, output: Path, **changes) -> dict:
    return {
        "kind": "drafter",
        "output": str(output),
        "steps": 6,
        "batch_size": 8,
        "generator": str(folder / "generator"),
        "tokens": str(folder / "tokens"),
        "optimizer": {"lr": 1e-2},
        "schedule": {"kind": "constant"},
        "checkpoints": {"every": 3},
        "logging": {"every": 1, "tensorboard": False},
    } | changes


def test_a_drafter_learns_and_drafts(folder, tmp_path):
    children.run(recipe(folder, tmp_path, steps=30))
    curve = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert curve[-1] < 0.8 * curve[0]
    drafter, model = visiontok.from_pretrained(tmp_path / "final"), visiontok.from_pretrained(folder / "generator")
    assert isinstance(drafter, EagleDrafter)
    assert torch.equal(drafter.embedding.table.weight, model.embedding.table.weight), "the embedding is a frozen copy"
    assert model.generate(torch.arange(3), sampler=TreeSampler(drafter, model.sampler())).is_full


def test_a_resumed_run_equals_an_uninterrupted_one(folder, tmp_path):
    for name, parts in (("whole", (6,)), ("parts", (3, 6))):
        for steps in parts:
            children.run(recipe(folder, tmp_path / name, steps=steps))
    whole, parts = (load_file(tmp_path / name / "final" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_what_does_not_fit_is_refused(folder, tmp_path):
    for error, changes in (
        (IdentityError, {"generator": str(folder / "other")}),
        (ConfigError, {"model": {"family": "gpt"}}),
        (ConfigError, {"model": {"family": "eagle", "config": {"dim": 32}}}),
    ):
        with pytest.raises(error):
            train(parse_recipe(recipe(folder, tmp_path, **changes)), cpu=True)
