"""Trees of drafted tokens: the generator's distribution, its greedy tokens, and samples that do not depend on their batch."""

import pytest
import torch

from visiontok.base.errors import ConfigError, IdentityError, NonFiniteError
from visiontok.core.identity import TokenizerIdentity
from visiontok.generators.condition import Condition
from visiontok.generators.decoding import (
    EAGLE_TREE,
    LANTERN_TREE,
    DraftTree,
    DynamicTree,
    NextTokenSampler,
    Relaxation,
    SampleNoise,
    StaticTree,
    TopK,
    TreeSampler,
    nearest_latents,
)
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.tokens import Segment, TokenLayout


def layout(*segments: Segment, **changes) -> TokenLayout:
    return TokenLayout(modality="image", segments=segments, signal_shape=(32, 32), **changes)


LINE = layout(Segment(name="latents", shape=(9,), vocab_size=11))
THREE = {"type": "classes", "num_classes": 3}
CASES = {
    "line": {"layout": LINE},
    "grid in an order": {"layout": layout(Segment(name="grid", shape=(2, 3), vocab_size=11), order=(5, 0, 3, 1, 4, 2)), "positions": "learned"},
    "flattened codebooks": {"layout": layout(Segment(name="codes", shape=(4,), vocab_size=(7, 3), codebooks=2)), "positions": "rope-1d"},
    "captions": {"layout": LINE, "condition": {"type": "text", "text": {"length": 4, "dim": 6}, "dropout": 0.1}},
    "modulated": {"layout": LINE, "is_modulated": True},
    "a start beside the class": {"layout": LINE, "condition": {**THREE, "start": "after"}, "positions": "learned", "block": "gpt2"},
    "grouped heads": {"layout": LINE, "num_kv_heads": 1},
}
SMALL = DraftTree([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)], drafted=3)
TREES = {
    "static": StaticTree(SMALL),
    "dynamic": DynamicTree(children=3, expansions=2, nodes=9),
    "chain": StaticTree(DraftTree.chain(2)),
    "one level": DynamicTree(children=20, expansions=0, nodes=30),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


def gpt(seed: int, **changes) -> GPT:
    sizes = {"dim": 24, "depth": 2, "num_heads": 2, "multiple_of": 8, "condition": THREE}
    torch.manual_seed(seed)
    model = GPT(GPTConfig.parse({**sizes, **changes}))
    torch.nn.init.normal_(model.head.table.weight, std=0.3)
    return model.eval()


def pair(**changes) -> tuple[GPT, GPT]:
    return gpt(0, **changes), gpt(1, **changes, depth=1)


def conditions(model: GPT, count: int) -> Condition:
    if model.num_classes:
        return Condition(classes=torch.arange(count) % 3)
    text = torch.randn(count, 4, 6, generator=torch.Generator().manual_seed(0))
    return Condition(text=text, text_mask=torch.arange(4) >= (torch.arange(count) % 3)[:, None])


@every_tree
@every_case
def test_greedy_tokens_are_those_of_plain_decoding(case, tree):
    model, drafter = pair(**case)
    condition = conditions(model, 5)
    greedy = NextTokenSampler(model.sampler(guidance=2.0, guidance_schedule="linear").guidance, (TopK(1),))
    plain = model.generate(condition, sampler=greedy, noise=SampleNoise(0, range(5)))
    sampler = TreeSampler(drafter, greedy, tree=tree)
    found = model.generate(condition, sampler=sampler, noise=SampleNoise(0, range(5)))
    assert torch.equal(found.validate().indices, plain.indices)
    assert sampler.steps == 5 * model.num_steps()
    assert 1 <= sampler.acceptance_length <= 4


@every_tree
@every_case
def test_samples_do_not_depend_on_their_batch(case, tree):
    model, drafter = pair(**case)
    condition = conditions(model, 7)
    levels = {"temperature": (1.0, 0.7), "guidance": (1.5, 1.0)} if model.layout.segments[0].codebooks > 1 else {"guidance": 1.5}
    sampler = TreeSampler(drafter, model.sampler(**levels, top_k=6), tree=tree)
    whole = model.generate(condition, sampler=sampler, noise=SampleNoise(3, range(7))).validate().indices
    rows = [slice(row, row + 1) for row in range(7)]
    alone = [model.generate(condition[row], sampler=sampler, noise=SampleNoise(3, [row.start])).indices for row in rows]
    assert torch.equal(torch.cat(alone), whole)
    assert len({tuple(row) for row in whole.tolist()}) > 3


@every_tree
def test_the_default_dtype_changes_nothing(tree):
    model, drafter = pair(layout=LINE)
    sampler = TreeSampler(drafter, model.sampler(guidance=1.7, top_k=6), tree=tree)
    expected = model.generate(torch.arange(3), sampler=sampler, noise=SampleNoise(0, range(3))).indices
    torch.set_default_dtype(torch.float16)
    try:
        found = model.generate(torch.arange(3), sampler=sampler, noise=SampleNoise(0, range(3))).indices
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@every_tree
def test_a_drafter_equal_to_the_generator(tree):
    """Of a sequence that it draws itself, a generator accepts all; so only the last passes are cut short."""
    model = gpt(0, layout=LINE)
    sampler = TreeSampler(model, model.sampler(), tree=tree)
    model.generate(torch.zeros(8, dtype=torch.int64), sampler=sampler, noise=SampleNoise(0, range(8)))
    if tree is TREES["chain"]:
        assert sampler.acceptance_length == 9 / 4  # one step, then thrice three of which the last exceeds the sample
    if tree is TREES["one level"]:
        assert sampler.acceptance_length == 9 / 5  # all codes are drafted, so one of them is accepted
    assert sampler.acceptance_length > 1


@pytest.mark.parametrize(("tree", "guidance"), [("static", 1.7), ("dynamic", 1.0)])
def test_the_distribution_is_the_generator_s(tree, guidance):
    """Chi-square over all sequences of a small vocabulary, guided ones as the plain strategy gives them."""
    small = layout(Segment(name="codes", shape=(2,), vocab_size=(3, 2), codebooks=2))
    model, drafter = (gpt(seed, layout=small, condition={**THREE, "dropout": 0.1}) for seed in (0, 1))
    for each in (model, drafter):
        torch.nn.init.normal_(each.head.table.weight, std=0.6)
    count = 1500
    shape = {"static": StaticTree(DraftTree([(0,), (1,), (0, 0), (1, 0), (0, 0, 0)], drafted=2)), "dynamic": DynamicTree(2, 2, 4)}[tree]
    sampler = TreeSampler(drafter, model.sampler(guidance=guidance), tree=shape)
    observed = frequencies(model.generate(torch.full((count,), 2), sampler=sampler, noise=torch.Generator().manual_seed(0)).indices)
    expected = count * probabilities_of(model, guidance)
    drafted = count * probabilities_of(drafter, guidance)
    assert chi_square(observed, expected) < 66.6  # at most 35 degrees of freedom: the 99.9 % point
    assert chi_square(observed, drafted) > 200


def chi_square(observed: torch.Tensor, expected: torch.Tensor) -> float:
    """Cells of which fewer than 5 samples are expected count as one."""
    rare = expected < 5
    seen, due = (torch.cat([values[~rare], values[rare].sum()[None]]) for values in (observed, expected))
    return float(((seen - due) ** 2 / due.clamp_min(1e-9)).sum())


def frequencies(tokens: torch.Tensor) -> torch.Tensor:
    numbers = ((tokens[:, 0] * 2 + tokens[:, 1]) * 3 + tokens[:, 2]) * 2 + tokens[:, 3]
    return torch.bincount(numbers, minlength=36).double()


def probabilities_of(model: GPT, guidance: float) -> torch.Tensor:
    """Of all sequences (3 x 2 x 3 x 2) of class 2, step by step from guided logits."""
    every = torch.cartesian_prod(*(torch.arange(size) for size in (3, 2, 3, 2)))
    session, total = model.session(torch.full((36,), 2), guided=True), torch.ones(36, dtype=torch.float64)
    given, without = session.prefill()
    for step, (first, size) in enumerate(((0, 3), (3, 2), (0, 3), (3, 2))):
        logits = [model.head.table.logits(each, first, size) for each in (given, without)]
        odds = (logits[1] + guidance * (logits[0] - logits[1])).double().softmax(dim=-1)
        total *= odds[torch.arange(36), every[:, step]]
        if step < 3:
            given, without = session.step(every[:, step, None])
    return total


def test_relaxed_acceptance_accepts_more_and_changes_the_distribution():
    model, drafter = pair(layout=LINE)
    near = nearest_latents(torch.randn(11, 4, generator=torch.Generator().manual_seed(0)), 9)
    for tree in (TREES["static"], TREES["dynamic"]):
        exact, relaxed = (TreeSampler(drafter, model.sampler(), tree=tree, relaxation=each) for each in (None, Relaxation(near, 8, 0.9)))
        found = [model.generate(torch.zeros(60, dtype=torch.int64), sampler=each, noise=SampleNoise(0, range(60))) for each in (exact, relaxed)]
        assert relaxed.acceptance_length > exact.acceptance_length + 0.2
        assert not torch.equal(found[0].indices, found[1].indices)


def test_published_trees_and_prefixes():
    assert [len(DraftTree(each).paths) for each in (EAGLE_TREE, LANTERN_TREE)] == [26, 58]
    prefix = layout(Segment(name="latents", shape=(9,), vocab_size=11), prefixes="any")
    model, drafter = gpt(0, layout=prefix), gpt(1, layout=prefix, condition={"type": "none"})
    for tree in (StaticTree(DraftTree(EAGLE_TREE)), StaticTree(DraftTree(LANTERN_TREE)), DynamicTree()):
        found = model.generate(torch.arange(3), sampler=TreeSampler(drafter, model.sampler(), tree=tree), num_tokens=5)
        assert found.validate().indices.shape == (3, 5)


def test_what_does_not_fit_is_refused():
    model, drafter = pair(layout=LINE)
    residual = {"layout": layout(Segment(name="codes", shape=(4,), vocab_size=7, codebooks=2)), "pattern": "parallel"}

    def run(model: GPT = model, drafter: GPT = drafter, tree=TREES["dynamic"]) -> None:
        model.generate(torch.arange(3), sampler=TreeSampler(drafter, model.sampler(), tree=tree))

    with pytest.raises(ConfigError, match="one token per step"):
        run(*pair(**residual))
    with pytest.raises(ConfigError, match="lower rank"):
        StaticTree(DraftTree([(1,)]))
    with pytest.raises(ConfigError, match="12"):
        run(tree=StaticTree(DraftTree([(0,)], drafted=12)))
    with pytest.raises(ConfigError, match="children"):
        DynamicTree(children=0)
    first, second = (TokenizerIdentity(name=name, revision=None, weights_sha256=name * 64) for name in "ab")
    with pytest.raises(IdentityError):
        run(gpt(0, layout=LINE, tokenizer=first), gpt(1, layout=LINE, tokenizer=second))


@every_tree
@pytest.mark.parametrize("broken", ["model", "drafter"])
def test_non_finite_logits_name_the_step(tree, broken):
    """Of the elements that a pass reads, all but the first give NaN: the condition is one element, a tree has several."""
    model, drafter = pair(layout=LINE)

    def damage(_module, _arguments, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * torch.where(torch.arange(hidden.shape[1]) == 0, 1, torch.nan)[:, None]

    {"model": model, "drafter": drafter}[broken].backbone.register_forward_hook(damage)
    sampler = TreeSampler(drafter, NextTokenSampler(), tree=tree)
    if broken == "drafter" and tree in (TREES["chain"], TREES["one level"]):
        pytest.skip("this tree's drafter reads one token at a time")
    with pytest.raises(NonFiniteError, match=r"step [23]:"):
        model.generate(torch.arange(3), sampler=sampler)
