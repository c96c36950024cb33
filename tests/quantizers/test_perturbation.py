"""Latent perturbation: its schedule, its draws, and that it works on every quantizer that knows neighbours."""

from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import ConfigError, TokenError
from visiontok.quantizers import (
    AnnealingConfig,
    GaussianBottleneckConfig,
    LatentPerturbation,
    PerturbationConfig,
    ProductQuantizerConfig,
    ResidualQuantizerConfig,
    VectorQuantizerConfig,
    nearest_k_codes,
)
from visiontok.quantizers.nearest import nearest_k_sign_codes


def quantizer():
    torch.manual_seed(0)
    built = VectorQuantizerConfig(codebook_size=32, dim=4).build()
    torch.nn.init.normal_(built.codebook)
    return built


def test_the_published_schedule():
    config = PerturbationConfig(alpha=1.0, beta=0.1, delta=100, annealing={"start": 40, "end": 120, "steps_per_unit": 10})
    assert [(config.at(step).alpha, config.at(step).delta) for step in (0, 400, 409)] == [(1.0, 100)] * 3
    halfway = config.at(800)
    assert (halfway.alpha, halfway.beta, halfway.delta) == (0.75, 0.1, 75)
    assert (config.at(1200).alpha, config.at(5000).delta) == (0.5, 50)
    with pytest.raises(ConfigError, match="not after its start"):
        AnnealingConfig.parse({"start": 5, "end": 5})


def test_ranks_are_even_and_only_the_first_images_change():
    built, latents = quantizer(), torch.randn(10, 400, 4)
    torch.manual_seed(1)
    clean = built(latents)
    perturbed = LatentPerturbation(PerturbationConfig(alpha=0.5, beta=0.35, delta=5))(built, latents, clean)
    assert torch.equal(perturbed.indices[3:], clean.indices[3:])
    assert torch.equal(perturbed.latents[3:], clean.latents[3:])
    ranks = (built.neighbours(latents[:3], 5) == perturbed.indices[:3, :, None]).float().argmax(dim=-1)
    shares = torch.bincount(ranks.flatten(), minlength=5) / ranks.numel()
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1]), atol=0.04, rtol=0)
    torch.testing.assert_close(perturbed.latents, built.lookup(perturbed.indices))
    assert perturbed.losses is clean.losses


def test_attached_it_acts_in_training_only_and_leaves_no_trace():
    built, latents = quantizer(), torch.randn(4, 50, 4)
    clean = built(latents).indices
    names = set(built.state_dict())
    handle = LatentPerturbation(PerturbationConfig(alpha=1.0, delta=8)).attach(built)
    assert not torch.equal(built(latents).indices, clean)
    assert torch.equal(built.eval()(latents).indices, clean)
    assert set(built.state_dict()) == names
    handle.remove()
    assert torch.equal(built.train()(latents).indices, clean)


def test_the_gradient_is_that_of_the_clean_codes():
    built = quantizer()
    latents, cotangent = torch.randn(4, 6, 4, requires_grad=True), torch.randn(4, 6, 4)
    perturbed = LatentPerturbation(PerturbationConfig(alpha=1.0, delta=8))(built, latents, built(latents))
    (perturbed.latents * cotangent).sum().backward()
    torch.testing.assert_close(latents.grad, cotangent)


def test_what_has_no_codes_says_so():
    with pytest.raises(TokenError, match="GaussianBottleneck has no codebook"):
        GaussianBottleneckConfig(dim=2).build().neighbours(torch.randn(3, 4), 2)
    with pytest.raises(ValueError, match="1 to 32"):
        quantizer().neighbours(torch.randn(3, 4), 33)


def test_nearest_k_codes_are_those_of_the_whole_matrix_in_order(monkeypatch):
    monkeypatch.setattr("visiontok.quantizers.nearest.TILE_SCORES", {"cpu": 200, "cuda": 200})
    torch.manual_seed(0)
    latents, codebook = torch.randn(70, 6), torch.randn(50, 6)
    expected = torch.cdist(latents, codebook).topk(7, dim=1, largest=False).indices
    assert torch.equal(nearest_k_codes(latents, codebook, 7), expected)


def test_nearest_sign_codes_are_those_of_the_list_of_all():
    torch.manual_seed(0)
    latents = torch.randn(40, 6)
    codes = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 6)
    expected = codes[nearest_k_codes(latents, codes, 20)] > 0
    assert torch.equal(nearest_k_sign_codes(latents, 20), expected)
    with pytest.raises(ValueError, match="6 signs make 64"):
        nearest_k_sign_codes(latents, 65)


@pytest.mark.parametrize("kind", ["vq", "residual", "product"])
def test_nothing_is_perturbed_before_the_codebook_has_its_start(kind: str):
    vq = {"type": "vq", "codebook_size": 8, "dim": 4, "kmeans": {"after_steps": 2}}
    config = {
        "vq": VectorQuantizerConfig.parse(vq),
        "residual": ResidualQuantizerConfig.parse({"num_levels": 2, "quantizer": vq}),
        "product": ProductQuantizerConfig.parse({"num_groups": 2, "quantizer": vq}),
    }[kind]
    built, latents = config.build().train(), torch.randn(4, 16, config.dim)
    LatentPerturbation(PerturbationConfig(alpha=1.0, delta=4)).attach(built)
    first, second, third = (built(latents) for _ in range(3))
    torch.testing.assert_close(first.latents, latents)
    torch.testing.assert_close(second.latents, latents)
    assert not torch.equal(third.indices, built.search(latents))
