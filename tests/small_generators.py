"""A small generator of every backbone and head, in training mode with dropout, and a batch for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import visiontok
from visiontok.base.noise import SampleNoise
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
    "gpt, GPT-2's blocks": ("gpt", CODES, {**GPT, "block": "gpt2", "positions": "learned"}),
    "gpt, inner head": ("gpt", PAIRS, {**GPT, "pattern": "parallel", "inner_head": {"depth": 2}}),
    "gpt, flow": ("gpt", LATENTS, {**GPT, "flow_head": {"dim": 16, "depth": 2}}),
    "gpt, diffusion": ("gpt", LATENTS, {**GPT, "diffusion_head": {"dim": 16, "depth": 2}}),
    "gpt, mixture": ("gpt", LATENTS, {**GPT, "mixture_head": {"num_components": 2}}),
    "maskgit, bert": ("maskgit", CODES, {"backbone": {"type": "bert", **SIZES, **MLP}}),
    "maskgit, uvit": ("maskgit", CODES, {"backbone": {"type": "uvit", **SIZES, "mlp_dim": 64}}),
    "maskgit, GPT-2's blocks": ("maskgit", CODES, {"backbone": {"type": "llama", **GPT, "block": "gpt2"}}),
    "maskgit, llama": ("maskgit", CODES, {"backbone": {"type": "llama", **GPT}}),
    "rar": ("rar", CODES, {**SIZES, **MLP}),
    "xar": ("xar", LATENTS, {"cells": [2, 2], "dim": 32, "encoder_depth": 3, "decoder_depth": 3, "num_heads": 2, **MLP}),
    "mar": ("mar", LATENTS, {"backbone": MAE, "head": {"dim": 16, "depth": 2}}),
    "tokenbridge-ar": ("tokenbridge-ar", PAIRS, {"backbone": MAE, "head": SIZES, "code_values": {"levels": 5}}),
}


def small_generator(name: str) -> tuple[Any, Latents | Tokens]:
    """The generator, whose weights are all random, and eight samples."""
    family, layout, config = GENERATORS[name]
    torch.manual_seed(0)
    model = visiontok.create(family, layout=layout.to_dict(), condition={"type": "classes", "num_classes": 3, "dropout": 0.3}, **config).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    shape = (8, layout.length)
    return model, Latents(torch.randn(*shape, 3), layout) if layout.is_continuous else Tokens(torch.randint(5, shape), layout)


def training_step(model: Any, batch: Latents | Tokens, precision: torch.dtype = torch.float32) -> Tensor:
    """The loss of a step, which leaves gradients."""
    torch.manual_seed(7)
    with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
        loss = model(batch, torch.arange(8) % 3, step=5, noise=SampleNoise(1, range(8)))["loss"]
    loss.backward()
    return loss.detach()
