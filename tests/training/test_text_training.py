"""Training tokenizers that read a text, from captions and from class names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import training_children as children
from training_recipes import TITOK, VIT

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.training import parse_recipe, train

TEXT = {"length": 6, "dim": 8, "encoder": {"type": "hashed_words"}}
SIZES = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT, "text": TEXT}
QUANTIZERS = {"tatitok": {"type": "vq", "codebook_size": 16, "dim": 4, "clustering": {}}, "textok": {"type": "gaussian", "dim": 4}}
SHAPES = {"source": {"name": "shapes", "size": 16, "num_samples": 64}}


@pytest.mark.parametrize(
    ("family", "text", "data"),
    [("tatitok", {"source": "captions"}, SHAPES), ("textok", {"source": "class_names"}, {"source": "digits:train"})],
)
def test_training_learns_shows_images_and_exports(tokenizer_recipe, family, text, data):
    model = {"family": family, "config": SIZES | {"quantizer": QUANTIZERS[family]}}
    changes = {"model": model, "text": text, "data": data, "steps": 40, "optimizer": {"lr": 1e-2}, "objective": {"name": "reconstruction"}}
    recipe = tokenizer_recipe(**changes, sample_images={"every": 40, "count": 3}, checkpoints={"every": 20})
    children.run(recipe)
    folder = Path(recipe["output"])
    curve = [json.loads(line)["reconstruction"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert sum(curve[-5:]) < 0.8 * sum(curve[:5])
    assert (folder / "samples" / "step-00000040.png").is_file()
    final = visiontok.from_pretrained(folder / "final").attach_text_encoder()
    tokens = final.encode(torch.rand(2, 3, 16, 16), text="a red circle")
    assert not torch.equal(final.decode(tokens, text="a red circle"), final.decode(tokens, text="a blue ring"))


def test_a_text_that_is_missing_or_too_much_is_refused_before_training(tokenizer_recipe):
    model = {"family": "tatitok", "config": SIZES | {"quantizer": QUANTIZERS["tatitok"]}}
    with pytest.raises(ConfigError, match=r"set text\.source"):
        train(parse_recipe(tokenizer_recipe(model=model)), cpu=True)
    with pytest.raises(ConfigError, match="text"):
        train(parse_recipe(tokenizer_recipe(model={"family": "titok", "config": TITOK}, text={"source": "captions"})), cpu=True)


def test_a_generator_shows_no_images_of_tokens_that_need_a_text(generator_recipe, tmp_path):
    torch.manual_seed(0)
    folder = visiontok.save_pretrained(visiontok.create("tatitok", **SIZES, quantizer=QUANTIZERS["tatitok"]), tmp_path / "tatitok")
    with pytest.raises(ConfigError, match=r"sample_images"):
        train(parse_recipe(generator_recipe(tokenizer=str(folder), sample_images={"every": 1})), cpu=True)
    children.run(generator_recipe(tokenizer=str(folder), steps=2))
