import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from published_layouts import PUBLISHED, image

from visiontok.base.errors import TokenError
from visiontok.tokens import Segment, Tokens, TokenStream, delay_codebooks, undelay_codebooks

every = pytest.mark.parametrize("name", PUBLISHED)

PREFIX = image(Segment(name="latents", shape=(3,), vocab_size=5), prefixes="any")
KEPT = image(Segment(name="latents", shape=(4,), vocab_size=5), ragged=True)
CODEBOOKS = image(Segment(name="grid", shape=(1, 2), vocab_size=(5, 7), codebooks=2))
RULES = ["raster", "reverse", "by-scale", "depth-first", "interleaved"]


def samples(*rows):
    return [torch.tensor(row, dtype=torch.int64) for row in rows]


def random_tokens(layout, count):
    sizes = torch.as_tensor(layout.vocab_sizes)
    return Tokens((torch.rand(count, layout.length, generator=torch.Generator().manual_seed(0)) * sizes).long().clamp(max=sizes - 1), layout)


@every
def test_every_published_arrangement_streams_and_comes_back(name):
    published = PUBLISHED[name]
    stream = TokenStream(published.layout)
    assert stream.vocab_size == published.codes + 3
    tokens = random_tokens(published.layout, 2)
    ids, lengths = stream.flatten(tokens)
    assert ids.shape == (2, published.length + 2)
    assert lengths.tolist() == [published.length + 2] * 2
    assert 0 <= int(ids.min()) <= int(ids.max()) < stream.vocab_size
    assert torch.equal(stream.unflatten(ids).indices, tokens.indices)
    assert torch.equal(stream.unflatten(ids, lengths).indices, tokens.indices)


@st.composite
def cases(draw):
    label = st.sampled_from([None, "one", "two"])
    sizes = {"one": 3, "two": (4, 2)}
    segments = []
    for number in range(draw(st.integers(1, 3))):
        shared = draw(label)
        size = sizes[shared] if shared else draw(st.one_of(st.integers(1, 9), st.tuples(st.integers(1, 9), st.integers(1, 9))))
        shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
        segments.append(
            Segment(name=f"s{number}", shape=shape, vocab_size=size, codebooks=len(size) if isinstance(size, tuple) else 1, codebook=shared)
        )
    length = sum(segment.length for segment in segments)
    shorter = draw(st.sampled_from([{}, {"ragged": True}, {"prefixes": "any"}]))
    layout = image(
        *segments,
        order=draw(
            st.one_of(st.sampled_from(["raster", "reverse", "by-scale", "depth-first", "interleaved"]), st.permutations(range(length)).map(tuple))
        ),
        **shorter,
    )
    lengths = [draw(st.integers(0, length)) if shorter else length for _ in range(draw(st.integers(1, 3)))]
    rows = [[draw(st.integers(0, int(size) - 1)) for size in layout.vocab_sizes[:held]] for held in lengths]
    specials = draw(st.permutations(["bos", "eos", "pad", "mask"]))[: draw(st.integers(0, 4))]
    return Tokens.from_samples(samples(*rows), layout), specials, draw(st.integers(0, 1000))


@given(cases())
def test_unflatten_undoes_flatten(case):
    tokens, specials, first_id = case
    stream = TokenStream(tokens.layout, specials=specials, first_id=first_id)
    held = tokens.sample_lengths
    if "pad" not in specials and bool((held != held[0]).any()):
        with pytest.raises(TokenError, match="pad"):
            stream.flatten(tokens)
        return
    ids, lengths = stream.flatten(tokens)
    assert torch.equal(lengths, held + ("bos" in specials) + ("eos" in specials))
    assert ids.numel() == 0 or (first_id <= int(ids.min()) and int(ids.max()) < stream.vocab_size)
    for restored in (stream.unflatten(ids), stream.unflatten(ids, lengths)):
        assert torch.equal(restored.indices, tokens.indices)
        assert torch.equal(restored.sample_lengths, held)
        restored.validate()


@given(cases(), st.data())
def test_every_planted_id_is_found_and_its_column_named(case, data):
    tokens, _, first_id = case
    stream = TokenStream(tokens.layout, first_id=first_id)
    ids, lengths = stream.flatten(tokens)
    row = data.draw(st.integers(0, len(ids) - 1))
    column = data.draw(st.integers(0, ids.shape[1] - 1))
    wrong = data.draw(st.sampled_from([-1, 0, stream.special_id("eos"), stream.vocab_size, 2**62]))
    if wrong == ids[row, column]:
        return
    ids[row, column] = wrong
    with pytest.raises(TokenError, match=rf"id {wrong}\b.* column {column} |sample {row} has id {wrong} in column {column} "):
        stream.unflatten(ids, lengths)


def test_specials_come_first_and_codebooks_have_ranges_of_their_own():
    stream = TokenStream(CODEBOOKS, specials=("pad", "bos", "eos", "mask"), first_id=100)
    ids, lengths = stream.flatten(Tokens(torch.tensor([[4, 6, 0, 1]]), CODEBOOKS))
    assert ids.tolist() == [[101, 104 + 4, 104 + 5 + 6, 104 + 0, 104 + 5 + 1, 102]]
    assert lengths.tolist() == [6]
    assert stream.vocab_size == 100 + 4 + 5 + 7
    assert stream.special_id("mask") == 103
    with pytest.raises(TokenError, match="sep"):
        stream.special_id("sep")


def test_lavit_ids_in_its_language_model():
    """32000 opens an image, 32001 ends it, codes start at 32002, images differ in length."""
    stream = TokenStream(PUBLISHED["lavit"].layout, specials=("bos", "eos"), first_id=32000)
    ids, _ = stream.flatten(Tokens.from_samples(samples([7, 16383]), PUBLISHED["lavit"].layout))
    assert ids.tolist() == [[32000, 32009, 48385, 32001]]
    assert stream.unflatten(torch.tensor([[32000, 32001]])).indices.shape == (1, 0)


def test_snac_orders_its_rates_depth_first():
    layout = PUBLISHED["snac"].layout
    stream = TokenStream(layout, specials=())
    ids, _ = stream.flatten(Tokens(torch.arange(84)[None], layout))
    middle, fine = 4096 + 12, 2 * 4096 + 36
    assert ids[0, 7:14].tolist() == [1, middle + 2, fine + 4, fine + 5, middle + 3, fine + 6, fine + 7]


def test_scales_with_one_codebook_share_their_ids():
    layout = PUBLISHED["robusttok"].layout
    offsets = TokenStream(layout, specials=()).offsets
    np.testing.assert_array_equal(offsets, np.repeat([0, 4096], 286))


def test_shorter_samples_keep_the_generation_order():
    layout = PREFIX.replace(order=(2, 0, 1))
    stream = TokenStream(layout, specials=("pad",))
    ids, lengths = stream.flatten(Tokens.from_samples(samples([1, 2, 3], [1, 2]), layout))
    assert ids.tolist() == [[4, 2, 3], [2, 3, 0]]
    assert lengths.tolist() == [3, 2]


def test_kept_positions_are_refused_unless_they_are_the_first_ones():
    stream = TokenStream(KEPT)
    first = Tokens.from_samples(samples([1, 2], [3]), KEPT, positions=samples([0, 1], [0]))
    assert stream.unflatten(stream.flatten(first)[0]).indices.tolist() == [[1, 2], [3, -1]]
    with pytest.raises(TokenError, match=r"sample 1 .*position 1"):
        stream.flatten(Tokens.from_samples(samples([1, 2], [3, 4]), KEPT, positions=samples([0, 1], [0, 2])))


BOS, EOS, FILL = 0, 1, 2


@pytest.mark.parametrize(
    ("row", "length", "message"),
    [
        ([BOS, 3, 4, 5, 6, EOS], None, r"id 4 of sample 1 in column 2 .*segment 'grid', position \(0, 0\), codebook 1 .* \[8, 15\)"),
        ([BOS, 3, 8, FILL, 9, EOS], None, r"id 2, which is the special id 'pad', .* column 3 .* position \(0, 1\), codebook 0 .* \[3, 8\)"),
        ([BOS, 3, 8, 3, 9, 10], None, r"sample 1 has no 'eos' \(id 1\) among its 6 ids"),
        ([3, BOS, 8, 3, 9, EOS], None, r"sample 1 has id 3 in column 0 where 'bos' \(0\) was expected"),
        ([BOS, 3, 8, 3, EOS, FILL], None, r"sample 1 has length 5 .* so 3 ids .* needs 4"),
        ([BOS, 3, 8, 3, 9, EOS], 7, r"sample 1 has length 7 in a stream of 6 columns"),
        ([BOS, 3, 8, 3, 9, 9], 6, r"sample 1 has id 9 in column 5 where 'eos' \(1\) was expected"),
    ],
)
def test_unflatten_refuses(row, length, message):
    stream = TokenStream(CODEBOOKS)
    good = [BOS, 3, 8, 3, 9, EOS]
    with pytest.raises(TokenError, match=message):
        stream.unflatten(torch.tensor([good, row]), None if length is None else torch.tensor([6, length]))


def test_ids_after_the_end_are_refused():
    stream = TokenStream(PREFIX)
    with pytest.raises(TokenError, match=r"sample 0 has id 4 in column 3 where 'pad' \(2\) was expected"):
        stream.unflatten(torch.tensor([[BOS, 3, EOS, 4]]))
    with pytest.raises(TokenError, match="id 9 in column 2 where the end of the row"):
        TokenStream(PREFIX, specials=()).unflatten(torch.tensor([[1, 2, 9]]), torch.tensor([2]))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: TokenStream(PREFIX, specials=("pad", "pad")), "must differ"),
        (lambda: TokenStream(PREFIX, first_id=-1), "first_id is -1"),
        (lambda: TokenStream(image(Segment(name="map", shape=(2,), channels=3))), "continuous"),
        (lambda: TokenStream(PREFIX).flatten(random_tokens(KEPT, 1)), "this stream was built for"),
        (lambda: TokenStream(PREFIX).flatten(Tokens(torch.tensor([[1, 9]]), PREFIX)), "9 of sample 0"),
        (lambda: TokenStream(PREFIX).unflatten(torch.zeros(2, 3)), "int64 of shape"),
        (lambda: TokenStream(PREFIX).unflatten(torch.zeros(2, 3).long(), torch.tensor([3])), r"lengths must be int64 of shape \(2,\)"),
    ],
)
def test_what_makes_no_sense_is_refused(act, message):
    with pytest.raises(TokenError, match=message):
        act()


def test_empty_batches():
    stream = TokenStream(PREFIX)
    ids, lengths = stream.flatten(Tokens.from_samples([], PREFIX))
    assert ids.shape == (0, 5)
    assert len(stream.unflatten(ids, lengths)) == len(stream.unflatten(ids)) == 0


def test_delay_pattern():
    codes = torch.tensor([[[1, 10, 100], [2, 20, 200]]])
    delayed = delay_codebooks(codes, fill=-5)
    assert delayed.tolist() == [[[1, -5, -5], [2, 10, -5], [-5, 20, 100], [-5, -5, 200]]]
    assert torch.equal(undelay_codebooks(delayed, fill=-5), codes)


@given(st.integers(0, 3), st.integers(0, 5), st.integers(1, 4))
def test_undelay_undoes_delay(batch, steps, codebooks):
    codes = torch.arange(batch * steps * codebooks).reshape(batch, steps, codebooks)
    delayed = delay_codebooks(codes, fill=-1)
    assert delayed.shape == (batch, steps + codebooks - 1, codebooks)
    assert torch.equal(undelay_codebooks(delayed, fill=-1), codes)


def test_a_delayed_view_of_encodec_is_what_its_language_models_read():
    tokens = random_tokens(PUBLISHED["encodec"].layout, 2)
    delayed = delay_codebooks(tokens.view(), fill=1024)
    assert delayed.shape == (2, 75 + 7, 8)
    assert torch.equal(delayed[:, 7:75, 7], tokens.view()[:, :68, 7])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: delay_codebooks(torch.zeros(2, 3).long(), 9), r"\(B, T, C\)"),
        (lambda: delay_codebooks(torch.tensor([[[1, 2], [9, 3]]]), 9), "9 .*sample 0, step 1, codebook 0"),
        (lambda: undelay_codebooks(torch.zeros(1, 1, 3).long(), 9), r"\(B, T \+ C - 1, C\)"),
        (lambda: undelay_codebooks(torch.tensor([[[1, 2], [3, 4], [9, 5]]]), 9), "2 of sample 0, step 0, codebook 1.*9"),
        (lambda: undelay_codebooks(torch.tensor([[[1, 9], [3, 9], [9, 5]]]), 9), "9 of sample 0, step 1, codebook 1"),
    ],
)
def test_delay_refuses(act, message):
    with pytest.raises(TokenError, match=message):
        act()
