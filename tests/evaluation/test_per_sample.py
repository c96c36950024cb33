import numpy as np
import pytest
import torch

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.per_sample import PerSample


def test_any_order_of_rows_gives_the_same_table() -> None:
    values = np.random.default_rng(0).normal(size=(10, 2))
    whole, shards = PerSample(), [PerSample(), PerSample(), PerSample()]
    whole.update(range(10), {"mse": values[:, 0], "digest": values})
    for rank in (0, 1):
        for number in range(rank, 10, 2):
            shards[rank].update([number], {"mse": torch.tensor(values[number : number + 1, 0]), "digest": values[number : number + 1]})
    shards[1].merge(shards[2])  # a rank without samples
    shards[1].merge(shards[0])
    restored = PerSample()
    restored.load_state(shards[1].state())
    for name, column in whole.compute().items():
        np.testing.assert_array_equal(restored.compute()[name], column)


def test_a_sample_that_was_counted_twice_is_an_error() -> None:
    table = PerSample()
    table.update([0, 1], {"mse": [1.0, 2.0]})
    table.update([1], {"mse": [2.0]})
    with pytest.raises(EvaluationError, match="index 1"):
        table.compute()


def test_columns_must_fit() -> None:
    table = PerSample()
    with pytest.raises(EvaluationError, match="2 values of 'mse' were given for 1 samples"):
        table.update([0], {"mse": [1.0, 2.0]})
    table.update([0], {"mse": [1.0]})
    with pytest.raises(EvaluationError, match="columns"):
        table.update([1], {"psnr": [1.0]})


def test_an_empty_table_says_why() -> None:
    with pytest.raises(EvaluationError, match="no sample was evaluated"):
        PerSample().compute()
