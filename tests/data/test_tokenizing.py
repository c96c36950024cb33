import json
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from small_models import SMALL

import visiontok
from visiontok.base.errors import ConfigError, DataError, TextError
from visiontok.core.identity import identify
from visiontok.data import TextsConfig
from visiontok.data.folder import FolderConfig, FolderSource
from visiontok.data.shapes import ShapesConfig, ShapesSource
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_shards import Shard
from visiontok.data.tokenizing import tokenize_source
from visiontok.tokenizers.image.titok.model import TiTok, TiTokConfig

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


def tiny(quantizer=None, seed=0):
    torch.manual_seed(seed)
    config = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT}
    sphere = {"type": "vq", "codebook_size": 300, "dim": 4, "normalize_latents": True, "normalize_codes": True}
    return telling(TiTok(TiTokConfig.parse({**config, "quantizer": quantizer or sphere})))


def telling(model):
    """With weights so large that other images and other texts have other tokens."""
    for weights in model.encoder.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights)
    return model.eval()


@pytest.fixture
def images(tmp_path):
    """Eleven images of two classes and several sizes; two more that cannot be read."""
    random = np.random.default_rng(0)
    for number in range(11):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        patches = Image.fromarray(random.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        patches.resize((20, 16 + number), Image.Resampling.NEAREST).save(path)
    (tmp_path / "images" / "a" / "03.jpg").write_bytes(b"no image")
    (tmp_path / "images" / "b" / "zero.png").write_bytes(b"")
    return FolderSource(FolderConfig(path=str(tmp_path / "images")))


GOOD = [f"a/{number:02d}.png" for number in (0, 2, 4, 6, 8, 10)] + [f"b/{number:02d}.png" for number in (1, 3, 5, 7, 9)]


def run(source, folder, model=None, **options):
    model = tiny() if model is None else model
    return tokenize_source(source, model, folder, identity=identify(model, "tiny"), **{"batch_size": 2, "shard_size": 5, **options})


@pytest.mark.parametrize("num_workers", [0, 2])
def test_tokens_labels_and_keys_are_those_of_the_images(images, tmp_path, num_workers):
    model = tiny()
    made = run(images, tmp_path / "out", model, num_workers=num_workers)
    assert {skip.key for skip in made.skipped} == {"a/03.jpg", "b/zero.png"}
    assert made.manifest.shards == {"part-00000.parquet": 4, "part-00001.parquet": 5, "part-00002.parquet": 2}
    assert made.manifest.skipped == 2
    assert [row["key"] for row in json.loads((tmp_path / "out" / "_skipped.json").read_text())] == ["a/03.jpg", "b/zero.png"]
    dataset = TokenDataset(tmp_path / "out")
    batch = dataset[0 : len(dataset)]
    assert batch.keys == GOOD
    assert batch.labels.tolist() == [0] * 6 + [1] * 5
    assert dataset.header.class_names == ("a", "b")
    expected = torch.cat([model.encode(tmp_path / "images" / key).indices for key in GOOD])
    assert torch.equal(batch.tokens.indices, expected)
    assert len(set(map(tuple, expected.tolist()))) > 5  # the model tells images apart, so the comparison says something


def test_mirror_images_follow_their_images(images, tmp_path):
    model = tiny()
    run(images, tmp_path / "out", model, flip=True)
    batch = TokenDataset(tmp_path / "out")[0:22]
    assert batch.keys == [key + suffix for key in GOOD for suffix in ("", "#flipped")]
    pixels = torch.cat([model.prepare(tmp_path / "images" / key).values for key in GOOD])
    expected = torch.stack([model.encode(pixels).indices, model.encode(pixels.flip(-1)).indices], dim=1).flatten(0, 1)
    assert torch.equal(batch.tokens.indices, expected)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_goes_on_at_the_first_missing_shard(images, tmp_path):
    run(images, tmp_path / "whole")
    run(images, tmp_path / "out")
    for name in ("part-00001.parquet", "_manifest.json", "_skipped.json"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / ".writing-0123abcd4567.parquet").write_bytes(b"half a shard")
    kept = os.stat(tmp_path / "out" / "part-00000.parquet").st_mtime_ns
    seen = []
    run(images, tmp_path / "out", batch_size=3, progress=lambda *state: seen.append(state))
    assert seen == [(8, 13), (11, 13), (13, 13)]
    assert os.stat(tmp_path / "out" / "part-00000.parquet").st_mtime_ns == kept
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def _run_and_tell(source, folder, num_workers, told):
    torch.set_num_threads(1)
    run(source, folder, batch_size=1, shard_size=2, num_workers=num_workers, progress=lambda *_: told.send(None))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="starting processes anew takes seconds each")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_killed_at_random_moments_nothing_is_lost_or_repeated(images, tmp_path, num_workers):
    run(images, tmp_path / "whole", batch_size=1, shard_size=2)
    killed = 0
    for _ in range(40):
        heard, told = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_run_and_tell, args=(images, tmp_path / "out", num_workers, told))
        process.start()
        for _ in range(random.randint(3, 6)):  # batches; the second one completes a shard
            while process.is_alive() and not heard.poll(0.01):
                pass
            if heard.poll():
                heard.recv()
        time.sleep(random.random() * 0.01)
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
    assert killed > 1
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": tiny(seed=1)}, r"part-00000.parquet belongs to another token set: tokenizer.weights_sha256 is .* there and .* here$"),
        ({"model": tiny({"type": "vq", "codebook_size": 20, "dim": 4})}, r'layout.segments is .*"vocab_size": 300.* there and .*"vocab_size": 20'),
        ({"shard_size": 4}, r"another token set: source.shard_size is 5 there and 4 here$"),
        ({"flip": True}, r"another token set: source.flip is false there and true here$"),
    ],
)
def test_another_run_is_not_continued(images, tmp_path, options, message):
    run(images, tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        run(images, tmp_path / "out", **options)
    assert files(tmp_path / "out") == before


def test_another_source_is_not_continued(images, tmp_path):
    run(images, tmp_path / "out")
    (tmp_path / "images" / "a" / "00.png").unlink()
    with pytest.raises(DataError, match=r'source.identity is "folder-13-.*" there and "folder-12-.*; source.samples is 13 there and 12 here'):
        run(FolderSource(FolderConfig(path=str(tmp_path / "images"))), tmp_path / "out")


def test_a_damaged_shard_stops_the_run_and_is_named(images, tmp_path):
    run(images, tmp_path / "out")
    (tmp_path / "out" / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"part-00001.parquet is not a readable Parquet file.*Delete it"):
        run(images, tmp_path / "out")


def test_a_shard_may_be_empty(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(6):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"")
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "5.png")
    made = run(FolderSource(FolderConfig(path=str(tmp_path / "images"))), tmp_path / "out", shard_size=2)
    assert made.manifest.shards == {"part-00000.parquet": 0, "part-00001.parquet": 0, "part-00002.parquet": 1}
    assert TokenDataset(tmp_path / "out").batch([0]).keys == ["5.png"]
    assert TokenDataset(tmp_path / "out").label_range is None
    assert [len(Shard.read(tmp_path / "out" / f"part-0000{number}.parquet").notes["skipped"]) for number in range(3)] == [2, 2, 1]


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 1 .*0\.png"):
        run(FolderSource(FolderConfig(path=str(tmp_path / "images"))), tmp_path / "out")
    assert not (tmp_path / "out" / "_manifest.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch size 0"),
        ({"shard_size": 0}, "shard size 0"),
        ({"num_workers": -1}, "-1 workers"),
    ],
)
def test_what_cannot_be_done_is_refused(images, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        run(images, tmp_path / "out", **options)


def test_the_digest_tells_weights_apart():
    model = tiny()
    before = identify(model, "tiny")
    assert before == identify(tiny(), "tiny")
    with torch.no_grad():
        model.quantizer.codebook[0, 0] += 1e-6
    assert identify(model, "tiny").weights_sha256 != before.weights_sha256


def test_an_encoder_that_reads_texts_gets_those_of_the_images(tmp_path):
    model, source = textok(), ShapesSource(ShapesConfig(size=16, num_samples=5, max_objects=1))
    run(source, tmp_path / "captions", model)
    stored = TokenDataset(tmp_path / "captions")
    assert stored.header.source["text"] == {"source": "captions", "prompt": "A photo of a {class_name}."}
    samples = [source.read(index) for index in range(5)]
    images = [sample.signal for sample in samples]
    expected = model.encode(images, text=[sample.caption for sample in samples]).indices
    assert torch.equal(stored[0:5].tokens.indices, expected)
    run(source, tmp_path / "names", model, text=TextsConfig(source="class_names", prompt="Look, a {class_name}!"))
    told = [f"Look, a {source.class_names[sample.label]}!" for sample in samples]
    found = TokenDataset(tmp_path / "names")[0:5].tokens.indices
    assert torch.equal(found, model.encode(images, text=told).indices)
    assert not torch.equal(found, expected)
    with pytest.raises(DataError, match=r"another token set: source\.text\.source is \"captions\" there"):
        run(source, tmp_path / "captions", model, text=TextsConfig(source="class_names"))


def test_an_image_without_a_text_is_left_out_and_named(images, tmp_path):
    model = textok()
    with pytest.raises(DataError, match=r"none of 13 .*a/00\.png"):
        run(images, tmp_path / "out", model, text=TextsConfig(source="captions"))
    run(images, tmp_path / "names", model)  # folders have class names
    assert TokenDataset(tmp_path / "names").header.source["text"]["source"] == "class_names"


def test_a_text_that_no_encoder_reads_is_refused(images, tmp_path):
    for model in (tiny(), textok("tatitok")):
        with pytest.raises(ConfigError, match="tiny"):
            run(images, tmp_path / "out", model, text=TextsConfig(source="captions"))
    model = textok()
    model.text_encoder = None
    with pytest.raises(TextError, match="text"):
        run(images, tmp_path / "out", model)


def textok(family="textok"):
    torch.manual_seed(0)
    text = {"length": 5, "dim": 8, "encoder": {"type": "hashed_words"}}
    quantizer = {"type": "vq", "codebook_size": 300, "dim": 4}
    model = visiontok.create(family, image_size=16, num_latent_tokens=4, encoder=VIT, decoder=VIT, quantizer=quantizer, text=text)
    return telling(model).attach_text_encoder()


def test_long_sounds_are_neither_held_nor_encoded_together_and_make_no_padding_of_short_ones(tmp_path, monkeypatch):
    codec = visiontok.create("conv-codec", **SMALL["conv-codec"]).eval()
    rate = round(codec.spec.rate)
    (tmp_path / "sounds").mkdir()
    lengths = [100, 120, 900, 950, 100, 130, 90, 90, 90]
    for number, length in enumerate(lengths):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", np.random.default_rng(number).uniform(-0.5, 0.5, length), rate)
    shapes, counts, read, encode = [], [], FolderSource.read, codec.encode
    monkeypatch.setattr("visiontok.data.tokenizing._POSITIONS", 200)
    monkeypatch.setattr(FolderSource, "read", lambda *given: counts.append(0) or read(*given))
    monkeypatch.setattr(codec, "encode", lambda signals, **_: shapes.append((len(counts), *signals.values.shape)) or encode(signals))
    run(FolderSource(FolderConfig(path=str(tmp_path / "sounds"), modality="audio")), tmp_path / "out", codec, batch_size=4)
    assert shapes == [(3, 2, 1, 120), (4, 1, 1, 900), (5, 1, 1, 950), (5, 1, 1, 100), (9, 4, 1, 130)]  # shards of 5
    stored = TokenDataset(tmp_path / "out")
    for row in range(len(lengths)):
        assert torch.equal(stored[row : row + 1].tokens.indices, encode(tmp_path / "sounds" / f"{row}.wav").indices)
