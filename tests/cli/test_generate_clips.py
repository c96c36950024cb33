"""`visiontok generate` writes clips and continues them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import refused, succeed
from PIL import Image
from small_models import SMALL

import visiontok
from visiontok.base.errors import ConfigError, TokenError
from visiontok.data import open_source
from visiontok.data.crops import CenterCrop
from visiontok.data.moving_shapes import MovingShapesConfig
from visiontok.data.token_file import TokenFile
from visiontok.data.train_loader import resized_clip
from visiontok.evaluation.features.protocol.casts import to_uint8
from visiontok.evaluation.generation.samples import open_samples
from visiontok.evaluation.generation.sampling import SamplePlan, write_samples
from visiontok.evaluation.results.identity import model_identity
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.signals import ImagePreprocessing
from visiontok.signals.video_reading import Clip, read_clip
from visiontok.signals.video_writing import save_video

NETS = {"channels": [8, 12, 12], "downsampling": [[2, 2], [2, 1]]}
CONV_CLIP = {"image_size": 16, "num_frames": 9, "frame_rate": 8, "networks": NETS, "quantizer": {"type": "fsq", "levels": [5, 5]}}


def writer(layout: Any, **config: Any) -> GPT:
    torch.manual_seed(0)
    model = GPT(
        GPTConfig.parse({"layout": layout.to_dict(), "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8, "positions": "learned", **config})
    )
    torch.nn.init.normal_(model.head.table.weight)
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizers `clips` and `larp`, generators `free`, `classes` and `predicting`, which is conditioned on another clip; and clip.mp4."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = visiontok.create("conv-clip", **CONV_CLIP).eval()
    visiontok.save_pretrained(tokenizer, folder / "clips")
    visiontok.save_pretrained(writer(tokenizer.layout), folder / "free")
    visiontok.save_pretrained(writer(tokenizer.layout, condition={"type": "classes", "num_classes": 3}), folder / "classes")
    larp = visiontok.create("larp", **SMALL["larp"]).eval()
    visiontok.save_pretrained(larp, folder / "larp")
    visiontok.save_pretrained(writer(larp.layout, condition={"type": "tokens", "layout": larp.layout.to_dict()}), folder / "predicting")
    frames = open_source(MovingShapesConfig(size=48, frames=12)).read(0).signal.frames
    save_video(torch.from_numpy(frames).permute(3, 0, 1, 2) / 255, folder / "clip.mp4", rate=8)
    return folder


def generate(models: Path, *options: object, model: str = "free", tokenizer: str = "clips") -> tuple[object, ...]:
    return ("generate", "--model", models / model, "--tokenizer", models / tokenizer, "--device", "cpu", *options)


def test_clips_and_all_of_them_in_one(models: Path, tmp_path: Path) -> None:
    result = succeed(*generate(models, "--n", 3, "-o", tmp_path / "out"))
    assert "3 clips, grid.mp4 and tokens.npz" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mp4")) == ["00000.mp4", "00001.mp4", "00002.mp4", "grid.mp4"]
    clip = read_clip(tmp_path / "out" / "00000.mp4")
    assert clip.frames.shape == (9, 16, 16, 3)
    assert clip.rate == pytest.approx(8)
    result = succeed(*generate(models, "--n", 3, "-o", tmp_path / "all.mp4"))
    assert "3 clips in" in result.stdout
    assert read_clip(tmp_path / "all.mp4").frames.shape == read_clip(tmp_path / "out" / "grid.mp4").frames.shape
    assert len(read_clip(tmp_path / "all.mp4").frames) == 9


@pytest.mark.parametrize("frames", [5, 7])
def test_a_clip_goes_on_from_its_known_frames(models: Path, tmp_path: Path, frames: int) -> None:
    common = ("--continue", models / "clip.mp4", "--frames", frames, "--n", 2)
    succeed(*generate(models, *common, "--seed", 1, "-o", tmp_path / "out"))
    tokens = TokenFile.read(tmp_path / "out" / "tokens.npz").tokens
    tokenizer = visiontok.from_pretrained(models / "clips")
    clip = read_clip(models / "clip.mp4")
    shown = resized_clip(Clip(clip.frames[:5], clip.rate), CenterCrop(), 16, ImagePreprocessing(size=16))
    known = tokenizer.encode(shown)
    assert torch.equal(tokens.view()[:, :2], known.view().expand(2, -1, -1, -1))
    assert not torch.equal(tokens.view()[0, 2], tokens.view()[1, 2])
    succeed(*generate(models, *common, "--seed", 2, "-o", tmp_path / "other"))
    assert not torch.equal(TokenFile.read(tmp_path / "other" / "tokens.npz").tokens.indices, tokens.indices)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/webp") == 1
    assert page.count("data:image/png") == 8 * 4  # the original, its tokens decoded and two samples, 8 of 9 frames each
    assert "The 5 known frames" in page


def test_several_clips_in_turn_with_and_without_a_class(models: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    save_video(torch.zeros(3, 6, 16, 16), other, rate=8)
    files = ("--continue", models / "clip.mp4", "--continue", other, "--frames", 1, "--n", 4)
    succeed(*generate(models, *files, "-o", tmp_path / "free", model="classes"))
    succeed(*generate(models, *files, "--class", 2, "-o", tmp_path / "classed", model="classes"))
    free, classed = (TokenFile.read(tmp_path / name / "tokens.npz") for name in ("free", "classed"))
    assert free.labels is None
    assert classed.labels == (2, 2, 2, 2)
    first = free.tokens.view()[:, 0]
    assert torch.equal(first[:2], first[2:])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(classed.tokens.view()[:, 0], first)


def test_a_generator_that_predicts_from_another_clip_is_given_the_known_frames(models: Path, tmp_path: Path) -> None:
    options = ("--continue", models / "clip.mp4", "--frames", 5, "--n", 2)
    succeed(*generate(models, *options, "-o", tmp_path / "out", model="predicting", tokenizer="larp"))
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 3


def test_what_cannot_be_continued_is_refused(models: Path, tmp_path: Path) -> None:
    clip = models / "clip.mp4"
    vit = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
    quantizer = {"type": "vq", "codebook_size": 8, "dim": 4}
    images = visiontok.create("titok", image_size=16, num_latent_tokens=4, encoder=vit, decoder=vit, quantizer=quantizer)
    visiontok.save_pretrained(images, tmp_path / "images")
    visiontok.save_pretrained(writer(images.layout), tmp_path / "image-writer")
    of_images = ("generate", "-m", tmp_path / "image-writer", "-t", tmp_path / "images", "--device", "cpu")
    for kind, message, command in (
        (TokenError, "or ends there", generate(models, "--continue", clip, "-o", tmp_path / "out")),
        (ConfigError, "--frames 5", generate(models, "--frames", 5, "-o", tmp_path / "out")),
        (ConfigError, "is an image", generate(models, "-o", tmp_path / "out.png")),
        (ConfigError, "--continue needs", (*of_images, "--continue", clip, "-o", tmp_path / "out")),
        (ConfigError, "is a clip", (*of_images, "-o", tmp_path / "out.mp4")),
    ):
        error = refused(*command)
        assert isinstance(error, kind), error
        assert message in str(error)


def test_clips_of_one_frame_are_images(models: Path, tmp_path: Path) -> None:
    tokenizer = visiontok.from_pretrained(models / "clips")
    still = tokenizer.layout.at((1, *tokenizer.layout.extents[1:]))
    visiontok.save_pretrained(writer(still, condition={"type": "classes", "num_classes": 3}), tmp_path / "stills")
    command = ("generate", "--model", tmp_path / "stills", "--tokenizer", models / "clips", "--device", "cpu", "--n", 3)
    assert "3 images, grid.png and tokens.npz" in succeed(*command, "-o", tmp_path / "out").stdout
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [*(f"0000{row}-class-000{row}.png" for row in range(3)), "grid.png"]
    tokens = TokenFile.read(tmp_path / "out" / "tokens.npz").tokens
    with Image.open(tmp_path / "out" / "00001-class-0001.png") as image:
        shown = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(shown, to_uint8(tokenizer.decode(tokens[1:2]))[0, :, 0])
    succeed(*command, "-o", tmp_path / "all.png")
    assert "is a clip" in str(refused(*command, "-o", tmp_path / "all.mp4"))


def test_images_by_a_generator_of_clips_are_evaluated_as_images(models: Path, tmp_path: Path) -> None:
    tokenizer = visiontok.from_pretrained(models / "clips")
    visiontok.save_pretrained(writer(tokenizer.layout.at((1, *tokenizer.layout.extents[1:]))), tmp_path / "stills")
    generator = visiontok.from_pretrained(tmp_path / "stills")
    plan = SamplePlan(num_samples=3, generator=model_identity(generator, "stills"), tokenizer=model_identity(tokenizer, "clips"))
    write_samples(plan, generator, tokenizer, tmp_path / "folder", batch_size=2)
    write_samples(plan, generator, tokenizer, tmp_path / "images.npz", batch_size=2)
    assert len(list((tmp_path / "folder").glob("*.png"))) == 3
    for path in (tmp_path / "folder", tmp_path / "images.npz"):
        assert open_samples(path).spec.modality == "image"
    with np.load(tmp_path / "images.npz") as arrays:
        assert arrays["arr_0"].shape == (3, 16, 16, 3)
    suite = tmp_path / "suite.yaml"
    suite.write_text("task: generation\nname: stills\nreference: {name: digits, split: test}\nsize: 16\nextractors: [downsampled-pixels]\n")
    options = ("--set", "num_samples=6", "--set", "metrics=[frechet]", "--set", "allow_few_samples=true", "--no-report", "--device", "cpu")
    succeed("evaluate", suite, "--model", tmp_path / "stills", "--tokenizer", models / "clips", *options, "-o", tmp_path / "out.json")
    assert len(list((tmp_path / "out").glob("*.png"))) == 6  # a folder of images, not an array of clips
