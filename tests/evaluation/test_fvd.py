from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from visiontok.base.errors import CheckpointError, ConfigError, EvaluationError
from visiontok.evaluation.features.i3d import I3D, I3DLarp, I3DOmniTokenizer, I3DPipeline, I3DStyleGANV, I3DVideoGPT, prepare_clips
from visiontok.evaluation.features.i3d_network import I3DNetwork
from visiontok.evaluation.features.weight_files import LoadedWeights
from visiontok.evaluation.metrics.entries.frechet import distance_of_sides
from visiontok.evaluation.metrics.moments import Moments
from visiontok.signals import SignalSpec

CLIPS = SignalSpec(modality="video", channels=3, low=0, high=1)
PIPELINES = (I3DVideoGPT, I3DStyleGANV, I3DLarp, I3DOmniTokenizer)


def clips(count: int, seed: int = 0, frames: int = 17, size: tuple[int, int] = (24, 32)) -> torch.Tensor:
    return torch.rand(count, 3, frames, *size, generator=torch.Generator().manual_seed(seed))


def pipeline(kind: type[I3D], features):
    """An extractor of this kind with another network."""

    class Stub(kind):
        def load(self, weights):
            return torch.nn.Identity(), "0" * 64

        def logits(self, clips):
            return features(clips)

    return Stub()


def means(prepared: torch.Tensor) -> torch.Tensor:
    assert prepared.shape[1:] in ((3, 16, 224, 224), (3, 17, 224, 224))
    return prepared.mean(dim=(2, 3, 4))


def moments(features: torch.Tensor):
    moments = Moments()
    moments.update(features)
    return moments.compute()


def test_preparing_a_clip() -> None:
    clip = clips(2, frames=10)
    clip[0, 0, 0] = 2.0  # outside the range, clamped
    for kind in PIPELINES:
        prepared = prepare_clips(clip, resize=kind.pipeline.resize, quantize=kind.pipeline.quantize)
        assert prepared.shape == (2, 3, 10, 224, 224)
        assert prepared.abs().max() < 1 + 1e-5
        torch.testing.assert_close(prepared[0, 0, 0], torch.ones(224, 224))
    levels = (prepare_clips(clips(1, frames=10, size=(224, 224)), resize="squash", quantize=True) + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert (levels.round() / 255 <= clips(1, frames=10, size=(224, 224)) + 1e-6).all()  # truncated, not rounded


def test_squashing_and_cropping_see_different_parts() -> None:
    gradient = torch.linspace(0, 1, 448).expand(1, 3, 10, 224, 448)
    squashed, cropped = (prepare_clips(gradient, resize=resize, quantize=False)[0, 0, 0, 0] for resize in ("squash", "short-side"))
    assert squashed[0] < -0.99
    assert squashed[-1] > 0.99
    assert cropped[0] == pytest.approx(-0.5, abs=0.01)
    assert cropped[-1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", PIPELINES)
def test_equal_clips_have_no_distance_and_it_is_called_fvd(kind) -> None:
    extractor = pipeline(kind, means)
    side = moments(extractor(clips(6)))
    found = distance_of_sides(side, side, extractor=extractor, reference_side="the same")
    assert found.value == pytest.approx(0, abs=1e-10)
    assert extractor.title(found.key) == f"FVD[{kind.name}]"
    assert extractor.takes(CLIPS)
    assert not extractor.takes(CLIPS.replace(modality="image"))
    assert len({pipeline(other, means).identity for other in PIPELINES}) == 4


def test_the_biased_covariance_gives_another_number() -> None:
    def first_values(prepared):
        return prepared.flatten(1)[:, :2]

    larp = pipeline(I3DLarp, first_values)
    sides = [moments(larp(clips(6, seed=seed))) for seed in (0, 1)]
    biased = distance_of_sides(*sides, extractor=larp).value
    unbiased = distance_of_sides(*sides, extractor=pipeline(I3DOmniTokenizer, first_values)).value
    gap = np.square(sides[0].mean - sides[1].mean).sum()
    assert biased - gap == pytest.approx((unbiased - gap) * 5 / 6, rel=1e-6)


def test_clips_that_the_network_cannot_read_are_refused() -> None:
    extractor = pipeline(I3DVideoGPT, means)
    for wrong in (clips(1, frames=15), clips(1)[0], clips(1)[:, :2]):
        with pytest.raises(EvaluationError, match=str(wrong.shape[2]) if wrong.ndim == 5 and wrong.shape[1] == 3 else r"\(B, 3, T, H, W\)"):
            extractor(wrong)


def test_the_network_reads_its_published_names() -> None:
    torch.manual_seed(0)
    tensors = I3DNetwork().state_dict()
    names = {name.rpartition(".")[0] for name in tensors}
    assert {"Conv3d_1a_7x7.conv3d", "Conv3d_2c_3x3.bn", "Mixed_3b.b1b.conv3d", "Mixed_5c.b3b.bn", "logits.conv3d"} <= names
    assert tensors["Mixed_4f.b2b.conv3d.weight"].shape == (128, 32, 3, 3, 3)
    assert tensors["logits.conv3d.bias"].shape == (400,)
    extractor = I3DVideoGPT(weights=LoadedWeights(tensors, "0" * 64))
    assert extractor(clips(1)).shape == (1, 400)
    assert extractor.title("FD[]") == "FD[i3d-videogpt]"  # over weights that nobody published


def test_longer_clips_are_read_from_their_beginning() -> None:
    extractor = pipeline(I3DLarp, means)
    assert torch.equal(extractor(clips(2, frames=17)), extractor(clips(2, frames=17)[:, :, :16]))


def test_a_pipeline_is_named_by_its_choices_and_differs_from_all_others() -> None:
    options = [{}, {"frames": 17}, {"network": "styleganv"}, {"resize": "squash"}, {"quantize": False}, {"unbiased": False}]
    pipelines = [I3DPipeline.parse(each) for each in options]
    assert len({each.name for each in pipelines}) == len(options)
    assert I3DPipeline.parse({"weights": "/elsewhere/i3d.pt"}).name == pipelines[0].name
    with pytest.raises(ConfigError, match=r"frames.*9"):
        I3DPipeline.parse({"frames": 9})


@pytest.mark.parametrize("network", ["videogpt", "styleganv"])
def test_only_the_published_files_are_read(network: str, tmp_path: Path) -> None:
    torch.save(I3DNetwork().state_dict(), tmp_path / "i3d.pt")
    with pytest.raises(
        CheckpointError, match=r"its SHA-1 in git is \w{40}" if network == "videogpt" else r"its SHA-256 is \w{64}, expected bec6519f"
    ):
        I3D(I3DPipeline.parse({"network": network, "weights": str(tmp_path / "i3d.pt")}))


def test_the_distance_equals_that_of_both_published_square_roots() -> None:
    random = np.random.default_rng(0)
    sides = [random.normal(size=(300, 20)) @ random.normal(size=(20, 20)) + shift for shift in (0, 0.3)]
    (mean1, root1), (mean2, root2) = ((side.mean(axis=0), np.cov(side.T)) for side in sides)

    def symmetric_root(matrix: np.ndarray) -> np.ndarray:
        u, s, v = np.linalg.svd(matrix)
        return u @ np.diag(np.where(s < 1e-10, s, np.sqrt(s))) @ v

    gap = np.square(mean1 - mean2).sum() + np.trace(root1) + np.trace(root2)
    styleganv = gap - 2 * np.trace(sqrtm(root1 @ root2)).real
    half = symmetric_root(root1)
    videogpt = gap - 2 * np.trace(symmetric_root(half @ root2 @ half))
    found = distance_of_sides(*(moments(torch.from_numpy(side)) for side in sides), extractor=pipeline(I3DVideoGPT, means)).value
    assert found == pytest.approx(styleganv, rel=1e-6)
    assert found == pytest.approx(videogpt, rel=1e-6)
