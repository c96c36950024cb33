"""Next-scale generation: what a scale reads, that likelihoods and samples agree, prefixes, and what cannot be modeled so."""

from __future__ import annotations

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.noise import SampleNoise
from visiontok.generators.condition import Condition
from visiontok.generators.next_scale.model import NextScale, NextScaleConfig
from visiontok.generators.next_scale.resizing import resizing_matrix
from visiontok.quantizers.multi_scale import MultiScaleQuantizer
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.tokens import Segment, TokenLayout, Tokens


def pyramid(*sides: int, vocab_size: int = 16, **changes) -> TokenLayout:
    segments = tuple(Segment(name=f"scale{side}", shape=(side, side), vocab_size=vocab_size, codebook="scales") for side in sides)
    return TokenLayout(modality="image", segments=segments, signal_shape=(32, 32), **changes)


PYRAMID = pyramid(1, 2, 3, prefixes=(1, 5, 14))
BRANCHES = TokenLayout(
    modality="image",
    segments=tuple(Segment(name=f"scale{side}", shape=(side, side), vocab_size=(3, 2), codebooks=2, codebook="scales") for side in (1, 2)),
    signal_shape=(32, 32),
    prefixes=(2, 10),
    levels="any",
)
SEPARATE = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(2, 2), vocab_size=4),), signal_shape=(8, 8))
SIZES = {"dim": 32, "depth": 2, "num_heads": 2, "multiple_of": 16}


def generator(layout: TokenLayout = PYRAMID, *, std: float = 0.3, **changes) -> NextScale:
    """With random weights everywhere: a new one gives every code the same probability."""
    torch.manual_seed(0)
    condition = {"type": "classes", "num_classes": 8}
    model = NextScale(NextScaleConfig.parse({"layout": layout, "condition": condition, **SIZES, **changes})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model


def random_tokens(layout: TokenLayout, samples: int, seed: int = 0) -> Tokens:
    drawn = torch.rand(samples, layout.length, generator=torch.Generator().manual_seed(seed))
    return Tokens((drawn * torch.from_numpy(layout.vocab_sizes)).long(), layout).validate()


def test_a_scale_reads_what_the_quantizer_has_summed_up_so_far():
    scales = (1, 2, 3, 5)
    quantizer = MultiScaleQuantizer(scales=scales, quantizer=VectorQuantizerConfig(codebook_size=16, dim=4), phi=None)
    model = generator(pyramid(*scales))
    projection = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.embedding.table.weight.copy_(quantizer.quantizer.codes() @ projection)
        model.position_embedding.zero_()
        model.scale_embedding.zero_()
        indices = random_tokens(model.layout, 3).indices
        read = model.elements(model.embed_rows(indices[:, :14]), 0, 39)
    assert (read[:, 0] == 0).all(), "nothing is before the first scale"
    torch.testing.assert_close(read[:, 1:], quantizer.next_scale_inputs(indices) @ projection, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes", [[(2,), (4,), (8,)], [(1, 1, 1), (2, 3, 3)]])
def test_scales_of_any_number_of_axes_are_resized(shapes):
    matrix = resizing_matrix(shapes)
    sizes = [torch.Size(shape).numel() for shape in shapes]
    constant = matrix @ torch.ones(sum(sizes))
    expected = torch.arange(len(shapes)).repeat_interleave(torch.tensor(sizes)).float()  # every scale before adds its constant
    torch.testing.assert_close(constant, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"is_modulated": True}])
def test_nll_is_the_probability_of_sampling(changes):
    """The sum over all samples of a small layout of exp(-nll) is 1; sessions, which cache, give the logits that nll was computed from."""
    segments = tuple(Segment(name=f"scale{size}", shape=(size,), vocab_size=3) for size in (1, 3))
    small = TokenLayout(modality="features", segments=segments, signal_shape=(8,))
    model = generator(small, std=0.4, **changes)
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    nll = model.nll(Tokens(every, small), torch.full((len(every),), 5))
    assert torch.exp(-nll).sum().item() == pytest.approx(1, abs=1e-4)
    drawn = model.generate(torch.full((4000,), 5), noise=SampleNoise(0, range(4000))).indices
    observed = torch.bincount((drawn * torch.tensor([27, 9, 3, 1])).sum(dim=1), minlength=81) / 4000
    assert (observed - torch.exp(-nll)).abs().max() < 0.04
    assert (nll.max() - nll.min()).item() > 1, "the samples differ in probability"


def test_with_an_inner_head_the_codebooks_of_a_position_depend_on_each_other():
    model = generator(BRANCHES, inner_head={"depth": 1})
    every = torch.cartesian_prod(torch.arange(3), torch.arange(2))
    first = Tokens(every, BRANCHES, lengths=torch.full((6,), 2))
    assert torch.exp(-model.nll(first, torch.full((6,), 3))).sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("layout", [PYRAMID, BRANCHES], ids=["pyramid", "branches"])
def test_samples_depend_on_their_seed_and_not_on_their_batch(layout):
    model = generator(layout)
    sampler = model.sampler(guidance=3.0, guidance_schedule="rising", temperature=0.9, top_k=8, top_p=0.95)
    classes = torch.arange(7) % 8
    whole = model.generate(classes, sampler=sampler, noise=SampleNoise(3, range(7))).validate()
    alone = [model.generate(classes[row, None], sampler=sampler, noise=SampleNoise(3, [row])) for row in range(7)]
    assert torch.equal(whole.indices, torch.cat([each.indices for each in alone]))


def test_guidance_is_that_of_a_scale():
    model = generator()
    asked, noise = torch.arange(4), lambda: SampleNoise(0, range(4))
    plain = model.generate(asked, noise=noise())
    late = model.generate(asked, sampler=model.sampler(guidance=50.0, guidance_interval=(0.6, 1.0)), noise=noise())
    assert torch.equal(plain.indices[:, :5], late.indices[:, :5])
    assert not torch.equal(plain.indices[:, 5:], late.indices[:, 5:])
    by_scale = model.generate(asked, sampler=model.sampler(top_k=(1, 0, 1)), noise=noise())
    others = model.generate(asked, sampler=model.sampler(top_k=(1, 0, 1)), noise=SampleNoise(1, range(4)))
    assert torch.equal(by_scale.indices[:, 0], others.indices[:, 0])
    assert not torch.equal(by_scale.indices[:, 1:5], others.indices[:, 1:5])


def test_prefixes_end_with_scales():
    model = generator()
    whole = model.generate(torch.arange(4), noise=SampleNoise(0, range(4)))
    for count in (1, 5, 14):
        cut = model.generate(torch.arange(4), noise=SampleNoise(0, range(4)), num_tokens=count)
        assert torch.equal(cut.indices, whole.indices[:, :count])
    with pytest.raises(TokenError, match="7"):
        model.generate(torch.arange(4), num_tokens=7)


def test_samples_of_fewer_scales_train_beside_whole_ones():
    model = generator(token_dropout=0.0, residual_dropout=0.0, ffn_dropout=0.0)
    tokens, classes = random_tokens(PYRAMID, 3), torch.arange(3)
    cut = tokens.prefix(torch.tensor([1, 14, 5]))
    together = model.nll(cut, classes)
    alone = [model.nll(tokens[row : row + 1].prefix(count), classes[row, None]) for row, count in enumerate((1, 14, 5))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
    numbers = model.loss(cut, classes)
    assert numbers["weight"].item() == pytest.approx(20 / 3)
    assert numbers["loss"].item() == pytest.approx(together.sum().item() / 20, rel=1e-4)
    anywhere = PYRAMID.replace(prefixes="any")
    with pytest.raises(TokenError, match="sample 1 holds 3 tokens, not"):
        generator(anywhere).nll(random_tokens(anywhere, 3).prefix(torch.tensor([14, 3, 5])), classes)


def test_fewer_codebook_levels_or_scales_are_the_first_ones():
    model = generator(BRANCHES)
    fewer = random_tokens(BRANCHES, 4).levels(1)
    assert model.nll(fewer, torch.arange(4)).isfinite().all()
    scales = pyramid(1, 2, 3, levels="any", prefixes=(1, 5, 14))
    tokens, model = random_tokens(scales, 4), generator(scales)
    torch.testing.assert_close(model.nll(tokens.levels(2), torch.arange(4)), model.nll(tokens.prefix(5), torch.arange(4)))


def test_a_session_goes_on_after_given_scales_and_after_rewinding():
    model, given = generator(), random_tokens(PYRAMID, 2).indices[..., None]
    session = model.session(torch.tensor([1, 2]), guided=True)
    first, _ = session.prefill()
    second, _ = session.step(given[:, :1])
    third, without = session.step(given[:, 1:5])
    assert (first.shape[1], second.shape[1], third.shape[1]) == (1, 4, 9)
    again, again_without = session.prefill(given[:, :5])
    for found, expected in ((again, third), (again_without, without)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    session.rewind(1)
    repeated, _ = session.step(given[:, 1:5])
    torch.testing.assert_close(repeated, third, rtol=1e-4, atol=1e-4)
    with pytest.raises(TokenError, match="3 positions"):
        session.prefill(given[:, :3])


def test_the_padding_of_a_text_changes_nothing():
    text = {"length": 4, "dim": 6, "encoder": {"type": "hashed_words"}}
    model = generator(condition={"type": "text", "text": text})
    embeddings, mask = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([[True, True, False, False]] * 2)
    other = torch.where(mask[..., None], embeddings, torch.full_like(embeddings, 9.0))
    tokens = random_tokens(PYRAMID, 2)
    torch.testing.assert_close(
        model.nll(tokens, Condition(text=embeddings, text_mask=mask)), model.nll(tokens, Condition(text=other, text_mask=mask)), rtol=1e-4, atol=1e-4
    )
    drawn = [model.generate(Condition(text=each, text_mask=mask), noise=SampleNoise(0, range(2))) for each in (embeddings, other)]
    assert torch.equal(drawn[0].indices, drawn[1].indices)


def test_it_is_saved_and_loaded(tmp_path):
    model = generator(is_modulated=True)
    assert NextScaleConfig.parse(model.config.to_dict()) == model.config
    visiontok.save_pretrained(model, tmp_path / "model")
    loaded = visiontok.from_pretrained(str(tmp_path / "model"))
    assert isinstance(loaded, NextScale)
    drawn = [each.generate(torch.arange(3), noise=SampleNoise(0, range(3))).indices for each in (model, loaded)]
    assert torch.equal(*drawn)


def test_half_precision_is_not_refused():
    model = generator().to(torch.bfloat16)
    assert model.generate(torch.arange(2), noise=SampleNoise(0, range(2))).validate().indices.shape == (2, 14)


@pytest.mark.parametrize(
    ("layout", "changes", "named"),
    [
        (pyramid(4), {}, "two segments"),
        (PYRAMID.replace(order="reverse"), {}, "reverse"),
        (PYRAMID.replace(ragged=True), {}, "ragged"),
        (PYRAMID, {"inner_head": {"depth": 1}}, "inner_head"),
        (PYRAMID, {"is_modulated": True, "condition": {"type": "none"}}, "classes"),
        (
            SEPARATE.replace(segments=(Segment(name="queries", shape=(4,), vocab_size=4), Segment(name="grid", shape=(2, 2), vocab_size=4))),
            {},
            "axes",
        ),
        (SEPARATE.replace(segments=tuple(Segment(name=f"{side}", shape=(side,), channels=4) for side in (1, 2))), {}, "continuous"),
    ],
)
def test_what_cannot_be_modeled_by_scale(layout, changes, named):
    with pytest.raises(ConfigError, match=named):
        generator(layout, **changes)
