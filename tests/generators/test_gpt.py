import math

import pytest
import torch

from visiontok.base.errors import ConfigError, TokenError
from visiontok.generators.decoding import ConstantGuidance, NextTokenSampler, RecordedNoise, SampleNoise, TopK
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.tokens import PAD, Segment, TokenLayout, Tokens


def layout(*segments: Segment, **changes) -> TokenLayout:
    return TokenLayout(modality="image", segments=segments, signal_shape=(32, 32), **changes)


LINE = layout(Segment(name="latents", shape=(6,), vocab_size=11))
GRID = layout(Segment(name="grid", shape=(2, 3), vocab_size=11), order=(5, 0, 3, 1, 4, 2))
RESIDUAL = layout(Segment(name="grid", shape=(2, 2), vocab_size=(7, 3), codebooks=2))
SCALES = layout(
    Segment(name="coarse", shape=(1, 1), vocab_size=7, codebook="shared"),
    Segment(name="fine", shape=(2, 2), vocab_size=7, codebook="shared"),
    Segment(name="style", shape=(1, 2), vocab_size=4),
)
PREFIX = layout(Segment(name="latents", shape=(6,), vocab_size=11), prefix_decodable=True)
LAYOUTS = {"line": LINE, "grid": GRID, "residual": RESIDUAL, "scales": SCALES}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def gpt(layout: TokenLayout, **changes) -> GPT:
    """A small model whose head is not zero, so that its predictions differ."""
    sizes = {"dim": 24, "depth": 2, "num_heads": 2, "multiple_of": 8, "num_classes": 3, "residual_dropout": 0, "ffn_dropout": 0, "token_dropout": 0}
    torch.manual_seed(0)
    model = GPT(GPTConfig.parse({"layout": layout, **sizes, **changes}))
    torch.nn.init.normal_(model.output.weight, std=0.5)
    return model.eval()


def random_tokens(layout: TokenLayout, batch: int = 4) -> Tokens:
    sizes = torch.from_numpy(layout.vocab_sizes)
    return Tokens((torch.rand(batch, layout.length) * sizes).long(), layout).validate()


@every_layout
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_generated_ids_fit_the_layout_with_and_without_cache(layout, positions):
    model = gpt(layout, positions=positions, num_kv_heads=1)
    classes = torch.arange(12) % 3
    cached, plain = (
        model.generate(classes, generator=SampleNoise(0, range(12)), sampler=model.sampler(guidance=2.0), use_cache=use) for use in (True, False)
    )
    assert torch.equal(cached.validate().indices, plain.indices)
    assert len({tuple(row) for row in cached.indices.tolist()}) > 6


@every_layout
def test_nll_is_the_probability_of_sampling_the_sample(layout):
    """The races of a recording are won by the wanted ids only if the model visits the places in the order that nll assumes."""
    model, tokens = gpt(layout), random_tokens(layout, batch=1)
    log_p = 0.0

    def watch(logits):
        nonlocal log_p
        step = len(seen)
        place = step if layout.order is None else layout.order[step]
        seen.append(place)
        assert logits.shape == (1, layout.vocab_sizes[place])
        log_p += float(logits.log_softmax(-1)[0, tokens.indices[0, place]])
        return torch.full_like(logits, -math.inf).index_fill(-1, tokens.indices[0, [place]], 0.0)

    seen: list[int] = []
    generated = model.generate(torch.tensor([2]), sampler=NextTokenSampler(filters=(watch,)), generator=SampleNoise(0, [0]))
    assert torch.equal(generated.indices, tokens.indices)
    assert model.nll(tokens, torch.tensor([2])).item() == pytest.approx(-log_p, abs=1e-4)


def test_an_untrained_model_gives_every_id_its_share():
    model = GPT(GPTConfig(layout=SCALES, dim=16, depth=1, num_heads=2, multiple_of=8))
    assert torch.allclose(model.eval().nll(random_tokens(SCALES)), torch.tensor(SCALES.bits * math.log(2)).float())


def test_later_ids_do_not_change_the_probability_of_earlier_ones():
    model, tokens = gpt(PREFIX), random_tokens(PREFIX)
    other = Tokens(tokens.indices.clone(), PREFIX)
    other.indices[:, 4:] = (other.indices[:, 4:] + 1) % 11
    classes = torch.tensor([0, 1, 2, 0])
    prefixes = [model.nll(sample.prefix(4), classes) for sample in (tokens, other)]
    assert torch.equal(*prefixes)
    assert (model.nll(tokens, classes) > prefixes[0]).all()


def test_samples_of_several_lengths():
    model, tokens = gpt(PREFIX), random_tokens(PREFIX)
    classes = torch.tensor([0, 1, 2, 0])
    lengths = torch.tensor([6, 2, 1, 4])
    mixed = tokens.prefix(lengths)
    assert (mixed.indices == PAD).any()
    alone = torch.cat([model.nll(tokens[row : row + 1].prefix(int(lengths[row])), classes[row : row + 1]) for row in range(4)])
    assert torch.allclose(model.nll(mixed, classes), alone, atol=1e-5)
    assert model.loss(mixed, classes)["loss"].item() == pytest.approx((alone.sum() / lengths.sum()).item(), abs=1e-5)


def test_generating_a_prefix_gives_the_start_of_the_whole():
    model = gpt(PREFIX)
    whole, start = (model.generate(torch.tensor([1, 2]), generator=SampleNoise(3, range(2)), num_tokens=count) for count in (None, 3))
    assert torch.equal(whole.prefix(3).indices, start.indices)
    with pytest.raises(TokenError, match="outside"):
        model.generate(torch.tensor([1]), num_tokens=7)
    with pytest.raises(TokenError, match="do not decode"):
        gpt(LINE).generate(torch.tensor([1]), num_tokens=3)


def test_samples_do_not_depend_on_the_batch():
    model = gpt(GRID)
    classes = torch.arange(6) % 3
    whole = model.generate(classes, generator=SampleNoise(5, range(6)))
    parts = [model.generate(classes[start : start + 2], generator=SampleNoise(5, range(start, start + 2))) for start in (0, 2, 4)]
    assert torch.equal(whole.indices, Tokens.cat(parts).indices)


def test_guidance_pushes_away_from_the_unconditional_model():
    model = gpt(LINE)

    def first_logits(guidance: float, **condition) -> torch.Tensor:
        seen = []

        def watch(logits):
            seen.append(logits)
            return logits

        model.generate(**condition, sampler=NextTokenSampler(ConstantGuidance(guidance), (watch,)))
        return seen[0]

    conditional, unconditional = first_logits(1.0, condition=torch.tensor([1])), first_logits(1.0, num_samples=1)
    assert not torch.allclose(conditional, unconditional, atol=1e-3)
    guided = first_logits(3.0, condition=torch.tensor([1]))
    assert torch.allclose(guided, unconditional + 3 * (conditional - unconditional), atol=1e-5)


def test_greedy_sampling_needs_no_luck():
    model = gpt(LINE)
    runs = [model.generate(torch.tensor([0, 1]), sampler=NextTokenSampler(filters=(TopK(1),))).indices for _ in range(2)]
    assert torch.equal(*runs)


def test_condition_dropout_is_drawn_from_the_given_source_in_training_only():
    model, tokens = gpt(LINE, class_dropout=0.5), random_tokens(LINE)
    classes, uniform = torch.tensor([0, 1, 2, 0]), torch.tensor([0.1, 0.9, 0.4, 0.6])
    kept = model.loss(tokens, classes)["loss"]
    dropped = model.train().loss(tokens, classes, generator=RecordedNoise(uniform=[uniform]))["loss"]
    replaced = torch.where(uniform < 0.5, 3, classes)
    assert torch.equal(dropped, model._token_nll(tokens, replaced).mean())
    assert not torch.equal(kept, dropped)
    halves = [
        model.loss(tokens[rows], classes[rows], generator=SampleNoise((0, 7), range(rows.start, rows.stop)))["loss"]
        for rows in (slice(0, 2), slice(2, 4))
    ]
    together = model.loss(tokens, classes, generator=SampleNoise((0, 7), range(4)))["loss"]
    assert together.item() == pytest.approx((sum(halves) / 2).item(), abs=1e-6)


@every_layout
def test_training_lowers_the_loss(layout):
    model = gpt(layout).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    tokens, classes = random_tokens(layout), torch.tensor([0, 1, 2, 0])
    losses = []
    for _ in range(12):
        loss = model(tokens, classes)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_it_learns_what_belongs_to_a_class(positions):
    model = gpt(GRID, positions=positions, class_dropout=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens, classes = random_tokens(GRID, batch=3), torch.arange(3)
    for _ in range(60):
        optimizer.zero_grad()
        model(tokens, classes)["loss"].backward()
        optimizer.step()
    wanted = torch.tensor([2, 0, 1, 1])
    generated = model.eval().generate(wanted, sampler=NextTokenSampler(filters=(TopK(1),)))
    assert torch.equal(generated.indices, tokens.indices[wanted])


def test_unconditional():
    model = gpt(LINE, num_classes=0)
    assert model.generate(num_samples=3).indices.shape == (3, 6)
    assert model.train().loss(random_tokens(LINE))["loss"].isfinite()
    with pytest.raises(ConfigError, match="unconditional"):
        model.generate(torch.tensor([0]))


def test_bfloat16_stays_finite():
    model, tokens = gpt(GRID).bfloat16().train(), random_tokens(GRID)
    loss = model.loss(tokens, torch.tensor([0, 1, 2, 0]))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gpt(GRID).generate(torch.tensor([0, 1]), sampler=model.sampler(guidance=2.0)).validate().is_full
    assert model.eval().generate(torch.tensor([0, 1])).validate().is_full


def test_config_round_trip(tmp_path):
    config = gpt(SCALES, class_names=["a", "b", "c"], positions="learned", sampling={"top_k": 5}).config
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    assert GPTConfig.load(path) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "num_heads 5"),
        ({"num_kv_heads": 3, "num_heads": 4}, "num_kv_heads 3"),
        ({"class_names": ["only one"]}, "1 class names for 3"),
        ({"num_heads": 24}, "multiple of 2"),
        ({"layout": layout(Segment(name="line", shape=(6,), vocab_size=4), ragged=True)}, "ragged"),
        ({"layout": layout(Segment(name="a", shape=(2,), vocab_size=4), Segment(name="b", shape=(2, 2), vocab_size=4))}, "learned"),
        ({"layout": layout(Segment(name="line", shape=(6,), channels=4))}, "continuous"),
    ],
)
def test_configurations_that_make_no_sense(changes, message):
    with pytest.raises(ConfigError, match=message):
        gpt(changes.pop("layout", LINE), **changes)


def test_bad_input_is_named():
    model, tokens = gpt(LINE), random_tokens(LINE)
    with pytest.raises(ConfigError, match=r"class 3 is outside \[0, 3\)"):
        model.generate(torch.tensor([0, 3]))
    with pytest.raises(ConfigError, match="one of the two"):
        model.generate()
    with pytest.raises(ConfigError, match="int64"):
        model.generate(torch.tensor([0.0]))
    with pytest.raises(ConfigError, match="give one class per sample"):
        model.loss(tokens)
    with pytest.raises(ConfigError, match="2 classes for 4 samples"):
        model.loss(tokens, torch.tensor([0, 1]))
    with pytest.raises(TokenError, match="another layout"):
        model.loss(random_tokens(PREFIX), torch.tensor([0, 1, 2, 0]))
    tokens.indices[1, 2] = 11
    with pytest.raises(TokenError, match="id 11 of sample 1"):
        model.loss(tokens, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ConfigError, match="topk"):
        model.sampler(topk=3)
    ordered = layout(Segment(name="latents", shape=(6,), vocab_size=11), prefix_decodable=True, order=(1, 0, 2, 3, 4, 5))
    with pytest.raises(TokenError, match="visiting order"):
        gpt(ordered).nll(random_tokens(ordered).prefix(2), torch.tensor([0, 1, 2, 0]))
