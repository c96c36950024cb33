"""Blocks that are computed again in the backward pass instead of kept, in every kind of backbone and head."""

import copy

import pytest
import torch
from small_generators import GENERATORS, small_generator, training_step
from torch import nn

from visiontok.base.errors import ConfigError
from visiontok.base.memory import peak_bytes
from visiontok.base.noise import SampleNoise
from visiontok.layers.block import blocks, recompute_activations


def pair(name):
    """A generator in training mode, its double that computes its blocks again, and a batch."""
    kept, batch = small_generator(name)
    again = copy.deepcopy(kept)
    recompute_activations(again)
    return kept, again, batch


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", GENERATORS)
def test_losses_and_gradients_are_the_same_with_dropout_and_autocast(name, precision):
    kept, again, batch = pair(name)
    assert torch.equal(training_step(kept, batch, precision), training_step(again, batch, precision))
    for (parameter_name, left), right in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert (left.grad is None) == (right.grad is None), parameter_name
        assert left.grad is None or torch.equal(left.grad, right.grad), parameter_name


@pytest.mark.parametrize("name", GENERATORS)
def test_a_step_takes_less_memory(name):
    kept, again, batch = pair(name)
    gradients = 4 * kept.num_parameters
    ours, theirs = (peak_bytes(lambda model=model: training_step(model, batch)) for model in (again, kept))
    assert ours < theirs
    assert max(ours - gradients, 0) < 0.7 * (theirs - gradients), "activations of 6 blocks, of which one at a time is needed"


@pytest.mark.parametrize("name", ["gpt", "mar"])
def test_states_evaluation_and_samples_are_the_same(name):
    kept, again, batch = pair(name)
    assert kept.state_dict().keys() == again.state_dict().keys()
    kept.eval(), again.eval()
    assert torch.equal(training_step(kept, batch), training_step(again, batch))
    sampler = {"num_steps": 2, "diffusion_steps": "ddim2"} if name == "mar" else {}
    first, second = (
        model.generate(torch.arange(2), noise=SampleNoise(0, range(2)), sampler=model.sampler(**sampler)).data for model in (kept, again)
    )
    assert torch.equal(first, second)


def test_models_without_blocks_are_refused():
    assert blocks(nn.Linear(2, 2)) == []
    with pytest.raises(ConfigError, match="Linear"):
        recompute_activations(nn.Linear(2, 2))
