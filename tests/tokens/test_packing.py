import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import TokenError
from visiontok.tokens.packing import bit_width, pack_bits, pack_rows, unpack_bits, unpack_rows

widths = st.lists(st.integers(0, 63), max_size=40)


@st.composite
def rows(draw):
    chosen = draw(widths)
    values = st.tuples(*(st.integers(0, 2**width - 1) for width in chosen))
    drawn = draw(st.lists(values, max_size=5))
    return np.array(chosen, dtype=np.int64), np.array(drawn, dtype=np.int64).reshape(len(drawn), len(chosen))


@given(rows())
def test_unpack_undoes_pack_and_the_bytes_are_exactly_counted(case):
    chosen, values = case
    packed = pack_rows(values, chosen)
    assert [len(row) for row in packed] == [-(-int(chosen.sum()) // 8)] * len(values)
    np.testing.assert_array_equal(unpack_rows(packed, chosen), values)
    for row, payload in zip(values, packed, strict=True):
        assert pack_bits(row, chosen) == payload
        np.testing.assert_array_equal(unpack_bits(payload, chosen), row)


@given(rows())
def test_the_bits_are_those_of_the_numbers_in_turn(case):
    chosen, values = case
    for row in values:
        written = "".join(format(value, f"0{width}b") if width else "" for value, width in zip(row.tolist(), chosen.tolist(), strict=True))
        written += "0" * (-len(written) % 8)
        assert pack_bits(row, chosen) == bytes(int(written[start : start + 8], 2) for start in range(0, len(written), 8))


@given(st.integers(1, 2**63 - 1))
def test_bit_width_is_the_least_that_holds_every_index(vocab_size):
    assert vocab_size - 1 < 2 ** bit_width(vocab_size)
    assert vocab_size == 1 or vocab_size - 1 >= 2 ** (bit_width(vocab_size) - 1)


def test_rows_beyond_one_chunk_of_work_are_all_packed():
    values = np.random.default_rng(0).integers(0, 2**60, size=(300, 300))
    chosen = np.full(300, 60)
    np.testing.assert_array_equal(unpack_rows(pack_rows(values, chosen), chosen), values)


@pytest.mark.parametrize("value", [-1, 16, 2**62])
def test_a_value_that_does_not_fit_is_named(value):
    with pytest.raises(TokenError, match=rf"{value}\b.* sample 1 .*position 2\b"):
        pack_rows(np.array([[1, 2, 3], [1, 2, value]]), np.full(3, 4))


def test_widths_beyond_int64_are_refused():
    with pytest.raises(TokenError, match="64"):
        pack_bits(np.array([0]), np.array([64]))


@pytest.mark.parametrize("data", [b"", b"\x12", b"\x12\x34\x56\x00"])
def test_bytes_of_another_length_are_refused(data):
    with pytest.raises(TokenError, match="sample 1"):
        unpack_rows([b"\x12\x30", data], np.full(3, 4))


def test_filling_bits_must_be_zero():
    with pytest.raises(TokenError, match="sample 7"):
        unpack_rows([b"\x12\x30", b"\x12\x31"], np.full(3, 4), numbers=[5, 7])
