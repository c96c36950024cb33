from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import TokenError
from visiontok.quantizers import GaussianBottleneckConfig


def test_the_divergence_agrees_with_torch_distributions():
    bottleneck = GaussianBottleneckConfig(dim=3).build()
    parameters = torch.randn(2, 5, 6)
    mean, logvar = bottleneck.posterior(parameters)
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(mean, torch.exp(logvar / 2)), unit).sum(dim=-1)
    torch.testing.assert_close(bottleneck.kl_per_token(parameters), expected, rtol=1e-4, atol=1e-5)


def test_evaluation_gives_the_mode_and_a_generator_reproducible_samples():
    bottleneck = GaussianBottleneckConfig(dim=3).build().eval()
    parameters = torch.randn(2, 5, 6)
    assert torch.equal(bottleneck(parameters).latents, parameters[..., :3])
    first, second = (bottleneck.sample(parameters, torch.Generator().manual_seed(4)).latents for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, parameters[..., :3])


def test_there_are_no_ids_to_look_up():
    with pytest.raises(TokenError, match="continuous"):
        GaussianBottleneckConfig(dim=3).build().lookup(torch.zeros(1, dtype=torch.int64))
