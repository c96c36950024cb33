import json
from pathlib import Path

import pytest
import torch
import training_children as children

from visiontok.training.checkpoint import list_checkpoints


def curve(folder):
    """Every logged number but throughput, by step."""
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.endswith(("per_second", "loader_share"))} for line in lines]


def assert_same_curve(left, right):
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == pytest.approx(b[name], abs=1e-5), (a["step"], name)


def assert_same_weights(ranks):
    for name, tensor in ranks[0].items():
        assert torch.equal(tensor, ranks[1][name]), name


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_train_a_tokenizer_as_one_does(accumulate, tokenizer_recipe, tmp_path):
    """With a discriminator, a codebook of moving averages, reset of dead codes, random crops and flips; slow enough that rounding swaps no code."""
    options = {"accumulate": accumulate, "optimizer": {"lr": 1e-4}}
    children.run(tokenizer_recipe(output=str(tmp_path / "one"), **options))
    ranks = children.run_ranks(tokenizer_recipe(output=str(tmp_path / "two"), **options), tmp_path / "ranks")
    assert_same_weights(ranks)
    if accumulate == 1:  # a codebook of averages moves once per micro-batch, and there the micro-batches of a step differ
        assert_same_curve(curve(tmp_path / "two"), curve(tmp_path / "one"))


def test_two_processes_draw_the_dropped_classes_that_one_would(generator_recipe, tmp_path):
    """With activations that are kept in one process, and computed again in two."""
    children.run(generator_recipe(output=str(tmp_path / "one")))
    ranks = children.run_ranks(generator_recipe(output=str(tmp_path / "two"), gradient_checkpointing=True), tmp_path / "ranks")
    assert_same_weights(ranks)
    assert_same_curve(curve(tmp_path / "two"), curve(tmp_path / "one"))


def test_micro_batches_draw_the_dropped_classes_that_whole_batches_would(generator_recipe, tmp_path):
    children.run(generator_recipe(output=str(tmp_path / "whole")))
    children.run(generator_recipe(output=str(tmp_path / "micro"), accumulate=4))
    assert_same_curve(curve(tmp_path / "micro"), curve(tmp_path / "whole"))


def test_nan_on_one_process_stops_all_before_the_weights_change(tokenizer_recipe, tmp_path):
    recipe = tokenizer_recipe(checkpoints={"every": 1})
    ranks = children.run_ranks(recipe, tmp_path / "ranks", poison_step=3)
    saved = Path(recipe["output"]) / "checkpoints" / "step-00000003"
    for rank in (0, 1):
        told = (tmp_path / "ranks" / f"error-{rank}.txt").read_text()
        assert told.startswith("TrainingError: step 4: loss term 'reconstruction' is nan")
        assert str(saved) in told
    good = torch.load(saved / "model.pt", weights_only=True)
    trained = [name for name in good if not name.startswith("quantizer.")]  # the codebook's averages move with the forward pass
    assert len(trained) > 10
    for state in ranks:
        assert all(torch.equal(state[name], good[name]) for name in trained)


def test_a_signal_to_one_process_stops_all_after_the_same_step(tokenizer_recipe, tmp_path):
    recipe = tokenizer_recipe(steps=500, checkpoints={"every": 1000})
    metrics = Path(recipe["output"]) / "metrics.jsonl"
    ranks = children.run_ranks(recipe, tmp_path / "ranks", stop_rank=1, stop_when=lambda: metrics.exists() and metrics.read_text().count("\n") >= 2)
    (saved,) = list_checkpoints(Path(recipe["output"]) / "checkpoints")
    assert_same_weights(ranks)
    kept = torch.load(saved / "model.pt", weights_only=True)
    assert all(torch.equal(kept[name], tensor) for name, tensor in ranks[0].items())


def test_a_resumed_pair_goes_on_like_an_uninterrupted_one(tokenizer_recipe, tmp_path):
    common = {"schedule": {"steps": 8}}
    whole = children.run_ranks(tokenizer_recipe(output=str(tmp_path / "whole"), **common), tmp_path / "a")
    children.run_ranks(tokenizer_recipe(output=str(tmp_path / "parts"), steps=5, **common), tmp_path / "b")
    resumed = children.run_ranks(tokenizer_recipe(output=str(tmp_path / "parts"), **common), tmp_path / "c")
    for name, tensor in whole[0].items():
        assert torch.equal(resumed[0][name], tensor), name


def test_losses_over_varying_numbers_of_positions_do_not_depend_on_the_division_of_a_batch(generator_recipe, tmp_path):
    """Of a masked generator, whose samples differ in the number of masked positions."""
    backbone = {"type": "bert", "dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32, "dropout": 0.0, "attention_dropout": 0.0}
    model = {"family": "maskgit", "config": {"backbone": backbone, "unmasked_weight": 0.0, "label_smoothing": 0.0}}
    children.run(generator_recipe(output=str(tmp_path / "whole"), model=model))
    children.run(generator_recipe(output=str(tmp_path / "micro"), model=model, accumulate=4))
    children.run_ranks(generator_recipe(output=str(tmp_path / "two"), model=model), tmp_path / "ranks")
    assert_same_curve(curve(tmp_path / "micro"), curve(tmp_path / "whole"))
    assert_same_curve(curve(tmp_path / "two"), curve(tmp_path / "whole"))
