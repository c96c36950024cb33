"""Blocks that are computed again in the backward pass instead of kept, in every kind of backbone and head."""

import copy

import pytest
import torch
from torch import nn

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.base.memory import peak_bytes
from visiontok.base.noise import SampleNoise
from visiontok.layers.block import blocks, recompute_activations
from visiontok.tokens import Latents, Tokens
from visiontok.tokens.grid import grid_layout

CODES = grid_layout((4, 4), stride=8, vocab_size=5)
PAIRS = grid_layout((4, 4), stride=8, vocab_size=(5, 5))
LATENTS = grid_layout((4, 4), stride=8, channels=3)
SIZES = {"dim": 32, "depth": 6, "num_heads": 2}
MAE = {"encoder": SIZES, "decoder": SIZES, "buffer_size": 4, "dropout": 0.2, "attention_dropout": 0.2}
GPT = {**SIZES, "residual_dropout": 0.2, "ffn_dropout": 0.2, "attention_dropout": 0.2}
MLP = {"mlp_dim": 64, "dropout": 0.2, "attention_dropout": 0.2}
GENERATORS = {
    "gpt": ("gpt", CODES, GPT),
    "gpt, modulated": ("gpt", CODES, {**GPT, "is_modulated": True}),
    "gpt, inner head": ("gpt", PAIRS, {**GPT, "pattern": "parallel", "inner_head": {"depth": 2}}),
    "gpt, flow": ("gpt", LATENTS, {**GPT, "flow_head": {"dim": 16, "depth": 2}}),
    "gpt, diffusion": ("gpt", LATENTS, {**GPT, "diffusion_head": {"dim": 16, "depth": 2}}),
    "maskgit, bert": ("maskgit", CODES, {"backbone": {"type": "bert", **SIZES, **MLP}}),
    "maskgit, uvit": ("maskgit", CODES, {"backbone": {"type": "uvit", **SIZES, "mlp_dim": 64}}),
    "maskgit, llama": ("maskgit", CODES, {"backbone": {"type": "llama", **GPT}}),
    "rar": ("rar", CODES, {**SIZES, **MLP}),
    "xar": ("xar", LATENTS, {"cells": [2, 2], "dim": 32, "encoder_depth": 3, "decoder_depth": 3, "num_heads": 2, **MLP}),
    "mar": ("mar", LATENTS, {"backbone": MAE, "head": {"dim": 16, "depth": 2}}),
    "tokenbridge-ar": ("tokenbridge-ar", PAIRS, {"backbone": MAE, "head": SIZES, "code_values": {"levels": 5}}),
}


def pair(name):
    """A generator in training mode whose weights are all random, its double that computes its blocks again, and a batch."""
    family, layout, config = GENERATORS[name]
    torch.manual_seed(0)
    kept = visiontok.create(family, layout=layout.to_dict(), condition={"type": "classes", "num_classes": 3, "dropout": 0.3}, **config).train()
    with torch.no_grad():
        for parameter in kept.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    again = copy.deepcopy(kept)
    recompute_activations(again)
    shape = (8, layout.length)
    batch = Latents(torch.randn(*shape, 3), layout) if layout.is_continuous else Tokens(torch.randint(5, shape), layout)
    return kept, again, batch


def step(model, batch, *, precision=torch.float32):
    """The loss of a step, which leaves gradients."""
    torch.manual_seed(7)
    with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
        loss = model(batch, torch.arange(8) % 3, step=5, noise=SampleNoise(1, range(8)))["loss"]
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", GENERATORS)
def test_losses_and_gradients_are_the_same_with_dropout_and_autocast(name, precision):
    kept, again, batch = pair(name)
    assert torch.equal(step(kept, batch, precision=precision), step(again, batch, precision=precision))
    for (parameter_name, left), right in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert (left.grad is None) == (right.grad is None), parameter_name
        assert left.grad is None or torch.equal(left.grad, right.grad), parameter_name


@pytest.mark.parametrize("name", GENERATORS)
def test_a_step_takes_less_memory(name):
    kept, again, batch = pair(name)
    gradients = 4 * kept.num_parameters
    ours, theirs = (peak_bytes(lambda model=model: step(model, batch)) for model in (again, kept))
    assert ours < theirs
    assert max(ours - gradients, 0) < 0.7 * (theirs - gradients), "activations of 6 blocks, of which one at a time is needed"


@pytest.mark.parametrize("name", ["gpt", "mar"])
def test_states_evaluation_and_samples_are_the_same(name):
    kept, again, batch = pair(name)
    assert kept.state_dict().keys() == again.state_dict().keys()
    kept.eval(), again.eval()
    assert torch.equal(step(kept, batch), step(again, batch))
    sampler = {"num_steps": 2, "diffusion_steps": "ddim2"} if name == "mar" else {}
    first, second = (
        model.generate(torch.arange(2), noise=SampleNoise(0, range(2)), sampler=model.sampler(**sampler)).data for model in (kept, again)
    )
    assert torch.equal(first, second)


def test_models_without_blocks_are_refused():
    assert blocks(nn.Linear(2, 2)) == []
    with pytest.raises(ConfigError, match="Linear"):
        recompute_activations(nn.Linear(2, 2))
