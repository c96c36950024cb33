"""The shipped suite token-density: what tokens cost and what they are worth, for tokenizers of different kinds."""

import math

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches, GrayPatchesConfig
from small_models import SMALL
from torch import nn

import visiontok
from visiontok.base.errors import IdentityError
from visiontok.core.identity import identify
from visiontok.evaluation import Result, evaluate_suite, load_suite
from visiontok.evaluation.reconstruction.run import NamedGenerator
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.tokens import Segment, TokenLayout

SUITE = load_suite("token-density").replace(num_samples=80, probe={"num_samples": 60})


def generator(of: GrayPatches, **changes: object) -> NamedGenerator:
    torch.manual_seed(0)
    config = {"layout": of.layout, "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8}
    model = GPT(GPTConfig.parse({**config, "condition": {"type": "classes", "num_classes": 10}, **changes}))
    return NamedGenerator("prior", model.eval())


@pytest.fixture(scope="module")
def with_prior() -> Result:
    tokenizer = GrayPatches()
    return evaluate_suite(SUITE, tokenizer, name="gray", generator=generator(tokenizer))


def number(result: Result, name: str) -> float:
    value = result.value(name).value
    assert value is not None
    return value


def test_three_kinds_of_bits(with_prior: Result) -> None:
    nominal = math.log2(17)
    assert number(with_prior, "tokens_per_sample") == 64
    assert number(with_prior, "bits_per_token.nominal") == pytest.approx(nominal)
    assert number(with_prior, "bits_per_pixel.nominal") == pytest.approx(64 * nominal / 256)
    assert number(with_prior, "bits_per_token.entropy") < nominal
    for kind in ("nominal", "entropy", "ar"):
        sample = number(with_prior, f"bits_per_sample.{kind}")
        assert number(with_prior, f"bits_per_token.{kind}") == pytest.approx(sample / 64)
        assert number(with_prior, f"bits_per_pixel.{kind}") == pytest.approx(sample / 256)
    assert not [value.name for value in with_prior.values if value.name.startswith("bits_per_second")]


def test_bits_under_the_prior_are_those_of_its_likelihood(with_prior: Result) -> None:
    tokenizer = GrayPatches()
    prior = generator(tokenizer)
    with_one_batch = evaluate_suite(SUITE.replace(batch_size=80, metrics=("ar_bits",)), tokenizer, name="gray", generator=prior)
    assert number(with_one_batch, "bits_per_sample.ar") == pytest.approx(number(with_prior, "bits_per_sample.ar"), rel=1e-6)
    bits = number(with_prior, "bits_per_token.ar")
    assert number(with_prior, "ar.perplexity") == pytest.approx(2**bits)
    assert number(with_prior, "ar.saving") == pytest.approx(1 - bits / math.log2(17))
    parameters = sum(parameter.numel() for parameter in prior.model.parameters())
    assert number(with_prior, "information_capacity") == pytest.approx((math.log2(17) - bits) / math.log(2 * parameters))


def test_quality_per_token_and_per_bit(with_prior: Result) -> None:
    for quality in ("psnr.mean_db", "ssim", "FD[digit-classifier]"):
        whole = number(with_prior, quality)
        assert number(with_prior, f"{quality}.per_token") == pytest.approx(whole / 64)
        for kind in ("nominal", "entropy", "ar"):
            assert number(with_prior, f"{quality}.per_bit.{kind}") == pytest.approx(whole / number(with_prior, f"bits_per_sample.{kind}"))
    accuracy = number(with_prior, "accuracy[digit-classifier].reconstructions")
    assert number(with_prior, "tokdense[digit-classifier]") == pytest.approx(100 * accuracy / 64)
    assert number(with_prior, "tokdense[linear_probe]") == pytest.approx(100 * number(with_prior, "linear_probe") / 64)
    assert "codebook.usage" in {value.name for value in with_prior.values}
    assert "tokens.zipf_exponent" in {value.name for value in with_prior.values}
    assert not with_prior.omitted


def test_without_a_prior_the_rest_is_there(with_prior: Result) -> None:
    result = evaluate_suite(SUITE, GrayPatches(), name="gray")
    assert [*result.omitted] == ["ar_bits"]
    assert {value.name for value in with_prior.values} - {value.name for value in result.values} == {
        value.name for value in with_prior.values if value.metric == "ar_bits" or value.name.endswith(".per_bit.ar")
    }


def test_a_prior_of_other_tokens_is_refused() -> None:
    tokenizer = GrayPatches()
    other = GrayPatches()
    nn.init.ones_(other.unused)
    prior = generator(tokenizer, tokenizer=identify(other, "other"))
    with pytest.raises(IdentityError, match="other"):
        evaluate_suite(SUITE, tokenizer, name="gray", generator=prior)
    result = evaluate_suite(SUITE.replace(metrics=("ar_bits",)), tokenizer, name="gray", generator=prior, allow_other_tokenizer=True)
    assert np.isfinite(number(result, "bits_per_token.ar"))


def test_a_prior_of_another_layout_is_omitted_with_the_reason() -> None:
    layout = TokenLayout(modality="image", signal_shape=(16, 16), segments=(Segment(name="grid", shape=(8, 8), vocab_size=5, stride=(2, 2)),))
    tokenizer = GrayPatches()
    result = evaluate_suite(SUITE, tokenizer, name="gray", generator=generator(tokenizer, layout=layout))
    assert "layout" in result.omitted["ar_bits"]


def test_lengths_are_compared_by_what_they_cost() -> None:
    tokenizer = GrayPatches(GrayPatchesConfig(ordered=True))
    suite = SUITE.replace(lengths=(4, 64), metrics=("psnr", "rate", "density"), extractors=())
    result = evaluate_suite(suite, tokenizer, name="gray")
    for length in (4, 64):
        assert result.value("tokens_per_sample", length=length).value == length
        psnr = result.value("psnr.mean_db", length=length).value
        assert result.value("psnr.mean_db.per_token", length=length).value == pytest.approx(psnr / length)


def test_a_tokenizer_of_clips_without_a_decoder_gets_what_applies() -> None:
    torch.manual_seed(0)
    model = visiontok.create("vqtoken", **SMALL["vqtoken"]).eval()
    result = evaluate_suite(SUITE.replace(num_samples=40), model, name="vqtoken")
    assert {"psnr", "ssim", "frechet", "classifier", "ar_bits"} <= result.omitted.keys()
    assert "decoder" in result.omitted["psnr"]
    assert number(result, "tokens_per_sample") == 16
    read = number(result, "tokens_read_per_sample")
    assert 2 <= read <= 6  # codes of a clip, not the 16 labels of its map
    accuracy = result.value("linear_probe").value
    density = result.value("tokdense[linear_probe]")
    assert accuracy is not None
    assert density.value == pytest.approx(100 * accuracy / read)
    assert density.details["token_ratio_percent"] == pytest.approx(100 * read / 16)
