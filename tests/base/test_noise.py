from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visiontok.base.noise import GeneratorNoise, Noise, RecordedNoise, SampleNoise, as_noise, for_parts, integers, selected

CPU = torch.device("cpu")
SAMPLES = 500


def sources() -> dict[str, Noise]:
    return {"generator": GeneratorNoise(torch.Generator().manual_seed(0), CPU), "samples": SampleNoise(0, range(SAMPLES))}


def every_draw(noise: Noise, samples: int) -> dict[str, Tensor]:
    return {
        "uniform": noise.uniform(samples, 4),
        "exponential": noise.exponential(samples, 2, 3),
        "normal": noise.normal(samples, 17),
        "permutation": noise.permutation(samples, 9),
        "integers": integers(noise, 7, samples, 5),
        "scalar": noise.uniform(samples),
        "wide": noise.normal(samples, 3, dtype=torch.float64),
    }


@pytest.fixture
def half_default():
    torch.set_default_dtype(torch.float16)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("source", sources())
def test_moments(source: str) -> None:
    noise = sources()[source]
    uniform, exponential, normal = noise.uniform(SAMPLES, 200), noise.exponential(SAMPLES, 200), noise.normal(SAMPLES, 200)
    for draws, mean, deviation in ((uniform, 0.5, 12**-0.5), (exponential, 1.0, 1.0), (normal, 0.0, 1.0)):
        assert draws.mean().item() == pytest.approx(mean, abs=0.02)
        assert draws.std().item() == pytest.approx(deviation, abs=0.02)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert exponential.min() > 0


@pytest.mark.parametrize("source", sources())
def test_permutations_are_equally_likely(source: str) -> None:
    drawn = torch.cat([sources()[source].permutation(SAMPLES, 3)])
    assert drawn.dtype == torch.int64
    orders, counts = drawn.unique(dim=0, return_counts=True)
    assert len(orders) == 6
    assert torch.equal(orders.sort(dim=1).values, torch.arange(3).expand(6, 3))
    assert (counts / SAMPLES).tolist() == pytest.approx([1 / 6] * 6, abs=0.06)


@pytest.mark.parametrize("source", sources())
def test_permutations_of_one_position_and_of_none(source: str) -> None:
    noise = sources()[source]
    assert torch.equal(noise.permutation(SAMPLES, 1), torch.zeros(SAMPLES, 1, dtype=torch.int64))
    assert noise.permutation(SAMPLES, 0).shape == (SAMPLES, 0)


@pytest.mark.parametrize("high", [1, 5, 2**14])
def test_integers_are_equally_likely(high: int) -> None:
    drawn = integers(sources()["generator"], high, 100_000)
    assert drawn.dtype == torch.int64
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < high
    assert drawn.double().mean().item() == pytest.approx((high - 1) / 2, abs=0.01 * high)
    if high <= 5:
        assert torch.bincount(drawn, minlength=high).div(100_000).tolist() == pytest.approx([1 / high] * high, abs=0.01)


def test_integers_stay_below_high_where_the_product_rounds_up() -> None:
    almost_one = torch.tensor([1 - 2**-24], dtype=torch.float32)
    for high in (3, 2**12):
        assert integers(RecordedNoise(uniform=[almost_one]), high, 1).tolist() == [high - 1]


def test_a_recorded_integer_is_played_back() -> None:
    for high in (1, 7, 4096, 10_000):
        ranks = torch.arange(high)
        assert torch.equal(integers(RecordedNoise(uniform=[(ranks + 0.5) / high]), high, high), ranks)


@pytest.mark.parametrize("high", [0, -3])
def test_integers_below_one_are_refused(high: int) -> None:
    with pytest.raises(ValueError, match=str(high)):
        integers(sources()["generator"], high, 2)


def test_a_samples_draws_depend_on_neither_batch_nor_order() -> None:
    whole = every_draw(SampleNoise((7, 3), range(5)), 5)
    part = every_draw(SampleNoise((7, 3), [3, 1]), 2)
    for name, draws in whole.items():
        assert torch.equal(part[name], draws[[3, 1]]), name
    assert not torch.equal(SampleNoise((7, 4), range(5)).uniform(5, 4), whole["uniform"])
    assert len(whole["uniform"].unique()) == whole["uniform"].numel()


@pytest.mark.parametrize("shape", [(3, 1), (), (1,)])
def test_a_source_for_other_samples_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 samples"):
        SampleNoise(0, range(2)).uniform(*shape)


@pytest.mark.parametrize("source", sources())
def test_the_default_dtype_changes_nothing(source: str, request: pytest.FixtureRequest) -> None:
    expected = every_draw(sources()[source], SAMPLES)
    request.getfixturevalue("half_default")
    for name, draws in every_draw(sources()[source], SAMPLES).items():
        assert draws.dtype == expected[name].dtype, name
        assert torch.equal(draws, expected[name]), name


@pytest.mark.parametrize("source", sources())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_types_narrower_than_float32_are_refused(source: str, dtype: torch.dtype) -> None:
    noise = sources()[source]
    for draw in (noise.uniform, noise.exponential, noise.normal, RecordedNoise(normal=[torch.zeros(SAMPLES)]).normal):
        with pytest.raises(ValueError, match=str(dtype)):
            draw(SAMPLES, dtype=dtype)


def test_recorded_draws_are_played_back_in_order() -> None:
    recorded = {name: [torch.rand(2, 3), torch.rand(4)] for name in ("uniform", "exponential", "normal")}
    orders = torch.tensor([[1, 0, 2], [2, 1, 0]])
    noise = RecordedNoise(**recorded, permutation=[orders])
    for name, (first, second) in recorded.items():
        assert torch.equal(getattr(noise, name)(2, 3), first)
        assert torch.equal(getattr(noise, name)(4, dtype=torch.float64), second.double())
    assert torch.equal(noise.permutation(2, 3), orders)


@pytest.mark.parametrize("name", ["uniform", "exponential", "normal"])
def test_recorded_draws_of_another_shape_and_beyond_the_last_are_refused(name: str) -> None:
    noise = RecordedNoise(**{name: [torch.ones(2, 3)]})
    with pytest.raises(ValueError, match=rf"{name}.*\(2, 3\)"):
        getattr(noise, name)(2)
    with pytest.raises(ValueError, match=f"{name}.*used up"):
        getattr(noise, name)(2, 3)


def test_recorded_permutations_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3\)"):
        RecordedNoise(permutation=[torch.arange(3)[None]]).permutation(2, 3)


def test_a_torch_generator_and_the_global_state_make_noise_repeatable() -> None:
    draws = [as_noise(torch.Generator().manual_seed(5), CPU).uniform(3) for _ in range(2)]
    assert torch.equal(*draws)
    torch.manual_seed(5)
    assert torch.equal(as_noise(None, CPU).uniform(3), draws[0])


def test_a_source_is_read_as_it_is() -> None:
    recording = RecordedNoise(uniform=[torch.rand(3), torch.rand(3)], permutation=[torch.arange(2)[None]])
    noise = as_noise(as_noise(recording, CPU), CPU)
    first = noise.uniform(3)
    assert not torch.equal(as_noise(noise, CPU).uniform(3), first)
    assert noise.permutation(1, 2).tolist() == [[0, 1]]
    samples = SampleNoise(0, range(2))
    assert as_noise(samples, CPU) is samples


def test_draws_lie_on_the_device_that_reads_them() -> None:
    meta = torch.device("meta")
    for source in (torch.Generator().manual_seed(0), SampleNoise(0, range(2)), RecordedNoise(uniform=[torch.rand(2, 3)])):
        assert as_noise(source, meta).uniform(2, 3).device == meta


def test_a_part_of_a_batch_keeps_its_streams() -> None:
    whole, rows = SampleNoise(3, range(5)), torch.tensor([4, 1])
    first = SampleNoise(3, range(5)).uniform(5, 2)
    assert torch.equal(whole.uniform(5, 2), first)
    part = selected(whole, rows)
    assert torch.equal(part.normal(2, 3), streams_after(3, first.shape).normal(5, 3)[rows])
    generator = torch.Generator().manual_seed(0)
    assert selected(generator, rows) is generator
    assert selected(None, rows) is None
    moved = selected(as_noise(SampleNoise(3, range(5)), torch.device("meta")), rows)
    assert moved.uniform(2, 2).device == torch.device("meta")


def streams_after(seed: int, drawn: torch.Size) -> SampleNoise:
    """Streams from which uniform draws of that shape were made."""
    noise = SampleNoise(seed, range(drawn[0]))
    noise.uniform(*drawn)
    return noise


def test_the_parts_of_a_sample_draw_from_its_stream():
    draws = {"uniform": (3,), "normal": (3,), "exponential": (3,)}
    for name, rest in draws.items():
        both = getattr(for_parts(SampleNoise(0, [4, 7]), 5), name)(10, *rest)
        alone = getattr(for_parts(SampleNoise(0, [7]), 5), name)(5, *rest)
        assert torch.equal(both[5:], alone)
        assert torch.equal(both.unflatten(0, (2, 5)), getattr(SampleNoise(0, [4, 7]), name)(2, 5, *rest))
    orders = for_parts(SampleNoise(0, [4, 7]), 5).permutation(10, 6)
    assert torch.equal(orders[5:], for_parts(SampleNoise(0, [7]), 5).permutation(5, 6))
    assert len({tuple(order) for order in orders.tolist()}) > 5
    assert for_parts(None, 5) is None


@pytest.mark.parametrize("source", [0, "seed", torch.zeros(3)])
def test_what_is_no_source_of_draws_is_refused_by_name(source: object) -> None:
    with pytest.raises(TypeError, match=r"is no source of draws: give SampleNoise\(seed, samples\)"):
        as_noise(source, CPU)  # type: ignore[arg-type]
