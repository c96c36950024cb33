from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches
from PIL import Image

from visiontok.base.errors import ConfigError
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.features.protocol import PROTOCOLS, center_crop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for number, (height, width) in enumerate(((40, 60), (33, 47), (16, 16))):
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def suite(folder: Path, **changes) -> Suite:
    return Suite.parse({"name": "s", "data": {"name": "folder", "path": str(folder)}, "metrics": ["mse"], **changes})


class Halves(GrayPatches):
    """Returns every pixel as 100.7 / 255, whatever it is given."""

    def decode_tokens(self, tokens, options):
        return torch.full((len(tokens), 3, 16, 16), 100.7 / 255)


@pytest.mark.parametrize(("protocol", "level"), [(None, 101), ("titok", 101), ("pytorch-fid", 100), ("adm", 101)])
def test_a_protocol_decides_on_crop_and_rounding(folder: Path, protocol: str | None, level: int) -> None:
    result = evaluate_suite(suite(folder, protocol=protocol), Halves(), name="halves")
    errors = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            crop = PROTOCOLS[protocol].crop if protocol else "resize-bicubic"
            pixels = np.asarray(center_crop(image, 16, crop=crop), dtype=np.float64)
        errors.append(((pixels - level) ** 2).mean() / 255**2)
    value = result.value("mse")
    assert value.value == pytest.approx(np.mean(errors), rel=1e-3 if protocol is None else 1e-9)
    assert (f"protocol {protocol} (" if protocol else "cropped to the center") in value.protocol
    assert result.data.samples == 3


def test_a_protocol_that_cuts_nothing_skips_other_sizes(folder: Path) -> None:
    result = evaluate_suite(suite(folder, protocol="clean", size=16), GrayPatches(), name="gray")
    assert (result.data.samples, result.data.skipped_count) == (1, 2)
    assert "cuts nothing, and this image has 60 x 40 pixels, not 16" in result.data.skipped[0]


def test_a_protocol_brings_its_extractor_and_refuses_other_crops(folder: Path) -> None:
    assert suite(folder, protocol="titok", metrics=["frechet"]).all_extractors == ("inception-v3-compat-float64",)
    assert suite(folder, protocol="titok").all_extractors == ()
    with pytest.raises(ConfigError, match="titok"):
        suite(folder, protocol="titok", crop="tiles")
    with pytest.raises(ConfigError, match="did you mean adm"):
        suite(folder, protocol="amd")
    parsed = suite(folder, protocol="adm")
    assert Suite.parse(parsed.to_dict()) == parsed
