"""What the golden values do not show: limits, degenerate counts and agreement between estimators."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.metrics import codebook, entropy, huffman, innovation, ngrams, rates, zipf
from visiontok.evaluation.metrics.code_sequences import CodeSequenceTable
from visiontok.evaluation.metrics.prior import prior_information, token_nats
from visiontok.evaluation.metrics.rate_distortion import bd_quality, bd_rate, token_complexity
from visiontok.tokens import Segment, TokenLayout, Tokens

ESTIMATORS = [
    entropy.plugin_entropy,
    entropy.miller_madow_entropy,
    entropy.chao_shen_entropy,
    entropy.chao_wang_jost_entropy,
    entropy.grassberger_entropy,
    entropy.zhang_entropy,
    entropy.shrink_entropy,
]
counts = st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_find_the_entropy_when_samples_are_many(estimator) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(64))
    drawn = np.random.default_rng(1).multinomial(1_000_000, p)
    assert estimator(drawn) == pytest.approx(-(p * np.log2(p)).sum(), abs=2e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS[1:])
def test_corrected_estimators_are_less_biased_when_samples_are_few(estimator) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(256))
    truth = -(p * np.log2(p)).sum()
    drawn = [np.random.default_rng(seed).multinomial(300, p) for seed in range(20)]
    corrected, plain = (np.mean([f(d) for d in drawn]) for f in (estimator, entropy.plugin_entropy))
    assert abs(corrected - truth) < 0.7 * abs(plain - truth)


@given(counts)
def test_ranges(values: list[int]) -> None:
    assert 1 - 1e-12 <= codebook.perplexity(values) <= np.count_nonzero(values) * (1 + 1e-12)
    assert 0 < codebook.usage(values) <= 1
    assert -1e-9 <= codebook.gini(values) < 1
    assert codebook.divergence_from_uniform(values) >= -1e-9
    bits, nats = huffman.huffman_bits_per_token(values), entropy.plugin_entropy(values)
    assert nats - 1e-9 <= bits < nats + 1
    for estimator in ESTIMATORS:
        assert np.isfinite(estimator(values))


def test_one_code_carries_nothing() -> None:
    assert codebook.perplexity([0, 7, 0]) == 1
    assert entropy.plugin_entropy([0, 7]) == 0
    assert huffman.huffman_total_bits([0, 7]) == 0


def test_equal_use() -> None:
    assert codebook.perplexity([3] * 16) == pytest.approx(16)
    assert codebook.gini([3] * 16) == pytest.approx(0)
    assert huffman.huffman_bits_per_token([3] * 16) == 4


def test_nothing_counted_is_an_error() -> None:
    for values in ([0, 0], [], [1, -1]):
        with pytest.raises(EvaluationError, match="counts"):
            entropy.plugin_entropy(values)


def test_ngrams_do_not_cross_samples() -> None:
    assert ngrams.ngram_counts([[0, 1], [2, 3]], 2).sum() == 2
    assert ngrams.ngram_counts([0, 1, 0, 1, 0], 2).tolist() == [2, 2]
    with pytest.raises(EvaluationError, match="no runs of 3"):
        ngrams.ngram_counts([[0, 1]], 3)


def test_samples_may_differ_in_length() -> None:
    rows = [[0, 1, 0, 1], [], [1], [0, 1]]
    assert ngrams.ngram_counts(rows, 2).tolist() == [3, 1]  # 0 1 three times, 1 0 once
    assert ngrams.bigram_conditional_entropy(rows) == pytest.approx(0, abs=1e-9)
    assert ngrams.ngram_counts(rows, 4).tolist() == [1]
    assert innovation.innovation_curve([[0, 1], [], [1], [2, 0]]).tolist() == [2, 2, 2, 3]
    assert innovation.heaps_fit([2, 3, 6], tokens_per_sample=[2, 1, 3]) == pytest.approx((1, 1))
    with pytest.raises(EvaluationError, match="tokens_per_sample"):
        innovation.heaps_fit([2, 3], tokens_per_sample=[0, 3])


def test_kept_sequences_do_not_depend_on_batches_and_hold_every_sample_once() -> None:
    layout = TokenLayout(modality="image", signal_shape=(4, 4), ragged=True, segments=(Segment(name="q", shape=(3,), codebooks=2, vocab_size=4),))
    samples = [torch.randint(0, 4, (count,), generator=torch.Generator().manual_seed(count)) for count in (6, 2, 4, 0)]
    whole, first, second = (CodeSequenceTable(layout) for _ in range(3))
    whole.update(range(4), Tokens.from_samples(samples, layout))
    first.update([3, 1], Tokens.from_samples([samples[3], samples[1]], layout))
    second.update([2, 0], Tokens.from_samples([samples[2], samples[0]], layout))
    first.merge(second)
    for ours, theirs in zip(first.compute(), whole.compute(), strict=True):
        assert (ours.name, [row.tolist() for row in ours.rows]) == (theirs.name, [row.tolist() for row in theirs.rows])
    assert [row.tolist() for row in whole.compute()[1].rows] == [sample[1::2].tolist() for sample in samples[:3]]
    first.merge(second)
    with pytest.raises(EvaluationError, match="more than once"):
        first.compute()


def test_a_periodic_stream_is_known_from_its_neighbors() -> None:
    stream = np.tile([0, 1, 2, 3], 50)
    assert ngrams.bigram_conditional_entropy(stream) == pytest.approx(0, abs=1e-9)
    assert ngrams.bigram_mutual_information(stream) == pytest.approx(math.log(4), rel=1e-3)


def test_innovation_and_heaps() -> None:
    indices = np.arange(12).reshape(4, 3)
    curve = innovation.innovation_curve(indices)
    assert curve.tolist() == [3, 6, 9, 12]
    assert innovation.samples_to_share(curve, 0.5) == 2
    factor, exponent = innovation.heaps_fit(curve, tokens_per_sample=3)
    assert (factor, exponent) == pytest.approx((1, 1))


def test_zipf_exponents_of_an_exact_law() -> None:
    weights = np.arange(1, 301) ** -1.3
    drawn = np.round(weights * 1e9).astype(np.int64)
    np.random.default_rng(0).shuffle(drawn)
    assert zipf.zipf_fit(drawn).exponent == pytest.approx(1.3, abs=1e-4)
    assert zipf.log_log_fit(drawn).exponent == pytest.approx(1.3, abs=1e-4)
    assert zipf.mandelbrot_fit(drawn).shift == pytest.approx(0, abs=1e-3)
    with pytest.raises(EvaluationError, match="more than a support of 10"):
        zipf.zipf_fit(drawn, support=10)


def test_rates() -> None:
    assert rates.compression_ratio(96, (2, 2)) == 1
    assert rates.entropy_bits([[1, 1], [1, 1, 1, 1]], [3, 5]) == 13


def test_information_under_a_prior_ignores_padding() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(5, 4, 7, generator=draw), torch.randint(0, 7, (5, 4), generator=draw)
    lengths = torch.tensor([4, 1, 2, 3, 4])
    padded = targets.masked_fill(torch.arange(4) >= lengths[:, None], -1)
    nats, of_padded = (token_nats(logits, each, lengths) for each in (targets, padded))
    torch.testing.assert_close(nats, of_padded)
    found = prior_information(nats.sum(dim=1), lengths)
    assert found.tokens == 14
    assert found.bits_per_token == pytest.approx(float(nats.sum()) / 14 / math.log(2), rel=1e-12)
    with pytest.raises(EvaluationError, match="no token"):
        prior_information([0.0], [0])


def test_a_uniform_prior_saves_nothing() -> None:
    nats = token_nats(torch.zeros(2, 3, 8), torch.zeros(2, 3, dtype=torch.int64))
    found = prior_information(nats.sum(dim=1), [3, 3])
    assert found.bits_per_token == pytest.approx(3)
    assert found.saving(3) == pytest.approx(0)


def test_bjontegaard_of_shifted_curves() -> None:
    rate, quality = np.asarray([1, 2, 4, 8, 16.0]), np.asarray([20, 22, 25, 27, 28.0])
    assert bd_rate(rate, quality, rate / 2, quality) == pytest.approx(-50)
    assert bd_quality(rate, quality, rate, quality + 1) == pytest.approx(1)
    with pytest.raises(EvaluationError, match="at least 4 points"):
        bd_rate(rate[:3], quality[:3], rate[:3], quality[:3])
    with pytest.raises(EvaluationError, match="no common range"):
        bd_rate(rate, quality, rate, quality + 100)


def test_token_complexity_when_nothing_is_reached() -> None:
    found = token_complexity([1, 2], [[1.0, 0.9]], threshold=0.5)
    assert found.tokens.tolist() == [-1]
    assert found.mean_over_reached is None
    assert found.mean_capped == 2
