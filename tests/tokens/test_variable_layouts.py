"""Samples of one kind of layout and different extents, of tokens and of latents."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_batches import CONTINUOUS, DISCRETE, FIXED, GRID, KINDS, MEL, PATCHES, RVQ, SNAC, VIDEO, assert_same, batches

from visiontok.base.errors import TokenError
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens, TokenStream
from visiontok.tokens.layout import MAX_LENGTH

every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


# Layouts.


@every
def test_extents_change_shapes_and_nothing_else(kind):
    layout = kind.layout
    for units in (1, 2, 5):
        other = layout.at(kind.extents(units))
        assert other.extents == tuple(kind.extents(units))
        assert layout.accepts(other)
        assert other.accepts(layout)
        assert other.at(layout.extents) == layout
        assert layout.is_continuous or other.num_codes == layout.num_codes
        assert layout.lengths_at(np.array([other.extents])).tolist() == [other.length]
        assert TokenLayout.parse(other.to_dict()) == other


def test_the_signal_grows_with_the_extents():
    assert SNAC.layout.at([3, 6, 12]).signal_shape == (96,)
    assert GRID.layout.at([5, 2]).signal_shape == (40, 16)
    assert VIDEO.layout.at([1, 2, 2]).signal_shape == (4, 16, 16)
    causal = VIDEO.layout.replace(signal_shape=(5, 16, 16))  # the first frame stands alone
    assert causal.at([3, 2, 2]).signal_shape == (9, 16, 16)
    assert causal.accepts(causal.at([3, 2, 2]))
    assert not causal.accepts(VIDEO.layout)


@pytest.mark.parametrize(
    ("kind", "extents"),
    [(SNAC, [1, 2]), (SNAC, [0, 0, 0]), (GRID, [2, -1]), (FIXED, [2, 4]), (FIXED, [2])],
)
def test_extents_that_a_layout_cannot_have_are_refused(kind, extents):
    with pytest.raises(TokenError):
        kind.layout.at(extents)


def test_layouts_of_other_kinds_are_not_accepted():
    layouts = [kind.layout for kind in KINDS.values()]
    for one, other in product(layouts, layouts):
        assert one.accepts(other) == (one is other)
    changes = [
        {"rate": 16000},
        {"order": "interleaved"},
        {"prefixes": "any"},
        {"ragged": True},
        {"segments": [{**segment.to_dict(), "vocab_size": 301} for segment in SNAC.layout.segments]},
        {"segments": [{**segment.to_dict(), "free_axes": ()} for segment in SNAC.layout.segments]},
    ]
    for change in changes:
        assert not SNAC.layout.accepts(SNAC.layout.replace(**change))
    assert not GRID.layout.accepts(GRID.layout.replace(segments=[{**GRID.layout.segments[0].to_dict(), "stride": (4, 4)}]))


def test_fewer_levels_fit_a_model_of_more_but_not_the_other_way():
    short = RVQ.layout.at([7]).with_levels(2)
    assert RVQ.layout.accepts(short)
    assert not short.accepts(RVQ.layout)
    assert not RVQ.layout.replace(levels="none").accepts(short)
    assert not RVQ.layout.replace(levels=(1, 3)).accepts(short)


@pytest.mark.parametrize("units", [1, 2, 9])
def test_the_number_of_tokens_tells_the_extents_where_all_segments_grow_together(units):
    for kind in (SNAC, RVQ, MEL):
        layout = kind.layout.at(kind.extents(units))
        assert kind.layout.at_length(layout.length) == layout
    layout = DISCRETE["fixed-and-free"].layout
    assert layout.at_length(3 + units).extents == (3, 1, units)


@pytest.mark.parametrize(("kind", "length"), [(SNAC, 8), (SNAC, 0), (RVQ, 7), (GRID, 12), (FIXED, 7)])
def test_a_number_of_tokens_that_tells_no_extents_is_refused(kind, length):
    with pytest.raises(TokenError, match=str(length)):
        kind.layout.at_length(length)


# Orders.


@every
def test_every_order_is_a_permutation_at_every_extent(kind):
    if kind.layout.is_continuous:
        return
    for units, order in product((1, 3), ("raster", "reverse", "depth-first", "by-scale", "interleaved")):
        layout = kind.layout.replace(order=order).at(kind.extents(units))
        np.testing.assert_array_equal(np.sort(layout.generation_order), np.arange(layout.length))


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_depth_first_takes_a_coarse_frame_and_then_the_finer_ones_that_begin_with_it(frames):
    layout = SNAC.layout.at([frames, 2 * frames, 4 * frames])
    names = [*(f"c{at}" for at in range(frames)), *(f"m{at}" for at in range(2 * frames)), *(f"f{at}" for at in range(4 * frames))]
    expected = []
    for at in range(frames):
        m, f = 2 * at, 4 * at
        expected += [f"c{at}", f"m{m}", f"f{f}", f"f{f + 1}", f"m{m + 1}", f"f{f + 2}", f"f{f + 3}"]
    assert [names[position] for position in layout.generation_order] == expected


def test_other_orders_of_three_rates():
    layout = SNAC.layout
    assert layout.replace(order="by-scale").generation_order.tolist() == list(range(14))
    assert layout.replace(order="interleaved").generation_order.tolist() == [0, 2, 3, 6, 7, 8, 9, 1, 4, 5, 10, 11, 12, 13]
    assert layout.replace(order="reverse").generation_order.tolist() == list(range(13, -1, -1))
    coarse_to_fine = RVQ.layout.generation_order.tolist()
    assert coarse_to_fine == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]  # codebook by codebook
    frames = VIDEO.layout.generation_order.tolist()
    assert frames == list(range(16))


# Batches.


@given(batches())
def test_joining_samples_one_by_one_gives_the_batch_back(batch):
    parts = [batch[row : row + 1] for row in range(len(batch))]
    assert_same(type(batch).cat(parts), batch)
    for row, part in enumerate(parts):
        assert part.extents is None
        assert part.layout.extents == tuple(batch.sample_extents[row].tolist())
        part.validate()


@given(batches(), st.data())
def test_rows_keep_what_they_hold_in_any_order(batch, data):
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(batch) - 1), min_size=1, max_size=5)))
    chosen = batch[rows]
    assert_same(type(batch).cat([batch[row : row + 1] for row in rows.tolist()])[:], chosen)


@given(batches(kinds=DISCRETE))
def test_bytes_and_what_lies_beside_them_give_the_tokens_back(tokens):
    lengths = tokens.sample_lengths.tolist()
    kept = None if tokens.positions is None else [row[:length].tolist() for row, length in zip(tokens.positions, lengths, strict=True)]
    extents = tokens.sample_extents.tolist()
    packed = tokens.pack()
    back = Tokens.unpack(packed, tokens.layout, lengths=lengths, positions=kept, extents=extents)
    assert_same(Tokens(back.indices, back.layout, back.lengths, back.positions, back.extents, tokens.extras), tokens)
    assert [len(row) for row in packed] == [len(tokens[row : row + 1].pack()[0]) for row in range(len(tokens))]


@given(batches())
def test_groups_hold_every_sample_once_at_its_own_extent(batch):
    seen = []
    for rows, group in batch.groups():
        assert group.extents is None
        for row, sample in zip(rows.tolist(), range(len(group)), strict=True):
            assert_same(type(batch).cat([group[sample : sample + 1]]), type(batch).cat([batch[row : row + 1]]))
            seen.append(row)
        if group.is_full:
            view = group.view(group.layout.segments[0].name)
            assert view.shape[: 1 + len(group.layout.segments[0].shape)] == (len(group), *group.layout.segments[0].shape)
    assert sorted(seen) == list(range(len(batch)))


def test_samples_of_different_extents_have_no_common_view():
    one, two = (Tokens(torch.zeros(1, layout.length, dtype=torch.int64), layout) for layout in (GRID.layout, GRID.layout.at([1, 1])))
    with pytest.raises(TokenError, match="extents"):
        Tokens.cat([one, two]).view()


@given(batches(kinds=DISCRETE))
def test_a_stream_gives_tokens_of_every_extent_back(tokens):
    if tokens.positions is not None:
        return
    stream = TokenStream(tokens.layout)
    ids, lengths = stream.flatten(tokens)
    back = stream.unflatten(ids, lengths, tokens.sample_extents)
    assert_same(Tokens(back.indices, back.layout, back.lengths, None, back.extents, tokens.extras), tokens)
    told_by_length = tokens.layout.is_variable and not (tokens.layout.ragged or tokens.layout.prefixes != "none")
    if told_by_length and all(len(segment.free_axes) < 2 for segment in tokens.layout.segments):
        assert torch.equal(stream.unflatten(ids).indices, tokens.indices)


@given(batches(kinds={"snac": SNAC, "rvq": RVQ}), st.data())
def test_levels_are_what_a_tokenizer_of_fewer_would_have_written(tokens, data):
    count = data.draw(st.integers(1, tokens.layout.num_levels))
    short = tokens.levels(count).validate()
    assert tokens.layout.accepts(short.layout)
    assert set(short.extras) == set(tokens.extras)
    for row in range(len(tokens)):
        whole, cut = tokens[row : row + 1], short[row : row + 1]
        for number, segment in enumerate(cut.layout.segments):
            if len(tokens.layout.segments) > 1:
                assert number < count
                assert torch.equal(cut.view(segment.name), whole.view(segment.name))
            else:
                assert torch.equal(cut.view().reshape(1, -1, count), whole.view()[..., :count])
    with pytest.raises(TokenError):
        tokens.levels(tokens.layout.num_levels + 1)


@given(batches(kinds={"queries": DISCRETE["queries"], "query-latents": CONTINUOUS["query-latents"]}))
def test_prefixes_of_samples_of_different_extents(batch):
    if int(batch.sample_lengths.min()) == 0:
        return
    lengths = (batch.sample_lengths + 1) // 2
    short = batch.prefix(lengths).validate()
    assert torch.equal(short.sample_lengths, lengths)
    assert torch.equal(short.sample_extents, batch.sample_extents)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(short.data[row, :length], batch.data[row, :length])


@given(batches(), st.data())
def test_wrong_extents_are_found(batch, data):
    if not batch.layout.is_variable:
        return
    row = data.draw(st.integers(0, len(batch) - 1))
    free = [axis for axis, is_free in enumerate(batch.layout.has_free_axis) if is_free]
    axis = data.draw(st.sampled_from(free))
    extents = batch.sample_extents.clone()
    extents[row, axis] = data.draw(st.sampled_from([0, -1, batch.layout.extents[axis] + 1]))
    with pytest.raises(TokenError, match=rf"sample {row}\b"):
        batch.with_data(batch.data, extents=extents).validate()


def test_extras_are_padded_to_the_largest_where_batches_are_joined():
    one, two = (
        Tokens(torch.zeros(1, layout.length, dtype=torch.int64), layout, extras={"scale": torch.ones(1, layout.length)})
        for layout in (RVQ.layout, RVQ.layout.at([1]))
    )
    joined = Tokens.cat([one, two])
    assert joined.extras["scale"].tolist() == [[1.0] * 12, [1.0] * 4 + [0.0] * 8]
    with pytest.raises(TokenError, match="scale"):
        Tokens.cat([one, Tokens(two.indices, two.layout)])


def test_extras_have_one_row_per_sample():
    with pytest.raises(TokenError, match="scale"):
        Tokens(torch.zeros(2, 12, dtype=torch.int64), RVQ.layout, extras={"scale": torch.ones(3)})


# Files.


@settings(max_examples=40)
@given(batches())
def test_a_file_gives_everything_back(tmp_path_factory, batch):
    path = tmp_path_factory.mktemp("npz") / "batch.npz"
    batch.save(path)
    assert_same(type(batch).load(path), batch)
    other = Latents if isinstance(batch, Tokens) else Tokens
    with pytest.raises(TokenError, match=str(path)):
        other.load(path)


def test_half_precision_is_widened_and_extras_keep_their_types(tmp_path):
    layout = MEL.layout
    extras = {name: torch.ones(2, 3).to(kind) for name, kind in (("a", torch.float16), ("b", torch.int32), ("c", torch.bool), ("d", torch.bfloat16))}
    Latents(torch.ones(2, 3, 4, dtype=torch.bfloat16), layout, extras=extras).save(tmp_path / "l.npz")
    found = Latents.load(tmp_path / "l.npz")
    assert found.values.dtype == torch.float32
    assert [found.extras[name].dtype for name in "abcd"] == [torch.float16, torch.int32, torch.bool, torch.float32]


@pytest.mark.parametrize(
    "change",
    [
        {"indices": np.full((2, 14), 300)},
        {"indices": np.zeros((2, 14))},
        {"indices": np.zeros((2, 13), dtype=np.int64)},
        {"indices": None},
        {"layout": None},
        {"layout": np.array("{}")},
        {"layout": np.array("no JSON")},
        {"extents": np.array([[2, 4, 8], [3, 6, 12]])},
        {"extents": np.array([[2, 4, 8]])},
        {"lengths": np.array([14, 13])},
        {"extras.scale": np.zeros(3)},
        {"extras.scale": np.array(["a", "b"])},
        {"extras.scale": np.array([{}, {}], dtype=object)},
    ],
)
def test_wrong_files_are_refused(tmp_path, change):
    path = tmp_path / "t.npz"
    Tokens(torch.zeros(2, 14, dtype=torch.int64), SNAC.layout).save(path)
    arrays = {**np.load(path), **change}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(TokenError, match=str(path)):
        Tokens.load(path)


def test_a_layout_without_bounds_is_refused(tmp_path):
    segment = Segment(name="patches", shape=(7,), vocab_size=5)
    layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(8, 8), ragged=True)
    arrays = Tokens(torch.zeros(1, 2, dtype=torch.int64), layout).to_arrays()
    arrays["layout"] = np.asarray(str(arrays["layout"]).replace("[7]", f"[{2**40}]"))
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(TokenError, match=str(2**40)):
        Tokens.load(tmp_path / "t.npz")


def test_memory_is_that_of_the_tokens_not_of_the_layout():
    segment = Segment(name="patches", shape=(MAX_LENGTH,), vocab_size=5)
    layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(8, 8), ragged=True)
    tokens = Tokens.from_samples([torch.tensor([1, 2]), torch.tensor([3])], layout, positions=[torch.tensor([0, MAX_LENGTH - 1]), torch.tensor([5])])
    assert Tokens.from_arrays(tokens.to_arrays()).bits.tolist() == pytest.approx([2 * math.log2(5), math.log2(5)])
    assert "vocab_sizes" not in layout.__dict__


def test_vocabulary_sizes_at_some_positions_are_those_of_all():
    for kind in KINDS.values():
        if not kind.layout.is_continuous:
            positions = np.arange(kind.layout.length)
            assert np.array_equal(kind.layout.vocab_sizes_at(positions), kind.layout.vocab_sizes)
            assert kind.layout.vocab_sizes_at(positions + 10**6).tolist() == [int(kind.layout.vocab_sizes[-1])] * len(positions)


def test_empty_batches_of_every_kind():
    for kind in KINDS.values():
        empty = (Latents if kind.layout.is_continuous else Tokens).from_samples([], kind.layout)
        assert len(empty) == 0
        assert list(empty.groups()) == [] or all(len(group) == 0 for _, group in empty.groups())


def test_kept_positions_lie_within_each_samples_own_extent():
    extents = torch.tensor([[1, 2], [2, 2]])
    kept = Tokens.from_samples(
        [torch.tensor([7]), torch.tensor([8, 9])],
        PATCHES.layout,
        positions=[torch.tensor([1]), torch.tensor([0, 3])],
        extents=extents,
    )
    assert kept.full_lengths.tolist() == [2, 4]
    with pytest.raises(TokenError, match="position 3 of sample 0"):
        Tokens.from_samples([torch.tensor([7])], PATCHES.layout, positions=[torch.tensor([3])], extents=extents[:1])


def test_cut_levels_keep_the_prefixes_and_the_order_of_what_is_left():
    scales = tuple(Segment(name=f"scale{side}", shape=(side, side), vocab_size=3, codebooks=2) for side in (1, 2))
    branches = TokenLayout(modality="image", segments=scales, signal_shape=(8, 8), prefixes=(2, 7, 10), levels="any", order=tuple(range(10))[::-1])
    assert branches.with_levels(1).prefixes == (1, 5), "7 tokens end within a position"
    assert branches.with_levels(1).order == (4, 3, 2, 1, 0)
    assert branches.levels_of(branches.with_levels(1)) == 1
    pyramid = branches.replace(segments=tuple(segment.replace(codebooks=1) for segment in scales), prefixes=(1, 5), order=(0, 4, 3, 2, 1))
    assert pyramid.with_levels(1).prefixes == (1,)
    assert pyramid.with_levels(1).order == (0,)
