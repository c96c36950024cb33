"""Golden rules of metrics that compare two sets of features or predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from metric_rules import Case, Equal, Rule, Wrong

from visiontok.evaluation import frechet_distance
from visiontok.evaluation.metrics.frechet import frechet_distance_of_features
from visiontok.evaluation.metrics.inception_score import inception_score, inception_score_of_blocks
from visiontok.evaluation.metrics.manifold import manifold_scores, neighbor_distances
from visiontok.evaluation.metrics.mmd import cmmd, gaussian_kernel, kernel_distance, squared_mmd
from visiontok.evaluation.metrics.moments import Moments


def sides(case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
    return case.inputs[f"{name}.a"], case.inputs[f"{name}.b"]


def streamed(features: np.ndarray) -> Any:
    first, second = Moments(), Moments()
    for start in range(0, len(features), 7):
        (first if start % 2 else second).update(features[start : start + 7])
    first.merge(second)
    return first.compute()


def frechet(case: Case, name: str) -> float:
    a, b = (streamed(side) for side in sides(case, name))
    value = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert frechet_distance_of_features(*sides(case, name)) == pytest.approx(value, rel=1e-11, abs=1e-11)
    return value


def frechet_trace(case: Case, name: str) -> float:
    a, b = (streamed(side) for side in sides(case, name))
    return float(np.trace(a.covariance) + np.trace(b.covariance) + np.square(a.mean - b.mean).sum() - frechet(case, name)) / 2


FRECHET: dict[str, Rule] = {
    r"(.+)\.frechet_exact": Equal(frechet, abs=1e-9),
    r"(.+)\.trace_sqrt": Equal(frechet_trace, rel=1e-10),
    r"(.+)\.mu_([ab])": Equal(lambda case, name, side: streamed(case.inputs[f"{name}.{side}"]).mean, rel=1e-12),
    r"(.+)\.sigma_([ab])": Equal(lambda case, name, side: streamed(case.inputs[f"{name}.{side}"]).covariance, rel=1e-10, abs=1e-12),
    r"float32\.torch_fidelity_native_f32_means": Wrong(lambda case: frechet(case, "float32"), gap=1e-8),
    r"(full_rank|unequal_n|constant_columns|large_offset|float32)\.(?:torch_fidelity|scipy_sqrtm_cleanfid|pytorch_fid|torchmetrics_streaming)": Equal(
        frechet, rel=1e-6
    ),
    r".+\.(?:torch_fidelity|scipy_sqrtm_cleanfid|pytorch_fid|torchmetrics_streaming)": "rounding noise of that library on singular covariances",
}


INCEPTION_SCORE: dict[str, Rule] = {
    r"noshuffle\.splits(\d+)\.mean": Equal(
        lambda case, splits: inception_score(case.inputs["logits"], splits=int(splits), shuffle_seed=None)[0], rel=1e-6
    ),
    r"noshuffle\.splits(\d+)\.std": Equal(
        lambda case, splits: inception_score(case.inputs["logits"], splits=int(splits), shuffle_seed=None)[1], rel=1e-6, abs=1e-12
    ),
    r"torch_fidelity_default\.mean": Equal(lambda case: inception_score(case.inputs["logits"])[0], rel=1e-6),
    r"torch_fidelity_default\.std": Equal(lambda case: inception_score(case.inputs["logits"])[1], rel=1e-6),
    r"torch_fidelity_default\.permutation": Equal(lambda case: np.random.RandomState(2020).permutation(len(case.inputs["logits"]))),
    r"adm_blocks\.split_size_(\d+)": Equal(lambda case, size: inception_score_of_blocks(case.inputs["logits"], block=int(size)), rel=1e-6),
    r"scipy_entropy\.single_split": Equal(lambda case: inception_score_of_blocks(case.inputs["logits"], block=10**9), rel=1e-6),
}


def manifold(case: Case, neighbours: str | int, score: str) -> float:
    return getattr(manifold_scores(case.inputs["generated"], case.inputs["real"], neighbors=int(neighbours)), score)


def f_score(case: Case, neighbours: str) -> float:
    precision, recall = manifold(case, neighbours, "precision"), manifold(case, neighbours, "recall")
    return 2 * precision * recall / (precision + recall)


PRECISION_RECALL: dict[str, Rule] = {
    r"k(\d+)\.(precision|recall)": Equal(manifold, rel=1e-7),  # theirs in float32
    r"k(\d+)\.f_score": Equal(f_score, rel=1e-7),
    r"bruteforce64_k(\d+)\.(precision|recall)": Equal(manifold, rel=1e-12),
    r"prdc_k(\d+)\.(precision|recall|density|coverage)": Equal(manifold, rel=1e-12),
    r"adm_tensorflow\.fp32_(precision|recall)": Equal(lambda case, score: manifold(case, 3, score), rel=1e-12),
    r"adm_tensorflow\.fp16_(precision|recall)": Equal(lambda case, score: manifold(case, 3, score), abs=0.02),
    r"radii_gen_k(\d+)": Equal(lambda case, k: neighbor_distances(case.inputs["generated"].astype(np.float64), int(k)), rel=1e-6),
    r"radii_real_k(\d+)": Equal(lambda case, k: neighbor_distances(case.inputs["real"].astype(np.float64), int(k)), rel=1e-6),
    "min_margin": "says how far the fixture is from a tie",
}


def common_rows(case: Case) -> tuple[np.ndarray, np.ndarray]:
    size = min(len(case.inputs["a"]), len(case.inputs["b"]))
    return case.inputs["a"][:size], case.inputs["b"][:size]


def subsets(case: Case, number: str, size: str, seed: str) -> tuple[float, float]:
    return kernel_distance(case.inputs["a"], case.inputs["b"], subsets=int(number), subset_size=int(size), seed=int(seed))


def rbf_subsets(case: Case, number: str, size: str, seed: str, sigma: str) -> float:
    return kernel_distance(
        case.inputs["a"],
        case.inputs["b"],
        subsets=int(number),
        subset_size=int(size),
        seed=int(seed),
        kernel=lambda x, y: gaussian_kernel(x, y, sigma=float(sigma)),
    )[0]


def raw_cmmd(case: Case) -> float:
    sigma = case.config["cmmd"]["sigma"]
    return 1000 * squared_mmd(case.inputs["a"], case.inputs["b"], kernel=lambda x, y: gaussian_kernel(x, y, sigma=sigma), unbiased=False)


MMD: dict[str, Rule] = {
    r"full\.(?:kid_unbiased|cleanfid|sklearn_polynomial_unbiased|torchmetrics_poly_mmd)": Equal(
        lambda case: squared_mmd(*common_rows(case)), rel=1e-9
    ),
    r"full\.sklearn_polynomial_biased": Equal(lambda case: squared_mmd(*common_rows(case), unbiased=False), rel=1e-9),
    r"same_set\.kid": Equal(lambda case: squared_mmd(case.inputs["a"], case.inputs["a"]), rel=1e-9),
    r"subsets(\d+)x(\d+)_seed(\d+)\.mean": Equal(lambda case, *groups: subsets(case, *groups)[0], rel=1e-9),
    r"subsets(\d+)x(\d+)_seed(\d+)\.std": Equal(lambda case, *groups: subsets(case, *groups)[1], rel=1e-9),
    r"subsets(\d+)x(\d+)_seed(\d+)_rbf(\d+)\.mean": Equal(rbf_subsets, rel=1e-9),
    r"cmmd\.normalised": Equal(lambda case: cmmd(case.inputs["a"], case.inputs["b"]), abs=1e-9),
    r"cmmd\.unbiased_variant_normalised": Equal(lambda case: cmmd(case.inputs["a"], case.inputs["b"], unbiased=True), abs=1e-9),
    r"cmmd\.raw_features": Equal(raw_cmmd, rel=1e-9),
    r"seed2020\.first_idx_[ab]": "the first draws, fixed by the subsets' mean and deviation",
}
