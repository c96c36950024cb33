from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from visiontok.base.errors import ConfigError
from visiontok.quantizers.position_usage import PositionUsage, PositionUsageConfig
from visiontok.quantizers.positional_vector import PositionalVectorQuantizerConfig

CONFIG = PositionalVectorQuantizerConfig(codebook_size=24, dim=4, num_positions=6)


def latents(batch: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 6, 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def quantizer():
    torch.manual_seed(0)
    return CONFIG.build()


def test_the_code_with_the_largest_cosine(quantizer):
    quantizer.eval()
    found = quantizer(latents())
    expected = (F.normalize(latents(), dim=-1) @ quantizer.codebook.T).argmax(dim=-1)
    assert torch.equal(found.indices, expected)
    assert torch.equal(quantizer.search(latents()), expected)
    assert torch.equal(quantizer.lookup(expected), found.latents)
    assert torch.equal(quantizer.neighbors(latents(), 3)[..., 0], expected)
    assert set(found.losses) == {"commitment"}


def test_training_keeps_codes_on_the_sphere_and_in_use(quantizer):
    quantizer.train()
    errors = []
    for step in range(40):
        out = quantizer(latents(32, seed=step))
        errors.append(float(out.stats["quantization_error"]))
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(24))
    assert float(quantizer.ema.counts.min()) >= 0.2 * 32 * 6 / 24 * 0.9
    assert sum(errors[-5:]) < sum(errors[:5])


def test_a_dead_code_becomes_a_latent_of_the_batch(quantizer):
    quantizer.train()
    quantizer(latents())
    quantizer.ema.counts[5] = 0.0
    quantizer.codebook.data[5] = -F.normalize(latents(seed=1).flatten(0, 1).sum(dim=0), dim=0)
    quantizer(latents(seed=1))
    distances = (F.normalize(latents(seed=1), dim=-1).flatten(0, 1) - quantizer.codebook[5]).norm(dim=1)
    assert float(quantizer.ema.counts[5]) == pytest.approx(0.2 * 8 * 6 / 24)
    assert float(distances.min()) < 1e-6


def test_training_repeats(quantizer):
    again = CONFIG.build()
    again.load_state_dict(quantizer.state_dict())
    for step in range(3):
        first, second = quantizer.train()(latents(seed=step)), again.train()(latents(seed=step))
        assert torch.equal(first.indices, second.indices)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in quantizer.state_dict().items())


def test_diversity_pulls_latents_apart():
    """Following its gradient alone, latents that all fall on one code spread over more."""
    torch.manual_seed(0)
    usage = PositionUsage(PositionUsageConfig(history=0.0, fade=(5.0, 6.0)), num_positions=2, codebook_size=8)
    codebook = F.normalize(torch.randn(8, 3), dim=1)
    points = (codebook[:1] + 0.05 * torch.randn(16, 2, 3)).requires_grad_(True)
    optimizer = torch.optim.Adam([points], lr=0.05)
    losses = []
    for _ in range(60):
        loss = usage.diversity(F.normalize(points, dim=-1), codebook)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    assert losses[-1] >= -0.5 * math.log(8) - 1e-5


def test_diversity_fades_when_positions_use_enough():
    usage = PositionUsage(PositionUsageConfig(), num_positions=6, codebook_size=24)
    codes = F.normalize(torch.randn(24, 4), dim=1)
    usage.shares.fill_(1 / 24)  # all codes at every position
    assert float(usage.diversity(F.normalize(latents(), dim=-1), codes)) == 0
    usage.shares.zero_()
    usage.shares[:, 0] = 1  # one code at every position
    assert float(usage.diversity(F.normalize(latents(), dim=-1), codes)) < 0
    assert float(usage.narrow_positions().std()) == pytest.approx(0, abs=1e-6)
    usage.shares[2:] = 1 / 24
    narrow = usage.narrow_positions()
    assert float(narrow[:2].min()) > 100 * float(narrow[2:].max())


def test_gradients_do_not_depend_on_recomputation():
    usage = PositionUsage(PositionUsageConfig(), num_positions=6, codebook_size=24)
    codes, points = F.normalize(torch.randn(24, 4), dim=1), F.normalize(latents(), dim=-1).requires_grad_(True)
    weights = torch.randn(6, 24)
    (found,) = torch.autograd.grad((usage.mixed(points, codes) * weights).sum(), points)
    (expected,) = torch.autograd.grad((0.2 * (10 * points @ codes.T).softmax(-1).mean(0) * weights).sum(), points)
    torch.testing.assert_close(found, expected)


def test_warming_up_passes_latents_through():
    quantizer = PositionalVectorQuantizerConfig.parse({**CONFIG.to_dict(), "kmeans": {"after_steps": 1}}).build().train()
    out = quantizer(latents())
    torch.testing.assert_close(out.latents, F.normalize(latents(), dim=-1))
    assert all(float(loss) == 0 for loss in out.losses.values())
    assert not torch.allclose(quantizer(latents()).latents, F.normalize(latents(), dim=-1))


def test_fade_must_rise():
    with pytest.raises(ConfigError, match="fade"):
        PositionalVectorQuantizerConfig.parse({**CONFIG.to_dict(), "diversity": {"fade": [0.3, 0.1]}})
