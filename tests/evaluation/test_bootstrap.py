import numpy as np
import pytest

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, bootstrap_mean


def test_about_as_many_intervals_as_promised_hold_the_truth() -> None:
    draw = np.random.default_rng(0)
    config = BootstrapConfig(resamples=300, confidence=0.9)
    held = 0
    for _ in range(300):
        interval = bootstrap_mean(draw.exponential(2.0, size=60), config)
        held += interval.low <= 2.0 <= interval.high
    assert 0.82 < held / 300 < 0.94


def test_width_shrinks_with_n_and_seed_decides() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    few, many = bootstrap_mean(values[:100], BootstrapConfig()), bootstrap_mean(values, BootstrapConfig())
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(np.sqrt(40), rel=0.25)
    assert bootstrap_mean(values, BootstrapConfig()) == many
    assert bootstrap_mean(values, BootstrapConfig(seed=1)) != many
    assert many.samples == 4000


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=50)
    whole = bootstrap_mean(values, BootstrapConfig())
    monkeypatch.setattr("visiontok.evaluation.metrics.bootstrap._BLOCK", 1000)
    assert bootstrap_mean(values, BootstrapConfig()) == whole


def test_degenerate_values() -> None:
    assert bootstrap_mean(np.asarray([1.0]), BootstrapConfig()) is None
    constant = bootstrap_mean(np.ones(10), BootstrapConfig())
    assert (constant.low, constant.high) == (1, 1)
    with pytest.raises(EvaluationError, match="finite"):
        bootstrap_mean(np.asarray([1.0, np.inf]), BootstrapConfig())
