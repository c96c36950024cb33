import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from command import refused, succeed
from PIL import Image

import visiontok
from visiontok.base.errors import ConfigError, DataError, VisiontokError
from visiontok.data.token_dataset import TokenDataset
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.tokenizers.image.titok.model import TiTok, TiTokConfig

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    config = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT, "quantizer": {"type": "vq", "codebook_size": 64, "dim": 4}}
    tokenizer = TiTok(TiTokConfig.parse(config))
    folder = tmp_path_factory.mktemp("model") / "tiny"
    visiontok.save_pretrained(tokenizer, folder)
    return str(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Sixty images and two files that cannot be read."""
    folder = tmp_path_factory.mktemp("images")
    values = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    for number, value in enumerate(values):
        Image.fromarray(value).save(folder / f"{number:02d}.png")
    (folder / "07b.png").write_bytes(b"")
    (folder / "31b.png").write_bytes((folder / "31.png").read_bytes()[:300])
    return f"folder:{folder}"


def arguments(images, model, output, *options):
    small = ["--batch-size", "2", "--shard-size", "3", "--num-workers", "1", "--device", "cpu"]
    return ["tokenize", images, "-o", str(output), "--model", model, *small, *options]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_killed_command_resumes_when_repeated(images, model, tmp_path):
    succeed(*arguments(images, model, tmp_path / "whole"))
    command = [sys.executable, "-m", "visiontok", *arguments(images, model, tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob("part-*.parquet")) and process.poll() is None:
        time.sleep(0.001)
    time.sleep(random.random() * 0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "_manifest.json").exists()
    last = succeed(*arguments(images, model, tmp_path / "out"))
    assert "Resuming after" in last.stderr
    assert "Resuming" not in succeed(*arguments(images, model, tmp_path / "out")).stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    dataset = TokenDataset(tmp_path / "out")
    assert dataset[0 : len(dataset)].keys == [f"{number:02d}.png" for number in range(60)]


def test_what_was_skipped_is_named_counted_and_listed(images, model, tmp_path):
    result = succeed(*arguments(images, model, tmp_path / "out", "--flip"))
    assert result.stdout == f"{tmp_path / 'out'}: 120 samples in 21 shards\n"
    assert "62/62 samples" in result.stderr
    assert "07b.png" in result.stderr
    assert [skip["key"] for skip in json.loads((tmp_path / "out" / "_skipped.json").read_text())] == ["07b.png", "31b.png"]
    assert "\x1b" not in result.output


def test_the_source_is_printed_with_its_count_and_an_ambiguous_name_is_refused(images, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    error = refused(*arguments("photos", model, tmp_path / "out"))
    assert isinstance(error, ConfigError)
    assert not (tmp_path / "out").exists()
    for spelling in ("./photos", "folder:photos"):
        assert spelling in str(error)
        done = succeed(*arguments(spelling, model, tmp_path / spelling.replace("/", "-")))
        assert "photos: 3 samples" in done.stderr


def test_another_run_is_refused(model, tmp_path):
    succeed(*arguments("digits:test", model, tmp_path / "out", "--shard-size", "200"))
    error = refused(*arguments("digits:test", model, tmp_path / "out", "--shard-size", "100"))
    assert isinstance(error, DataError)
    for named in ("part-00000.parquet", "shard_size", "200", "100"):
        assert named in str(error)


def test_texts_reach_the_encoder_that_reads_them(model, tmp_path):
    torch.manual_seed(0)
    text = {"length": 5, "dim": 8, "encoder": {"type": "hashed_words"}}
    quantizer = {"type": "vq", "codebook_size": 64, "dim": 4}
    textok = visiontok.create("textok", image_size=16, num_latent_tokens=4, encoder=VIT, decoder=VIT, quantizer=quantizer, text=text)
    visiontok.save_pretrained(textok, tmp_path / "textok")
    for name, options, expected in [
        ("names", [], {"source": "class_names", "prompt": "A photo of a {class_name}."}),
        ("sentence", ["--text", "the digit {class_name}"], {"source": "class_names", "prompt": "the digit {class_name}"}),
    ]:
        succeed(*arguments("digits:test", str(tmp_path / "textok"), tmp_path / name, "--shard-size", "200", "--batch-size", "64", *options))
        assert TokenDataset(tmp_path / name).header.source["text"] == expected
    for name, option, error, named in [
        (tmp_path / "textok", "a sentence", ConfigError, "class_name"),
        (tmp_path / "textok", "captions", DataError, "caption"),
        (model, "captions", ConfigError, "text"),
    ]:
        raised = refused(*arguments("digits:test", str(name), tmp_path / "out", "--text", option))
        assert isinstance(raised, error)
        assert named in str(raised)


def test_a_generator_is_no_tokenizer(images, model, tmp_path):
    layout = visiontok.from_pretrained(model).layout
    visiontok.save_pretrained(GPT(GPTConfig.parse({"layout": layout.to_dict(), "dim": 16, "depth": 1, "num_heads": 2})), tmp_path / "gpt")
    error = refused(*arguments(images, str(tmp_path / "gpt"), tmp_path / "out"))
    assert isinstance(error, ConfigError)
    assert str(tmp_path / "gpt") in str(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        (["nonsense", "-o", "out", "--model", "titok-l32"], VisiontokError, "nonsense"),
        (["digits:trian", "-o", "out", "--model", "titok-l32"], VisiontokError, "train"),
        (["folder:/absent", "-o", "out", "--model", "titok-l32"], DataError, "/absent"),
        (["digits", "-o", "out", "--model", "./absent"], VisiontokError, "absent"),
        (["digits", "-o", "out", "--model", "titok-l32", "--device", "gpu"], ConfigError, "'gpu'"),
    ],
)
def test_invalid_arguments_are_named(options, error, named):
    raised = refused("tokenize", *options)
    assert isinstance(raised, error)
    assert named in str(raised)
