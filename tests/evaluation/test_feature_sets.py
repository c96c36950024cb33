import numpy as np
import pytest
import torch
from selected import BOOTSTRAP, batch, selected, values

from visiontok.base.errors import ConfigError
from visiontok.evaluation import FunctionExtractor, Suite
from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.metrics.frechet import frechet_distance_of_features
from visiontok.evaluation.metrics.manifold import manifold_scores
from visiontok.evaluation.metrics.metric import EvaluatedBatch
from visiontok.evaluation.metrics.mmd import cmmd, squared_mmd
from visiontok.tokens import Segment, TokenLayout, Tokens

COLORS = FunctionExtractor(lambda images: images.float().mean(dim=(2, 3)) / 64, name="mean-color", identity="mean-color/1")
LAYOUT = TokenLayout(modality="image", signal_shape=(8, 8), segments=(Segment(name="grid", shape=(2, 3), vocab_size=16),))


def part(start: int, count: int) -> EvaluatedBatch:
    generator = torch.Generator().manual_seed(start)
    images, noise = (torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator) for _ in range(2))
    tokens = Tokens(torch.randint(0, 9, (count, 6), generator=generator), LAYOUT)
    return batch(torch.arange(start, start + count), images, noise // 2 + images // 2, tokens)


def suite(*metrics: str, **changes) -> Suite:
    return Suite.parse(
        {"name": "x", "data": {"name": "digits", "split": "test"}, "metrics": metrics, "extractors": ["downsampled-pixels"], **changes}
    )


def test_numbers_are_those_of_the_functions_in_whatever_order_and_shards_they_came() -> None:
    names = ("kernel_distance", "cmmd", "manifold")
    whole, first, second = (selected(names, LAYOUT, [COLORS])[0] for _ in range(3))
    parts = (part(0, 9), part(9, 7))
    for each in parts:
        whole.update(each)
    second.update(parts[0])
    first.update(parts[1])
    for name, accumulator in first.accumulators.items():
        accumulator.merge(second.accumulators[name])
    assert values(first) == values(whole)
    found = values(whole)
    reference = np.concatenate([each.features(COLORS, "reference").features.float() for each in parts])
    samples = np.concatenate([each.features(COLORS, "samples").features.float() for each in parts])
    assert found["MMD[mean-color]"].value == pytest.approx(squared_mmd(samples, reference), rel=1e-9)  # all subsets are the whole set
    assert "subsets of 16" in found["MMD[mean-color]"].protocol
    assert found["RBF-MMD[mean-color]"].value == pytest.approx(cmmd(samples, reference), rel=1e-9)
    scores = manifold_scores(samples, reference)
    for name in ("precision", "recall", "density", "coverage"):
        assert found[f"{name}[mean-color]"].value == getattr(scores, name)


def test_fewer_samples_than_features_are_compared_by_the_features_themselves() -> None:
    pixels = FunctionExtractor(lambda images: images.flatten(1), name="pixels", identity="1")
    chosen, _ = selected(["frechet"], LAYOUT, [pixels], allow_few_samples=True, count=16)
    parts = (part(0, 9), part(9, 7))
    for each in parts:
        chosen.update(each)
    sides = [np.concatenate([each.features(pixels, side).features for each in parts]) for side in ("samples", "reference")]
    assert values(chosen)["FD[pixels]"].value == pytest.approx(frechet_distance_of_features(*sides), rel=1e-12)


def test_published_names_belong_to_their_extractors() -> None:
    for metric in ("FD", "MMD", "RBF-MMD", "inception_score"):
        assert COLORS.title(metric) == COLORS.title(f"{metric}[]") == f"{metric}[mean-color]"
    titles = {metric: f"{name}[inception-v3-compat]" for metric, name in (("FD", "FID"), ("MMD", "KID"), ("inception_score", "IS"))}
    assert all(InceptionV3Compat.title(InceptionV3Compat, metric) == title for metric, title in titles.items())
    assert InceptionV3Compat.title(InceptionV3Compat, "inception_score[].splits10") == "IS[inception-v3-compat].splits10"


def test_the_inception_score_needs_the_inception_network() -> None:
    chosen, omitted = selected(["mse", "manifold", "inception_score"], LAYOUT, [COLORS])
    assert list(omitted) == ["inception_score"]
    chosen.update(part(0, 9))
    assert {value.metric for value in values(chosen).values()} == {"mse", "manifold"}
    with pytest.raises(ConfigError, match="'manifold'"):
        suite("manifold", extractors=[])


def test_token_statistics() -> None:
    chosen, _ = selected(["token_statistics"], LAYOUT)
    chosen.update(part(0, 9))
    chosen.update(part(9, 7))
    found = values(chosen)
    assert {name.removeprefix("tokens.") for name in found} == {
        "huffman_bits",
        "huffman_saving",
        "benford_distance",
        "zipf_exponent",
        "zipf_exponent.log_log",
        "mandelbrot_exponent",
        "count_exponent",
        "samples_to_90_percent",
        "heaps_exponent",
        "bigram_entropy",
        "bigram_information",
    }
    bits = found["tokens.huffman_bits"]
    assert bits.details["tokens"] == 96
    assert np.log2(9) - 0.2 < bits.value < 4  # nine codes, about equally often
    assert found["tokens.huffman_saving"].value == pytest.approx(1 - bits.value / 4)
    assert 0 < found["tokens.bigram_entropy"].value <= np.log2(9)
    assert found["tokens.bigram_entropy"].details["of_shuffled_tokens"] == pytest.approx(found["tokens.bigram_entropy"].value, abs=0.4)
    assert list(found["tokens.bigram_information"].details["ngram_types"]) == ["1", "2", "3", "4"]


def test_token_statistics_of_several_codebooks_and_of_prefixes() -> None:
    segments = (Segment(name="coarse", shape=(2,), vocab_size=4), Segment(name="fine", shape=(3,), codebooks=2, vocab_size=(8, 4)))
    layout = TokenLayout(modality="image", signal_shape=(8, 8), prefixes="any", segments=segments)
    indices = torch.stack([torch.randint(0, 4, (8,), generator=torch.Generator().manual_seed(seed)) for seed in range(5)])
    images = torch.zeros(5, 3, 8, 8, dtype=torch.uint8)
    whole, shorter = (selected(["token_statistics"], layout)[0] for _ in range(2))
    whole.update(batch(torch.arange(5), images, images, Tokens(indices, layout)))
    parts = {value.part: value.details["tokens"] for value in whole.outcome(BOOTSTRAP).values}
    assert parts == {"coarse": 10, "fine[0]": 15, "fine[1]": 15}
    shorter.update(batch(torch.arange(5), images, images, Tokens(indices, layout).prefix(2)))
    assert {value.part for value in shorter.outcome(BOOTSTRAP).values} == {None}
