"""Tokenizers that define their own loss, with draws in the forward pass: a flow decoder in training."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.losses import ModelLossesConfig
from visiontok.training import parse_recipe, train
from visiontok.training.checkpoint import list_checkpoints

TRUNK = {"dim": 16, "depth": 1, "num_heads": 2}
FLEXTOK = {
    "image_size": 16,
    "vae": None,
    "patch_size": 8,
    "num_registers": 4,
    "quantizer": {"levels": [4, 4]},
    "encoder": TRUNK,
    "decoder": TRUNK,
    "time_features": 16,
    "sampling": {"steps": 2, "guidance": None},
}


def flow_recipe(tokenizer_recipe, **changes):
    own = {"model": {"family": "flextok", "config": FLEXTOK}, "objective": {"name": "model_losses"}, "optimizer": {"lr": 3e-3}}
    return tokenizer_recipe(**{**own, **changes})


def final(folder):
    return load_file(folder / "final" / "model.safetensors")


def test_resumed_equals_uninterrupted(tokenizer_recipe, tmp_path):
    """Noise, times, kept lengths and dropped conditions are drawn inside the model; a resumed run must draw the same."""
    train(parse_recipe(flow_recipe(tokenizer_recipe, output=str(tmp_path / "whole"))))
    train(parse_recipe(flow_recipe(tokenizer_recipe, output=str(tmp_path / "parts"))))
    whole = final(tmp_path / "whole")
    *_, earlier, newest = list_checkpoints(tmp_path / "parts" / "checkpoints")
    shutil.rmtree(newest)  # as if the run had died before it wrote the last one
    shutil.rmtree(tmp_path / "parts" / "final")
    written = earlier.stat().st_mtime_ns
    train(parse_recipe(flow_recipe(tokenizer_recipe, output=str(tmp_path / "parts"))))
    assert earlier.stat().st_mtime_ns == written, "it started again from the first step"
    resumed = final(tmp_path / "parts")
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


def test_another_seed_draws_something_else(tokenizer_recipe, tmp_path):
    """Otherwise the test above compares runs without draws."""
    model = visiontok.create("flextok", **FLEXTOK).train()
    images = torch.rand(4, 3, 16, 16)
    torch.manual_seed(0)
    first = model(images).losses["flow"]
    torch.manual_seed(0)
    assert torch.equal(model(images).losses["flow"], first)
    assert not torch.equal(model(images).losses["flow"], first)


def test_the_run_shows_images_and_the_exported_model_decodes(tokenizer_recipe, tmp_path):
    train(parse_recipe(flow_recipe(tokenizer_recipe, steps=2, sample_images={"every": 2, "count": 2})))
    model = visiontok.from_pretrained(tmp_path / "run" / "final")
    tokens = model.encode(torch.rand(2, 3, 16, 16), num_tokens=torch.tensor([1, 4]))
    assert model.decode(tokens).shape == (2, 3, 16, 16)
    assert list((tmp_path / "run").rglob("*.png"))


def test_a_model_without_terms_is_told_so():
    with pytest.raises(ConfigError, match="reconstruction"):
        ModelLossesConfig().build().generator_terms(torch.zeros(1), torch.zeros(1), {}, step=0)
