import numpy as np
import pytest
import torch

from visiontok.base.errors import ConfigError
from visiontok.evaluation import BootstrapConfig, FunctionExtractor, Suite
from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.metrics.entries.feature_sets import FeatureSetMeasure
from visiontok.evaluation.metrics.manifold import manifold_scores
from visiontok.evaluation.metrics.mmd import cmmd, squared_mmd
from visiontok.evaluation.metrics.registry import Batch, build_measures
from visiontok.tokens import Segment, TokenLayout, Tokens

COLOURS = FunctionExtractor(lambda images: images.float().mean(dim=(2, 3)) / 64, name="mean-colour", identity="mean-colour/1")
BOOTSTRAP = BootstrapConfig(resamples=100)
LAYOUT = TokenLayout(modality="image", signal_shape=(8, 8), segments=(Segment(name="grid", shape=(2, 3), vocab_size=16),))


def batch(start: int, count: int) -> Batch:
    generator = torch.Generator().manual_seed(start)
    images, noise = (torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator) for _ in range(2))
    tokens = Tokens(torch.randint(0, 9, (count, 6), generator=generator), LAYOUT)
    return Batch(torch.arange(start, start + count), images, noise // 2 + images // 2, tokens)


def suite(*metrics: str, **changes) -> Suite:
    return Suite.parse(
        {"name": "x", "data": {"name": "digits", "split": "test"}, "metrics": metrics, "extractors": ["downsampled-pixels"], **changes}
    )


def test_numbers_are_those_of_the_functions_in_whatever_order_and_shards_they_came():
    whole, first, second = (FeatureSetMeasure(COLOURS, ("kernel_distance", "cmmd", "manifold")) for _ in range(3))
    for part in (batch(0, 9), batch(9, 7)):
        whole.update(part)
    second.update(batch(0, 9))
    first.update(batch(9, 7))
    first.accumulators["images"].merge(second.accumulators["images"])
    assert first.values(BOOTSTRAP) == whole.values(BOOTSTRAP)
    values = {value.name: value for value in whole.values(BOOTSTRAP)}
    parts = (batch(0, 9), batch(9, 7))
    reference = np.concatenate([COLOURS(part.reference).float() for part in parts])
    measured = np.concatenate([COLOURS(part.reconstruction).float() for part in parts])
    assert values["MMD[mean-colour]"].value == pytest.approx(squared_mmd(measured, reference), rel=1e-9)  # all subsets are the whole set
    assert "subsets of 16" in values["MMD[mean-colour]"].protocol
    assert values["RBF-MMD[mean-colour]"].value == pytest.approx(cmmd(measured, reference), rel=1e-9)
    scores = manifold_scores(measured, reference)
    for name in ("precision", "recall", "density", "coverage"):
        assert values[f"{name}[mean-colour]"].value == getattr(scores, name)


def test_published_names_belong_to_their_extractors():
    for metric in ("FD", "MMD", "RBF-MMD", "inception_score"):
        assert COLOURS.title(metric) == f"{metric}[mean-colour]"
    titles = {metric: f"{name}[inception-v3-compat]" for metric, name in (("FD", "FID"), ("MMD", "KID"), ("inception_score", "IS"))}
    assert all(InceptionV3Compat.title(InceptionV3Compat, metric) == title for metric, title in titles.items())


def test_the_inception_score_needs_the_inception_network():
    measures, omitted = build_measures(suite("mse", "manifold", "inception_score"), LAYOUT, [COLOURS])
    assert omitted == {"inception_score": "none of the extractors is the Inception network"}
    assert list(measures) == ["mse", "feature_sets.mean-colour"]
    with pytest.raises(ConfigError, match="the metric 'manifold' needs at least one of the extractors"):
        suite("manifold", extractors=[])


def test_token_statistics():
    (measure,) = build_measures(suite("token_statistics"), LAYOUT, [])[0].values()
    measure.update(batch(0, 9))
    measure.update(batch(9, 7))
    values = {value.name: value for value in measure.values(BOOTSTRAP)}
    assert set(values) == {
        f"tokens.{name}" for name in ("huffman_bits", "huffman_saving", "zipf_exponent", "images_to_90_percent", "heaps_exponent", "bigram_entropy")
    }
    bits = values["tokens.huffman_bits"]
    assert bits.details["tokens"] == 96
    assert np.log2(9) - 0.2 < bits.value < 4  # nine ids, about equally often
    assert values["tokens.huffman_saving"].value == pytest.approx(1 - bits.value / 4)
    assert 0 < values["tokens.bigram_entropy"].value <= np.log2(9)
    assert values["tokens.bigram_entropy"].details["of_shuffled_ids"] == pytest.approx(values["tokens.bigram_entropy"].value, abs=0.4)


def test_token_statistics_of_several_codebooks_and_of_prefixes():
    layout = TokenLayout(
        modality="image",
        signal_shape=(8, 8),
        prefixes="any",
        segments=(Segment(name="coarse", shape=(2,), vocab_size=4), Segment(name="fine", shape=(3,), codebooks=2, vocab_size=(8, 4))),
    )
    measure = build_measures(suite("token_statistics"), layout, [])[0]["token_statistics"]
    ids = torch.stack([torch.randint(0, 4, (8,), generator=torch.Generator().manual_seed(seed)) for seed in range(5)])
    images = torch.zeros(5, 3, 8, 8, dtype=torch.uint8)
    measure.update(Batch(torch.arange(5), images, images, Tokens(ids, layout)))
    parts = {value.part: value.details["tokens"] for value in measure.values(BOOTSTRAP)}
    assert parts == {"coarse": 10, "fine[0]": 15, "fine[1]": 15}
    shorter = build_measures(suite("token_statistics"), layout, [])[0]["token_statistics"]
    shorter.update(Batch(torch.arange(5), images, images, Tokens(ids, layout).prefix(2)))
    assert {value.part for value in shorter.values(BOOTSTRAP)} == {None}


def test_ragged_ids_have_no_token_statistics():
    ragged = TokenLayout(modality="image", signal_shape=(8, 8), ragged=True, segments=(Segment(name="q", shape=(4,), vocab_size=8),))
    measures, omitted = build_measures(suite("token_statistics", "mse"), ragged, [])
    assert list(measures) == ["mse"]
    assert omitted == {"token_statistics": "the number of ids varies from picture to picture"}
