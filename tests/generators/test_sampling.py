import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import ConfigError
from visiontok.generators.decoding import (
    ConstantGuidance,
    EntropyTopK,
    LinearGuidance,
    MaskGITSampling,
    NextTokenSampler,
    NextTokenSampling,
    PowerCosineGuidance,
    RecordedNoise,
    SampleNoise,
    Temperature,
    TiTokSampler,
    TiTokSampling,
    TopK,
    TopP,
    as_noise,
    guide,
    sample_categorical,
)

logit_rows = st.lists(st.lists(st.integers(-40, 40), min_size=6, max_size=6), min_size=1, max_size=4).map(lambda rows: torch.tensor(rows) / 8)


@given(logit_rows, st.integers(1, 9))
def test_top_k_keeps_the_k_best_and_those_tied_with_the_last(logits, k):
    kept = TopK(k)(logits).isfinite()
    for row, keep in zip(logits, kept, strict=True):
        threshold = row.sort(descending=True).values[min(k, len(row)) - 1]
        assert keep.tolist() == (row >= threshold).tolist()
    assert torch.equal(TopK(k)(logits)[kept], logits[kept])


@given(logit_rows, st.floats(0, 1))
def test_top_p_keeps_the_smallest_set_that_exceeds_p(logits, p):
    kept = TopP(p)(logits).isfinite()
    for row, keep in zip(logits.softmax(dim=-1), kept, strict=True):
        mass = float(row[keep].sum())
        assert mass >= p - 1e-5
        assert mass - float(row[keep].min()) <= p + 1e-5
        assert keep[row.argmax()]


def test_temperature_divides():
    assert torch.equal(Temperature(0.5)(torch.tensor([1.0, -2.0])), torch.tensor([2.0, -4.0]))


@pytest.mark.parametrize("make", [lambda: Temperature(0.0), lambda: Temperature(math.nan), lambda: TopK(0), lambda: TopP(1.5), lambda: TopP(-0.1)])
def test_filters_refuse_senseless_numbers(make):
    with pytest.raises(ConfigError):
        make()


def test_filters_apply_in_their_order():
    logits = torch.tensor([[4.0, 3.0, 2.0, 1.0]])

    def scores_halved(logits):  # any callable is a filter
        return logits / 2

    flat_then_p = NextTokenSampler(filters=(scores_halved, TopP(0.6)))
    p_then_flat = NextTokenSampler(filters=(TopP(0.6), scores_halved))
    only_second_wins = RecordedNoise(exponential=[torch.tensor([[1e6, 1.0, 1e6, 1e6]])] * 2)
    first = {"codebook": 0, "step": 0, "num_steps": 1}
    assert flat_then_p.choose(logits, None, only_second_wins, **first).item() == 1
    assert p_then_flat.choose(logits, None, only_second_wins, **first).item() == 0  # top-p alone keeps one token: exp(4) / sum > 0.6


def test_guidance_schedules():
    assert [ConstantGuidance(3.0)(step, 4) for step in (0, 3)] == [3.0, 3.0]
    assert [LinearGuidance(4.0)(step, 4) for step in range(4)] == [1.0, 2.0, 3.0, 4.0]
    assert PowerCosineGuidance(7.0, 1.0)(0, 8) == 1.0
    assert PowerCosineGuidance(7.0, 1.0)(4, 8) == pytest.approx(4.0)  # half a cosine wave: half way between 1 and 7
    assert PowerCosineGuidance(7.0, 2.0)(4, 8) == pytest.approx(1 + 6 * (1 - math.cos(math.pi / 4)) / 2)
    assert PowerCosineGuidance(7.0, 0.0)(0, 8) == 7.0


def test_guide_extrapolates_from_the_unconditional_logits():
    conditional, unconditional = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])
    assert guide(conditional, unconditional, 0.0).tolist() == [1.0, 1.0]
    assert guide(conditional, unconditional, 1.0).tolist() == [2.0, 0.0]
    assert guide(conditional, unconditional, 3.0).tolist() == [4.0, -2.0]


def test_published_numbers_of_maskgit_mean_what_their_code_computes():
    conditional, unconditional = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])

    def guided(step, **numbers):
        return guide(conditional, unconditional, TiTokSampling(guidance=4.0, num_steps=8, **numbers).sampler().guidance(step, 8))

    assert torch.equal(guided(0, guidance_schedule="constant"), conditional + 4 * (conditional - unconditional))
    assert torch.equal(guided(0, guidance_schedule="linear"), conditional)
    assert torch.equal(guided(2, guidance_schedule="linear"), conditional + 4 * 2 / 8 * (conditional - unconditional))
    assert torch.equal(guided(5, guidance_schedule="power-cosine", guidance_power=0), unconditional + 4 * (conditional - unconditional))


def test_categorical_draws_what_multinomial_draws():
    probabilities = torch.rand(6, 40, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    expected = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(1))[:, 0]
    assert torch.equal(sample_categorical(probabilities.log(), as_noise(torch.Generator().manual_seed(1), torch.device("cpu"))), expected)


def test_categorical_frequencies_and_excluded_ids():
    logits = torch.tensor([0.5, 0.3, 0.2, 0.0]).log().expand(20000, 4)
    drawn = sample_categorical(logits, as_noise(torch.Generator().manual_seed(0), torch.device("cpu")))
    assert torch.bincount(drawn, minlength=4)[3] == 0
    assert torch.allclose(torch.bincount(drawn).float() / len(drawn), torch.tensor([0.5, 0.3, 0.2]), atol=0.02)


def test_next_token_numbers_become_filters_in_the_published_order():
    sampler = NextTokenSampling(guidance=2.0, temperature=0.9, top_k=10, top_p=0.8).sampler()
    assert sampler == NextTokenSampler(ConstantGuidance(2.0), (Temperature(0.9), TopK(10), TopP(0.8)))
    assert NextTokenSampling().sampler() == NextTokenSampler(ConstantGuidance(1.0), (Temperature(1.0),))


def test_entropy_top_k_is_first_and_keeps_more_where_the_model_is_unsure():
    sampler = NextTokenSampling(entropy_top_k=(1, 6), temperature=0.5, top_k=4).sampler()
    assert sampler.filters == (EntropyTopK(1, 6), Temperature(0.5), TopK(4))
    rule = EntropyTopK(1, 6, center=1.0, slope=8.0)
    logits = torch.stack([torch.zeros(8), torch.tensor([9.0, 8, 0, 0, 0, 0, 0, 0]), 20 * torch.eye(8)[2], torch.arange(8.0)])
    kept = rule(logits).isfinite().sum(dim=-1).tolist()
    assert kept == [8, 1, 1, 4]  # all tied; two candidates; one; several
    assert torch.equal(EntropyTopK(1, 2000, center=0.0)(logits[3:]), logits[3:])  # more than there are


@pytest.mark.parametrize("values", [{"k_min": 0}, {"k_min": 5, "k_max": 4}, {"center": math.inf}, {"slope": math.nan}])
def test_entropy_top_k_refuses_senseless_numbers(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        EntropyTopK(**values)


def test_a_decreasing_range_of_entropy_top_k_is_refused():
    with pytest.raises(ConfigError, match="entropy_top_k"):
        NextTokenSampling.parse({"entropy_top_k": (5, 4)})


def test_iterative_sampler_unmasks_by_the_arccos_schedule():
    vocabulary, length, steps = 5, 12, 4
    seen = []

    def predict(tokens, scale):
        seen.append(tokens)
        return torch.randn(*tokens.shape, vocabulary, generator=torch.Generator().manual_seed(len(seen)))

    sampler = TiTokSampler(steps, ConstantGuidance(1.0), temperature=1.0, annealing=True)
    start = torch.full((2, length), vocabulary)
    after = list(sampler.steps(predict, start, vocabulary, SampleNoise(0, range(2))))
    expected = [math.floor(length * math.acos(step / steps) / (math.pi / 2)) for step in range(1, steps)] + [0]
    assert [(tokens == vocabulary).sum(dim=1).tolist() for tokens in after] == [[count] * 2 for count in expected]
    for before, now in itertools.pairwise(after):
        known = before != vocabulary
        assert torch.equal(before[known], now[known])  # what was kept stays


def test_maskgit_draws_codes_and_masks_again_by_the_cosine_schedule():
    logits = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0))
    sampler = MaskGITSampling(num_steps=4, temperature=2.0).sampler()
    draws = [torch.empty(2, 12, 5).exponential_(generator=torch.Generator().manual_seed(step)) for step in range(4)]
    ranks = [torch.rand(2, 12, generator=torch.Generator().manual_seed(9 + step)) for step in range(4)]
    after = list(sampler.steps(lambda tokens, scale: logits, torch.full((2, 12), 5), 5, RecordedNoise(exponential=draws, uniform=ranks)))
    assert [int((tokens == 5).sum()) for tokens in after] == [2 * math.floor(12 * math.cos(math.pi / 2 * step / 4)) for step in (1, 2, 3)] + [0]
    drawn = (logits.softmax(dim=-1) / draws[0]).argmax(dim=-1)
    confidence = logits.log_softmax(dim=-1).gather(-1, drawn[..., None])[..., 0] - 2.0 * 0.75 * torch.log(-torch.log(ranks[0]))
    kept = confidence.argsort(dim=-1, descending=True)[:, :1]
    assert torch.equal(after[0].gather(1, kept), drawn.gather(1, kept))


def test_guidance_of_masked_elm_generators():
    def scales(schedule):
        guidance = MaskGITSampling(guidance=5.0, guidance_schedule=schedule, guidance_power=2.0).sampler().guidance
        return [guidance(step, 4) for step in range(4)]

    assert scales("constant") == [5.0] * 4
    assert scales("linear") == [2.0, 3.0, 4.0, 5.0]
    assert scales("power-cosine") == pytest.approx([1 + 2 * (1 - math.cos(math.pi * (step / 4) ** 2)) for step in range(1, 5)])


def test_the_last_iterative_step_takes_the_best_ids():
    logits = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    sampler = TiTokSampler(1, ConstantGuidance(1.0), temperature=9.0, annealing=True)
    tokens = sampler(lambda tokens, scale: logits, torch.full((2, 6), 5), 5, SampleNoise(0, range(2)))
    assert torch.equal(tokens, logits.argmax(dim=-1))
