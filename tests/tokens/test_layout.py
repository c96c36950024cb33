import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_layouts import PUBLISHED, image

from visiontok.base.errors import ConfigError, TokenError
from visiontok.tokens import Segment, TokenLayout

every = pytest.mark.parametrize("name", PUBLISHED)


@every
def test_published_sizes(name):
    published = PUBLISHED[name]
    layout = published.layout
    assert layout.length == published.length == len(layout.vocab_sizes)
    assert layout.bits == pytest.approx(published.bits)
    assert math.ceil(layout.bit_widths.sum() / 8) == published.num_bytes
    assert layout.bits_per_unit == pytest.approx(published.bits / math.prod(layout.signal_shape))


@every
def test_json_round_trip(name):
    layout = PUBLISHED[name].layout
    restored = TokenLayout.parse(json.loads(json.dumps(layout.to_dict())))
    np.testing.assert_array_equal(restored.vocab_sizes, layout.vocab_sizes)
    np.testing.assert_array_equal(restored.code_offsets, layout.code_offsets)
    assert restored == layout
    assert hash(restored) == hash(layout)
    assert restored != layout.replace(prefixes="none" if layout.prefixes == "any" else "any")
    assert restored != "a layout"


@every
def test_segments_tile_the_storage(name):
    layout = PUBLISHED[name].layout
    positions = [position for segment in layout.segments for position in range(layout.length)[layout.slice(segment.name)]]
    assert positions == list(range(layout.length))


def test_bits_per_second():
    assert PUBLISHED["encodec"].layout.bits_per_second == pytest.approx(6000)  # 6 kbps
    assert PUBLISHED["snac"].layout.bits_per_second == pytest.approx(984.4, abs=0.1)  # 0.98 kbps
    with pytest.raises(TokenError):
        _ = PUBLISHED["titok"].layout.bits_per_second


def test_describe_names_segment_position_and_codebook():
    assert PUBLISHED["tokenbridge"].layout.describe(16 * (3 * 16 + 4) + 1) == "segment 'grid', position (3, 4), codebook 1"
    assert PUBLISHED["snac"].layout.describe(12 + 24 + 5) == "segment 'fine', position (5)"
    assert PUBLISHED["cosmos"].layout.describe(1024 + 33) == "segment 'grid', position (1, 1, 1)"


@pytest.mark.parametrize("position", [-1, 32])
def test_describe_refuses_positions_outside(position):
    with pytest.raises(TokenError, match=str(position)):
        PUBLISHED["titok"].layout.describe(position)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.lists(st.integers(1, 9), min_size=1, max_size=3), st.data())
def test_describe_agrees_with_numpy(shape, vocab_sizes, data):
    layout = image(Segment(name="x", shape=(1,), vocab_size=2), Segment(name="y", shape=shape, vocab_size=vocab_sizes, codebooks=len(vocab_sizes)))
    position = data.draw(st.integers(0, layout.segments[1].length - 1))
    *axes, codebook = np.unravel_index(position, (*shape, len(vocab_sizes)))
    words = layout.describe(1 + position)
    assert words.startswith(f"segment 'y', position ({', '.join(str(int(axis)) for axis in axes)})")
    assert words.endswith(f"codebook {codebook}") == (len(vocab_sizes) > 1)
    assert layout.vocab_sizes[1 + position] == vocab_sizes[codebook]


def test_an_unknown_segment_is_named():
    with pytest.raises(TokenError, match="grid"):
        PUBLISHED["titok"].layout.segment("grid")


GRID = {"name": "grid", "shape": (2, 2), "vocab_size": 8}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": None}, "vocab_size"),
        ({"channels": 4}, "channels"),
        ({"vocab_size": (8, 8)}, "2 .*1 codebooks"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"vocab_size": 2**63}, "vocab_size"),
        ({"shape": ()}, "shape"),
        ({"shape": (2, 0)}, r"shape.1"),
        ({"stride": (16,)}, "stride"),
        ({"vocab_size": None, "channels": 4, "codebooks": 2}, "codebooks"),
        ({"vocab_size": None, "channels": 4, "codebook": "shared"}, "codebooks"),
        ({"free_axes": (2,)}, "free_axes"),
        ({"free_axes": (1, 0)}, "free_axes"),
        ({"name": ""}, "name"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_contradictory_segment_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Segment.parse({**GRID, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments": ()}, "segments"),
        ({"segments": (GRID, GRID)}, "grid"),
        ({"segments": (GRID, {"name": "z", "shape": (4,), "channels": 4})}, "latents"),
        ({"segments": ({"name": "y", "shape": (4,), "channels": 3}, {"name": "z", "shape": (4,), "channels": 4})}, "channels"),
        ({"segments": ({**GRID, "codebook": "c"}, {**GRID, "name": "z", "codebook": "c", "vocab_size": 9})}, "'grid'.*'z'.*'c'"),
        ({"order": (0, 1, 2)}, "permutation"),
        ({"order": (0, 1, 2, 2)}, "permutation"),
        ({"signal_shape": (8, 16, 16)}, r"\(8, 16, 16\)"),
        ({"modality": "audio"}, "audio"),
        ({"rate": 0.0}, "rate"),
        ({"modality": "smell"}, "modality"),
        ({"prefixes": (2, 1)}, "prefixes"),
        ({"prefixes": (5,)}, "prefixes"),
        ({"levels": (2,)}, "levels"),
        ({"order": (3, 2, 1, 0), "segments": ({**GRID, "free_axes": (0,)},)}, "free axes"),
    ],
)
def test_a_contradictory_layout_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        TokenLayout.parse({"modality": "image", "segments": (GRID,), "signal_shape": (16, 16), **changes})


def test_continuous_layouts_have_no_vocabulary():
    layout = image(Segment(name="map", shape=(4, 4), channels=16))
    assert layout.is_continuous
    assert layout.length == 16
    with pytest.raises(TokenError, match="map"):
        _ = layout.bits
