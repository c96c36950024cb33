"""quantize, on a small diffusers autoencoder of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import refused, succeed
from diffusers import AutoencoderKL
from PIL import Image
from typer.testing import Result

import visiontok
from visiontok.base.errors import ConfigError, DataError

BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("diffusers") / "tiny-vae"
    AutoencoderKL(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=2, sample_size=16, **BLOCKS).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def quantized(vae: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("out") / "discrete"
    return output, succeed("quantize", vae, "-o", output, "--levels", 32, "--compare", "2,256", "--data", f"folder:{images}", "--device", "cpu")


def test_the_folder_holds_a_discrete_tokenizer_with_its_card_and_curve(quantized, vae: Path):
    output, _ = quantized
    model, continuous = visiontok.from_pretrained(output), visiontok.from_pretrained(vae)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens = model.encode(image)
    assert set(tokens.layout.vocab_sizes.tolist()) == {32}
    nearest = model.quantizer.quantizer(continuous.encode(image).view())
    assert torch.equal(tokens.view(), nearest.indices)
    with Image.open(output / "rate-distortion.png") as curve:
        assert curve.size[0] > 500
    card = (output / "README.md").read_text()
    assert "](rate-distortion.png)" in card
    assert "tiny-vae, quantized after training" in card
    assert str(vae) not in card


def test_every_number_of_levels_is_evaluated_and_the_continuous_tokenizer_too(quantized):
    lines = [line.split() for line in quantized[1].stdout.splitlines()[1:5]]
    assert [line[0] for line in lines] == ["continuous", "2", "32", "256"]
    rates = [float(line[1]) for line in lines[1:]]
    assert rates == [2 * bits / 4 for bits in (1, 5, 8)]  # two latents for four pixels
    assert all(float(line[2]) <= rate for line, rate in zip(lines[1:], rates, strict=True))
    assert float(lines[3][3]) == pytest.approx(float(lines[0][3]), abs=0.02)


def test_the_range_follows_from_the_latents_or_from_the_option(quantized, vae: Path, images: Path, tmp_path: Path):
    continuous = visiontok.from_pretrained(vae)
    latents = torch.cat([continuous.encode(continuous.prepare(path)).values for path in sorted(images.iterdir())])
    found = visiontok.from_pretrained(quantized[0]).config.quantizer.range
    assert found == pytest.approx(5 * latents.square().mean().sqrt().item(), rel=1e-3)
    succeed("quantize", vae, "-o", tmp_path / "out", "--range", 4, "--compare", "", "--data", f"folder:{images}", "--device", "cpu", "--size", 32)
    assert visiontok.from_pretrained(tmp_path / "out").config.quantizer.range == 4


def test_tokenizers_of_other_families_are_quantized(images: Path, tmp_path: Path):
    """One with latent queries, one whose images keep different positions."""
    torch.manual_seed(0)
    vit = {"dim": 64, "depth": 1, "num_heads": 2, "patch_size": 4}
    sizes = {"image_size": 16, "num_latent_tokens": 4, "encoder": vit, "decoder": vit}
    base = {"max_latent_tokens": 6, "training_lengths": [2, 4], "position_side": 4, "halting_dim": 16, "base": {"type": "patches", "patch_size": 4}}
    for family, changes in (
        ("titok", {"quantizer": {"type": "gaussian", "dim": 2}}),
        ("karl", base | {"quantizer": {"type": "continuous", "dim": 2}}),
    ):
        model = visiontok.create(family, **sizes, **changes)
        folder = visiontok.save_pretrained(model, tmp_path / family)
        output = tmp_path / f"{family}-16"
        result = succeed("quantize", folder, "-o", output, "--levels", 16, "--compare", "64", "--data", f"folder:{images}", "--device", "cpu")
        assert [line.split()[0] for line in result.stdout.splitlines()[1:4]] == ["continuous", "16", "64"]
        discrete = visiontok.from_pretrained(output)
        assert discrete.config.base.family == family
        tokens = discrete.encode(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
        assert set(tokens.layout.vocab_sizes.tolist()) == {16}
        assert discrete.decode(tokens).shape == (2, 3, 16, 16)


def test_tokenizers_that_read_a_text_are_given_that_of_the_data(images: Path, tmp_path: Path):
    torch.manual_seed(0)
    vit = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
    text = {"length": 3, "dim": 8, "encoder": {"type": "hashed_words"}}
    sizes = {"image_size": 16, "num_latent_tokens": 2, "encoder": vit, "decoder": vit, "quantizer": {"type": "gaussian", "dim": 2}, "text": text}
    folder, data = visiontok.save_pretrained(visiontok.create("textok", **sizes), tmp_path / "textok"), ("--num-samples", 4, "--device", "cpu")
    succeed("quantize", folder, "-o", tmp_path / "out", "--levels", 16, "--compare", "64", "--data", "digits:test", *data)
    model = visiontok.from_pretrained(tmp_path / "out").attach_text_encoder()
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert model.decode(model.encode(image, text="a zero"), text="a zero").shape == (1, 3, 16, 16)
    error = refused("quantize", folder, "-o", tmp_path / "x", "--data", f"folder:{images}", *data)
    assert isinstance(error, DataError)
    assert not (tmp_path / "x").exists()


def test_tokenizers_without_a_decoder_are_refused(tmp_path: Path):
    mqt = visiontok.create("mqt", query_side=3, feature_side=4, feature_dim=16, output_dim=8, num_heads=2)
    error = refused("quantize", visiontok.save_pretrained(mqt, tmp_path / "mqt"), "-o", tmp_path / "x", "--data", "photos:heldout")
    assert isinstance(error, ConfigError)
    assert "mqt" in str(error)
    assert not (tmp_path / "x").exists()


def test_invalid_arguments_are_refused_before_the_data_is_read(quantized, vae: Path, images: Path, tmp_path: Path):
    data = ("--data", f"folder:{images}", "--device", "cpu")
    before = (quantized[0] / "README.md").read_bytes()
    for arguments, named in (
        ((vae, "-o", quantized[0], *data), "--overwrite"),
        ((vae, "-o", tmp_path / "x", "--compare", "8,many", *data), "8,many"),
        ((vae, "-o", tmp_path / "x", "--levels", "9999", *data), "9999"),
        ((vae, "-o", tmp_path / "x", "--range", "-1", *data), "-1"),
        ((vae, "-o", tmp_path / "x", "--size", "17", *data), "17"),
        (("vqgan-photos-f4", "-o", tmp_path / "x", *data), "vqgan-photos-f4"),
        ((quantized[0], "-o", tmp_path / "x", *data), str(quantized[0])),
    ):
        error = refused("quantize", *arguments)
        assert isinstance(error, ConfigError)
        assert named in str(error)
    assert not (tmp_path / "x").exists()
    assert (quantized[0] / "README.md").read_bytes() == before
