"""RAR's parts: annealed orders, target-aware positions, sessions, and training on any order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visiontok.base.errors import ConditionError, ConfigError, NonFiniteError, TokenError
from visiontok.base.noise import RecordedNoise, SampleNoise
from visiontok.generators.condition import Condition
from visiontok.generators.orders import AnnealedOrder
from visiontok.generators.rar.model import Rar, RarConfig
from visiontok.tokens import Segment, TokenLayout, Tokens
from visiontok.tokens.grid import grid_layout

GRID = grid_layout((2, 3), stride=16, vocab_size=11)
SIZES = {"dim": 32, "depth": 2, "num_heads": 2, "mlp_dim": 48, "dropout": 0.0, "attention_dropout": 0.0}


def rar(**changes) -> Rar:
    torch.manual_seed(0)
    config = {"layout": GRID, "condition": {"type": "classes", "num_classes": 3}, **SIZES, **changes}
    model = Rar(RarConfig.parse(config))
    for name, parameter in model.named_parameters():
        if "modulation" in name:
            nn.init.normal_(parameter, std=0.3)
    nn.init.normal_(model.head.table.weight, std=0.3)
    return model.eval()


def random_tokens(samples: int = 4, layout: TokenLayout = GRID) -> Tokens:
    return Tokens(torch.randint(11, (samples, layout.length), generator=torch.Generator().manual_seed(1)), layout)


def test_the_probability_of_a_random_order_falls_linearly():
    order = AnnealedOrder(anneal_start=100, anneal_end=200)
    assert [order.probability(step) for step in (0, 99, 100, 150, 175, 200, 10**6)] == [1, 1, 1, 0.5, 0.25, 0, 0]
    assert AnnealedOrder().probability(0) == 0
    with pytest.raises(ConfigError, match="anneal_end"):
        AnnealedOrder.parse({"anneal_start": 2, "anneal_end": 1})


def test_orders_are_drawn_per_sample():
    order, own = AnnealedOrder(anneal_start=0, anneal_end=100), torch.arange(6)
    permutations = torch.stack([torch.randperm(6, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)])
    drawn = order.draw(own, 2, RecordedNoise(uniform=[torch.tensor([0.1, 0.9])], permutation=[permutations]), step=50)
    assert torch.equal(drawn, torch.stack([permutations[0], own]))
    assert torch.equal(order.draw(own, 2, RecordedNoise(), step=100), own.expand(2, -1)), "no draws once all orders are the layout's own"
    whole = order.draw(own, 4, SampleNoise(3, range(4)), step=10)
    parts = [order.draw(own, 2, SampleNoise(3, range(start, start + 2)), step=10) for start in (0, 2)]
    assert torch.equal(whole, torch.cat(parts))


def test_every_element_knows_where_its_target_lies():
    """The probability of a token depends on which position it is written to, and not on those that are written later."""
    model, condition, none = rar(), Condition(classes=torch.tensor([1])), torch.tensor([False])
    first, later = torch.tensor([[0, 1, 2, 3, 4, 5]]), torch.tensor([[0, 1, 2, 5, 4, 3]])
    codes = torch.tensor([[4, 5, 6]])
    one, other = (model.logits(codes, condition, none, orders) for orders in (first, later))
    torch.testing.assert_close(one[:, :3], other[:, :3])
    assert (one[:, 3] - other[:, 3]).abs().max() > 1e-4


@pytest.mark.parametrize("layout", [GRID, GRID.model_copy(update={"order": "reverse"})], ids=["raster", "reverse"])
def test_sessions_give_what_one_pass_gives(layout):
    model, tokens, classes = rar(layout=layout), random_tokens(3, layout), torch.tensor([0, 1, 2])
    orders = model.own_order.expand(3, -1)
    codes = tokens.indices.gather(1, orders)
    expected, unconditional = (model.logits(codes, Condition(classes=classes), torch.full((3,), dropped), orders) for dropped in (False, True))
    session = model.session(classes, guided=True)

    def logits(hidden: torch.Tensor | None) -> torch.Tensor:
        assert hidden is not None
        return model.head.table.logits(hidden, 0, 11)

    hidden = session.prefill()
    for step in range(6):
        torch.testing.assert_close(logits(hidden[0]), expected[:, step], rtol=0, atol=1e-5)
        torch.testing.assert_close(logits(hidden[1]), unconditional[:, step], rtol=0, atol=1e-5)
        hidden = session.step(codes[:, step, None])
    session.rewind(2)
    assert session.length == 2
    torch.testing.assert_close(logits(session.extend(codes[:, 2:5, None])[0]), expected[:, 3:6], rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(session.prefill(codes[:, :4, None])[0]), expected[:, 4], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="5"):
        session.rewind(5)


def test_nll_is_the_probability_of_sampling():
    small = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(3,), vocab_size=3),), signal_shape=(8, 8))
    model = rar(layout=small)
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    nll = model.nll(Tokens(every, small), torch.full((27,), 2))
    assert torch.exp(-nll).sum().item() == pytest.approx(1, abs=1e-5)
    drawn = model.generate(torch.full((3000,), 2), noise=SampleNoise(0, range(3000))).indices
    observed = torch.bincount((drawn * torch.tensor([9, 3, 1])).sum(dim=1), minlength=27) / 3000
    assert (observed - torch.exp(-nll)).abs().max() < 0.04


def test_samples_do_not_depend_on_the_batch():
    model, classes = rar(), torch.arange(7) % 3
    sampler = model.sampler(guidance=3.0, guidance_schedule="power-cosine", guidance_power=1.5)
    whole = model.generate(classes, noise=SampleNoise(5, range(7)), sampler=sampler)
    alone = [model.generate(classes[i : i + 1], noise=SampleNoise(5, [i]), sampler=sampler) for i in range(7)]
    assert torch.equal(whole.validate().indices, Tokens.cat(alone).indices)
    assert len(model.generate(num_samples=2)) == 2


def test_it_memorizes_samples_in_random_orders_and_finds_them_by_their_class():
    condition = {"type": "classes", "num_classes": 8, "dropout": 0.0}
    model = rar(condition=condition, order={"anneal_start": 60, "anneal_end": 100}).train()
    tokens, classes, losses = random_tokens(8), torch.arange(8), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(140):
        optimizer.zero_grad()
        loss = model(tokens, classes, step=step, noise=SampleNoise((0, step), range(8)))["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    greedy = model.eval().generate(classes.flip(0), sampler=model.sampler(top_k=1), noise=SampleNoise(0, range(8)))
    assert torch.equal(greedy.indices, tokens.indices.flip(0))


def test_samples_of_other_sizes_and_wrong_conditions_are_refused():
    model = rar()
    with pytest.raises(TokenError, match="extents"):
        model.loss(Tokens(torch.zeros(2, 8, dtype=torch.int64), GRID.at((2, 4))), torch.tensor([0, 1]))
    with pytest.raises(ConditionError, match="3"):
        model.loss(random_tokens(1), torch.tensor([3]))
    with pytest.raises(ConfigError, match="dropout"):
        rar(condition={"type": "classes", "num_classes": 3, "dropout": 0.0}).generate(num_samples=1)
    for layout in (grid_layout((2, 2), stride=16, vocab_size=(4, 4)), grid_layout((2, 2), stride=16, channels=4)):
        with pytest.raises(ConfigError, match="one codebook"):
            rar(layout=layout)


def test_weights_that_overflow_name_the_step():
    model = rar()
    with torch.no_grad():
        model.target_positions[2 + 2] = 3e38  # what the target of step 2 adds
    with pytest.raises(NonFiniteError, match="step 2"):
        model.generate(torch.tensor([0]))


def test_half_precision_stays_finite():
    model = rar().bfloat16().train()
    loss = model.loss(random_tokens(), torch.tensor([0, 1, 2, 0]))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
