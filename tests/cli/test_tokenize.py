import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app
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
def pictures(tmp_path_factory):
    """Sixty pictures and two that cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    values = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    for number, value in enumerate(values):
        Image.fromarray(value).save(folder / f"{number:02d}.png")
    (folder / "07b.png").write_bytes(b"")
    (folder / "31b.png").write_bytes((folder / "31.png").read_bytes()[:300])
    return f"folder:{folder}"


def arguments(pictures, model, output, *options):
    small = ["--batch-size", "2", "--shard-size", "3", "--num-workers", "1", "--device", "cpu"]
    return ["tokenize", pictures, "-o", str(output), "--model", model, *small, *options]


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_killed_command_goes_on_when_it_is_given_again(pictures, model, tmp_path):
    whole = invoke(*arguments(pictures, model, tmp_path / "whole"))
    assert whole.exit_code == 0, whole.output
    command = [sys.executable, "-c", "from visiontok.cli import main; main()", *arguments(pictures, model, tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob("part-*.parquet")) and process.poll() is None:
        time.sleep(0.001)
    time.sleep(random.random() * 0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "manifest.json").exists()
    last = invoke(*arguments(pictures, model, tmp_path / "out"))
    assert last.exit_code == 0, last.output
    assert "Going on after" in last.stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    dataset = TokenDataset(tmp_path / "out")
    assert dataset[0 : len(dataset)].keys == [f"{number:02d}.png" for number in range(60)]


def test_what_was_skipped_is_named_counted_and_listed(pictures, model, tmp_path):
    result = invoke(*arguments(pictures, model, tmp_path / "out", "--flip"))
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out'}: 120 samples in 21 shards\n"
    assert "62/62 pictures" in result.stderr
    assert "2 samples skipped" in result.stderr
    assert "07b.png is empty" in result.stderr
    assert [skip["key"] for skip in json.loads((tmp_path / "out" / "skipped.json").read_text())] == ["07b.png", "31b.png"]
    assert "\x1b" not in result.output


def test_another_run_is_refused_in_one_paragraph(pictures, model, tmp_path):
    assert invoke(*arguments("digits:test", model, tmp_path / "out", "--shard-size", "200")).exit_code == 0
    result = invoke(*arguments("digits:test", model, tmp_path / "out", "--shard-size", "100"))
    assert result.exit_code == 1
    assert result.stderr.endswith("part-00000.parquet belongs to another token set: source.shard_size is 200 there and 100 here\n")
    assert result.stdout == ""


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
        result = invoke(*arguments("digits:test", str(tmp_path / "textok"), tmp_path / name, "--shard-size", "200", "--batch-size", "64", *options))
        assert result.exit_code == 0, result.output
        assert TokenDataset(tmp_path / name).header.source["text"] == expected
    for name, option, message in [
        (tmp_path / "textok", "a sentence", "class_name"),
        (tmp_path / "textok", "captions", "has no caption"),
        (model, "captions", "reads no text; leave the text out"),
    ]:
        result = invoke(*arguments("digits:test", str(name), tmp_path / "out", "--text", option))
        assert result.exit_code == 1
        assert message in result.stderr


def test_a_generator_is_no_tokenizer(pictures, model, tmp_path):
    layout = visiontok.from_pretrained(model).layout
    visiontok.save_pretrained(GPT(GPTConfig.parse({"layout": layout.to_dict(), "dim": 16, "depth": 1, "num_heads": 2})), tmp_path / "gpt")
    result = invoke(*arguments(pictures, str(tmp_path / "gpt"), tmp_path / "out"))
    assert result.exit_code == 1
    assert "is a generator; this command needs a tokenizer" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nonsense", "-o", "out", "--model", "titok-l32"], "nonsense"),
        (["digits:trian", "-o", "out", "--model", "titok-l32"], "train"),
        (["folder:/absent", "-o", "out", "--model", "titok-l32"], "/absent"),
        (["digits", "-o", "out", "--model", "./absent"], "absent"),
        (["digits", "-o", "out", "--model", "titok-l32", "--device", "gpu"], "--device 'gpu' is not a device"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    result = invoke("tokenize", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


def test_help_shows_examples():
    result = invoke("tokenize", "--help")
    assert result.exit_code == 0
    assert "visiontok tokenize digits:train -o tokens/digits" in result.stdout
