"""Damage to bytes, and values that readers do not expect."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

INTEGERS = (0, -1, 1, 2, 7, 255, 256, 65535, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e300, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "",
    " ",
    "..",
    "../../escape",
    "/absolute",
    "a/b",
    "a\0b",
    "x" * 5000,
    "\ud800",
    "日本語",
    "${oc.env:HOME}",
    "${a}",
    "nan",
    "1e999",
    "-1",
    "9" * 5000,
    "[" * 3000,
    "|`<b>*_\n# x",
    "\x1b[31mred",
    "os.system",
    "True",
    "null",
)


def hostile_value(random: Random) -> object:
    """A plain value that nobody expects."""
    kind = random.randrange(7)
    if kind == 0:
        return random.choice((None, True, False))
    if kind <= 2:
        return random.choice(INTEGERS)
    if kind == 3:
        return random.choice(FLOATS)
    if kind == 4:
        return random.choice(TEXTS)
    return random.choice(([], {}, [[]], [1, "a", None], {"a": 1}, {"": {}}, [0] * 1000, ["x"]))


def hostile_name(random: Random, suffix: str) -> str:
    """A file name with this suffix that a folder can hold."""
    stem = random.choice(("b\udcff", "a.b.c", "x y", "-o", "UPPER", "ä", "a" * 200, "n\new", "#", "{0..3}", "*", "[x]", "0", "a", "\u202e"))
    return stem + random.choice((suffix, suffix.upper(), ""))


def mutate_bytes(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Some bytes changed, moved, removed or added; `others` are valid contents, of which pieces may be put in."""
    if not data:
        return random.randbytes(random.randrange(1, 100))
    return random.choice(_CHANGES)(random, bytearray(data), others or [data])


def _flip(random: Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    for _ in range(random.choice((1, 1, 2, 8))):
        data[_position(random, data)] ^= 1 << random.randrange(8)
    return bytes(data)


def _overwrite(random: Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    position = _position(random, data)
    number = random.choice(INTEGERS) % 2**64
    piece = random.choice(
        (
            struct.pack(random.choice("<>") + "Q", number),
            struct.pack(random.choice("<>") + "I", number % 2**32),
            struct.pack(random.choice("<>") + "H", number % 2**16),
            bytes([number % 256]),
            b"\0" * random.randrange(1, 64),
            b"\xff" * random.randrange(1, 64),
            random.randbytes(random.randrange(1, 32)),
            str(number).encode(),
        )
    )
    data[position : position + len(piece)] = piece
    return bytes(data)


def _truncate(random: Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    return bytes(data[: random.choice((0, 1, len(data) - 1, random.randrange(len(data))))])


def _remove(random: Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    first, last = _range(random, data)
    del data[first:last]
    return bytes(data)


def _repeat(random: Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    first, last = _range(random, data)
    data[last:last] = data[first:last] * random.choice((1, 1, 2, 50))
    return bytes(data[: 2**22])


def _move(random: Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    first, last = _range(random, data)
    piece = data[first:last]
    del data[first:last]
    position = random.randrange(len(data) + 1)
    data[position:position] = piece
    return bytes(data)


def _splice(random: Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    other = bytearray(random.choice(others)) or bytearray(b"\0")
    first, last = _range(random, other)
    position = random.randrange(len(data) + 1)
    replaced = random.choice((0, last - first))
    data[position : position + replaced] = other[first:last]
    return bytes(data)


def _append(random: Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    return bytes(data) + random.choice((b"\0", b"\n", random.randbytes(20), bytes(data), random.choice(others)))


def _position(random: Random, data: bytearray) -> int:
    """Headers and footers hold more structure than what lies between."""
    near = min(len(data), random.choice((16, 64, 512, len(data), len(data))))
    return random.choice((random.randrange(near), len(data) - 1 - random.randrange(near)))


def _range(random: Random, data: bytearray) -> tuple[int, int]:
    first = _position(random, data)
    return first, min(len(data), first + random.choice((1, 4, 64, random.randrange(1, len(data) + 1))))


_CHANGES: tuple[Callable[[Random, bytearray, Sequence[bytes]], bytes], ...] = (
    _flip,
    _flip,
    _overwrite,
    _overwrite,
    _truncate,
    _remove,
    _repeat,
    _move,
    _splice,
    _append,
)
