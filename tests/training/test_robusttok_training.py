"""RobustTok's training: DINOv2's weights in both ViTs, the semantic loss, a discriminator on DINO's features, and the adaptive weight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import training_children as children
from dino_files import SIZES, published_weights, save_dino, save_dinov2
from test_processes import assert_same_curve, assert_same_weights, curve
from test_resume import assert_equal, final_state

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.training.checkpoint import TrainingCheckpoint
from visiontok.training.starting_model import ModelConfig, starting_model

ROBUSTTOK = {
    "image_size": 16,
    "encoder": SIZES,
    "decoder": SIZES,
    "grid_side": 2,
    "drop_path": 0.0,
    "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4, "normalize_latents": True, "normalize_codes": True},
}


@pytest.fixture
def robusttok_recipe(tokenizer_recipe, tmp_path):
    """A function: the published training at a small size, with changes to it; `gan` changes the adversarial part."""
    dino, dinov2 = save_dino(tmp_path / "dino.pth"), save_dinov2(tmp_path / "dinov2.pth", patch_size=7, grid_side=5)
    teacher = {"weights": str(dinov2), "backbone": SIZES, "image_size": 32}
    dino_discriminator = {"type": "dino", "weights": str(dino), "backbone": SIZES, "image_size": 32, "blocks": [0, 1], "kernel_size": 3}

    def make(*, gan=None, **changes):
        adversarial = {
            "weight": 0.5,
            "adaptive": {"last_layer": "decoder.to_pixels.weight"},
            "start_step": 2,
            "lecam": "logits",
            "augmentation": {},
            "discriminator": dino_discriminator,
        }
        objective = {
            "name": "reconstruction",
            "semantic": {"weight": 0.1, "projection": "encoder.to_latents", "teacher": teacher, "normalize": True},
            "gan": adversarial | (gan or {}),
        }
        model = {"family": "robusttok", "config": ROBUSTTOK, "init_backbone": str(dinov2)}
        return tokenizer_recipe(**({"accumulate": 1, "model": model, "objective": objective} | changes))

    return make


def test_it_trains_and_resumes_bit_for_bit_without_keeping_frozen_networks(robusttok_recipe, tmp_path):
    common = {"schedule": {"steps": 6}}
    children.run(robusttok_recipe(output=str(tmp_path / "whole"), steps=6, **common))
    children.run(robusttok_recipe(output=str(tmp_path / "parts"), steps=4, **common))
    children.run(robusttok_recipe(output=str(tmp_path / "parts"), steps=6, **common))
    assert_equal(final_state(tmp_path / "parts"), final_state(tmp_path / "whole"))

    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all("semantic" in line for line in lines)
    assert ["gan_adaptive_weight" in line for line in lines] == [False, False, True, True, True, True]
    state = TrainingCheckpoint.open(tmp_path / "whole" / "checkpoints" / "step-00000006").load()["objective"]
    assert any("heads" in name for name in state)
    assert not any(name.startswith(("discriminator.backbone", "semantic.teacher")) for name in state)
    assert visiontok.from_pretrained(tmp_path / "whole" / "final").config.grid_side == 2


def test_two_processes_train_as_one_does(robusttok_recipe, tmp_path):
    """The adaptive weight is that of the whole batch, and the semantic loss compares the samples of both."""
    discriminator = {"type": "blur_pool", "hidden_channels": 32, "num_stages": 1}
    options = {"gan": {"augmentation": None, "discriminator": discriminator}, "optimizer": {"lr": 1e-4}, "steps": 5}
    children.run(robusttok_recipe(output=str(tmp_path / "one"), **options))
    ranks = children.run_ranks(robusttok_recipe(output=str(tmp_path / "two"), **options), tmp_path / "ranks")
    assert_same_weights(ranks)
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert all("semantic" in line for line in one)
    assert_same_curve(two, one)


def test_both_vits_start_from_the_file(tmp_path):
    weights = published_weights(layer_scale=True, patch_size=8, grid_side=2)
    torch.save(weights, tmp_path / "dinov2.pth")
    model = starting_model(ModelConfig(family="robusttok", config=ROBUSTTOK, init_backbone=tmp_path / "dinov2.pth"), kind="tokenizer")
    for net in (model.encoder, model.decoder):
        assert torch.equal(net.trunk.positions, weights["pos_embed"][0])
        assert torch.equal(net.trunk.blocks[1].mlp.fc1.weight, weights["blocks.1.mlp.fc1.weight"])
        assert torch.equal(net.trunk.blocks[0].scale1, weights["blocks.0.ls1.gamma"])
    assert torch.equal(model.encoder.patch_embed.weight, weights["patch_embed.proj.weight"])


def test_a_backbone_that_is_missing_of_other_sizes_or_unused_is_an_error(tmp_path):
    def start(path: Path, family: str = "robusttok", **config):
        return starting_model(ModelConfig(family=family, config=config, init_backbone=path), kind="tokenizer")

    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        start(tmp_path / "absent.pth", **ROBUSTTOK)
    with pytest.raises(CheckpointError, match=r"patch_embed\.bias is \(24,\)"):
        start(save_dinov2(tmp_path / "wide.pth", dim=24), **ROBUSTTOK)
    with pytest.raises(CheckpointError, match="scale1"):
        start(save_dino(tmp_path / "dino.pth"), **ROBUSTTOK)
    net = {"channels": 32, "channel_mult": [1, 2]}
    with pytest.raises(ConfigError, match="llamagen-vq"):
        start(tmp_path / "wide.pth", "llamagen-vq", image_size=16, encoder=net, decoder=net)
