import numpy as np
import pytest

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.density import quality_density, tokdense
from visiontok.evaluation.metrics.information_capacity import information_capacity_style
from visiontok.evaluation.metrics.rate_distortion import token_use
from visiontok.evaluation.metrics.rates import per_second


def test_amounts_per_second():
    # 8 codebooks of 1024 codes at 75 positions a second, in ten seconds at 24 kHz
    assert per_second(8 * 10 * 750, units=240_000, rate=24_000) == 6000


def test_densities_divide_means_not_samples():
    correct, tokens = [1, 0, 1, 1], [10, 10, 10, 70]
    assert quality_density(100 * np.asarray(correct), tokens) == 75 / 25
    assert quality_density([30.0, 20.0], [100, 300]) == 25 / 200
    assert tokdense([50.0], [32]).tolist() == [50 / 32]


def test_use_of_tokens():
    use = token_use([2, 0, 4])
    assert (use.mean, use.lowest, use.quartiles, use.highest) == (2, 0, (1, 2, 3), 4)


def test_compression_gain_over_cost():
    gain = {"raw_bits": 1000.0, "coded_bits": 600.0, "symbols": 100, "flops": 1e6}
    assert information_capacity_style(**gain, scale="identity") == pytest.approx(4 / 1e4)
    assert information_capacity_style(**gain) == pytest.approx(4 / np.log(1e4))
    assert information_capacity_style(**{**gain, "coded_bits": 1100.0}) < 0
    with pytest.raises(EvaluationError, match="no positive logarithm"):
        information_capacity_style(**{**gain, "flops": 50})
    with pytest.raises(EvaluationError, match="must be positive"):
        information_capacity_style(**{**gain, "symbols": 0})
