"""Latent perturbation: its schedule, its draws, and that it works on every quantizer that knows neighbors."""

from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import ConfigError
from visiontok.base.noise import RecordedNoise, SampleNoise
from visiontok.core.tokenizer import Tokenizer
from visiontok.quantizers import (
    AnnealingConfig,
    BernoulliQuantizerConfig,
    GaussianBottleneckConfig,
    LatentPerturbation,
    LatentPerturbationConfig,
    ProductQuantizerConfig,
    ResidualQuantizerConfig,
    VectorQuantizerConfig,
    nearest_k_codes,
)
from visiontok.quantizers.nearest import nearest_k_sign_codes
from visiontok.quantizers.perturbation import with_neighbors


def quantizer():
    torch.manual_seed(0)
    built = VectorQuantizerConfig(codebook_size=32, dim=4).build()
    torch.nn.init.normal_(built.codebook)
    return built


def test_the_published_schedule():
    config = LatentPerturbationConfig(alpha=1.0, beta=0.1, delta=100, annealing={"start": 40, "end": 120, "steps_per_unit": 10})
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
    perturbed = LatentPerturbation(LatentPerturbationConfig(alpha=0.5, beta=0.35, delta=5))(
        built, latents, clean, step=0, noise=torch.Generator().manual_seed(2)
    )
    assert torch.equal(perturbed.indices[3:], clean.indices[3:])
    assert torch.equal(perturbed.latents[3:], clean.latents[3:])
    ranks = (built.neighbors(latents[:3], 5) == perturbed.indices[:3, :, None]).float().argmax(dim=-1)
    shares = torch.bincount(ranks.flatten(), minlength=5) / ranks.numel()
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1]), atol=0.04, rtol=0)
    torch.testing.assert_close(perturbed.latents, built.lookup(perturbed.indices))
    assert perturbed.losses is clean.losses


class Autoencoder(Tokenizer):
    """Only what `quantize` reads."""

    def __init__(self, quantizer):
        super().__init__(LatentPerturbationConfig(alpha=0, delta=1))
        self.quantizer = quantizer


def test_a_tokenizer_perturbs_its_codes_in_training_only_by_the_step_of_the_call():
    model, latents = Autoencoder(quantizer()), torch.randn(4, 50, 4)
    clean, names = model.quantize(latents, step=0, noise=None).indices, set(model.state_dict())
    annealing = {"start": 2, "end": 4, "end_ratio": 1.0}
    model.perturbation = LatentPerturbation(LatentPerturbationConfig(alpha=1.0, delta=8, annealing=annealing))
    assert set(model.state_dict()) == names
    assert not torch.equal(model.quantize(latents, step=0, noise=None).indices, clean)
    assert torch.equal(model.quantize(latents, step=4, noise=None).indices, clean)
    assert torch.equal(model.eval().quantize(latents, step=0, noise=None).indices, clean)
    model.train().quantizer.eval()  # a frozen one
    assert torch.equal(model.quantize(latents, step=0, noise=None).indices, clean)


def test_the_gradient_is_that_of_the_clean_codes():
    built = quantizer()
    latents, cotangent = torch.randn(4, 6, 4, requires_grad=True), torch.randn(4, 6, 4)
    perturbed = LatentPerturbation(LatentPerturbationConfig(alpha=1.0, delta=8))(built, latents, built(latents), step=0)
    (perturbed.latents * cotangent).sum().backward()
    torch.testing.assert_close(latents.grad, cotangent)


def test_recorded_draws_choose_tokens_and_ranks():
    built, latents = quantizer(), torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    chances = torch.tensor([[0.1, 0.9, 0.4], [0.5, 0.51, 0.0]])
    ranks = torch.tensor([[0, 1, 2], [3, 4, 1]])
    noise = RecordedNoise(uniform=[chances, (ranks + 0.5) / 5])
    perturbed = LatentPerturbation(LatentPerturbationConfig(alpha=0.5, delta=5))(built, latents, built(latents), step=0, noise=noise)
    chosen = torch.tensor([[0, 0, 2], [3, 0, 1]])
    assert torch.equal(perturbed.indices, built.neighbors(latents, 5).gather(-1, chosen[..., None])[..., 0])


def test_it_takes_the_draws_and_the_mask_of_the_pass():
    built, latents = quantizer(), torch.randn(6, 8, 4, generator=torch.Generator().manual_seed(0))
    clean = built(latents)
    perturbation = LatentPerturbation(LatentPerturbationConfig(alpha=1.0, beta=0.5, delta=8))

    def perturbed(first, mask):
        noise, rows = SampleNoise(1, range(first, 6)), latents[first:]
        return perturbation(built, rows, built(rows, mask=mask), step=0, mask=mask, noise=noise)

    mask = torch.ones(6, 8, dtype=torch.bool)
    mask[0], mask[1, 5:] = False, False
    first, second = perturbed(0, mask), perturbed(0, mask)
    assert torch.equal(first.indices, second.indices)
    changed = first.indices != clean.indices.masked_fill(~mask, 0)
    assert changed.any(dim=1).tolist() == [False, True, True, False, False, False]  # two of the five samples that hold anything
    assert not changed[1, 5:].any()
    assert not first.latents[~mask].any()
    alone = perturbed(1, mask[1:])
    assert torch.equal(alone.indices, first.indices[1:])


def test_the_step_of_training_is_what_annealing_goes_by():
    built, latents = quantizer(), torch.randn(4, 50, 4, generator=torch.Generator().manual_seed(0))
    perturbation = LatentPerturbation(LatentPerturbationConfig(alpha=1.0, delta=8, annealing={"start": 2, "end": 4, "end_ratio": 1.0}))
    assert not torch.equal(perturbation(built, latents, built(latents), step=0).indices, built(latents).indices)
    assert torch.equal(perturbation(built, latents, built(latents), step=4).indices, built(latents).indices)


def test_what_has_no_neighbors_is_refused():
    for config in (GaussianBottleneckConfig(dim=2), BernoulliQuantizerConfig(dim=2, chunks=(3,))):
        bottleneck = config.build()
        with pytest.raises(ConfigError, match=type(bottleneck).__name__):
            with_neighbors(bottleneck)
    with pytest.raises(ValueError, match="33"):
        quantizer().neighbors(torch.randn(3, 4), 33)


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
    perturbation = LatentPerturbation(LatentPerturbationConfig(alpha=1.0, delta=4))
    first, second, third = (perturbation(built, latents, built(latents), step=0) for _ in range(3))
    torch.testing.assert_close(first.latents, latents)
    torch.testing.assert_close(second.latents, latents)
    assert not torch.equal(third.indices, built.search(latents))
