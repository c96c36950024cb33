import math

import pytest
import torch

from visiontok.base.errors import ConditionError, ConfigError, TokenError
from visiontok.generators.condition import Condition
from visiontok.generators.decoding import ConstantGuidance, NextTokenSampler, RecordedNoise, SampleNoise, TopK
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.tokens import PAD, Latents, Segment, TokenLayout, Tokens


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
PREFIX = layout(Segment(name="latents", shape=(6,), vocab_size=11), prefixes="any")
THREE = {"type": "classes", "num_classes": 3}
LAYOUTS = {"line": LINE, "grid": GRID, "residual": RESIDUAL, "scales": SCALES}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def gpt(layout: TokenLayout, **changes) -> GPT:
    """A small model whose head is not zero, so that its predictions differ."""
    sizes = {"dim": 24, "depth": 2, "num_heads": 2, "multiple_of": 8, "condition": THREE, "residual_dropout": 0, "ffn_dropout": 0, "token_dropout": 0}
    torch.manual_seed(0)
    model = GPT(GPTConfig.parse({"layout": layout, **sizes, **changes}))
    if not layout.is_continuous:
        torch.nn.init.normal_(model.head.table.weight, std=0.5)
    return model.eval()


def random_tokens(layout: TokenLayout, batch: int = 4) -> Tokens:
    sizes = torch.from_numpy(layout.vocab_sizes)
    return Tokens((torch.rand(batch, layout.length) * sizes).long(), layout).validate()


@every_layout
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_generated_tokens_fit_the_layout_and_are_those_of_sessions_that_read_all_at_once(layout, positions):
    model = gpt(layout, positions=positions, num_kv_heads=1)
    classes = torch.arange(12) % 3
    tokens = model.generate(classes, noise=SampleNoise(0, range(12)), sampler=model.sampler(guidance=2.0)).validate()
    assert len({tuple(row) for row in tokens.indices.tolist()}) > 6
    ordered = tokens.indices[:, torch.from_numpy(layout.generation_order)]
    step_by_step = model.session(classes, guided=True)
    step_by_step.prefill()
    for step in range(layout.length - 1):
        read = step_by_step.step(ordered[:, step, None])
    at_once = model.session(classes, guided=True)
    for ours, theirs in zip(read, at_once.prefill(ordered[:, :-1, None]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    at_once.rewind(layout.length - 2)
    for ours, theirs in zip(read, at_once.step(ordered[:, layout.length - 2, None]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@every_layout
def test_nll_is_the_probability_of_sampling_the_sample(layout):
    """A recording yields the requested tokens only if the model generates positions in the order that nll assumes."""
    model, tokens = gpt(layout), random_tokens(layout, batch=1)
    log_p = 0.0

    def watch(logits):
        nonlocal log_p
        step = len(seen)
        position = int(layout.generation_order[step])
        seen.append(position)
        assert logits.shape == (1, layout.vocab_sizes[position])
        log_p += float(logits.log_softmax(-1)[0, tokens.indices[0, position]])
        return torch.full_like(logits, -math.inf).index_fill(-1, tokens.indices[0, [position]], 0.0)

    seen: list[int] = []
    generated = model.generate(torch.tensor([2]), sampler=NextTokenSampler(filters=(watch,)), noise=SampleNoise(0, [0]))
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


def test_nested_lengths_cut_training_samples_to_prefixes_of_the_layout():
    tokens, classes, kept = random_tokens(PREFIX), torch.tensor([0, 1, 2, 0]), torch.ones(4)
    whole = gpt(PREFIX)

    def loss_of(layout, schedule, draws):
        model = gpt(layout, nested_lengths=schedule)
        assert torch.equal(model.loss(Tokens(tokens.indices, layout), classes)["loss"], whole.loss(tokens, classes)["loss"]), "in training only"
        return model.train().loss(Tokens(tokens.indices, layout), classes, noise=RecordedNoise(uniform=[kept, draws]))

    def expected(lengths):
        return whole.nll(tokens.prefix(torch.tensor(lengths)), classes).sum().item() / sum(lengths)

    uniform = loss_of(PREFIX, {"schedule": "uniform"}, torch.tensor([0.0, 0.99, 0.5, 0.2]))
    assert uniform["loss"].item() == pytest.approx(expected([1, 6, 4, 2]), abs=1e-5)
    assert uniform["weight"].item() == pytest.approx(13 / 4)
    listed = loss_of(PREFIX.replace(prefixes=(2, 3)), {"schedule": "uniform"}, torch.tensor([0.0, 0.99, 0.5, 0.2]))
    assert listed["loss"].item() == pytest.approx(expected([2, 6, 3, 2]), abs=1e-5)


def test_generating_a_prefix_gives_the_start_of_the_whole():
    model = gpt(PREFIX)
    whole, start = (model.generate(torch.tensor([1, 2]), noise=SampleNoise(3, range(2)), num_tokens=count) for count in (None, 3))
    assert torch.equal(whole.prefix(3).indices, start.indices)
    with pytest.raises(TokenError, match="7"):
        model.generate(torch.tensor([1]), num_tokens=7)
    with pytest.raises(TokenError, match="3"):
        gpt(LINE).generate(torch.tensor([1]), num_tokens=3)


def test_samples_do_not_depend_on_the_batch():
    model = gpt(GRID)
    classes = torch.arange(6) % 3
    whole = model.generate(classes, noise=SampleNoise(5, range(6)))
    parts = [model.generate(classes[start : start + 2], noise=SampleNoise(5, range(start, start + 2))) for start in (0, 2, 4)]
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
    model, tokens = gpt(LINE, condition=THREE | {"dropout": 0.5}), random_tokens(LINE)
    classes, uniform = torch.tensor([0, 1, 2, 0]), torch.tensor([0.1, 0.9, 0.4, 0.6])
    kept = model.loss(tokens, classes)["loss"]
    dropped = model.train().loss(tokens, classes, noise=RecordedNoise(uniform=[uniform]))["loss"]
    expected = (
        model.eval().nll(tokens[uniform >= 0.5], classes[uniform >= 0.5]).sum()
        + model._scores(tokens[uniform < 0.5], Condition(), torch.ones(2, dtype=torch.bool))[0].sum()
    )
    model.train()
    assert dropped.item() == pytest.approx((expected / tokens.mask.sum()).item(), abs=1e-5)
    assert not torch.equal(kept, dropped)
    halves = [
        model.loss(tokens[rows], classes[rows], noise=SampleNoise((0, 7), range(rows.start, rows.stop)))["loss"]
        for rows in (slice(0, 2), slice(2, 4))
    ]
    together = model.loss(tokens, classes, noise=SampleNoise((0, 7), range(4)))["loss"]
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
    model = gpt(GRID, positions=positions, condition=THREE | {"dropout": 0.0}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens, classes = random_tokens(GRID, batch=3), torch.arange(3)
    for _ in range(60):
        optimizer.zero_grad()
        model(tokens, classes)["loss"].backward()
        optimizer.step()
    chosen = torch.tensor([2, 0, 1, 1])
    generated = model.eval().generate(chosen, sampler=NextTokenSampler(filters=(TopK(1),)))
    assert torch.equal(generated.indices, tokens.indices[chosen])


def test_unconditional():
    model = gpt(LINE, condition={"type": "none"})
    assert model.generate(num_samples=3).indices.shape == (3, 6)
    assert model.train().loss(random_tokens(LINE))["loss"].isfinite()
    with pytest.raises(ConditionError, match="unconditional"):
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
    config = gpt(SCALES, condition=THREE | {"names": ["a", "b", "c"]}, positions="learned", sampling={"top_k": 5}).config
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    assert GPTConfig.load(path) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "num_heads 5"),
        ({"num_kv_heads": 3, "num_heads": 4}, "num_kv_heads 3"),
        ({"condition": THREE | {"names": ["only one"]}}, "1 class names for 3"),
        ({"num_heads": 24}, "multiple of 2"),
        ({"layout": layout(Segment(name="a", shape=(2,), vocab_size=4), Segment(name="b", shape=(2, 2), vocab_size=4))}, "learned"),
        ({"sampling": {"type": "latents"}}, "latents"),
        ({"nested_lengths": {"schedule": "uniform"}}, "prefixes"),
    ],
)
def test_configurations_that_make_no_sense(changes, message):
    with pytest.raises(ConfigError, match=message):
        gpt(changes.pop("layout", LINE), **changes)


def test_bad_input_is_named():
    model, tokens = gpt(LINE), random_tokens(LINE)
    with pytest.raises(ConditionError, match=r"class 3 .*\[0, 3\)"):
        model.generate(torch.tensor([0, 3]))
    with pytest.raises(ConditionError, match="None"):
        model.generate()
    with pytest.raises(ConditionError, match="float32"):
        model.generate(torch.tensor([0.0]))
    with pytest.raises(ConditionError, match="None"):
        model.loss(tokens)
    with pytest.raises(ConditionError, match="2 samples for 4"):
        model.loss(tokens, torch.tensor([0, 1]))
    with pytest.raises(ConditionError, match="text"):
        model.loss(tokens, Condition(text=torch.zeros(4, 2, 3)))
    with pytest.raises(TokenError, match="layout"):
        model.loss(random_tokens(PREFIX), torch.tensor([0, 1, 2, 0]))
    tokens.indices[1, 2] = 11
    with pytest.raises(TokenError, match="11 of sample 1"):
        model.loss(tokens, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ConfigError, match="topk"):
        model.sampler(topk=3)
    ordered = layout(Segment(name="latents", shape=(6,), vocab_size=11), prefixes="any", order=(1, 0, 2, 3, 4, 5))
    with pytest.raises(TokenError, match="order"):
        gpt(ordered).nll(random_tokens(ordered).prefix(2), torch.tensor([0, 1, 2, 0]))


def test_a_model_that_never_saw_samples_without_a_class_refuses_to_do_without():
    model = gpt(LINE, condition=THREE | {"dropout": 0.0})
    assert model.generate(torch.tensor([1])).is_full
    for asked in ({"num_samples": 2}, {"condition": torch.tensor([1]), "sampler": model.sampler(guidance=2.0)}):
        with pytest.raises(ConfigError, match="dropout"):
            model.generate(**asked)


def test_kept_positions_are_refused():
    ragged = layout(Segment(name="line", shape=(6,), vocab_size=4), ragged=True)
    kept = Tokens.from_samples([torch.tensor([1, 2])], ragged, positions=[torch.tensor([0, 3])])
    model = gpt(ragged, condition={"type": "none"})
    with pytest.raises(TokenError, match="positions"):
        model.loss(kept)
    assert model.loss(Tokens.from_samples([torch.tensor([1, 2]), torch.tensor([3])], ragged))["loss"].isfinite()


def codec(frames: int) -> TokenLayout:
    """Three rates on one time axis, as many frames as the sound has."""
    segments = tuple(
        Segment(name=name, shape=(frames * rate,), vocab_size=size, stride=(8 // rate,), free_axes=(0,))
        for name, rate, size in (("coarse", 1, 5), ("middle", 2, 7), ("fine", 4, 9))
    )
    return TokenLayout(modality="audio", segments=segments, signal_shape=(8 * frames,), rate=100.0, order="depth-first")


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_samples_of_different_extents_train_and_are_generated(positions):
    model = gpt(codec(4), positions=positions)
    batches = [random_tokens(codec(frames), batch=2) for frames in (4, 1, 3)]
    mixed, classes = Tokens.cat(batches), torch.tensor([0, 1, 2, 0, 1, 2])
    alone = torch.cat([model.nll(batch, classes[2 * number : 2 * number + 2]) for number, batch in enumerate(batches)])
    torch.testing.assert_close(model.nll(mixed, classes), alone, rtol=0, atol=1e-4)
    assert model.train().loss(mixed, classes)["loss"].isfinite()
    generated = model.eval().generate(torch.tensor([1, 2]), noise=SampleNoise(0, range(2)), layout=codec(2))
    assert generated.validate().layout == codec(2)
    if positions == "learned":
        with pytest.raises(TokenError, match="35"):
            model.generate(torch.tensor([1]), layout=codec(5))


def test_codebook_levels_are_sampled_with_numbers_of_their_own():
    model = gpt(RESIDUAL)
    sampler = model.sampler(top_k=[1, 0])
    runs = [model.generate(torch.tensor([0, 1]), noise=SampleNoise(seed, range(2)), sampler=sampler).view() for seed in range(4)]
    assert all(torch.equal(run[:, 0, 0, 0], runs[0][:, 0, 0, 0]) for run in runs), "the first level is greedy"
    assert len({tuple(run[..., 1].flatten().tolist()) for run in runs}) > 1
    with pytest.raises(ConfigError, match="codebooks"):
        model.sampler(top_k=[1, 0], temperature=[1.0, 1.0, 1.0])


def test_texts_and_tokens_as_conditions():
    torch.manual_seed(0)
    text = {"type": "text", "text": {"length": 4, "dim": 6}, "dropout": 0.2}
    values, mask = torch.randn(3, 4, 6), torch.tensor([[True] * 4, [True, True, False, False], [True] * 3 + [False]])
    model, tokens = gpt(LINE, condition=text), random_tokens(LINE, batch=3)
    other = values.clone()
    other[~mask] = 9.0
    assert torch.equal(*(model.nll(tokens, Condition(text=each, text_mask=mask)) for each in (values, other))), "padding is ignored"
    assert not torch.equal(model.nll(tokens, Condition(text=values)), model.nll(tokens, Condition(text=values.flip(0))))
    assert model.generate(Condition(text=values, text_mask=mask), sampler=model.sampler(guidance=2.0)).is_full
    model = gpt(GRID, condition={"type": "tokens", "layout": LINE.to_dict()})
    prefix = random_tokens(LINE, batch=3)
    assert not torch.equal(*(model.nll(random_tokens(GRID, batch=3), Condition(tokens=each)) for each in (prefix, prefix[torch.tensor([1, 2, 0])])))
    with pytest.raises(ConditionError, match="layout"):
        model.nll(random_tokens(GRID, batch=3), Condition(tokens=random_tokens(GRID, batch=3)))


def test_latents_are_learned_and_sampled():
    latents = layout(Segment(name="grid", shape=(2, 2), channels=3))
    model = gpt(latents, flow_head={"dim": 32, "depth": 2}, condition=THREE | {"dropout": 0.1}).train()
    values = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    batch, classes = Latents(values, latents), torch.arange(3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for step in range(400):
        loss = model(batch, classes, noise=SampleNoise((0, step), range(3)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])
    asked = torch.tensor([2, 0, 1, 1])
    whole = model.eval().generate(asked, noise=SampleNoise(0, range(4)), sampler=model.sampler(temperature=0.3))
    parts = [model.generate(asked[row : row + 1], noise=SampleNoise(0, [row]), sampler=model.sampler(temperature=0.3)) for row in range(4)]
    torch.testing.assert_close(whole.values, Latents.cat(parts).values, rtol=0, atol=1e-4)
    nearest = torch.cdist(whole.values.flatten(1), values.flatten(1)).argmin(dim=1)
    assert torch.equal(nearest, asked)


def test_latents_are_learned_and_sampled_by_diffusion():
    latents = layout(Segment(name="grid", shape=(2, 2), channels=3))
    model = gpt(latents, diffusion_head={"dim": 32, "depth": 2}, condition=THREE).train()
    batch, classes = Latents(torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0)), latents), torch.arange(3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        loss = model(batch, classes, noise=SampleNoise((0, step), range(3)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    whole = model.eval().generate(classes, noise=SampleNoise(0, range(3))).values
    parts = [model.generate(classes[row : row + 1], noise=SampleNoise(0, [row])).values for row in range(3)]
    # The first step, from pure noise, multiplies the error of the predicted noise by 20,000.
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-4 * float(whole.abs().max()))


@pytest.mark.parametrize("block", ["llama", "gpt2"])
@pytest.mark.parametrize("start", ["before", "after"])
def test_a_start_stands_beside_the_class_and_alone_without_it(start, block):
    model = gpt(GRID, condition=THREE | {"start": start}, positions="learned", block=block)
    torch.nn.init.normal_(model.condition.positions)
    assert len(model.position_embedding) == GRID.length - 1  # neither the class nor the start, and nothing follows the last token
    classes, tokens = torch.tensor([2, 0]), random_tokens(GRID, batch=2)
    elements, mask = model.condition(Condition(classes=classes), torch.tensor([False, True]))
    own, begin, positions = model.condition.embedding.weight, model.condition.start, model.condition.positions
    expected = [begin, own[2]] if start == "before" else [own[2], begin]
    torch.testing.assert_close(elements[0], torch.stack(expected) + positions, rtol=0, atol=0)
    torch.testing.assert_close(elements[1, 1], begin + positions[0], rtol=0, atol=0)
    assert mask.tolist() == [[True, True], [False, True]]
    assert torch.equal(model.positioned(elements, 0), elements)
    assert model.condition(Condition(classes=classes), torch.zeros(2, dtype=torch.bool))[1] is None
    read = tokens.indices[:, :4, None]
    without = model.session(num_samples=2).prefill(read)[0]
    guided = model.session(classes, guided=True).prefill(read)
    torch.testing.assert_close(guided[1], without, rtol=0, atol=1e-5)
    torch.nn.init.normal_(own)
    torch.testing.assert_close(model.session(num_samples=2).prefill(read)[0], without, rtol=0, atol=0)
    assert not torch.allclose(model.session(classes, guided=True).prefill(read)[0], guided[0], atol=1e-3)
    assert not torch.equal(model.nll(tokens, classes), model.nll(tokens, classes.flip(0)))
    written = model.generate(classes, noise=SampleNoise(0, range(2)), sampler=model.sampler(guidance=2.0))
    ordered = written.indices[:, torch.from_numpy(GRID.generation_order)]
    step_by_step, at_once = model.session(classes, guided=True), model.session(classes, guided=True)
    step_by_step.prefill()
    for step in range(GRID.length - 1):
        read = step_by_step.step(ordered[:, step, None])
    for ours, theirs in zip(read, at_once.prefill(ordered[:, :-1, None]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_modulated_generator_has_one_element_for_its_class():
    with pytest.raises(ConfigError, match=r"condition\.start"):
        gpt(LINE, condition=THREE | {"start": "before"}, is_modulated=True)


def test_the_blocks_of_gpt2_have_biases_and_layer_norms():
    stack = gpt(LINE, block="gpt2").backbone
    (block, *_), norm = stack.blocks, stack.norm
    x = torch.randn(2, 1, 24)
    packed = torch.nn.functional.layer_norm(x, (24,), block.attention_norm.weight, block.attention_norm.bias, eps=1e-5)
    value = (packed @ block.attention.wqkv.weight.T + block.attention.wqkv.bias)[..., 48:]  # one element sees itself alone
    x1 = x + value @ block.attention.wo.weight.T + block.attention.wo.bias
    hidden = torch.nn.functional.layer_norm(x1, (24,), block.ffn_norm.weight, block.ffn_norm.bias, eps=1e-5)
    mlp = block.feed_forward[0]
    assert mlp.fc1.weight.shape == (96, 24)
    expected = x1 + torch.nn.functional.gelu(hidden @ mlp.fc1.weight.T + mlp.fc1.bias) @ mlp.fc2.weight.T + mlp.fc2.bias
    torch.testing.assert_close(block(x), expected)
    assert isinstance(norm, torch.nn.LayerNorm)
    assert not block.attention.wqkv.bias.any()
