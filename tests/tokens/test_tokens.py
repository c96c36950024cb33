import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from published_layouts import PUBLISHED, image

from visiontok.base.errors import TokenError
from visiontok.tokens import PAD, Latents, Segment, Tokens

every = pytest.mark.parametrize("name", PUBLISHED)

GRID = image(Segment(name="grid", shape=(2, 3), vocab_size=(5, 300), codebooks=2))
PREFIX = image(Segment(name="latents", shape=(7,), vocab_size=5), prefixes="any")
KEPT = image(Segment(name="even", shape=(4,), vocab_size=5), Segment(name="odd", shape=(4,), vocab_size=300), ragged=True)


def random_tokens(layout, samples, seed=0):
    sizes = torch.as_tensor(layout.vocab_sizes)
    return Tokens((torch.rand(samples, layout.length, generator=torch.Generator().manual_seed(seed)) * sizes).long().clamp(max=sizes - 1), layout)


def assert_equal(one, other):
    assert one.layout == other.layout
    assert torch.equal(one.indices, other.indices)
    assert torch.equal(one.sample_lengths, other.sample_lengths)
    assert (one.positions is None) == (other.positions is None)
    assert one.positions is None or torch.equal(one.positions, other.positions)


@st.composite
def batches(draw, layouts=(GRID, PREFIX, KEPT)):
    layout = draw(st.sampled_from(layouts))
    shorter = layout.ragged or layout.prefixes != "none"
    with_positions = layout.ragged and draw(st.booleans())
    samples, positions = [], []
    for _ in range(draw(st.integers(1, 4))):
        held = list(range(draw(st.integers(0, layout.length)) if shorter else layout.length))
        if with_positions:
            held = sorted(draw(st.sets(st.integers(0, layout.length - 1))))
        samples.append(torch.tensor([draw(st.integers(0, int(layout.vocab_sizes[position]) - 1)) for position in held], dtype=torch.int64))
        positions.append(torch.tensor(held, dtype=torch.int64))
    return Tokens.from_samples(samples, layout, positions=positions if with_positions else None)


@every
def test_every_published_arrangement_is_carried(name):
    published = PUBLISHED[name]
    tokens = random_tokens(published.layout, 3).validate()
    torch.testing.assert_close(tokens.bits, torch.full((3,), published.bits, dtype=torch.float64))
    packed = tokens.pack()
    assert [len(row) for row in packed] == [published.num_bytes] * 3
    assert_equal(Tokens.unpack(packed, published.layout), tokens)
    views = [tokens.view(segment.name) for segment in published.layout.segments]
    for view, segment in zip(views, published.layout.segments, strict=True):
        assert view.shape == (3, *segment.shape, *((segment.codebooks,) if segment.codebooks > 1 else ()))
    assert torch.equal(torch.cat([view.flatten(1) for view in views], dim=1), tokens.indices)


def test_view_is_row_major_with_codebooks_innermost():
    tokens = Tokens(torch.arange(12)[None], image(Segment(name="grid", shape=(2, 3), vocab_size=12, codebooks=2)))
    assert tokens.view().tolist() == [[[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]]


def test_view_asks_for_a_name_where_there_are_several_segments():
    with pytest.raises(TokenError, match="coarse"):
        random_tokens(PUBLISHED["snac"].layout, 1).view()


def test_view_refuses_samples_that_are_not_full():
    with pytest.raises(TokenError, match="view"):
        random_tokens(PREFIX, 2).prefix(3).view()


def test_a_kept_subset_that_keeps_everything_has_a_view():
    full = torch.arange(4).repeat(2)[None]
    tokens = Tokens(full, KEPT, positions=torch.arange(8)[None]).validate()
    assert tokens.is_full
    assert tokens.view("odd").tolist() == [[0, 1, 2, 3]]


@given(batches())
def test_unpack_undoes_pack(tokens):
    packed = tokens.pack()
    lengths = tokens.sample_lengths.tolist()
    kept = None if tokens.positions is None else [row[:length].tolist() for row, length in zip(tokens.positions, lengths, strict=True)]
    positions = kept if kept is not None else [list(range(length)) for length in lengths]
    assert [len(row) for row in packed] == [-(-int(tokens.layout.bit_widths[held].sum()) // 8) for held in positions]
    assert_equal(Tokens.unpack(packed, tokens.layout, lengths=None if kept is not None else lengths, positions=kept), tokens)


@given(batches(), st.data())
def test_cat_undoes_slicing(tokens, data):
    cut = data.draw(st.integers(0, len(tokens)))
    parts = [tokens[:cut], tokens[cut:]]
    assert_equal(Tokens.cat(parts), tokens)
    assert_equal(Tokens.cat([tokens[row : row + 1] for row in range(len(tokens))]), tokens)


def test_cat_writes_positions_where_only_some_batches_have_them():
    first = Tokens.from_samples([torch.tensor([1, 2, 3])], KEPT)
    second = Tokens.from_samples([torch.tensor([4, 299])], KEPT, positions=[torch.tensor([1, 6])])
    joined = Tokens.cat([first, second])
    assert joined.indices.tolist() == [[1, 2, 3], [4, 299, PAD]]
    assert joined.positions.tolist() == [[0, 1, 2], [1, 6, PAD]]


@pytest.mark.parametrize(("batches", "message"), [([], "no batch"), ([random_tokens(GRID, 1), random_tokens(PREFIX, 1)], "batch 1")])
def test_cat_refuses(batches, message):
    with pytest.raises(TokenError, match=message):
        Tokens.cat(batches)


def test_rows_are_picked_with_slices_and_tensors_only():
    tokens = random_tokens(GRID, 4)
    assert torch.equal(tokens[torch.tensor([3, 0])].indices, tokens.indices[[3, 0]])
    assert torch.equal(tokens[torch.tensor([True, False, False, True])].indices, tokens.indices[[0, 3]])
    with pytest.raises(TypeError, match=r"tokens\[i:i \+ 1\]"):
        tokens[0]


@given(batches(layouts=(PREFIX,)), st.data())
def test_a_prefix_of_a_prefix_is_the_prefix(tokens, data):
    held = tokens.sample_lengths
    if int(held.min()) == 0:
        with pytest.raises(TokenError, match="holds 0"):
            tokens.prefix(1)
        return
    longer = torch.tensor([data.draw(st.integers(1, int(length))) for length in held])
    shorter = torch.tensor([data.draw(st.integers(1, int(length))) for length in longer])
    once = tokens.prefix(shorter)
    assert_equal(tokens.prefix(longer).prefix(shorter), once)
    assert_equal(once.validate(), once)
    for row, length in enumerate(shorter.tolist()):
        assert torch.equal(once.indices[row, :length], tokens.indices[row, :length])


@pytest.mark.parametrize(
    ("layout", "num_tokens", "message"),
    [
        (GRID, 3, "prefixes"),
        (PREFIX, 0, "sample 0 .*prefix of 0"),
        (PREFIX, 8, r"prefix of 8"),
        (PREFIX, torch.tensor([3, 9]), r"sample 1 .* prefix of 9"),
        (PREFIX, torch.tensor([3]), r"shape \(2,\), got \(1,\)"),
    ],
)
def test_prefix_refuses(layout, num_tokens, message):
    with pytest.raises(TokenError, match=message):
        random_tokens(layout, 2).prefix(num_tokens)


def test_bits_count_only_what_a_sample_holds():
    tokens = Tokens.from_samples(
        [torch.tensor([1, 2]), torch.tensor([], dtype=torch.int64)], KEPT, positions=[torch.tensor([0, 7]), torch.tensor([]).long()]
    )
    np.testing.assert_allclose(tokens.bits, [np.log2(5) + np.log2(300), 0])


@given(batches(), st.data())
def test_validate_finds_every_planted_index_and_names_its_position(tokens, data):
    held = torch.nonzero(tokens.mask).tolist()
    if not held:
        return
    row, column = data.draw(st.sampled_from(held))
    position = column if tokens.positions is None else int(tokens.positions[row, column])
    size = int(tokens.layout.vocab_sizes[position])
    wrong = data.draw(st.one_of(st.integers(-(2**63), -1), st.integers(size, 2**63 - 1)))
    indices = tokens.indices.clone()
    indices[row, column] = wrong
    planted = Tokens(indices, tokens.layout, lengths=tokens.lengths, positions=tokens.positions)
    for act in (planted.validate, planted.pack):
        with pytest.raises(TokenError) as caught:
            act()
        assert f"{wrong} of sample {row} at {tokens.layout.describe(position)} " in str(caught.value)
        assert str(size) in str(caught.value)


def ragged(indices, lengths=None, positions=None):
    whole = [None if rows is None else torch.tensor(rows) for rows in (indices, lengths, positions)]
    return Tokens(whole[0], KEPT, lengths=whole[1], positions=whole[2])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (ragged([[1, 2]], [3]), "sample 0 has length 3"),
        (ragged([[1, 2], [1, 2]], [2, -1]), "sample 1 has length -1"),
        (ragged([[1, 2]], [1]), "sample 0 .*index 2 .*column 1"),
        (ragged([[1, 2]], None, [[3, 8]]), "position 8 of sample 0, column 1"),
        (ragged([[1, 2]], None, [[-1, 2]]), "position -1 of sample 0, column 0"),
        (ragged([[1, 2, 3]], None, [[0, 4, 4]]), "sample 0 .*column 2"),
        (ragged([[1, PAD]], [1], [[3, 99]]), "position 99 .*column 1"),
    ],
)
def test_validate_finds_wrong_lengths_positions_and_padding(tokens, message):
    with pytest.raises(TokenError, match=message):
        tokens.validate()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indices": torch.zeros(2, 12)}, "float32"),
        ({"indices": torch.zeros(12, dtype=torch.int64)}, r"\(12,\)"),
        ({"indices": torch.zeros(2, 13, dtype=torch.int64)}, "13 .*12"),
        ({"indices": torch.zeros(2, 11, dtype=torch.int64)}, "11 .*12"),
        ({"lengths": torch.tensor([1, 2])}, "lengths"),
        ({"positions": torch.zeros(2, 12, dtype=torch.int64)}, "positions"),
        ({"indices": torch.zeros(2, 3, dtype=torch.int64), "layout": KEPT, "lengths": torch.tensor([1])}, "lengths"),
        ({"indices": torch.zeros(2, 3, dtype=torch.int64), "layout": KEPT, "positions": torch.zeros(2, 2).long()}, "positions"),
        ({"layout": image(Segment(name="map", shape=(12,), channels=3))}, "use Latents"),
    ],
)
def test_tokens_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(TokenError, match=message):
        Tokens(**{"indices": torch.zeros(2, 12, dtype=torch.int64), "layout": GRID, **arguments})


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        ([torch.tensor([1.0])], {}, "sample 0"),
        ([torch.tensor([1]), torch.tensor([[1]])], {}, "sample 1"),
        ([torch.tensor([1, 2])], {"positions": [torch.tensor([1])]}, "positions"),
        ([torch.tensor([1])], {"positions": []}, "positions"),
        ([torch.tensor([5])], {}, "5 of sample 0 at segment 'even'"),
        ([torch.zeros(9, dtype=torch.int64)], {}, "9 .*8"),
    ],
)
def test_from_samples_refuses(samples, options, message):
    with pytest.raises(TokenError, match=message):
        Tokens.from_samples(samples, KEPT, **options)


@pytest.mark.parametrize(
    ("data", "layout", "options", "message"),
    [
        ([b"\x00"] * 2, GRID, {}, "sample 0 has 1 bytes .*9"),
        ([b"\x00", b""], PREFIX, {"lengths": [2, 1]}, "sample 1 has 0 bytes"),
        ([b"\xff\xff\xff"], PREFIX, {}, "sample 0"),
        ([b"\xff\xff\xf8"], PREFIX, {}, "7 of sample 0 at segment 'latents'"),
        ([b"\x00"], PREFIX, {"lengths": [8]}, "sample 0 .*8"),
        ([b"\x00"], PREFIX, {"lengths": [-1]}, "sample 0 .*-1"),
        ([b"\x00"], PREFIX, {"lengths": [1, 1]}, "1 samples .*2"),
        ([b"\x00"], KEPT, {"positions": [[8]]}, "position 8 of sample 0"),
        ([b"\x00"], KEPT, {"positions": [[2, 1]]}, "sample 0 .*column 1"),
        ([b"\x00"], GRID, {"lengths": [2]}, "12"),
    ],
)
def test_unpack_refuses(data, layout, options, message):
    with pytest.raises(TokenError, match=message):
        Tokens.unpack(data, layout, **options)


@pytest.mark.parametrize("layout", [GRID, PREFIX, KEPT])
def test_empty_batches(layout):
    tokens = Tokens.from_samples([], layout)
    assert len(tokens) == 0
    assert tokens.pack() == []
    assert_equal(Tokens.unpack([], layout), tokens)
    assert tokens.view(layout.segments[0].name).shape[0] == 0


def test_samples_may_hold_nothing_where_lists_are_ragged():
    tokens = Tokens.from_samples([torch.tensor([]).long()] * 2, PUBLISHED["lavit"].layout)
    assert tokens.indices.shape == (2, 0)
    assert tokens.pack() == [b"", b""]


def test_latents_fit_their_layout():
    layout = image(Segment(name="map", shape=(2, 3), channels=4))
    assert len(Latents(torch.zeros(5, 6, 4), layout)) == 5
    with pytest.raises(TokenError, match=r"\(5, 6, 3\)"):
        Latents(torch.zeros(5, 6, 3), layout)
    with pytest.raises(TokenError, match="use Tokens"):
        Latents(torch.zeros(5, 6, 4), GRID)


def test_latents_are_sliced_and_joined():
    layout = image(Segment(name="map", shape=(2, 3), channels=4))
    latents = Latents(torch.arange(72.0).reshape(3, 6, 4), layout)
    assert torch.equal(Latents.cat([latents[:1], latents[1:]]).values, latents.values)
    with pytest.raises(TokenError, match="batch 1"):
        Latents.cat([latents, Latents(torch.zeros(1, 4, 4), image(Segment(name="map", shape=(2, 2), channels=4)))])
