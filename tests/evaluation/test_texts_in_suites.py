"""Tokenizers that read a text are evaluated with the captions of the images, or with the names of their classes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from gray_patches import GrayPatches
from PIL import Image

import visiontok
from visiontok.base.errors import DataError, TextError
from visiontok.data import EvalLoader, open_source
from visiontok.encoders.text import HashedWords
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.fidelity import mse
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.rate_distortion import Settings, evaluate_curve, rate_suite
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.signals import ImagePreprocessing

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
TEXT = {"length": 6, "dim": 8, "encoder": {"type": "hashed_words"}}


def told(**data) -> Suite:
    return Suite.parse({"name": "told", "data": data, "batch_size": 4, "metrics": ["mse"]})


SUITE = told(name="shapes", split="test", num_samples=10)
DIGITS = told(name="digits", split="test").replace(num_samples=20)


def model(family: str, *, attached: bool = True, **changes):
    torch.manual_seed(0)
    quantizer = {"type": "vq", "codebook_size": 32, "dim": 4}
    sizes = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT, "text": TEXT, "quantizer": quantizer}
    tokenizer = visiontok.create(family, **sizes, **changes).eval()
    for parameter in tokenizer.parameters():  # random weights hardly hear a text
        parameter.data *= 3
    return tokenizer.attach_text_encoder(HashedWords(length=6, dim=8)) if attached else tokenizer


@pytest.mark.parametrize("family", ["tatitok", "textok"])
def test_every_image_comes_with_its_own_caption(family: str) -> None:
    tokenizer = model(family)
    result = evaluate_suite(SUITE, tokenizer, name=family)
    (batch,) = EvalLoader(open_source(SUITE.data), preprocessing=ImagePreprocessing(size=16), batch_size=10)
    assert len(set(batch.captions)) > 1
    reference = to_uint8(batch.signals.values)

    def error(texts) -> float:
        words = list(texts)
        tokens = tokenizer.encode(reference, text=words if tokenizer.encoder_reads_text else None)
        return float(mse(reference, to_uint8(tokenizer.decode(tokens, text=words))).mean()) / 255**2

    assert result.value("mse").value == pytest.approx(error(batch.captions), rel=1e-5)
    assert result.value("mse").value != pytest.approx(error(reversed(batch.captions)), rel=1e-5)
    assert result.text["source"] == "captions"


def test_class_names_where_there_are_no_captions() -> None:
    tokenizer = model("tatitok")
    plain = evaluate_suite(DIGITS, tokenizer, name="tatitok")
    assert plain.text == {"source": "class_names", "prompt": "A photo of a {class_name}."}
    other = evaluate_suite(DIGITS.replace(text={"source": "class_names", "prompt": "{class_name}"}), tokenizer, name="tatitok")
    assert other.text["prompt"] == "{class_name}"
    assert other.value("mse").value != plain.value("mse").value


def test_neither_captions_nor_classes(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    suite = told(name="folder", path=str(tmp_path))
    with pytest.raises(DataError, match=r"tatitok reads a text .* neither captions nor classes with names"):
        evaluate_suite(suite, model("tatitok"), name="tatitok")
    with pytest.raises(DataError, match="has a caption"):
        evaluate_suite(DIGITS.replace(text={"source": "captions"}), model("tatitok"), name="tatitok")
    with pytest.raises(TextError, match="attach_text_encoder"):
        evaluate_suite(SUITE, model("tatitok", attached=False), name="tatitok")


def test_others_read_no_text_whatever_the_suite_says() -> None:
    result = evaluate_suite(SUITE.replace(text={"source": "captions"}), GrayPatches(), name="gray")
    assert result.text is None


def test_texts_in_examples_and_along_a_curve() -> None:
    tokenizer = model("textok", nested_dropout={"schedule": "uniform"})
    run = ReconstructionRun(SUITE, tokenizer, name="textok")
    assert len(show_examples(run, *run.run()).samples) == 6
    quiet = lambda label: nullcontext(lambda done, total: None)  # noqa: E731
    curve, gallery = evaluate_curve(rate_suite(SUITE), tokenizer, Settings(lengths=(1, 4)), name="textok", examples=2, progress=quiet)
    assert [point.tokens for point in curve.points] == [1, 4]
    assert [image.shape for image in gallery.originals] == [(16, 16, 3)] * 2


def test_perturbed_tokens_bring_no_text() -> None:
    suite = SUITE.replace(metrics=["mse", "perturbed_frechet"], extractors=["downsampled-pixels"], allow_few_samples=True)
    assert "reads a text" in evaluate_suite(suite, model("tatitok"), name="tatitok").omitted["perturbed_frechet"]
