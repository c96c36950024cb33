import numpy as np
import pytest
import torch

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics.fvd import FVD_PROTOCOLS, FrechetVideoDistance, prepare_clips


def clips(count: int, seed: int = 0, frames: int = 10, size: tuple[int, int] = (24, 32)) -> torch.Tensor:
    return torch.rand(count, 3, frames, *size, generator=torch.Generator().manual_seed(seed))


def means(prepared: torch.Tensor) -> torch.Tensor:
    """A stand-in for the network: three features."""
    assert prepared.shape[1:] == (3, 10, 224, 224)
    return prepared.mean(dim=(2, 3, 4)).double()


def test_preparing_a_clip():
    clip = clips(2)
    clip[0, 0, 0] = 2.0  # outside the range, clamped
    for protocol in FVD_PROTOCOLS.values():
        prepared = prepare_clips(clip, protocol)
        assert prepared.shape == (2, 3, 10, 224, 224)
        assert prepared.abs().max() < 1 + 1e-5
        torch.testing.assert_close(prepared[0, 0, 0], torch.ones(224, 224))
    levels = (prepare_clips(clips(1, size=(224, 224)), FVD_PROTOCOLS["omnitokenizer"]) + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert (levels.round() / 255 <= clips(1, size=(224, 224)) + 1e-6).all()  # truncated, not rounded


def test_squashing_and_cropping_see_different_parts():
    gradient = torch.linspace(0, 1, 448).expand(1, 3, 10, 224, 448)
    squashed, cropped = (prepare_clips(gradient, FVD_PROTOCOLS[name])[0, 0, 0, 0] for name in ("larp", "styleganv"))
    assert squashed[0] < -0.99
    assert squashed[-1] > 0.99
    assert cropped[0] == pytest.approx(-0.5, abs=0.01)
    assert cropped[-1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", FVD_PROTOCOLS)
def test_equal_clips_have_no_distance_and_shards_agree(name):
    protocol = FVD_PROTOCOLS[name]
    same = FrechetVideoDistance(means, protocol=protocol)
    same.update(clips(6), clips(6))
    assert same.compute() == pytest.approx(0, abs=1e-12)
    whole, first, second = (FrechetVideoDistance(means, protocol=protocol) for _ in range(3))
    whole.update(clips(6), clips(6, seed=1))
    first.update(clips(6)[:2], clips(6, seed=1)[:3])
    second.load_state(first.state())
    third = FrechetVideoDistance(means, protocol=protocol)
    third.update(clips(6)[2:], clips(6, seed=1)[3:])
    second.merge(third)
    assert second.compute() == pytest.approx(whole.compute(), rel=1e-12)
    assert whole.compute() > 0


def test_the_biased_covariance_gives_another_number():
    values = {}
    for name in ("larp", "omnitokenizer"):
        distance = FrechetVideoDistance(lambda x: x.flatten(1)[:, :2].double(), protocol=FVD_PROTOCOLS[name].replace(quantize=False))
        distance.update(clips(6), clips(6, seed=1))
        values[name] = distance.compute()
    features = [prepare_clips(clips(6, seed=seed), FVD_PROTOCOLS["larp"]).flatten(1)[:, :2].double().numpy() for seed in (0, 1)]
    gap = np.square(features[0].mean(0) - features[1].mean(0)).sum()
    assert (values["larp"] - gap) == pytest.approx((values["omnitokenizer"] - gap) * 5 / 6, rel=1e-9)


def test_mistakes_are_refused():
    protocol = FVD_PROTOCOLS["larp"]
    with pytest.raises(EvaluationError, match="clips of 9 frames are too short"):
        prepare_clips(clips(1, frames=9), protocol)
    with pytest.raises(EvaluationError, match=r"must be \(B, 3, T, H, W\)"):
        prepare_clips(clips(1)[0], protocol)
    distance = FrechetVideoDistance(means, protocol=protocol)
    distance.update(clips(3), clips(2))
    with pytest.raises(EvaluationError, match="3 real and 2 other clips"):
        distance.compute()
