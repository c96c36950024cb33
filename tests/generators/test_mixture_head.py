from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.base.noise import SampleNoise
from visiontok.generators.heads import GaussianMixture, MixtureHead, MixtureHeadConfig
from visiontok.tokens import Latents
from visiontok.tokens.grid import grid_layout

LAYOUT = grid_layout((2, 2), stride=8, channels=3)
CLASSES = {"type": "classes", "num_classes": 3, "dropout": 0.0}
SIZES = {"dim": 32, "depth": 1, "num_heads": 2, "multiple_of": 8, "token_dropout": 0.0, "condition": CLASSES}


def mixture(*shape: int, components: int = 4, channels: int = 3) -> GaussianMixture:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(*shape, 2 * components * channels + components, generator=generator)
    return GaussianMixture.of(numbers, num_components=components, channels=channels)


def test_the_density_is_that_of_torch() -> None:
    ours, latents = mixture(2, 5), torch.randn(2, 5, 3)
    normals = Independent(Normal(ours.means, ours.variances.sqrt()), 1)
    theirs = MixtureSameFamily(Categorical(logits=ours.logits), normals)
    torch.testing.assert_close(ours.log_density(latents), theirs.log_prob(latents))
    torch.testing.assert_close(ours.mean(), theirs.mean)


def test_small_variances_are_bounded() -> None:
    assert float(GaussianMixture.of(torch.full((7,), -99.0), num_components=1, channels=3).variances.min()) == pytest.approx(1e-5)


def test_samples_have_the_moments_of_the_mixture() -> None:
    one, count = mixture(), 40_000
    many = GaussianMixture(*(part.expand(count, *part.shape) for part in (one.means, one.variances, one.logits)))
    weights = one.logits.softmax(-1)[:, None]
    second = (weights * (one.variances + one.means.square())).sum(0)
    samples = many.component(SampleNoise(0, range(count)), 1.0)
    torch.testing.assert_close(samples.mean(0), one.mean(), atol=0.05, rtol=0)
    torch.testing.assert_close(samples.square().mean(0), second, atol=0.2, rtol=0)
    averaged = many.weighted(SampleNoise(0, range(count)), 1.0)
    torch.testing.assert_close(averaged.mean(0), one.mean(), atol=0.05, rtol=0)
    torch.testing.assert_close(averaged.var(0), (weights.square() * one.variances).sum(0), atol=0.05, rtol=0)


@pytest.mark.parametrize("sampling", ["component", "weighted", "mean"])
def test_temperature_zero_draws_no_deviation(sampling: str) -> None:
    head = MixtureHead(MixtureHeadConfig.parse({"num_components": 2, "sampling": sampling}), dim=8, channels=3)
    hidden = torch.randn(2, 1, 8)
    options = {"steps": 1, "guidance": 1.0, "temperature": 0.0}
    found = head.sample(hidden, None, SampleNoise(0, range(2)), **options)
    means = head.mixture(head(hidden)).means
    expected = means if sampling == "component" else head.mixture(head(hidden)).mean()[:, :, None]
    assert (found[:, :, None] - expected).abs().amax(-1).amin(-1).max() < 1e-6


def test_guidance_goes_on_from_the_parameters_without_the_condition() -> None:
    head = MixtureHead(MixtureHeadConfig(num_components=1, sampling="mean"), dim=8, channels=3)
    given, without = torch.randn(2, 1, 8), torch.randn(2, 1, 8)
    means = [head.mixture(head(hidden)).mean() for hidden in (given, without)]
    found = head.sample(given, without, SampleNoise(0, range(2)), steps=1, guidance=3.0, temperature=1.0)
    torch.testing.assert_close(found, means[1] + 3 * (means[0] - means[1]))


def test_a_gpt_learns_latents_and_samples_them() -> None:
    torch.manual_seed(0)
    model = visiontok.create("gpt", layout=LAYOUT, **SIZES, mixture_head={"num_components": 1}).train()
    values = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    batch, classes = Latents(values, LAYOUT), torch.arange(3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(250):
        loss = model(batch, classes, noise=SampleNoise((0, step), range(3)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < sum(losses[:10]) - 5
    asked = torch.tensor([2, 0, 1, 1])
    whole = model.eval().generate(asked, noise=SampleNoise(0, range(4)), sampler=model.sampler(temperature=0.3))
    parts = [model.generate(asked[row : row + 1], noise=SampleNoise(0, [row]), sampler=model.sampler(temperature=0.3)) for row in range(4)]
    torch.testing.assert_close(whole.values, Latents.cat(parts).values, rtol=0, atol=1e-4)
    assert torch.equal(torch.cdist(whole.values.flatten(1), values.flatten(1)).argmin(dim=1), asked)


def test_two_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match="mixture_head"):
        visiontok.create("gpt", layout=LAYOUT, **SIZES, mixture_head={}, diffusion_head={"dim": 8, "depth": 1})
