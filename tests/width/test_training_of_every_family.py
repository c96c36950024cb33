"""Every family trains from a recipe, and a `gpt` trains on its tokens and samples them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Case, every_case

import visiontok
from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.core.identity import identify
from visiontok.data import open_source
from visiontok.data.arrays import ArraysConfig
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.tokenizing import tokenize_source
from visiontok.training import parse_recipe, train

GPT = {"dim": 24, "depth": 1, "num_heads": 2, "multiple_of": 8, "positions": "rope", "flow_head": {"dim": 16, "depth": 1}}
RUN = {
    "seed": 0,
    "steps": 4,
    "batch_size": 4,
    "optimizer": {"lr": 1e-2},
    "schedule": {"warmup": 0},
    "ema": None,
    "sample_images": {"every": 4, "count": 2},
    "logging": {"every": 1},
}


def source(case: Case, folder: Path) -> dict[str, Any]:
    """The signals of a case, of all their sizes, with classes, as a source of arrays."""
    folder.mkdir()
    for number, signal in enumerate(case.signals()):
        (folder / str(number % 2)).mkdir(exist_ok=True)
        np.save(folder / str(number % 2) / f"{number}.npy", signal.numpy())
    return {"name": "arrays", "path": str(folder), "modality": case.modality}


@every_case
def test_a_recipe_trains_it(case: Case, tmp_path: Path):
    model = case.build()
    size = model.preprocessing.usual_size
    folder = tmp_path / "even"
    folder.mkdir()
    spec = model.preprocessing.spec
    for number in range(6):
        values = torch.rand(spec.channels, *size, generator=torch.Generator().manual_seed(number))
        np.save(folder / f"{number}.npy", spec.clamp(values).numpy())
    recipe = {
        **RUN,
        "kind": "tokenizer",
        "output": str(tmp_path / "run"),
        "data": {"source": {"name": "arrays", "path": str(folder), "modality": case.modality}, "size": list(size)},
        "model": {"family": case.name},
        "objective": {"name": "reconstruction"},
    }
    if not list(model.parameters()):
        with pytest.raises(ConfigError, match="nothing to train"):
            train(parse_recipe(recipe), cpu=True)
        return
    train(parse_recipe(recipe), cpu=True)
    trained = visiontok.from_pretrained(tmp_path / "run" / "final")
    before, after = dict(model.named_parameters()), dict(trained.named_parameters())
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "run" / "samples" / "step-00000004.png").exists() == (case.modality in ("image", "video"))


@every_case
def test_a_gpt_trains_on_its_tokens_of_all_sizes_and_samples_them_back(case: Case, tmp_path: Path):
    model = case.build()
    visiontok.save_pretrained(model, tmp_path / "tokenizer")
    tokenize_source(
        open_source(ArraysConfig.parse(source(case, tmp_path / "signals"))),
        model,
        tmp_path / "tokens",
        identity=identify(model, str(tmp_path / "tokenizer")),
    )
    recipe = {
        **RUN,
        "kind": "generator",
        "output": str(tmp_path / "run"),
        "data": {"tokens": str(tmp_path / "tokens")},
        "tokenizer": str(tmp_path / "tokenizer"),
        "model": {"family": "gpt", "config": GPT},
    }
    train(parse_recipe(recipe), cpu=True)
    generator = visiontok.from_pretrained(tmp_path / "run" / "final")
    dataset = TokenDataset(tmp_path / "tokens")
    assert generator.layout == dataset.layout
    assert generator.num_classes == 2
    assert generator.config.tokenizer.weights_sha256 == identify(model, "any").weights_sha256
    layout = dataset.batch([0]).tokens.layout
    tokens = generator.generate(torch.tensor([0, 1, 1]), noise=SampleNoise(0, range(3)), layout=layout)
    assert tokens.validate().layout == layout
    if model.decoder_extras:
        with pytest.raises(TokenError, match="codebook"):
            model.decode(tokens)
    elif model.can_decode:
        assert model.decode(tokens).shape[2:] == layout.signal_shape
