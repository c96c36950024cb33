"""Speculative decoding: the distribution and the greedy tokens of plain decoding, and LANTERN's rule within it."""

import math

import pytest
import torch

from visiontok.base.errors import ConditionError, ConfigError, IdentityError, NonFiniteError, TokenError
from visiontok.core.identity import TokenizerIdentity
from visiontok.generators.decoding import (
    DraftTree,
    ExactAcceptance,
    LanternAcceptance,
    NextTokenSampler,
    RecordedNoise,
    Relaxation,
    SampleNoise,
    SpeculativeSampler,
    TopK,
    accept_dynamic_tree,
    accept_greedily,
    accept_static_tree,
    nearest_latents,
)
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.tokens import Segment, TokenLayout


def layout(*segments: Segment, **changes) -> TokenLayout:
    return TokenLayout(modality="image", segments=segments, signal_shape=(32, 32), **changes)


LINE = layout(Segment(name="latents", shape=(6,), vocab_size=11))
GRID = layout(Segment(name="grid", shape=(2, 3), vocab_size=11), order=(5, 0, 3, 1, 4, 2))
RESIDUAL = layout(Segment(name="codes", shape=(4,), vocab_size=(7, 3), codebooks=2))
THREE = {"type": "classes", "num_classes": 3}
CASES = {
    "line": {"layout": LINE},
    "grid in an order": {"layout": GRID, "positions": "learned"},
    "flattened codebooks": {"layout": RESIDUAL},
    "parallel codebooks": {"layout": RESIDUAL, "pattern": "parallel"},
    "delayed codebooks": {"layout": RESIDUAL, "pattern": "delay"},
    "inner head": {"layout": RESIDUAL, "pattern": "parallel", "inner_head": {"depth": 1}},
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def gpt(seed: int, **changes) -> GPT:
    sizes = {"dim": 24, "depth": 2, "num_heads": 2, "multiple_of": 8, "condition": THREE}
    torch.manual_seed(seed)
    model = GPT(GPTConfig.parse({**sizes, **changes}))
    torch.nn.init.normal_(model.head.table.weight, std=0.3)
    return model.eval()


def pair(**changes) -> tuple[GPT, GPT]:
    return gpt(0, **changes), gpt(1, **changes, depth=1)


@every_case
@pytest.mark.parametrize("length", [1, 3, 20])
def test_greedy_tokens_are_those_of_plain_decoding(case, length):
    model, drafter = pair(**case)
    classes = torch.arange(5) % 3
    greedy = NextTokenSampler(model.sampler(guidance=2.0).guidance, (TopK(1),))
    plain = model.generate(classes, sampler=greedy, noise=SampleNoise(0, range(5)))
    sampler = SpeculativeSampler(drafter, greedy, draft_length=length)
    found = model.generate(classes, sampler=sampler, noise=SampleNoise(0, range(5)))
    assert torch.equal(found.validate().indices, plain.indices)
    assert sampler.steps == model.num_steps()
    assert 1 <= sampler.acceptance_length <= length


@every_case
def test_samples_depend_neither_on_the_batch_nor_on_the_draft_length(case):
    model, drafter = pair(**case)
    levels = {"temperature": (1.0, 0.7), "guidance": (1.5, 1.0)} if model.layout == RESIDUAL else {"guidance": 1.5}
    classes, guided = torch.arange(7) % 3, model.sampler(**levels, top_k=6)
    samplers = [SpeculativeSampler(drafter, guided, draft_length=length) for length in (1, 2, 5)]
    whole = [model.generate(classes, sampler=sampler, noise=SampleNoise(3, range(7))).indices for sampler in samplers]
    alone = [model.generate(classes[row : row + 1], sampler=samplers[1], noise=SampleNoise(3, [row])).indices for row in range(7)]
    for other in (*whole[1:], torch.cat(alone)):
        assert torch.equal(other, whole[0])
    assert len({tuple(row) for row in whole[0].tolist()}) > 3


def test_a_drafter_equal_to_the_generator_is_always_right():
    model = gpt(0, layout=LINE)
    sampler = SpeculativeSampler(model, model.sampler(), draft_length=3)
    model.generate(torch.zeros(8, dtype=torch.int64), sampler=sampler, noise=SampleNoise(0, range(8)))
    assert sampler.acceptance_length == 3
    assert math.isnan(SpeculativeSampler(model, model.sampler()).acceptance_length)


@pytest.mark.parametrize("pattern", ["flatten", "parallel", "inner"])
def test_the_distribution_is_the_generator_s(pattern):
    """Chi-square over all sequences of a small vocabulary."""
    small = layout(Segment(name="codes", shape=(2,), vocab_size=(3, 2), codebooks=2))
    changes = {"pattern": "flatten" if pattern == "flatten" else "parallel"} | ({"inner_head": {"depth": 1}} if pattern == "inner" else {})
    model, drafter = (gpt(seed, layout=small, **changes) for seed in (0, 1))
    for each in (model, drafter):
        torch.nn.init.normal_(each.head.table.weight, std=0.6)
    every = torch.cartesian_prod(*(torch.arange(size) for size in (3, 2, 3, 2)))
    classes = torch.full((len(every),), 2)
    with torch.no_grad():
        expected, drafted = (torch.exp(-each.nll(every, classes)).double() for each in (model, drafter))
    count = 20_000
    sampler = SpeculativeSampler(drafter, model.sampler(), draft_length=3)
    found = model.generate(torch.full((count,), 2), sampler=sampler, noise=torch.Generator().manual_seed(0)).indices
    numbers = ((found[:, 0] * 2 + found[:, 1]) * 3 + found[:, 2]) * 2 + found[:, 3]
    observed = torch.bincount(numbers, minlength=36).double()

    def statistic(probabilities: torch.Tensor) -> float:
        return float(((observed - count * probabilities) ** 2 / (count * probabilities)).sum())

    assert statistic(expected) < 66.6  # 35 degrees of freedom: the 99.9 % point
    assert statistic(drafted) > 200


def test_lantern_is_the_static_tree_with_one_path():
    torch.manual_seed(0)
    size, steps = 24, 4
    codebook = torch.randn(size, 3)
    for delta in (0.2, 0.6, 2.0):
        relaxation = Relaxation(nearest_latents(codebook, 7), 6, delta)
        rule, tree = LanternAcceptance((relaxation,)), DraftTree([(0,) * depth for depth in range(1, steps + 1)], drafted=1)
        lengths = set()
        for _ in range(30):
            logits, draft = 2 * torch.randn(1, steps + 1, size), torch.randn(steps, size).softmax(-1)
            codes, uniform = torch.multinomial(draft, 1), torch.rand(steps, 1)
            odds = draft.gather(1, codes)
            theirs = accept_static_tree(
                logits, tree, torch.tensor([0]), codes, odds, list(draft[:, None]), RecordedNoise(uniform=uniform), relaxation=relaxation
            )
            targets, length = logits[0].softmax(-1), 0
            bonus = targets[-1]
            for step in range(steps):
                kept, left = rule(targets[step, None], draft[step, None], codes[step], uniform[step], codebook=0)
                if not kept:
                    bonus = left[0] / left.sum()
                    break
                length += 1
            assert length == theirs.length
            torch.testing.assert_close(bonus, theirs.bonus, rtol=0, atol=1e-6)
            lengths.add(length)
        assert len(lengths) > 2


def test_relaxation_accepts_more():
    model, drafter = pair(layout=LINE)
    classes, near = torch.zeros(1, dtype=torch.int64), nearest_latents(torch.randn(11, 2, generator=torch.Generator().manual_seed(0)), 9)
    lengths = {}
    for name, rule in {"exact": ExactAcceptance(), "relaxed": LanternAcceptance((Relaxation(near, 8, 0.9),))}.items():
        sampler = SpeculativeSampler(drafter, model.sampler(), draft_length=3, acceptance=rule)
        for seed in range(40):
            model.generate(classes, sampler=sampler, noise=SampleNoise(seed, [0])).validate()
        lengths[name] = sampler.acceptance_length
    assert lengths["relaxed"] > lengths["exact"] + 0.2


def test_an_unconditional_drafter_serves_a_conditional_generator_and_prefixes_are_sampled():
    prefix = layout(Segment(name="latents", shape=(6,), vocab_size=11), prefixes="any")
    model, drafter = gpt(0, layout=prefix), gpt(1, layout=prefix, condition={"type": "none"})
    sampler = SpeculativeSampler(drafter, model.sampler(guidance=2.0))
    classes = torch.arange(3)
    whole = model.generate(classes, sampler=sampler, noise=SampleNoise(0, range(3)))
    start = model.generate(classes, sampler=sampler, noise=SampleNoise(0, range(3)), num_tokens=4)
    assert torch.equal(start.indices, whole.indices[:, :4])


def test_what_does_not_fit_is_refused():
    model, drafter = pair(layout=LINE)
    plain = model.sampler()

    def run(model: GPT = model, drafter: GPT = drafter, sampler: NextTokenSampler = plain) -> None:
        model.generate(torch.arange(3), sampler=SpeculativeSampler(drafter, sampler))

    with pytest.raises(ConfigError, match="draft_length"):
        SpeculativeSampler(drafter, model.sampler(), draft_length=0)
    continuous = layout(Segment(name="latents", shape=(6,), channels=2))
    latents = GPT(GPTConfig.parse({"layout": continuous, "dim": 8, "depth": 1, "num_heads": 2}))
    with pytest.raises(ConfigError, match="continuous"):
        SpeculativeSampler(latents, model.sampler())
    with pytest.raises(TokenError):
        run(drafter=gpt(1, layout=layout(Segment(name="latents", shape=(6,), vocab_size=12))))
    with pytest.raises(ConditionError):
        run(drafter=gpt(1, layout=LINE, condition={"type": "classes", "num_classes": 2}))
    with pytest.raises(ConfigError, match="dropout"):
        run(drafter=gpt(1, layout=LINE, condition={**THREE, "dropout": 0}), sampler=model.sampler(guidance=2.0))
    with pytest.raises(ConfigError, match="delay"):
        run(gpt(0, layout=RESIDUAL), gpt(1, layout=RESIDUAL, pattern="delay"))
    first, second = (TokenizerIdentity(name=name, revision=None, weights_sha256=name * 64) for name in "ab")
    with pytest.raises(IdentityError):
        run(gpt(0, layout=LINE, tokenizer=first), gpt(1, layout=LINE, tokenizer=second))
    with pytest.raises(NonFiniteError, match="step 0"):
        run(sampler=NextTokenSampler(filters=(lambda logits: logits * math.nan,)))
    with pytest.raises(NonFiniteError, match="step 0"):
        accept_dynamic_tree(torch.full((1, 2, 5), math.nan), torch.zeros(1, 2, dtype=torch.int64), SampleNoise(0, [0]))
    with pytest.raises(NonFiniteError):
        accept_greedily(torch.full((1, 2, 5), math.nan), torch.zeros(1, 2, dtype=torch.int64))
    near = nearest_latents(torch.randn(8, 2), 3)
    for k, delta in ((0, 0.1), (8, 0.1), (3, 0.1), (2, -0.1), (2, math.nan)):
        with pytest.raises(ConfigError):
            Relaxation(near, k, delta)
    for paths in ([(0, 0)], [(10,)]):
        with pytest.raises(ConfigError, match="draft tree"):
            DraftTree(paths)
