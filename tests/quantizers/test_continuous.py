from __future__ import annotations

import pytest
import torch

from visiontok.base.noise import RecordedNoise
from visiontok.quantizers import GaussianBottleneckConfig, IdentityBottleneckConfig, Quantizer


def test_the_divergence_agrees_with_torch_distributions() -> None:
    bottleneck = GaussianBottleneckConfig(dim=3).build()
    parameters = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    mean, logvar = bottleneck.posterior(parameters)
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(mean, torch.exp(logvar / 2)), unit).sum(dim=-1)
    torch.testing.assert_close(bottleneck.kl_per_token(parameters), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bottleneck(parameters).stats["kl"], expected.sum(dim=1).mean(), rtol=1e-4, atol=1e-5)


def test_evaluation_gives_the_mode_and_noise_reproducible_samples() -> None:
    bottleneck = GaussianBottleneckConfig(dim=3).build().eval()
    parameters = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bottleneck(parameters).latents, parameters[..., :3])
    first, second = (bottleneck(parameters, noise=torch.Generator().manual_seed(4)).latents for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, parameters[..., :3])


def test_recorded_noise_is_scaled_by_the_deviation() -> None:
    bottleneck = GaussianBottleneckConfig(dim=3, scale=2.0, shift=0.5).build()
    parameters, noise = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)), torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    drawn = bottleneck(parameters, noise=RecordedNoise(normal=[noise])).latents
    torch.testing.assert_close(drawn, (parameters[:, :3] + torch.exp(parameters[:, 3:] / 2) * noise - 0.5) * 2)
    torch.testing.assert_close(bottleneck.restore(bottleneck.mode(parameters)), parameters[:, :3])


@pytest.mark.parametrize("value", [30.0, 65504.0])
def test_half_precision_posteriors_stay_finite(value: float) -> None:
    parameters = torch.full((2, 4), value, dtype=torch.float16, requires_grad=True)
    out = GaussianBottleneckConfig(dim=2).build().eval()(parameters)
    out.losses["kl"].backward()
    assert torch.isfinite(out.losses["kl"])
    assert torch.isfinite(out.latents).all()


def test_the_identity_passes_latents_on() -> None:
    latents = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    out = IdentityBottleneckConfig(dim=4).build()(latents)
    assert torch.equal(out.latents, latents)
    assert (out.indices, out.losses) == (None, {})


def test_continuous_bottlenecks_are_no_quantizers() -> None:
    for config in (GaussianBottleneckConfig(dim=3), IdentityBottleneckConfig(dim=3)):
        assert not isinstance(config.build(), Quantizer)
        assert not hasattr(config.build(), "lookup")
