"""Generators that end their samples themselves."""

from __future__ import annotations

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.generators.decoding import NextTokenSampler
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.tokens import Segment, TokenLayout, Tokens


def audio(*segments: Segment, **changes) -> TokenLayout:
    return TokenLayout(modality="audio", segments=segments, signal_shape=(64,), rate=100.0, **changes)


def codes(frames: int, vocab_size=3, codebooks: int = 1) -> Segment:
    return Segment(name="codes", shape=(frames,), vocab_size=vocab_size, codebooks=codebooks, stride=(16,), free_axes=(0,))


RAGGED = TokenLayout(modality="image", segments=(Segment(name="list", shape=(4,), vocab_size=3),), signal_shape=(32, 32), ragged=True)
RATES = audio(
    Segment(name="coarse", shape=(2,), vocab_size=2, stride=(32,), free_axes=(0,)),
    Segment(name="fine", shape=(4,), vocab_size=2, stride=(16,), free_axes=(0,)),
    order="depth-first",
)
PAIRS = {
    "ragged": (RAGGED, {}),
    "variable": (audio(codes(4)), {"positions": "learned"}),
    "flatten": (audio(codes(2, (3, 5), 2)), {}),
    "parallel": (audio(codes(2, (3, 2), 2)), {"pattern": "parallel"}),
    "inner": (audio(codes(2, (3, 2), 2)), {"pattern": "parallel", "inner_head": {"depth": 1}}),
    "rates": (RATES, {}),
}
SIZES = {"dim": 32, "depth": 2, "num_heads": 4, "multiple_of": 16, "residual_dropout": 0, "ffn_dropout": 0, "token_dropout": 0}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def gpt(layout: TokenLayout, *, classes: int = 3, **changes) -> GPT:
    torch.manual_seed(0)
    condition = {"type": "classes", "num_classes": classes, "dropout": 0.0}
    return GPT(GPTConfig.parse({"layout": layout, "condition": condition, "has_end": True, **SIZES, **changes}))


def random_gpt(layout: TokenLayout, **changes) -> GPT:
    model = gpt(layout, **changes).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def shorter(layout: TokenLayout) -> list[TokenLayout | None]:
    """The layouts of all lengths that a sample can have; None for ragged ones."""
    if layout.ragged:
        return [None] * layout.length
    whole = layout.segments[0].shape[0]
    return [layout.at([size * count // whole for size in layout.extents]) for count in range(1, whole + 1)]


def every_sample(layout: TokenLayout) -> list[Tokens]:
    """All samples of all lengths, a batch per length."""
    found = []
    for number, own in enumerate(shorter(layout)):
        length = number + 1 if own is None else own.length
        sizes = (layout if own is None else own).vocab_sizes[:length].tolist()
        every = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).view(-1, length)
        found.append(Tokens(every, layout if own is None else own))
    return found


def rows(tokens: Tokens) -> list[tuple[int, ...]]:
    return [tuple(row[:length]) for row, length in zip(tokens.indices.tolist(), tokens.sample_lengths.tolist(), strict=True)]


@every_pair
def test_probabilities_of_all_samples_of_all_lengths_sum_to_one_and_are_those_of_sampling(pair):
    layout, changes = pair
    model = random_gpt(layout, **changes)
    every = every_sample(layout)
    with torch.no_grad():
        probability = {}
        for batch in every:
            values = torch.exp(-model.nll(batch, torch.ones(len(batch), dtype=torch.int64)))
            probability |= dict(zip(rows(batch), values.tolist(), strict=True))
    assert sum(probability.values()) == pytest.approx(1, abs=1e-4)
    drawn = model.generate(torch.ones(3000, dtype=torch.int64), noise=SampleNoise(0, range(3000)))
    found = rows(drawn.validate())
    assert len({len(row) for row in found}) > 1
    likeliest = sorted(probability, key=probability.__getitem__)[-4:]
    for row in likeliest:
        assert found.count(row) / 3000 == pytest.approx(probability[row], abs=0.04)


@every_pair
def test_samples_of_different_lengths_are_memorized_and_sampled_back(pair):
    layout, changes = pair
    torch.manual_seed(1)
    parts = []
    for number, own in enumerate(shorter(layout)):
        length, sizes = (number + 1, layout.vocab_sizes) if own is None else (own.length, own.vocab_sizes)
        drawn = (torch.rand(2, length) * torch.from_numpy(sizes[:length])).long()
        parts.append(Tokens(drawn, layout if own is None else own))
    tokens = Tokens.cat(parts)
    model, classes = gpt(layout, classes=len(tokens), **changes).train(), torch.arange(len(tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model(tokens, classes)["loss"].backward()
        optimizer.step()
    asked = classes.flip(0)
    greedy = model.eval().generate(asked, sampler=model.sampler(top_k=1), noise=SampleNoise(0, asked.tolist()))
    assert rows(greedy.validate()) == rows(tokens)[::-1]
    assert greedy.sample_extents.tolist() == tokens.sample_extents.flip(0).tolist()


@every_pair
def test_samples_do_not_depend_on_their_batch(pair):
    layout, changes = pair
    model, classes = random_gpt(layout, **changes), torch.arange(6) % 3
    whole = model.generate(classes, noise=SampleNoise(5, range(6)))
    alone = [model.generate(classes[row : row + 1], noise=SampleNoise(5, [row])) for row in range(6)]
    assert rows(whole) == [rows(sample)[0] for sample in alone]
    mixed = model.nll(whole, classes)
    apart = torch.cat([model.nll(sample, classes[row : row + 1]) for row, sample in enumerate(alone)])
    torch.testing.assert_close(mixed, apart, rtol=1e-4, atol=1e-4)


def test_the_loss_counts_the_end_of_every_sample_that_is_not_as_long_as_can_be():
    model, classes = random_gpt(RAGGED), torch.arange(3)
    tokens = Tokens.from_samples([torch.tensor([1]), torch.tensor([0, 2, 1, 1]), torch.tensor([2, 2])], RAGGED)
    result = model.loss(tokens, classes)
    assert result["weight"].item() == pytest.approx((2 + 4 + 3) / 3)
    assert result["loss"].item() == pytest.approx(model.nll(tokens, classes).sum().item() / 9, rel=1e-5)


def test_the_bound_can_be_lower_and_never_higher():
    layout = audio(codes(4))
    model = random_gpt(layout)
    never = NextTokenSampler(filters=(lambda logits: logits.index_fill(-1, torch.tensor(3), -torch.inf) if logits.shape[-1] > 3 else logits,))
    assert model.generate(torch.tensor([0, 1]), sampler=never, layout=layout.at((2,))).layout == layout.at((2,))
    assert model.generate(torch.tensor([0, 1]), sampler=never).layout == layout
    with pytest.raises(TokenError, match="5"):
        model.generate(torch.tensor([0]), layout=layout.at((5,)))
    with pytest.raises(TokenError, match="5"):
        model.nll(Tokens(torch.zeros(1, 5, dtype=torch.int64), layout.at((5,))), torch.tensor([0]))
    with pytest.raises(TokenError, match="num_tokens = 2"):
        model.generate(torch.tensor([0]), num_tokens=2)


def test_samples_that_end_within_a_position_are_refused():
    segment = Segment(name="list", shape=(3,), vocab_size=3, codebooks=2)
    layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(32, 32), ragged=True)
    odd = Tokens.from_samples([torch.tensor([1, 0]), torch.tensor([0, 2, 1])], layout)
    for pattern in ("flatten", "parallel"):
        with pytest.raises(TokenError, match="sample 1 ends after 3"):
            gpt(layout, pattern=pattern).loss(odd, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("layout", "changes", "message"),
    [
        (
            TokenLayout(modality="image", segments=(Segment(name="line", shape=(4,), vocab_size=3),), signal_shape=(8, 8)),
            {},
            "ragged or has free axes",
        ),
        (audio(codes(4, 3, 2)), {"pattern": "delay"}, "delay"),
        (audio(codes(4), ragged=True), {}, "either"),
        (audio(*RATES.segments, order="by-scale"), {}, "by-scale"),
    ],
)
def test_layouts_without_ends(layout, changes, message):
    with pytest.raises(ConfigError, match=message):
        gpt(layout, **changes)


def test_it_is_saved_and_loaded(tmp_path):
    model = random_gpt(RAGGED)
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    samples = [each.generate(torch.tensor([0, 1, 2]), noise=SampleNoise(0, range(3))) for each in (model, loaded)]
    assert rows(samples[0]) == rows(samples[1])
