"""Findings: differences, means, correlations and trends of values with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visiontok.evaluation.results.result import Environment
from visiontok.studies import RunValues, Study, load_study
from visiontok.studies.statistics import findings

TINY = Path(__file__).parent / "tiny_study.yaml"


def run(arm: str, seed: int, **values: float | None) -> RunValues:
    return RunValues(
        data="digits",
        arm=arm,
        seed=seed,
        definition="",
        weights_sha256={},
        values={name.replace("_at_", " at ").replace("_tokens", " tokens"): value for name, value in values.items()},
        units={"psnr": "dB"},
        omitted={},
        environment=Environment(versions={}, hardware={}),
        seconds=0,
    )


def study(*comparisons: dict, **changes: object) -> Study:
    comparisons_with_question = [{"question": "?", **each} for each in comparisons]
    return Study.parse({**load_study(TINY).to_dict(), "comparisons": comparisons_with_question, "bootstrap": {"resamples": 100}, **changes})


def test_a_difference_is_paired_by_seed():
    runs = [run("fsq", seed, psnr=10 * seed + 1.0) for seed in range(5)] + [run("vq", seed, psnr=10.0 * seed) for seed in (4, 3, 2, 1, 0)]
    (found,) = findings(study({"type": "difference", "metric": "psnr", "arms": ["vq", "fsq"]}), runs)
    assert (found.value, found.unit, found.count, found.reading) == (1.0, "dB", 5, "above zero")
    assert found.interval is not None
    assert found.interval.low == found.interval.high == 1.0  # the spread between seeds cancels


def test_a_seed_without_the_value_on_one_side_is_ignored():
    runs = [run("vq", 0, psnr=1.0), run("vq", 1, psnr=None), run("fsq", 0, psnr=0.0), run("fsq", 1, psnr=3.0)]
    (found,) = findings(study({"type": "difference", "metric": "psnr", "arms": ["vq", "fsq"]}), runs)
    assert (found.value, found.count, found.single, found.reading) == (-1.0, 1, {0: -1.0}, "not tested")


@pytest.mark.parametrize(("against", "reading"), [(0.0, "above zero"), (0.6, "above 0.6"), (0.75, "includes 0.75"), (0.9, "below 0.9")])
def test_a_mean_is_compared_with_a_number(against: float, reading: str):
    runs = [run("vq", seed, rho=value) for seed, value in enumerate([0.7, 0.8, 0.75, None])] + [run("fsq", 0, rho=0.0)]
    (found,) = findings(study({"type": "mean", "metric": "rho", "arm": "vq", "against": against}), runs)
    assert (found.value, found.count, found.reading) == (pytest.approx(0.75), 3, reading)
    assert found.single == {0: 0.7, 1: 0.8, 2: 0.75}


@pytest.mark.parametrize("sign", [1, -1])
def test_tokenizers_in_one_order_correlate_fully(sign: int):
    runs = [run("vq", seed, a=float(seed), b=sign * 2.0**seed) for seed in range(12)]
    found = findings(study({"type": "correlation", "metrics": ["a", "b"]}), runs)
    assert [each.value for each in found] == pytest.approx([sign, sign])
    assert [each.reading for each in found] == ["above zero" if sign > 0 else "below zero"] * 2
    assert all(each.count == 12 for each in found)


def test_independent_values_are_not_correlated():
    draw = np.random.default_rng(2)
    runs = [run("vq", seed, a=draw.normal(), b=draw.normal()) for seed in range(30)]
    found = findings(study({"type": "correlation", "metrics": ["a", "b"]}), runs)
    assert [each.reading for each in found] == ["includes zero", "includes zero"]


def test_equal_values_have_no_correlation():
    runs = [run("vq", seed, a=1.0, b=float(seed)) for seed in range(4)]
    for found in findings(study({"type": "correlation", "metrics": ["a", "b"]}), runs):
        assert found.value is None
        assert found.reading == "not tested"


def test_a_trend_is_within_each_run():
    base = load_study(TINY).to_dict()
    base["data"]["digits"]["reconstruction"]["lengths"] = [1, 2, 4]
    rising = run("vq", 0, psnr_at_1_tokens=1.0, psnr_at_2_tokens=5.0, psnr_at_4_tokens=6.0)
    falling = run("vq", 1, psnr_at_1_tokens=60.0, psnr_at_2_tokens=50.0, psnr_at_4_tokens=40.0)
    (found,) = findings(study({"type": "trend", "metric": "psnr", "arm": "vq"}, data=base["data"]), [rising, falling])
    assert found.single == pytest.approx({0: 1.0, 1: -1.0})
    assert found.value == pytest.approx(0.0)


def test_a_metric_is_found_without_its_extractor_where_there_is_one():
    one = run("vq", 0, **{"FD[a]": 1.0, "generated FD[a]": 2.0})
    assert (one.value("FD"), one.value("generated FD"), one.value("pFD")) == (1.0, 2.0, None)
    assert run("vq", 0, **{"FD[a]": 1.0, "FD[b]": 2.0}).value("FD") is None


def test_a_trend_of_equal_values_is_not_defined():
    comparison = {"type": "trend", "metric": "psnr", "arm": "vq"}
    changed = study(comparison)
    lengths = (1, 2, 4)
    data = {name: each.replace(reconstruction={"lengths": lengths}) for name, each in changed.data.items()}
    changed = changed.model_copy(update={"data": data})
    flat = run("vq", 0, **{f"psnr_at_{length}_tokens": 20.0 for length in lengths})
    rising = run("vq", 1, **{f"psnr_at_{length}_tokens": float(length) for length in lengths})
    (found,) = findings(changed, [flat])
    assert (found.value, found.count, found.reading) == (None, 0, "not tested")
    (found,) = findings(changed, [flat, rising])
    assert (found.value, found.single) == (1.0, {1: 1.0})


@pytest.mark.parametrize(
    ("second", "share", "reading"),
    [
        ([1.0, 2.0, 3.0], 1.0, "above 0.5"),
        ([3.0, 2.0, 1.0], 0.0, "below 0.5"),
        ([1.0, 3.0, 2.0], 2 / 3, "above 0.5"),
        ([1.0, 1.0, 1.0], 0.5, "includes 0.5"),
    ],
)
def test_concordance_is_the_share_of_pairs_in_the_same_order(second: list[float], share: float, reading: str):
    runs = [run(f"arm-{number}", seed, a=float(number + 10 * seed), b=b) for seed in range(3) for number, b in enumerate(second)]
    (found,) = findings(study({"type": "concordance", "metrics": ["a", "b"]}), runs)
    assert found.single == pytest.approx(dict.fromkeys(range(3), share))
    assert (found.value, found.over, found.count, found.reading) == (pytest.approx(share), "seeds", 3, reading)


def test_concordance_compares_arms_of_one_seed_only():
    """Between seeds, both metrics rise together; within each, they do not."""
    runs = [run(f"arm-{arm}", seed, a=10.0 * seed + arm, b=10.0 * seed - arm) for seed in range(4) for arm in range(3)]
    (found,) = findings(study({"type": "concordance", "metrics": ["a", "b"]}), runs)
    assert found.value == 0.0


def test_a_seed_with_one_arm_has_no_pairs():
    runs = [run("vq", 0, a=1.0, b=1.0), run("vq", 1, a=1.0, b=1.0), run("fsq", 1, a=2.0, b=None)]
    (found,) = findings(study({"type": "concordance", "metrics": ["a", "b"]}), runs)
    assert (found.value, found.count, found.reading) == (None, 0, "not tested")
