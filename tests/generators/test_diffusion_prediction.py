"""Noise and velocity as what a diffusion head predicts: they stand for the same latents, and differ in how rounding spreads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.noise import GeneratorNoise
from visiontok.generators.heads.diffusion import DiffusionHead, DiffusionHeadConfig
from visiontok.generators.heads.diffusion_prediction import PREDICTIONS
from visiontok.generators.heads.diffusion_schedule import cosine_schedule, respaced_cosine_schedule

SCHEDULE = cosine_schedule(1000)
EPSILON, VELOCITY = PREDICTIONS["epsilon"], PREDICTIONS["v"]


def drawn(count: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Latents and noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 8, generator=generator), torch.randn(count, 8, generator=generator)


def head(prediction: str, **changes) -> DiffusionHead:
    torch.manual_seed(0)
    return DiffusionHead(DiffusionHeadConfig(dim=32, depth=2, prediction=prediction, **changes), dim=16, channels=4)


@pytest.mark.parametrize("step", [0, 1, 300, 700, 950])
def test_all_parameterizations_stand_for_the_same_latent(step):
    latents, noise = drawn()
    steps = torch.full((64,), step)
    x, signal, noisiness = SCHEDULE.noisy(latents, noise, steps), SCHEDULE.at("signal", steps), SCHEDULE.at("noise", steps)
    v = VELOCITY.target(SCHEDULE, latents, noise, steps)
    torch.testing.assert_close(VELOCITY.denoised(SCHEDULE, x, v, steps), latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(EPSILON.denoised(SCHEDULE, x, noise, steps), latents, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(noisiness * x + signal * v, noise, rtol=1e-4, atol=1e-5)


def test_the_loss_of_v_is_that_of_the_noise_over_the_remaining_signal():
    latents, noise = drawn()
    steps = torch.randint(0, 900, (64,), generator=torch.Generator().manual_seed(1))
    x, error = SCHEDULE.noisy(latents, noise, steps), 0.1 * drawn(seed=2)[0]
    predicted = VELOCITY.target(SCHEDULE, latents, noise, steps) + error
    as_noise = SCHEDULE.at("noise", steps) * x + SCHEDULE.at("signal", steps) * predicted
    torch.testing.assert_close((as_noise - noise).square(), SCHEDULE.at("alphas_bar", steps) * error.square(), rtol=1e-3, atol=1e-5)


def test_a_noiseless_step_turns_by_an_angle():
    """DDIM's step in MMAR's form, x' = cos(phi - phi') x - sin(phi - phi') v with cos(phi) = sqrt(abar)."""
    latents, noise = drawn()
    schedule = respaced_cosine_schedule(1000, "20")
    for step in range(1, 20):
        steps, before = torch.full((64,), step), torch.full((64,), step - 1)
        x, v = schedule.noisy(latents, noise, steps), VELOCITY.target(schedule, latents, noise, steps)
        angle = (schedule.signal.arccos()[step] - schedule.signal.arccos()[step - 1]).float()
        denoised, remaining = VELOCITY.denoised(schedule, x, v, steps), schedule.at("noise", steps) * x + schedule.at("signal", steps) * v
        ddim = schedule.at("signal", before) * denoised + schedule.at("noise", before) * remaining
        torch.testing.assert_close(angle.cos() * x - angle.sin() * v, ddim, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", [500, 800, 950, 990])
def test_rounding_spreads_less_from_v(step):
    """Of a step of ancestral sampling, with the exact prediction rounded to bfloat16."""
    latents, noise = drawn(4096)
    steps = torch.full((4096,), step)
    x = SCHEDULE.noisy(latents, noise, steps)
    exact = SCHEDULE.posterior_mean(latents, x, steps)

    def error(prediction) -> float:
        rounded = prediction.target(SCHEDULE, latents, noise, steps).bfloat16().float()
        return (SCHEDULE.posterior_mean(prediction.denoised(SCHEDULE, x, rounded, steps), x, steps) - exact).square().mean().sqrt().item()

    expected = SCHEDULE.signal[step].item()  # the ratio of their factors, sqrt(abar)
    assert error(VELOCITY) < error(EPSILON)
    assert error(VELOCITY) / error(EPSILON) == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_everything_but_the_network_is_computed_in_float32_under_autocast(prediction):
    model, generator = head(prediction), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    hidden, latents = torch.randn(3, 5, 16, generator=generator), torch.randn(3, 5, 4, generator=generator)
    seen: list[Tensor] = []
    model.embed.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))

    def noise() -> GeneratorNoise:
        return GeneratorNoise(torch.Generator().manual_seed(1), torch.device("cpu"))

    def results() -> tuple[Tensor, Tensor]:
        errors = model.loss(hidden, latents, torch.ones(3, 5, dtype=torch.bool), noise())
        with torch.no_grad():
            return errors, model.sample(hidden, None, noise(), steps=5, guidance=1.0, temperature=1.0)

    exact, exact_sample = results()
    inputs = list(seen)
    with torch.autocast("cpu", torch.bfloat16):
        errors, sample = results()
    assert errors.dtype == sample.dtype == torch.float32
    assert torch.equal(seen[len(inputs)], inputs[0]), "noisy latents are the same to the last bit"
    torch.testing.assert_close(errors, exact, rtol=0.1, atol=0.1)
    assert (sample - exact_sample).abs().max() > 0


def test_a_head_that_predicts_v_learns_a_distribution():
    model = head("v", num_timesteps=100)
    generator = torch.Generator().manual_seed(0)
    modes = torch.tensor([[2.0, -1.0, 0.5, 0.0], [-1.0, 1.5, 0.0, 2.0]])
    hidden = torch.nn.functional.one_hot(torch.arange(64) % 2, 16).float()[:, None]
    latents = modes[torch.arange(64) % 2][:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    noise, held = GeneratorNoise(generator, torch.device("cpu")), torch.ones(64, 1, dtype=torch.bool)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.loss(hidden, latents, held, noise).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    with torch.no_grad():
        found = model.sample(hidden, hidden.flip(0), noise, steps=20, guidance=1.0, temperature=1.0)
    assert (found - latents).abs().mean() < 0.3
    assert (found.mean(dim=0) - latents.mean(dim=0)).abs().max() < 0.3


def test_other_parameterizations_are_refused():
    with pytest.raises(ConfigError, match="prediction"):
        DiffusionHeadConfig.parse({"prediction": "x"})
