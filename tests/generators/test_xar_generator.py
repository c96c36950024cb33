"""xAR's parts: cells, noisy context, sessions, and training until samples are those of their class."""

from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import ConfigError, NonFiniteError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.generators.condition import Condition
from visiontok.generators.decoding import RisingGuidance
from visiontok.generators.orders import cell_order
from visiontok.generators.xar.model import Xar, XarConfig
from visiontok.tokens import Latents, Segment, TokenLayout
from visiontok.tokens.grid import grid_layout

GRID = grid_layout((4, 6), stride=16, channels=3)
SIZES = {"dim": 32, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2, "mlp_dim": 48, "dropout": 0.0, "attention_dropout": 0.0}


def xar(**changes) -> Xar:
    torch.manual_seed(0)
    config = {"layout": GRID, "cells": (2, 2), "condition": {"type": "classes", "num_classes": 3}, **SIZES, **changes}
    return Xar(XarConfig.parse(config)).eval()


def random_latents(samples: int = 4) -> Latents:
    return Latents(torch.randn(samples, 24, 3, generator=torch.Generator().manual_seed(1)), GRID)


def test_cells_lie_next_to_each_other():
    assert cell_order((2, 4), (1, 2)).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
    assert cell_order((6,), (3,)).tolist() == list(range(6))
    cells = cell_order((4, 4, 4), (2, 2, 2)).view(8, 8)
    assert cells[0].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]
    assert sorted(cells.flatten().tolist()) == list(range(64))


def test_guidance_rises_from_1_to_the_scale():
    assert [RisingGuidance(2.5)(cell, 4) for cell in range(4)] == [1.0, 1.5, 2.0, 2.5]
    assert RisingGuidance(2.5)(0, 1) == 2.5


def test_a_cell_sees_itself_and_those_before_it():
    model, noisy, times = xar(), torch.randn(1, 24, 3), torch.full((1, 4), 0.5)
    vectors = model.class_vectors(Condition(classes=torch.tensor([1])), torch.tensor([False]))
    changed = noisy.clone()
    changed[:, 12:18] += 1  # the third cell
    one, other = model.velocity(noisy, vectors, times), model.velocity(changed, vectors, times)
    differs = (one - other).abs().amax(dim=(0, 2)) > 1e-6
    assert not differs[:12].any()
    assert differs[12:].all()


def test_sessions_give_what_one_pass_gives():
    model, classes = xar(), torch.tensor([0, 2])
    cells, noisy = torch.randn(2, 3, 6, 3), torch.randn(2, 6, 3)
    time = torch.tensor([0.7], dtype=torch.float64)
    times = torch.tensor([[0.0, 0.0, 0.7]])
    expected = [
        model.velocity(
            torch.cat([cells[:, :2].flatten(1, 2), noisy], dim=1), model.class_vectors(Condition(classes=classes), torch.full((2,), dropped)), times
        )[:, 12:]
        for dropped in (False, True)
    ]
    session = model.session(classes, guided=True)
    session.prefill()
    for cell in range(3):
        session.step(cells[:, cell])
    session.rewind(2)
    for _ in range(2):  # asking twice changes nothing
        for found, wanted in zip(session.velocity(noisy, time), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    session.prefill(cells[:, :2])
    assert session.length == 2
    torch.testing.assert_close(session.velocity(noisy, time)[0], expected[0], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="3"):
        session.rewind(3)


@pytest.mark.parametrize("solver", ["euler-maruyama", "euler"])
def test_samples_do_not_depend_on_the_batch(solver):
    model, classes = xar(), torch.arange(5) % 3
    sampler = model.sampler(guidance=2.0, steps=3, solver=solver)
    whole = model.generate(classes, noise=SampleNoise(5, range(5)), sampler=sampler)
    alone = [model.generate(classes[i : i + 1], noise=SampleNoise(5, [i]), sampler=sampler).values for i in range(5)]
    torch.testing.assert_close(whole.validate().values, torch.cat(alone), rtol=0, atol=1e-5)
    assert len(model.generate(num_samples=2, sampler=sampler)) == 2


def test_training_makes_samples_those_of_their_class():
    model = xar(condition={"type": "classes", "num_classes": 2, "dropout": 0.1}).train()
    pattern = torch.randn(24, 3, generator=torch.Generator().manual_seed(3)).sign()
    latents, classes, losses = Latents(torch.stack([pattern, -pattern]).repeat(8, 1, 1), GRID), torch.tensor([0, 1]).repeat(8), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(150):
        optimizer.zero_grad()
        loss = model(latents, classes, noise=SampleNoise((0, step), range(16)))["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.1 * sum(losses[:10])
    generated = model.eval().generate(torch.tensor([1, 0, 1]), noise=SampleNoise(0, range(3)), sampler=model.sampler(steps=10))
    agreement = (generated.values.sign() == torch.stack([-pattern, pattern, -pattern])).float().mean(dim=(1, 2))
    assert (agreement > 0.9).all()


def test_the_loss_does_not_depend_on_how_a_batch_is_divided():
    model, latents, classes = xar().train(), random_latents(), torch.tensor([0, 1, 2, 0])
    whole = model.loss(latents, classes, noise=SampleNoise(7, range(4)))["loss"]
    halves = [model.loss(latents[rows], classes[rows], noise=SampleNoise(7, range(4)[rows]))["loss"] for rows in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole, torch.stack(halves).mean())


def test_other_layouts():
    line = TokenLayout(modality="audio", segments=(Segment(name="latents", shape=(8,), channels=3),), signal_shape=(64,), rate=100.0)
    assert xar(layout=line, cells=(4,)).generate(torch.tensor([0]), sampler=xar(layout=line, cells=(4,)).sampler(steps=2)).values.shape == (1, 8, 3)
    with pytest.raises(ConfigError, match="cells"):
        xar(cells=(3, 2))
    with pytest.raises(ConfigError, match="continuous"):
        xar(layout=grid_layout((4, 6), stride=16, vocab_size=8))
    with pytest.raises(TokenError, match="extents"):
        xar().loss(Latents(torch.zeros(1, 16, 3), GRID.at((4, 4))), torch.tensor([0]))


def test_weights_that_are_not_finite_are_named():
    model = xar()
    with torch.no_grad():
        model.encoder_positions[13] = torch.nan
    with pytest.raises(NonFiniteError, match="encoder_positions"):
        model.generate(torch.tensor([0]), sampler=model.sampler(steps=2))


def test_half_precision_stays_finite():
    model = xar().bfloat16().train()
    loss = model.loss(random_latents(), torch.tensor([0, 1, 2, 0]))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert model.eval().generate(torch.tensor([0]), sampler=model.sampler(steps=2)).values.isfinite().all()
