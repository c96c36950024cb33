from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter

from visiontok.base.noise import GeneratorNoise, SampleNoise
from visiontok.decoders.flow.guidance import AdaptiveProjected, ClassifierFree, Guidance
from visiontok.decoders.flow.sampling import euler, guided, seeded_noise, starting_noise
from visiontok.decoders.flow.training import LogitNormalTimes, ModeTimes, estimate, flow_loss, mix


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_straight_flow_arrives_in_any_number_of_steps(steps):
    data, noise = torch.randn(4, 5), torch.randn(4, 5)
    seen = []

    def velocity(x, time):
        seen.append(float(time))
        return noise - data

    torch.testing.assert_close(euler(velocity, noise, steps=steps), data)
    assert seen == pytest.approx([step / steps for step in range(steps, 0, -1)])
    with pytest.raises(ValueError, match="0"):
        euler(velocity, noise, steps=0)


def test_the_true_velocity_has_no_loss_and_tells_the_data():
    data, noise, times = torch.randn(4, 2, 3), torch.randn(4, 2, 3), torch.rand(4)
    noisy = mix(data, noise, times)
    assert float(flow_loss(noise - data, data, noise).max()) == 0
    torch.testing.assert_close(estimate(noisy, noise - data, times), data, atol=1e-5, rtol=1e-5)
    assert torch.equal(mix(data, noise, torch.zeros(4)), data)
    assert torch.equal(mix(data, noise, torch.ones(4)), noise)


def test_guidance_sees_the_same_samples_with_and_without_condition():
    velocity = guided(lambda x, time: 2 * x, lambda x, time: x + time, ClassifierFree(scale=3.0))
    x = torch.randn(2, 3)
    torch.testing.assert_close(velocity(x, torch.ones(1)), (x + 1) + 3 * (x - 1))


def test_adaptive_projected_guidance_adds_only_what_is_orthogonal_and_bounded():
    conditional, unconditional = torch.randn(3, 4, 4), 10 * torch.randn(3, 4, 4)
    added = AdaptiveProjected(scale=3.0).start()(conditional, unconditional) - conditional
    assert (added * conditional).flatten(1).sum(dim=1).abs().max() < 1e-4
    assert added.flatten(1).norm(dim=1).max() <= 2 * 2.5 + 1e-4
    small = 1e-3 * unconditional + conditional
    free = AdaptiveProjected(scale=3.0).start()(conditional, small) - conditional
    assert not torch.allclose(free.flatten(1).norm(dim=1), torch.full((3,), 5.0), atol=0.1)


def test_momentum_remembers_one_run_only():
    rule = AdaptiveProjected(scale=2.0, momentum=-0.5, norm_threshold=1e9)
    conditional, unconditional = torch.randn(1, 6), torch.randn(1, 6)
    run = rule.start()
    first, second = run(conditional, unconditional), run(conditional, unconditional)
    torch.testing.assert_close(second - conditional, 0.5 * (first - conditional))
    assert torch.equal(rule.start()(conditional, unconditional), first)
    assert TypeAdapter(Guidance).validate_python(rule.to_dict()) == rule


def test_noise_of_a_sample_does_not_depend_on_its_batch():
    assert torch.equal(seeded_noise([7, 3, 7], (2, 2))[1], seeded_noise([3], (2, 2))[0])
    assert torch.equal(seeded_noise([7, 3, 7], (2, 2))[0], seeded_noise([7, 3, 7], (2, 2))[2])
    indices = torch.tensor([[3, 1], [-1, -1]])
    assert torch.equal(starting_noise(indices, (2, 2), None), seeded_noise([3, 0], (2, 2)))
    drawn = starting_noise(indices, (2, 2), SampleNoise(5, [4, 9]))
    assert torch.equal(starting_noise(indices[1:], (2, 2), SampleNoise(5, [9])), drawn[1:])


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [
        (ModeTimes(mode_scale=0.0), 0.5),
        (ModeTimes(), 0.6),
        (LogitNormalTimes(), 0.729),
        (LogitNormalTimes(stratified=True), 0.729),
        (LogitNormalTimes(mean=2.0), 0.182),
        (LogitNormalTimes(deviation=0.5, stratified=True), 0.972),
    ],
)
def test_times_come_as_often_as_the_schedule_says(schedule, middle):
    """Share of the times between a quarter and three quarters."""
    times = schedule.draw(20_000, GeneratorNoise(torch.Generator().manual_seed(0), torch.device("cpu")))
    assert 0 <= float(times.min()) <= float(times.max()) <= 1
    assert ((times > 0.25) & (times < 0.75)).float().mean().item() == pytest.approx(middle, abs=0.05 if isinstance(schedule, ModeTimes) else 0.015)


def test_stratified_times_cover_every_part():
    noise = GeneratorNoise(torch.Generator().manual_seed(0), torch.device("cpu"))
    spread = torch.special.ndtr(torch.logit(LogitNormalTimes(stratified=True).draw(8, noise)))
    assert (spread * 8).long().tolist() == list(range(8))
