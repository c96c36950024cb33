"""Every arrangement of tokens with every way of writing them: it trains, memorizes 32 samples, and samples them back by their class."""

from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.generators.base import Generator
from visiontok.generators.gpt.model import GPT
from visiontok.generators.next_scale.model import NextScale
from visiontok.generators.orders import generation_steps
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

SAMPLES = 32


def image(*segments: Segment, **changes) -> TokenLayout:
    return TokenLayout(modality="image", segments=segments, signal_shape=(32, 32), **changes)


def audio(*segments: Segment, **changes) -> TokenLayout:
    return TokenLayout(modality="audio", segments=segments, signal_shape=(64,), rate=100.0, **changes)


LAYOUTS = {
    "grid": image(Segment(name="grid", shape=(2, 3), vocab_size=16)),
    "sequence": image(Segment(name="latents", shape=(6,), vocab_size=16), prefixes="any"),
    "product": image(Segment(name="grid", shape=(2, 2), vocab_size=(8, 5, 3), codebooks=3)),
    "pyramid": image(
        Segment(name="scale1", shape=(1, 1), vocab_size=16, codebook="shared"),
        Segment(name="scale2", shape=(2, 2), vocab_size=16, codebook="shared"),
        order="by-scale",
    ),
    "branches": image(
        *(Segment(name=f"scale{side}", shape=(side, side), vocab_size=(8, 5), codebooks=2, codebook="shared") for side in (1, 2)), prefixes=(2, 10)
    ),
    "residual": audio(Segment(name="codes", shape=(4,), vocab_size=12, codebooks=3, stride=(16,), free_axes=(0,)), levels="any"),
    "rates": audio(
        Segment(name="coarse", shape=(2,), vocab_size=8, stride=(32,), free_axes=(0,)),
        Segment(name="fine", shape=(4,), vocab_size=8, stride=(16,), free_axes=(0,)),
        order="depth-first",
    ),
}
INNER = {"pattern": "parallel", "inner_head": {"depth": 1}}
PAIRS = {
    **{f"{name}-flatten": (layout, {}) for name, layout in LAYOUTS.items()},
    "pyramid-rope-1d": (LAYOUTS["pyramid"], {"positions": "rope-1d"}),
    "product-parallel": (LAYOUTS["product"], {"pattern": "parallel"}),
    "product-concat": (LAYOUTS["product"], {"pattern": "parallel", "combine": "concat"}),
    "product-inner": (LAYOUTS["product"], INNER),
    "residual-parallel": (LAYOUTS["residual"], {"pattern": "parallel", "positions": "learned"}),
    "residual-inner": (LAYOUTS["residual"], INNER),
    "residual-delay": (LAYOUTS["residual"], {"pattern": "delay"}),
    "grid-gpt2": (LAYOUTS["grid"], {"block": "gpt2", "positions": "learned"}),
    "grid-modulated": (LAYOUTS["grid"], {"is_modulated": True}),
}
SCALE_PAIRS = {
    "pyramid-next-scale": (LAYOUTS["pyramid"], {}),
    "pyramid-next-scale-gpt2": (LAYOUTS["pyramid"], {"block": "gpt2"}),
    "pyramid-next-scale-modulated": (LAYOUTS["pyramid"], {"is_modulated": True}),
    "branches-next-scale": (LAYOUTS["branches"], {"combine": "concat"}),
    "branches-next-scale-inner": (LAYOUTS["branches"], {"inner_head": {"depth": 1}}),
    "rates-next-scale": (LAYOUTS["rates"].replace(order="raster"), {}),
}
SIZES = {"dim": 48, "depth": 2, "num_heads": 4, "multiple_of": 16, "residual_dropout": 0, "ffn_dropout": 0, "token_dropout": 0}


def built(family: type[Generator], layout: TokenLayout, **changes) -> Generator:
    torch.manual_seed(0)
    condition = {"type": "classes", "num_classes": SAMPLES, "dropout": 0.0}
    return family(family.config_class.parse({"layout": layout, "condition": condition, **SIZES, **changes}))


def gpt(layout: TokenLayout, **changes) -> GPT:
    return built(GPT, layout, **changes)


def random_tokens(layout: TokenLayout, samples: int = SAMPLES, seed: int = 0) -> Tokens:
    drawn = torch.rand(samples, layout.length, generator=torch.Generator().manual_seed(seed))
    return Tokens((drawn * torch.from_numpy(layout.vocab_sizes)).long(), layout).validate()


@pytest.mark.parametrize(
    ("family", "layout", "changes"),
    [*((GPT, *pair) for pair in PAIRS.values()), *((NextScale, *pair) for pair in SCALE_PAIRS.values())],
    ids=[*PAIRS, *SCALE_PAIRS],
)
def test_it_memorizes_samples_and_finds_them_by_their_class(family, layout, changes):
    model, tokens, classes = built(family, layout, **changes).train(), random_tokens(layout), torch.arange(SAMPLES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=100)
    for _ in range(100):
        optimizer.zero_grad()
        model(tokens, classes)["loss"].backward()
        optimizer.step()
        scheduler.step()
    asked = classes.flip(0)
    greedy = model.eval().generate(asked, sampler=model.sampler(top_k=1), noise=SampleNoise(0, range(SAMPLES)))
    equal = (greedy.validate().indices == tokens.indices[asked]).all(dim=1).float().mean()
    assert equal > 0.95
    shuffled = (greedy.indices == tokens.indices).all(dim=1).float().mean()
    assert shuffled < 0.2, "a sample is that of its class only"


@pytest.mark.parametrize("name", ["product-parallel", "product-concat", "product-inner", "residual-delay", "residual-inner"])
def test_nll_is_the_probability_of_sampling(name):
    """The sum over all samples of a small layout of exp(-nll) is 1, and sessions give the logits that nll was computed from."""
    _, changes = PAIRS[name]
    small = audio(Segment(name="codes", shape=(2,), vocab_size=3, codebooks=2, stride=(16,), free_axes=(0,)))
    model = gpt(small, **changes).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    nll = model.nll(Tokens(every, small), torch.full((len(every),), 5))
    assert torch.exp(-nll).sum().item() == pytest.approx(1, abs=1e-4)
    drawn = model.generate(torch.full((4000,), 5), noise=SampleNoise(0, range(4000))).indices
    index = (drawn * torch.tensor([27, 9, 3, 1])).sum(dim=1)
    observed = torch.bincount(index, minlength=81) / 4000
    assert (observed - torch.exp(-nll)).abs().max() < 0.04


def test_delayed_codebooks_follow_one_step_later():
    layout = LAYOUTS["residual"]
    plan = generation_steps(layout, layout, "delay")
    assert plan.held.shape == (6, 3)
    assert plan.held.int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]]
    assert plan.positions[2].tolist() == [6, 4, 2], "the first codebook of position 2, the second of 1, the third of 0"
    assert sorted(plan.positions[plan.held].tolist()) == list(range(12))


@pytest.mark.parametrize("name", ["residual-flatten", "residual-parallel", "residual-inner", "residual-delay"])
def test_fewer_codebook_levels_use_the_rows_of_their_own_codebooks(name):
    layout, changes = PAIRS[name]
    model = gpt(layout, **changes).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens, classes = random_tokens(layout, 4), torch.arange(4)
    fewer = tokens.levels(2)
    assert model.nll(fewer, classes).isfinite().all()
    generated = model.generate(classes, layout=layout.with_levels(2), noise=SampleNoise(0, range(4)))
    assert generated.validate().layout == layout.with_levels(2)


def test_rows_of_cut_levels_are_those_of_the_whole_layout():
    whole = image(
        Segment(name="a", shape=(2,), vocab_size=(7, 3), codebooks=2), Segment(name="b", shape=(2,), vocab_size=(7, 3), codebooks=2), levels="any"
    )
    cut = generation_steps(whole.with_levels(1), whole, "flatten")
    assert cut.first.flatten().tolist() == [0, 0, 10, 10]


def test_mixed_lengths_train_in_every_pattern():
    layout = LAYOUTS["residual"]
    short, long = layout.at((2,)), layout.at((5,))
    batch = Tokens.cat([random_tokens(short, 2), random_tokens(long, 3)])
    for changes in ({}, {"pattern": "parallel"}, {"pattern": "delay"}, INNER):
        model = gpt(layout, **changes).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        together = model.nll(batch, torch.arange(5))
        alone = torch.cat([model.nll(random_tokens(short, 2), torch.arange(2)), model.nll(random_tokens(long, 3), torch.arange(2, 5))])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_patterns_that_a_layout_does_not_have():
    for layout, changes in (
        (LAYOUTS["grid"], {"pattern": "parallel"}),
        (LAYOUTS["product"], {"pattern": "delay"}),
        (LAYOUTS["product"], {"inner_head": {"depth": 1}}),
    ):
        with pytest.raises(ConfigError, match=r"pattern|codebooks"):
            gpt(layout, **changes)
    with pytest.raises(TokenError):
        gpt(LAYOUTS["grid"]).loss(Latents(torch.zeros(1, 6, 2), image(Segment(name="grid", shape=(2, 3), channels=2))), torch.tensor([0]))


def test_prefixes_of_a_pyramid_in_the_order_of_its_scales():
    layout = LAYOUTS["pyramid"].replace(prefixes=(1, 5))
    model = gpt(layout, residual_dropout=0.0).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = random_tokens(layout, 3)
    assert (model.nll(tokens.prefix(1), torch.arange(3)) < model.nll(tokens, torch.arange(3))).all()
    whole = model.generate(torch.arange(3), noise=SampleNoise(0, range(3)))
    cut = model.generate(torch.arange(3), noise=SampleNoise(0, range(3)), num_tokens=1)
    assert torch.equal(cut.indices, whole.indices[:, :1])


def test_more_steps_of_diffusion_than_there_are():
    layout = image(Segment(name="grid", shape=(2, 3), channels=2))
    with pytest.raises(ConfigError, match="20"):
        gpt(layout, diffusion_head={"dim": 8, "depth": 1, "num_timesteps": 10}, sampling={"steps": 20})
