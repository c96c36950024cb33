"""EAGLE's drafter: its loss, what it learns, and trees that it drafts."""

import pytest
import torch
from test_tree_decoding import CASES, TREES, conditions, every_case, gpt

import visiontok
from visiontok.base.errors import ConfigError, IdentityError
from visiontok.core.identity import TokenizerIdentity
from visiontok.generators.decoding import NextTokenSampler, SampleNoise, TopK, TreeSampler
from visiontok.generators.eagle.model import EagleDrafter

LINE = CASES["line"]


def eagle(model, **changes) -> EagleDrafter:
    torch.manual_seed(5)
    return EagleDrafter.of(model, **changes).eval()


@every_case
@pytest.mark.parametrize("tree", ["static", "dynamic"])
def test_greedy_tokens_are_those_of_plain_decoding(case, tree):
    model = gpt(0, **case)
    greedy = NextTokenSampler(model.sampler(guidance=2.0).guidance, (TopK(1),))
    plain = model.generate(conditions(model, 5), sampler=greedy, noise=SampleNoise(0, range(5)))
    sampler = TreeSampler(eagle(model), greedy, tree=TREES[tree])
    found = model.generate(conditions(model, 5), sampler=sampler, noise=SampleNoise(0, range(5)))
    assert torch.equal(found.validate().indices, plain.indices)


@pytest.mark.parametrize("tree", ["static", "dynamic", "chain"])
def test_samples_do_not_depend_on_their_batch(tree):
    model = gpt(0, **CASES["captions"])
    sampler, condition = TreeSampler(eagle(model), model.sampler(guidance=1.5), tree=TREES[tree]), conditions(model, 5)
    whole = model.generate(condition, sampler=sampler, noise=SampleNoise(3, range(5))).indices
    alone = [model.generate(condition[row : row + 1], sampler=sampler, noise=SampleNoise(3, [row])).indices for row in range(5)]
    assert torch.equal(torch.cat(alone), whole)


@every_case
def test_drafting_predicts_what_the_loss_trains(case):
    """A chain of accepted tokens: behind each, the session gives the prediction that the loss compares."""
    model = gpt(0, **case)
    drafter, condition = eagle(model), conditions(model, 3)
    steps = model.num_steps()
    tokens = model.generate(condition, noise=SampleNoise(0, range(3)))
    checked, found = model.training_batch(tokens, condition)
    with torch.no_grad():
        hidden, codes, plan = model.hidden_states(checked, found, torch.zeros(3, dtype=torch.bool))
        prefix = model.condition.length - 1
        rows = torch.cat([codes.new_zeros(3, prefix), (codes + plan.first)[:, :-1, 0]], dim=1)
        rope = drafter.rope_rows(plan.coordinates[:, :-1], prefix)
        expected = drafter.layer(drafter.elements(rows, hidden[:, :-1]), rope=rope, is_causal=True)[:, prefix:]
        session = drafter.draft_session(model, condition, samples=3, layout=model.layout, guided=False, room=4)
        session.begin(hidden[:, : prefix + 1])
        for begin, counts in ((0, (2, 1, 2)), (2, (1, 2, 2)), (3, (1, 1, 0))):
            at = session.lengths[:, None] + torch.arange(2)
            inside = at.clamp_max(steps - 2)
            counts = torch.tensor(counts)
            sample = torch.arange(3)[:, None]
            behind = session.advance(codes[sample, inside, 0], counts, hidden[sample, prefix + inside])
            last = session.lengths - 1
            read = counts > 0
            torch.testing.assert_close(behind[read], expected[torch.arange(3), last][read], atol=1e-5, rtol=1e-5, msg=f"after {begin}")


def test_training_reduces_the_loss_and_leaves_generator_and_embedding_alone():
    model = gpt(0, **LINE)
    drafter = eagle(model).train()
    before = {name: value.clone() for name, value in (*model.state_dict().items(), *drafter.embedding.state_dict().items())}
    tokens = model.generate(torch.arange(24) % 3, noise=SampleNoise(0, range(24)))
    optimizer = torch.optim.AdamW([each for each in drafter.parameters() if each.requires_grad], lr=3e-3)
    losses = []
    for step in range(40):
        numbers = drafter(model, tokens, torch.arange(24) % 3, noise=SampleNoise((0, step), range(24)))
        optimizer.zero_grad()
        numbers["loss"].backward()
        optimizer.step()
        losses.append(numbers["feature_loss"].item())
    assert losses[-1] < 0.6 * losses[0]
    assert drafter.embedding.table.weight.grad is None
    for name, value in (*model.state_dict().items(), *drafter.embedding.state_dict().items()):
        assert torch.equal(value, before[name]), name
    accepted = []
    for each in (eagle(model), drafter.eval()):
        sampler = TreeSampler(each, model.sampler(temperature=0.5), tree=TREES["dynamic"])
        model.generate(torch.arange(20) % 3, sampler=sampler, noise=SampleNoise(1, range(20)))
        accepted.append(sampler.acceptance_length)
    assert accepted[1] > accepted[0] + 0.1


def test_the_loss_is_the_papers():
    model = gpt(0, **LINE)
    drafter = eagle(model, token_weight=0.25)
    tokens, classes = torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(0)), torch.arange(4) % 3
    numbers = drafter(model, tokens, classes)
    assert set(numbers) == {"loss", "feature_loss", "token_loss", "accuracy"}
    torch.testing.assert_close(numbers["loss"].detach(), numbers["feature_loss"] + 0.25 * numbers["token_loss"])
    noisy = drafter.train()(model, tokens, classes, noise=SampleNoise(0, range(4)))
    assert noisy["loss"] > numbers["loss"], "noise of +- 0.1 * 512 / 9 in what it reads"
    assert torch.equal(noisy["loss"], drafter(model, tokens, classes, noise=SampleNoise(0, range(4)))["loss"])


def test_a_generator_that_does_not_fit_is_refused():
    model = gpt(0, **LINE)
    with pytest.raises(ConfigError, match="one token per step"):
        eagle(gpt(0, layout=CASES["flattened codebooks"]["layout"], pattern="parallel"))
    with pytest.raises(ConfigError, match="48"):
        model.generate(torch.arange(3), sampler=TreeSampler(eagle(gpt(0, **LINE, dim=48)), model.sampler()))
    with pytest.raises(ConfigError, match="layout"):
        model.generate(torch.arange(3), sampler=TreeSampler(eagle(gpt(0, **CASES["grid in an order"])), model.sampler()))
    first, second = (TokenizerIdentity(name=name, revision=None, weights_sha256=name * 64) for name in "ab")
    drafter = eagle(gpt(0, **LINE, tokenizer=second))
    with pytest.raises(IdentityError):
        drafter(gpt(0, **LINE, tokenizer=first), torch.zeros(3, 9, dtype=torch.int64), torch.arange(3))
    with pytest.raises(ConfigError, match="num_heads"):
        eagle(model, num_heads=5)


def test_saved_and_loaded(tmp_path):
    model = gpt(0, **LINE)
    drafter = eagle(model)
    drafter.save_pretrained(tmp_path)
    loaded = visiontok.from_pretrained(tmp_path)
    assert isinstance(loaded, EagleDrafter)
    assert loaded.config == drafter.config
    samplers = [TreeSampler(each, model.sampler()) for each in (drafter, loaded)]
    found = [model.generate(torch.arange(3), sampler=sampler, noise=SampleNoise(0, range(3))).indices for sampler in samplers]
    assert torch.equal(*found)
    assert "TreeSampler" in (tmp_path / "README.md").read_text()


def test_the_authors_layout():
    """Query, key and value are apart there; nothing is turned, as their rotary pairs are neighbors as here."""
    shapes = {"self_attn.q_proj": (16, 16), "self_attn.k_proj": (8, 16), "self_attn.v_proj": (8, 16), "self_attn.o_proj": (16, 16)}
    shapes |= {"mlp.gate_proj": (24, 16), "mlp.up_proj": (24, 16), "mlp.down_proj": (16, 24), "post_attention_layernorm": (16,)}
    weights = {f"layers.0.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    weights |= {"embed_tokens.weight": torch.randn(50, 16), "fc.weight": torch.randn(16, 32), "fc.bias": torch.randn(16)}
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1}
    config = {**sizes, "rms_norm_eps": 1e-6, "vocab_size": 50, "input_type": "t2i", "hidden_act": "silu"}
    drafter = visiontok.from_reference("lantern", config, weights)
    assert isinstance(drafter, EagleDrafter)
    assert drafter.layout.segments[0].shape == (16, 16)
    assert torch.equal(drafter.attention.wqkv.weight[16:24], weights["layers.0.self_attn.k_proj.weight"])
    for wrong in ({"num_hidden_layers": 2}, {"input_type": "video"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            visiontok.from_reference("lantern", {**config, **wrong}, weights)
