import io
import json
import re
import time
from pathlib import Path

import pytest
import torch
import training_children as children
from PIL import Image
from rich.console import Console
from training_recipes import GPT, TITOK

import visiontok
from visiontok.base.errors import ConfigError, IdentityError
from visiontok.core.identity import identify
from visiontok.data import open_source
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.tokenizing import tokenize_source
from visiontok.training import dry_run, parse_recipe, train


@pytest.fixture(scope="module")
def token_set(tokenizer_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    tokenizer = visiontok.from_pretrained(tokenizer_folder)
    tokenize_source(open_source("digits:test"), tokenizer, folder, identity=identify(tokenizer, tokenizer_folder))
    return folder


def test_a_generator_learns_a_stored_set_and_takes_its_layout_and_classes(generator_recipe, token_set):
    recipe = generator_recipe(data={"tokens": str(token_set)}, steps=60, batch_size=32, sample_images={"every": 60, "count": 20})
    children.run(recipe)
    folder = Path(recipe["output"])
    curve = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert curve[-1] < 0.8 * curve[0]
    final = visiontok.from_pretrained(folder / "final")
    assert final.num_classes == 10
    assert final.class_names == tuple("0123456789")
    with Image.open(folder / "samples" / "step-00000060.png") as image:
        assert image.size == (10 * 18 + 2, 2 * 18 + 2)  # one sample per class in a row


def test_tokens_made_at_every_step_are_those_of_the_stored_set(generator_recipe, token_set):
    stored, made = (
        generator_recipe(output=generator_recipe()["output"] + name, data=data)
        for name, data in (("stored", {"tokens": str(token_set)}), ("made", {"signals": {"source": "digits:test"}}))
    )
    children.run(stored)
    children.run(made)
    left, right = (
        [json.loads(line)["loss"] for line in (Path(recipe["output"]) / "metrics.jsonl").read_text().splitlines()] for recipe in (stored, made)
    )
    assert left == pytest.approx(right, abs=1e-6)


def test_an_unconditional_generator_needs_no_labels(generator_recipe, token_set):
    recipe = generator_recipe(
        data={"tokens": str(token_set)},
        model={"family": "gpt", "config": GPT | {"condition": {"type": "none"}}},
        sample_images={"every": 6, "count": 4},
    )
    children.run(recipe)
    assert visiontok.from_pretrained(Path(recipe["output"]) / "final").num_classes == 0
    assert (Path(recipe["output"]) / "samples" / "step-00000006.png").is_file()


@pytest.mark.parametrize("condition", [{"start": "after", "dropout": 0.2}, {"type": "none", "start": "before", "dropout": 0.2}])
def test_what_a_recipe_says_of_classes_means_nothing_without_labels(generator_recipe, tmp_path, condition):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "a.png")
    model = {"family": "gpt", "config": {**GPT, "positions": "learned", "condition": condition}}
    recipe = generator_recipe(data={"signals": {"source": f"folder:{tmp_path / 'images'}"}}, model=model, steps=1, sample_images={"every": 0})
    train(parse_recipe(recipe))
    assert visiontok.from_pretrained(Path(recipe["output"]) / "final").config.condition.type == "none"


def test_labels_are_needed_for_classes(generator_recipe, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "a.png")
    recipe = generator_recipe(
        data={"signals": {"source": f"folder:{tmp_path / 'images'}"}},
        model={"family": "gpt", "config": GPT | {"condition": {"type": "classes", "num_classes": 3}}},
    )
    with pytest.raises(ConfigError, match="label"):
        train(parse_recipe(recipe), cpu=True)


def test_tokens_of_another_tokenizer_are_refused_unless_told_otherwise(generator_recipe, token_set, tmp_path):
    torch.manual_seed(5)
    twin = visiontok.save_pretrained(visiontok.create("titok", **TITOK), tmp_path / "twin")
    recipe = generator_recipe(data={"tokens": str(token_set)}, tokenizer=str(twin), steps=2)
    with pytest.raises(IdentityError, match=rf"tiny.*{re.escape(str(twin))}"):
        train(parse_recipe(recipe), cpu=True)
    train(parse_recipe({**recipe, "allow_other_tokenizer": True}), cpu=True)
    trained = visiontok.from_pretrained(Path(recipe["output"]) / "final")
    assert trained.config.tokenizer.name == "tiny"
    images = {"signals": {"source": "digits:test"}}
    other = generator_recipe(
        data=images, tokenizer=str(twin), model={"init_from": str(Path(recipe["output"]) / "final")}, output=str(tmp_path / "more")
    )
    with pytest.raises(IdentityError, match="tiny"):
        train(parse_recipe(other), cpu=True)


def test_a_tokenizer_of_another_layout_is_refused(generator_recipe, token_set, tmp_path):
    other = visiontok.save_pretrained(visiontok.create("titok", **TITOK | {"num_latent_tokens": 5}), tmp_path / "other")
    with pytest.raises(ConfigError, match="layout"):
        train(parse_recipe(generator_recipe(data={"tokens": str(token_set)}, tokenizer=str(other), allow_other_tokenizer=True)), cpu=True)


def test_latents_are_learned_by_a_flow(generator_recipe, tmp_path):
    torch.manual_seed(0)
    continuous = visiontok.create("titok", **TITOK | {"quantizer": {"type": "gaussian", "dim": 4}})
    folder = visiontok.save_pretrained(continuous, tmp_path / "vae")
    model = {"family": "gpt", "config": GPT | {"flow_head": {"dim": 16, "depth": 1}}}
    recipe = generator_recipe(tokenizer=str(folder), model=model, steps=3, sample_images={"every": 3, "count": 2})
    train(parse_recipe(recipe), cpu=True)
    trained = visiontok.from_pretrained(Path(recipe["output"]) / "final")
    assert trained.layout.is_continuous
    assert trained.config.sampling.type == "latents"
    assert (Path(recipe["output"]) / "samples" / "step-00000003.png").is_file()


@pytest.mark.parametrize("family", ["mar", "tokenbridge-ar"])
def test_masked_autoregressive_generators_train_on_latents_and_on_their_codes(generator_recipe, tmp_path, family):
    torch.manual_seed(0)
    vae = {"image_size": 16, "channels": [8, 16], "num_res_blocks": 1, "norm_groups": 4, "bottleneck": {"dim": 3}}
    part = {"dim": 16, "depth": 1, "num_heads": 2}
    config = {"backbone": {"encoder": part, "decoder": part, "buffer_size": 2}, "sampling": {"num_steps": 3}}
    if family == "mar":
        tokenizer = visiontok.create("kl-vae", **vae)
        config |= {"head": {"dim": 16, "depth": 1}}
        config["sampling"]["diffusion_steps"] = "ddim4"
    else:
        tokenizer = visiontok.create("tokenbridge", base={"family": "kl-vae", "config": vae}, quantizer={"levels": 5})
        config |= {"head": part, "code_values": {"levels": 5}}
    folder = visiontok.save_pretrained(tokenizer, tmp_path / "tokenizer")
    recipe = generator_recipe(tokenizer=str(folder), model={"family": family, "config": config}, steps=2, sample_images={"every": 2, "count": 2})
    train(parse_recipe(recipe), cpu=True)
    assert visiontok.from_pretrained(Path(recipe["output"]) / "final").config.tokenizer is not None
    assert (Path(recipe["output"]) / "samples" / "step-00000002.png").is_file()


def test_captions_condition_a_generator(generator_recipe, tmp_path):
    torch.manual_seed(0)
    config = TITOK | {"image_size": 16}
    folder = visiontok.save_pretrained(visiontok.create("titok", **config), tmp_path / "tokenizer")
    text = {"length": 6, "dim": 8, "encoder": {"type": "hashed_words"}}
    model = {"family": "gpt", "config": GPT | {"condition": {"type": "text", "text": text}}}
    shapes = {"signals": {"source": {"name": "shapes", "size": 16, "num_samples": 40}}}
    recipe = generator_recipe(data=shapes, tokenizer=str(folder), model=model, steps=2)
    train(parse_recipe(recipe), cpu=True)
    assert visiontok.from_pretrained(Path(recipe["output"]) / "final").config.condition.text.length == 6


def test_maskgit_trains_too(generator_recipe, token_set):
    backbone = {"type": "bert", "dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32}
    recipe = generator_recipe(
        data={"tokens": str(token_set)}, model={"family": "maskgit", "config": {"backbone": backbone}}, sample_images={"every": 6, "count": 4}
    )
    children.run(recipe)
    assert (Path(recipe["output"]) / "final" / "model.safetensors").is_file()


def test_classes_out_of_range_are_refused_before_training(generator_recipe, token_set):
    model = {"family": "gpt", "config": GPT | {"condition": {"type": "classes", "num_classes": 3}}}
    recipe = generator_recipe(data={"tokens": str(token_set)}, model=model)
    with pytest.raises(ConfigError, match=r"class 9, .* 3 classes"):
        train(parse_recipe(recipe), cpu=True)
    assert not Path(recipe["output"]).exists()
    signals = generator_recipe(model=model)
    with pytest.raises(ConfigError, match=r"class 9, .* 3 classes"):
        train(parse_recipe(signals), cpu=True)


def test_sample_images_with_guidance_need_dropped_classes(generator_recipe):
    backbone = {"type": "bert", "dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32}
    model = {"family": "maskgit", "config": {"backbone": backbone, "condition": {"dropout": 0.0}}}
    recipe = generator_recipe(model=model, sample_images={"every": 6, "count": 4})
    with pytest.raises(ConfigError, match=r"dropout is 0"):
        train(parse_recipe(recipe), cpu=True)
    assert not Path(recipe["output"]).exists()
    children.run(generator_recipe(model=model, sample_images={"every": 0}))


def test_orders_anneal_with_the_step_and_samples_follow(generator_recipe, token_set):
    sizes = {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32, "dropout": 0.0, "attention_dropout": 0.0}
    model = {"family": "rar", "config": {**sizes, "order": {"anneal_start": 2, "anneal_end": 5}}}
    recipe = generator_recipe(data={"tokens": str(token_set)}, model=model, sample_images={"every": 6, "count": 4})
    children.run(recipe)
    assert visiontok.from_pretrained(Path(recipe["output"]) / "final").config.order.anneal_end == 5
    assert (Path(recipe["output"]) / "samples" / "step-00000006.png").is_file()


def test_cells_of_latents_are_learned_by_a_flow(generator_recipe, tmp_path):
    torch.manual_seed(0)
    continuous = visiontok.create("titok", **TITOK | {"quantizer": {"type": "gaussian", "dim": 4}})
    folder = visiontok.save_pretrained(continuous, tmp_path / "vae")
    sizes = {"cells": [2], "dim": 16, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2, "mlp_dim": 32}
    model = {"family": "xar", "config": {**sizes, "sampling": {"steps": 2}}}
    recipe = generator_recipe(tokenizer=str(folder), model=model, steps=3, sample_images={"every": 3, "count": 2})
    train(parse_recipe(recipe), cpu=True)
    assert visiontok.from_pretrained(Path(recipe["output"]) / "final").config.cells == (2,)
    assert (Path(recipe["output"]) / "samples" / "step-00000003.png").is_file()


def test_the_cost_of_a_generator_is_told_per_token(generator_recipe, token_set):
    recipe = parse_recipe(generator_recipe(data={"tokens": str(token_set)}))
    cost = dry_run(recipe, cpu=True)
    assert cost.tokens_per_step == recipe.batch_size * TokenDataset(token_set).layout.length
    assert cost.flops_per_step > 2 * cost.tokens_per_step * cost.parameters / 2, "embeddings are no products, everything else counts three times"
    assert cost.state_bytes >= 3 * 4 * cost.parameters, "weights and two moments"
    assert cost.activation_bytes > 0
    assert cost.memory(1) == cost.state_bytes + cost.gradient_bytes + cost.activation_bytes
    assert cost.memory(4) == cost.state_bytes + cost.gradient_bytes + cost.activation_bytes // 4
    assert 0 <= cost.loader_share <= 1
    assert not Path(recipe.output).exists()


def test_the_cost_tells_what_checkpointing_and_sharding_save(generator_recipe, token_set):
    model = {"family": "gpt", "config": GPT | {"depth": 6, "condition": {"dropout": 0.5}}}
    plain = dry_run(parse_recipe(generator_recipe(data={"tokens": str(token_set)}, model=model)), cpu=True)
    saving = {"parallel": "fsdp", "gradient_checkpointing": True}
    less = dry_run(parse_recipe(generator_recipe(data={"tokens": str(token_set)}, model=model, **saving)), cpu=True)
    assert less.activation_bytes < 0.7 * plain.activation_bytes
    assert less.flops_per_step > plain.flops_per_step
    assert (less.state_bytes, less.gradient_bytes) == (plain.state_bytes, plain.gradient_bytes)
    assert less.memory(4) - less.gathered_bytes == (less.state_bytes + less.gradient_bytes + less.activation_bytes) // 4
    assert less.gathered_bytes < 2 * 4 * less.parameters, "not all blocks at once"
    assert less.facts()["sharded memory"].endswith("processes")
    assert "replicated memory" in plain.facts()


def test_training_tells_whether_it_waits_for_its_batches(generator_recipe, token_set, monkeypatch):
    recipe = generator_recipe(data={"tokens": str(token_set)}, steps=8, logging={"every": 2, "tensorboard": False}, validation=None)
    told = io.StringIO()
    read = TokenDataset.batch

    def slow(dataset, rows):
        time.sleep(0.3)
        return read(dataset, rows)

    monkeypatch.setattr(TokenDataset, "batch", slow)
    train(parse_recipe(recipe), cpu=True, console=Console(file=told))
    shares = [json.loads(line)["loader_share"] for line in (Path(recipe["output"]) / "metrics.jsonl").read_text().splitlines()]
    assert len(shares) == 4
    assert all(0.5 < share < 1 for share in shares)
    assert told.getvalue().count("the bottleneck is data") == 1
