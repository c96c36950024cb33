"""Golden values of the metrics: what ours must return, what it must not, and what has no counterpart here and why."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from metric_rules import Case, Rule, Wrong
from metric_rules_distributions import FRECHET, INCEPTION_SCORE, MMD, PRECISION_RECALL
from metric_rules_images import PREPROCESS, PSNR_SSIM
from metric_rules_networks import INCEPTION, LPIPS
from metric_rules_tokens import AR_INFORMATION, CODEBOOK_STATS, RATE_DISTORTION, TOKDENSE, ZIPF_FIT
from reference_case import ReferenceCase, cases

CASES: dict[str, dict[str, Rule]] = {
    "ar_information": AR_INFORMATION,
    "codebook_stats": CODEBOOK_STATS,
    "frechet": FRECHET,
    "inception_score": INCEPTION_SCORE,
    "inception_v3_compat": INCEPTION,
    "lpips": LPIPS,
    "mmd": MMD,
    "precision_recall": PRECISION_RECALL,
    "preprocess": PREPROCESS,
    "psnr_ssim": PSNR_SSIM,
    "rate_distortion": RATE_DISTORTION,
    "tokdense": TOKDENSE,
    "zipf_fit": ZIPF_FIT,
}

WRITTEN_FOR = Path(__file__).parents[1] / "reference" / "metrics"
"""Cases that must hold every output that the rules know."""


@pytest.mark.parametrize("case", cases("metrics"))
def test_golden_values(case: ReferenceCase) -> None:
    rules = rules_of(case.path.name)
    arrays = Case(case.config, *({key: value.numpy() for key, value in tensors.items()} for tensors in (case.inputs, case.outputs)))
    unmatched = set(rules) if (WRITTEN_FOR / case.path.name).is_dir() else set()
    for output, expected in arrays.outputs.items():
        pattern, groups = match(rules, output)
        unmatched.discard(pattern)
        check(rules[pattern], arrays, groups, output, expected)
    assert not unmatched, f"outputs are missing that these rules expect: {sorted(unmatched)}"


def rules_of(name: str) -> dict[str, Rule]:
    """Cases carry the metric's name in front: `lpips_alex` is held to the rules of `lpips`."""
    known = [metric for metric in CASES if name == metric or name.startswith(f"{metric}_")]
    assert known, f"no rules for the case {name!r}"
    return CASES[max(known, key=len)]


def match(rules: dict[str, Rule], name: str) -> tuple[str, tuple[str | None, ...]]:
    for pattern in rules:
        found = re.fullmatch(pattern, name)
        if found:
            return pattern, found.groups()
    raise AssertionError(f"output {name!r} is unknown: give it a counterpart or a reason why it has none")


def check(rule: Rule, case: Case, groups: tuple[str | None, ...], name: str, expected: np.ndarray) -> None:
    if isinstance(rule, str):
        return
    ours = np.asarray(rule.ours(case, *groups))
    if isinstance(rule, Wrong):
        finite = np.isfinite(expected) & np.isfinite(ours)
        differences = np.abs(ours - expected)[finite]
        assert differences.max() > rule.gap, f"{name}: ours equals the value of a common mistake or of another definition"
    elif rule.norm:
        rows = (expected.shape[0], -1)
        gaps = np.linalg.norm((ours - expected).reshape(rows), axis=1) / np.linalg.norm(expected.reshape(rows), axis=1)
        assert ours.shape == expected.shape
        assert gaps.max() <= rule.norm, f"{name}: off by {gaps.max():.2e} of the norm, allowed {rule.norm:.0e}"
    elif rule.rel == rule.abs == 0:
        np.testing.assert_array_equal(ours, expected, err_msg=name)
    else:
        np.testing.assert_allclose(ours, expected, rtol=rule.rel, atol=rule.abs, err_msg=name)
