import shutil
from types import SimpleNamespace

import pytest
import torch
from selected import batch, selected, values
from torchvision.models import alexnet
from torchvision.models.vgg import cfgs, make_layers

from visiontok.base.errors import CheckpointError
from visiontok.evaluation.features.weight_files import WeightFile
from visiontok.evaluation.metrics import perceptual
from visiontok.evaluation.metrics.dists import CHANNELS, Dists
from visiontok.losses.perceptual import LpipsDistance


@pytest.fixture(scope="module")
def vgg() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"features.{key}": value for key, value in make_layers(cfgs["D"]).state_dict().items()}


def learned() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(1, sum(CHANNELS), 1, 1, generator=generator) for name in ("alpha", "beta")}


def pair(side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    first = torch.rand(2, 3, side, side + 5, generator=generator)
    return first, (first + 0.2 * torch.randn(first.shape, generator=generator)).clamp(0, 1)


def test_dists_equals_torchmetrics(vgg, monkeypatch):
    from torchmetrics.functional.image import dists

    features = make_layers(cfgs["D"])
    features.load_state_dict({key.removeprefix("features."): value for key, value in vgg.items()})
    monkeypatch.setattr(dists, "vgg16", lambda weights: SimpleNamespace(features=features))
    theirs = dists.DISTSNetwork(load_weights=False)
    weights = learned()
    theirs.alpha.data, theirs.beta.data = weights["alpha"], weights["beta"]
    ours = Dists(vgg, weights)
    torch.testing.assert_close(ours(*pair()), theirs(*pair()).flatten().detach(), rtol=1e-4, atol=1e-5)


def test_dists_of_an_image_with_itself_is_zero_and_does_not_depend_on_the_order(vgg):
    distance = Dists(vgg, learned())
    first, second = pair()
    assert distance(first, first).abs().max() < 1e-5
    assert distance(first, second).min() > 1e-3
    torch.testing.assert_close(distance(first, second), distance(second, first))


def test_dists_refuses_other_weights(vgg):
    with pytest.raises(CheckpointError, match="do not belong to DISTS"):
        Dists({"features.0.weight": torch.zeros(1)}, learned())
    with pytest.raises(CheckpointError, match="'beta'"):
        Dists(vgg, {"alpha": torch.zeros(1, 1475, 1, 1)})


def test_lpips_is_a_metric_of_each_image():
    torch.manual_seed(0)
    distance = LpipsDistance(alexnet(weights=None).state_dict(), net="alex")
    first, second = pair(64)
    values = distance(first, second)
    assert values.shape == (2,)
    assert values.min() > 0
    assert distance(first, first).abs().max() == 0
    torch.testing.assert_close(distance(first[1:], second[1:]), values[1:])
    # the range matters: what a caller gets who passes [0, 1] as if it were [-1, 1]
    assert (distance.net(first, second).flatten() - values).abs().min() > 1e-4
    with pytest.raises(CheckpointError, match="do not belong"):
        LpipsDistance({"features.0.weight": torch.zeros(1)}, net="alex")


def test_metrics_take_their_weights_from_the_folder(vgg, tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONTOK_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for function in (perceptual.dists_network, perceptual.lpips_network):
        function.cache_clear()
    with pytest.raises(CheckpointError, match=r"vgg16-397923af\.pth \(528 MB, license: .*ImageNet\) are missing"):
        selected(["dists"])
    with pytest.raises(CheckpointError, match=r"alexnet-owt-7be5be79\.pth \(233 MB"):
        selected(["lpips.alex"])
    unchecked = WeightFile("vgg.pth", "1 MB", "", "nowhere", "none")
    monkeypatch.setitem(perceptual.BACKBONES, "vgg", unchecked)
    monkeypatch.setattr(perceptual, "DISTS_WEIGHTS", WeightFile("dists.pt", "12 kB", "", "nowhere", "none"))
    torch.save(vgg, tmp_path / "vgg.pth")
    torch.save(learned(), tmp_path / "dists.pt")
    running, _ = selected(["dists"])
    first, second = ((images * 255).round().to(torch.uint8) for images in pair())
    running.update(batch(torch.tensor([1, 0]), first, second))
    (value,) = values(running).values()
    expected = Dists(vgg, learned())(first / 255, second / 255)
    assert value.value == pytest.approx(float(expected.mean()), rel=1e-6)
    assert value.name == "dists"
    assert "backbone" in value.protocol
    shutil.rmtree(tmp_path)
    for function in (perceptual.dists_network, perceptual.lpips_network):
        function.cache_clear()
