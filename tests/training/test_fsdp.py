"""Sharded training of generators in two processes, against one process that holds everything."""

import importlib
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import training_children as children
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from test_processes import assert_same_curve, curve
from test_resume import assert_equal, final_state
from training_recipes import GPT

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.training import parse_recipe, train
from visiontok.training.checkpoint import list_checkpoints
from visiontok.training.sharding import check_can_shard

shards_here = pytest.mark.skipif(not hasattr(torch.cpu.Stream, "record_event"), reason="this torch shards on accelerators only")

DEEP = GPT | {"depth": 3, "condition": {"dropout": 0.5}}


def exported(folder):
    return load_file(Path(folder) / "final" / "model.safetensors")


def assert_close(left, right, *, atol):
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.allclose(tensor, right[name], rtol=0, atol=atol), (name, (tensor - right[name]).abs().max())


@shards_here
@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "gradient_checkpointing": True}], ids=str)
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


BERT = {"type": "bert", "dim": 16, "depth": 2, "num_heads": 2, "mlp_dim": 32, "dropout": 0.0, "attention_dropout": 0.0}


@shards_here
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_every_backbone_and_head_can_be_sharded(precision, tmp_path):
    """With gradient checkpointing: losses and gradients of a step."""
    port = children.free_port()
    ranks = [children.start(children.shard_every_generator, precision, rank, 2, port, tmp_path) for rank in (0, 1)]
    for rank in ranks:
        rank.join(300)
        assert rank.exitcode == 0
    for rank in (0, 1):
        for name, (loss, gradients) in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            assert loss < (5e-2 if precision == "bf16" else 1e-5), name
            assert gradients < (0.2 if precision == "bf16" else 1e-4), name


@shards_here
def test_losses_over_varying_numbers_of_positions_do_not_depend_on_the_sharding(generator_recipe, tmp_path):
    """Of a masked generator, whose samples differ in the number of masked positions."""
    config = {"backbone": BERT, "unmasked_weight": 0.0, "label_smoothing": 0.0}
    options = {"model": {"family": "maskgit", "config": config}}
    children.run(generator_recipe(output=str(tmp_path / "one"), **options))
    children.run_ranks(generator_recipe(output=str(tmp_path / "two"), parallel="fsdp", **options), tmp_path / "ranks")
    assert_same_curve(curve(tmp_path / "two"), curve(tmp_path / "one"))
    assert_close(exported(tmp_path / "two"), exported(tmp_path / "one"), atol=1e-4)


@shards_here
def test_half_precision_is_that_of_an_unsharded_run(generator_recipe, tmp_path):
    """Weights are gathered as bfloat16 and averaged as float32: the losses differ by what bfloat16 rounds."""
    options = {"model": {"family": "gpt", "config": DEEP}, "precision": "bf16"}
    children.run(generator_recipe(output=str(tmp_path / "one"), **options))
    children.run_ranks(generator_recipe(output=str(tmp_path / "two"), parallel="fsdp", **options), tmp_path / "ranks")
    for left, right in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=0.02)
    assert all(tensor.dtype == torch.float32 for tensor in exported(tmp_path / "two").values())


@shards_here
def test_a_sharded_run_that_is_killed_and_resumed_ends_with_the_same_weights_bit_for_bit(generator_recipe, tmp_path):
    """Every kill hits both processes at once, some while a checkpoint is written."""
    options = {"model": {"family": "gpt", "config": DEEP}, "parallel": "fsdp", "steps": 10, "checkpoints": {"every": 1}}
    children.run_ranks(generator_recipe(output=str(tmp_path / "whole"), **options), tmp_path / "ranks")

    recipe, checkpoints, moments, kills = (
        generator_recipe(output=str(tmp_path / "killed"), **options),
        tmp_path / "killed" / "checkpoints",
        random.Random(3),
        0,
    )
    for _ in range(2):
        reached, port = len(list_checkpoints(checkpoints)) and list_checkpoints(checkpoints)[-1].name, children.free_port()
        folder = tmp_path / f"killed-{kills}"
        folder.mkdir()
        ranks = [children.start(children.run_rank, recipe, rank, 2, port, folder, None) for rank in (0, 1)]
        while not any(found.name > (reached or "") for found in list_checkpoints(checkpoints)):
            assert all(rank.exitcode is None for rank in ranks)
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        for rank in ranks:
            if rank.exitcode is None:
                os.kill(rank.pid, signal.SIGKILL)
                kills += 1
            rank.join()
    children.run_ranks(recipe, tmp_path / "last")
    assert kills >= 2
    assert_equal(final_state(tmp_path / "killed"), final_state(tmp_path / "whole"))


@shards_here
def test_a_run_goes_on_sharded_or_not(generator_recipe, tmp_path):
    options = {"model": {"family": "gpt", "config": DEEP}, "schedule": {"steps": 6}}
    children.run(generator_recipe(output=str(tmp_path / "whole"), **options))
    children.run(generator_recipe(output=str(tmp_path / "run"), **options, steps=2))
    children.run_ranks(generator_recipe(output=str(tmp_path / "run"), **options, steps=4, parallel="fsdp"), tmp_path / "ranks")
    children.run(generator_recipe(output=str(tmp_path / "run"), **options, gradient_checkpointing=True))
    training = [{name: value for name, value in line.items() if not name.startswith("validation")} for line in curve(tmp_path / "run")]
    assert_same_curve(training, [{name: value for name, value in line.items() if name in training[0]} for line in curve(tmp_path / "whole")])
    assert_close(exported(tmp_path / "run"), exported(tmp_path / "whole"), atol=1e-4)


@shards_here
def test_frozen_parts_stay_as_they_are(generator_recipe, tmp_path):
    options = {"model": {"family": "gpt", "config": DEEP, "freeze": ["backbone.blocks.0", "condition"]}, "ema": None, "steps": 3}
    children.run(generator_recipe(output=str(tmp_path / "one"), **options))
    children.run_ranks(generator_recipe(output=str(tmp_path / "two"), parallel="fsdp", **options), tmp_path / "ranks")
    assert_close(exported(tmp_path / "two"), exported(tmp_path / "one"), atol=1e-4)
    for name, tensor in exported(tmp_path / "two").items():
        if name.startswith(("backbone.blocks.0.", "condition.")):
            assert torch.equal(tensor, exported(tmp_path / "one")[name])


@shards_here
def test_nan_on_one_process_stops_all_before_the_weights_change(generator_recipe, tmp_path):
    recipe = generator_recipe(model={"family": "gpt", "config": DEEP}, parallel="fsdp", checkpoints={"every": 1})
    children.run_ranks(recipe, tmp_path / "ranks", poison_step=3)
    for rank in (0, 1):
        assert (tmp_path / "ranks" / f"error-{rank}.txt").read_text().startswith("TrainingError: step 4: loss term 'loss' is nan")
    saved = torch.load(Path(recipe["output"]) / "checkpoints" / "step-00000003" / "model.pt", weights_only=True)
    left = torch.load(tmp_path / "ranks" / "0.pt", weights_only=True)
    assert all(torch.equal(left[name], tensor) for name, tensor in saved.items())


def test_one_process_has_nothing_to_shard(generator_recipe, tmp_path):
    children.run(generator_recipe(output=str(tmp_path / "ddp")))
    children.run(generator_recipe(output=str(tmp_path / "fsdp"), parallel="fsdp"))
    assert_equal(final_state(tmp_path / "fsdp"), final_state(tmp_path / "ddp"))


def test_what_cannot_be_sharded_is_refused_before_anything_is_read(tokenizer_recipe, generator_recipe):
    with pytest.raises(ConfigError, match=r"parallel=fsdp.*parallel=ddp"):
        parse_recipe(tokenizer_recipe(parallel="fsdp"))
    with pytest.raises(ConfigError, match=r"fp16.*bf16"):
        parse_recipe(generator_recipe(parallel="fsdp", precision="fp16"))
    with pytest.raises(ConfigError, match="parallel"):
        parse_recipe(generator_recipe(parallel="zero3"))


def test_a_torch_that_cannot_shard_on_cpus_says_so(monkeypatch):
    monkeypatch.setattr(torch.cpu, "Stream", object)
    with pytest.raises(ConfigError, match=r"parallel=fsdp.*parallel=ddp"):
        check_can_shard(Accelerator(cpu=True))


def test_sharding_by_the_launcher_is_refused(generator_recipe, monkeypatch):
    launched = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED, scaler=None, device=torch.device("cpu"))
    monkeypatch.setattr(importlib.import_module("visiontok.training.train"), "Accelerator", lambda **options: launched)
    with pytest.raises(ConfigError, match=r"DEEPSPEED.*parallel=fsdp"):
        train(parse_recipe(generator_recipe()), cpu=True)
