"""The Fréchet distance under perturbed tokens: its mean over a grid, its name, what it is omitted for."""

from __future__ import annotations

import re

import pytest
import torch
from gray_patches import GrayPatches

import visiontok
from visiontok.base.errors import EvaluationError
from visiontok.evaluation import FunctionExtractor, Suite, evaluate_suite
from visiontok.evaluation.metrics.perturbation_grid import PerturbationGrid
from visiontok.evaluation.reconstruction.run import ReconstructionRun

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
GRID = {"alphas": [1.0, 0.0], "deltas": [8, 2]}
SUITE = Suite.parse(
    {
        "name": "perturbed",
        "data": {"name": "digits", "split": "test"},
        "num_samples": 90,
        "allow_few_samples": True,
        "metrics": ["frechet", "perturbed_frechet"],
        "extractors": ["downsampled-pixels"],
        "perturbations": GRID,
    }
)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    quantizer = {"type": "vq", "codebook_size": 32, "dim": 2}
    model = visiontok.create("robusttok", image_size=16, encoder=VIT, decoder=VIT, grid_side=2, quantizer=quantizer)
    torch.nn.init.normal_(model.quantizer.codebook)
    return model


def test_the_mean_over_the_grid_with_every_setting_beside_it(tokenizer):
    result = evaluate_suite(SUITE, tokenizer, name="tiny")
    value, plain = result.value("pFD[downsampled-pixels]"), result.value("FD[downsampled-pixels]").value
    distances = {(alpha, delta): distance for alpha, delta, distance in value.details["distances"]}
    assert list(distances) == [(1.0, 8), (1.0, 2), (0.0, 8), (0.0, 2)]
    assert value.value == pytest.approx(sum(distances.values()) / 4)
    assert distances[0.0, 8] == distances[0.0, 2] == pytest.approx(plain)
    assert distances[1.0, 8] != pytest.approx(plain)
    assert value.details["beta"] == 1.0
    assert value.details["alphas"] == [1.0, 0.0]


def test_draws_belong_to_the_images_and_not_to_their_batches(tokenizer):
    first, second = (evaluate_suite(SUITE.replace(batch_size=size), tokenizer, name="tiny") for size in (90, 17))
    assert first.value("pFD[downsampled-pixels]").value == pytest.approx(second.value("pFD[downsampled-pixels]").value, rel=1e-6)


def test_the_seed_changes_the_draws(tokenizer):
    suites = [SUITE.replace(perturbations={"seed": seed}) for seed in (0, 1)]
    first, second = (evaluate_suite(suite, tokenizer, name="tiny").value("pFD[downsampled-pixels]") for suite in suites)
    assert first.value != second.value
    assert [distance for alpha, _, distance in first.details["distances"] if alpha == 0] == [
        distance for alpha, _, distance in second.details["distances"] if alpha == 0
    ]


def test_it_is_called_pfid_with_the_inception_network_only(tokenizer):
    class Inception(FunctionExtractor):
        published_names = {"FD": "FID", "pFD": "pFID"}  # noqa: RUF012

    extractor = Inception(lambda images: images.float().mean(dim=(2, 3)), name="inception", identity="x")
    own = SUITE.replace(extractors=["downsampled-pixels"])
    result = evaluate_suite(own, tokenizer, name="tiny", extractors=[extractor])
    assert {value.name for value in result.values if value.name.startswith("p")} == {"pFD[downsampled-pixels]", "pFID[inception]"}


def test_fewer_samples_than_features_are_refused_before_anything_is_computed(tokenizer):
    suite = SUITE.replace(num_samples=20, metrics=["perturbed_frechet"], allow_few_samples=False)
    with pytest.raises(EvaluationError, match=r"20 samples .* 192 features of downsampled-pixels"):
        ReconstructionRun(suite, tokenizer, name="tiny")


def test_the_papers_grid_is_the_default():
    assert len(PerturbationGrid().settings) == 15
    assert PerturbationGrid().settings[0] == (0.9, 200)


def test_what_cannot_be_perturbed_is_omitted_with_the_reason(tokenizer):
    result = evaluate_suite(SUITE.replace(perturbations=PerturbationGrid().to_dict()), tokenizer, name="tiny")
    assert re.search("32 codes.* 360", result.omitted["perturbed_frechet"])
    assert "Levels" in evaluate_suite(SUITE, GrayPatches(), name="gray").omitted["perturbed_frechet"]
