import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import v2

from visiontok.base.errors import EvaluationError, UnknownNameError
from visiontok.evaluation.features import EXTRACTORS
from visiontok.evaluation.features.protocol import PROTOCOLS, center_crop, find_protocol, resize_for_inception, signed_to_uint8, to_uint8


def random_image(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (333, 50), (50, 51), (20, 30)])
@pytest.mark.parametrize(("crop", "mode"), [("resize-bicubic", "bicubic"), ("resize-bilinear", "bilinear"), ("resize-lanczos", "lanczos")])
def test_crops_equal_torchvision_on_images(size: tuple[int, int], crop: str, mode: str) -> None:
    image = random_image(*size)
    expected = v2.Compose([v2.Resize(32, interpolation=v2.InterpolationMode(mode)), v2.CenterCrop(32)])(image)
    np.testing.assert_array_equal(np.asarray(center_crop(image, 32, crop=crop)), np.asarray(expected))


@pytest.mark.parametrize("size", [(64, 64), (63, 200), (300, 129), (20, 31)])
def test_the_adm_crop_is_square_and_exact_at_its_own_size(size: tuple[int, int]) -> None:
    assert center_crop(random_image(*size), 32, crop="adm").size == (32, 32)
    image = random_image(32, 32)
    np.testing.assert_array_equal(np.asarray(center_crop(image, 32, crop="adm")), np.asarray(image))


def test_rounding_keeps_every_level_where_truncation_loses_some() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    returned = ((levels.float() / 255 - 0.5) / 0.5 + 1) / 2
    for cast in ("round", "half-up"):
        assert torch.equal(to_uint8(returned, cast=cast), levels)
    assert torch.equal(signed_to_uint8(returned * 2 - 1), levels)
    lost = levels.int() - to_uint8(returned, cast="trunc").int()
    assert set(lost.tolist()) == {0, 1}


def test_casts_clamp_and_refuse_what_is_not_a_number() -> None:
    assert to_uint8(torch.tensor([-0.5, 1.5])).tolist() == [0, 255]
    assert signed_to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    with pytest.raises(EvaluationError, match="not finite"):
        to_uint8(torch.tensor([float("nan")]))
    with pytest.raises(EvaluationError, match="no cast 'floor'"):
        to_uint8(torch.zeros(1), cast="floor")


@pytest.mark.parametrize("size", [(24, 20), (330, 299)])
def test_resizes(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = resize_for_inception(image, rule="torch-bilinear")
    torch.testing.assert_close(plain, F.interpolate(image.float(), (299, 299), mode="bilinear"))
    others = [resize_for_inception(image, rule=rule) for rule in ("tf1-bilinear", "torch-bilinear-antialias", "clean")]
    for other in others:
        assert other.shape == plain.shape
        assert other.dtype == torch.float32
        assert other.min() >= 0
        assert other.max() <= 255
        assert (other - plain).abs().max() > 0.1 or (size[0] < 299 and other is others[1])


def test_the_tensorflow_rule_by_hand() -> None:
    image = torch.tensor([[0, 100], [200, 40]], dtype=torch.uint8).expand(1, 3, 2, 2)
    rows = resize_for_inception(image, rule="tf1-bilinear", size=4)[0, 0]
    assert rows[0].tolist() == [0, 50, 100, 100]  # sources 0, 0.5, 1, 1.5: no half-pixel offset, the border repeats
    assert rows[:, 0].tolist() == [0, 100, 200, 200]


def test_resize_refusals() -> None:
    with pytest.raises(EvaluationError, match="uint8"):
        resize_for_inception(torch.zeros(1, 3, 4, 4), rule="clean")
    with pytest.raises(EvaluationError, match="no resize 'area'"):
        resize_for_inception(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), rule="area")


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (33, 32), (20, 30), (21, 50)])
def test_the_center_crop_equals_torchvisions(size: tuple[int, int]) -> None:
    image = random_image(*size)
    np.testing.assert_array_equal(np.asarray(center_crop(image, 32, crop="center")), np.asarray(v2.CenterCrop(32)(image)))


def test_published_protocols_are_told_apart() -> None:
    assert list(PROTOCOLS) == ["titok", "adm", "pytorch-fid", "clean"]
    assert len({protocol.identity for protocol in PROTOCOLS.values()}) == 4
    for protocol in PROTOCOLS.values():
        assert protocol.extractor in EXTRACTORS
        assert "training" not in protocol.reconstruction_reference
    titok = find_protocol("titok")
    assert titok.replace(differs="something").identity == titok.identity
    assert titok.replace(cast="trunc").identity != titok.identity
    with pytest.raises(UnknownNameError, match="Did you mean titok"):
        find_protocol("tiktok")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_cuts_and_casts(name: str) -> None:
    protocol = find_protocol(name)
    image = random_image(97, 131)
    cut = protocol.prepare(image, 32)
    assert cut.size == ((97, 131) if protocol.crop == "none" else (32, 32))
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(protocol.pixels(levels.float() / 255), levels)


def test_protocols_disagree_on_the_same_image() -> None:
    image = random_image(97, 131)
    cuts = {name: np.asarray(find_protocol(name).prepare(image, 32)) for name in ("titok", "adm", "pytorch-fid")}
    assert (cuts["titok"] != cuts["adm"]).any()
    assert (cuts["titok"] != cuts["pytorch-fid"]).any()
    between = torch.tensor([100.6 / 255])
    assert find_protocol("titok").pixels(between).tolist() == find_protocol("adm").pixels(between).tolist() == [101]
    assert find_protocol("pytorch-fid").pixels(between).tolist() == [100]
