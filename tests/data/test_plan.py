"""Which samples make up which step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import ConfigError
from visiontok.data.plan import BatchPlan, augmentation_rng

plans = st.builds(BatchPlan, num_samples=st.integers(1, 40), batch_size=st.integers(1, 17), seed=st.integers(0, 2**40), shuffle=st.booleans())


@given(plans, st.integers(0, 5))
def test_every_epoch_holds_every_sample_once(plan: BatchPlan, epoch: int) -> None:
    last = (epoch + 1) * plan.num_samples // plan.batch_size + 1
    seen = [index for step in range(last) for e, index in plan.slots(step) if e == epoch]
    assert sorted(seen) == list(range(plan.num_samples))


@given(plans, st.integers(0, 10**9))
def test_a_step_is_a_pure_function_of_the_seed(plan: BatchPlan, step: int) -> None:
    other = BatchPlan(plan.num_samples, plan.batch_size, seed=plan.seed, shuffle=plan.shuffle)
    assert len(plan.slots(step)) == plan.batch_size
    assert other.slots(step) == plan.slots(step)


def test_seeds_and_epochs_give_other_orders_and_no_shuffling_none() -> None:
    def epoch(plan: BatchPlan, number: int) -> list[int]:
        return [index for _, index in plan.slots(number)]

    plan, other = BatchPlan(50, 50, seed=1), BatchPlan(50, 50, seed=2)
    assert epoch(plan, 0) != epoch(plan, 1)
    assert epoch(plan, 0) != epoch(other, 0)
    assert epoch(BatchPlan(50, 50, shuffle=False), 3) == list(range(50))


def test_augmentation_draws_differ_by_seed_epoch_and_sample() -> None:
    draws = {augmentation_rng(*key).random() for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]}
    assert len(draws) == 4
    assert augmentation_rng(5, 6, 7).random() == augmentation_rng(5, 6, 7).random()


def test_an_empty_plan_is_refused() -> None:
    for values in ((0, 4), (4, 0)):
        with pytest.raises(ConfigError, match="at least one"):
            BatchPlan(*values)
