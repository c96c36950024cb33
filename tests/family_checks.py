"""What holds for every family: files, training, another precision, the authors' configurations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import visiontok
from visiontok.core.tokenizer import Tokenizer
from visiontok.generators.base import Generator
from visiontok.losses import ReconstructionConfig
from visiontok.losses.objectives import Objective
from visiontok.training import parse_recipe, train


def assert_round_trips(tokenizer: Tokenizer[Any], images: Tensor, folder: Path) -> None:
    """The configuration is what it was after a trip through plain values, and so are the weights after one through files."""
    assert type(tokenizer.config).parse(tokenizer.config.to_dict()) == tokenizer.config
    visiontok.save_pretrained(tokenizer, folder / "model")
    loaded = visiontok.from_pretrained(folder / "model")
    assert torch.equal(loaded.decode(loaded.encode(images)), tokenizer.decode(tokenizer.encode(images)))


def assert_bfloat16_is_close(tokenizer: Tokenizer[Any], same: Tokenizer[Any], images: Tensor) -> None:
    """In bfloat16 (`same` becomes so) there are as many tokens, and the same tokens give nearly the same image."""
    tokens = tokenizer.encode(images)
    half = same.to(torch.bfloat16)
    assert half.encode(images).data.shape == tokens.data.shape
    assert (half.decode(tokens).float() - tokenizer.decode(tokens)).abs().max() < 0.1


def trained_generator(folder: Path, tokenizer: Path, signals: Mapping[str, Any], model: Mapping[str, Any]) -> Generator[Any]:
    """What two steps by a recipe make of a generator on the tokens of a saved tokenizer.

    Args:
        folder: output of the recipe.
        tokenizer: folder of the tokenizer.
        signals: the recipe's data.
        model: its family and configuration.
    """
    data = {"data": {"signals": signals}, "tokenizer": str(tokenizer)}
    train(parse_recipe({"kind": "generator", "steps": 2, "batch_size": 4, "output": str(folder), "model": model, **data}))
    return visiontok.from_pretrained(folder)


def fit(parameters: Iterable[nn.Parameter], loss: Callable[[int], Tensor], *, steps: int, lr: float) -> list[float]:
    """The loss of every step, as `loss` gives it for the step's number."""
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    losses = []
    for step in range(steps):
        found = loss(step)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        losses.append(found.item())
    return losses


def posterior_loss(tokenizer: Tokenizer[Any], images: Tensor) -> Tensor:
    """Squared error and the weighted term of the posterior."""
    output = tokenizer(images)
    assert output.reconstruction is not None
    return (output.reconstruction - images).square().mean() + output.losses["kl"]


def assert_learns_colors(tokenizer: Tokenizer[Any], colors: Tensor, *, objective: Objective | None = None, steps: int = 30) -> dict[str, Tensor]:
    """Training halves the error of images of few colors; gives the last step's `stats`."""
    objective = objective or ReconstructionConfig().build()
    distances, stats = [], {}

    def loss(step: int) -> Tensor:
        output = tokenizer(colors)
        assert output.reconstruction is not None
        terms = objective.generator_terms(output.reconstruction, colors, output.losses, step=step)
        distances.append(terms["reconstruction"].item())
        stats.clear()
        stats.update(output.stats)
        return torch.stack([*terms.values()]).sum()

    fit(tokenizer.parameters(), loss, steps=steps, lr=3e-3)
    assert min(distances[-5:]) < distances[0] / 2
    return stats


def changed(config: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """A nested configuration with another value under a path of keys, parted by slashes; None removes the last key."""
    tree = copy.deepcopy(dict(config))
    *parents, last = path.split("/")
    node = tree
    for part in parents:
        node = node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return tree
