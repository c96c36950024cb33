"""Mutators of archives: tar shards, NumPy arrays and archives, safetensors, pickles and torch's zip files."""

from __future__ import annotations

import ast
import io
import json
import pickle
import struct
import zipfile
from random import Random
from typing import Any

import numpy as np

from fuzzing.raw import FLOATS, INTEGERS, hostile_name, mutate_bytes
from fuzzing.text import mutate_json

_BLOCK = 512
_TAR_FIELDS = {"name": (0, 100), "mode": (100, 8), "size": (124, 12), "mtime": (136, 12), "type": (156, 1), "link": (157, 100), "magic": (257, 8)}
_TAR_NAMES = (b"a.png", b"a.b.png", b".png", b"a.", b"\xff\xfe.png", b"../up.png", b"/abs.png", b"a.cls", b"a/b/c.jpg", b"x" * 100, b"a.PNG", b"")
_PAX = (
    b"size=-5",
    b"size=99999999999999999999999",
    b"path=\xff.png",
    b"size=x",
    b"GNU.sparse.map=0,1",
    b"GNU.sparse.size=5",
    b"path=",
    b"linkpath=a",
)
_DTYPES = ("?", "i1", "u1", "<i4", "<i8", ">i8", "<u8", "<f2", "<f4", "<f8", "<c8", "U3", "S3", "M8[s]", "V4")
_FORBIDDEN = (
    b"cposix\nsystem\n",
    b"cbuiltins\neval\n",
    b"c__builtin__\nexec\n",
    b"cnumpy\nload\n",
    b"ctorch\nload\n",
    b"ccollections\nCounter\n",
    b"ca\nb\n",
)


# --- tar -----------------------------------------------------------------------------------------------------------------------------------------


def mutate_tar(random: Random, data: bytes) -> bytes:
    """Another field in a header, with the right check sum; members in another order, twice or left out; extended headers."""
    members = _tar_members(data)
    position = random.randrange(len(members))
    action = random.randrange(10)
    if action <= 4:
        members[position] = _with_field(random, members[position])
    elif action == 5:
        members.insert(random.randrange(len(members)), members[position])
    elif action == 6:
        members.insert(random.randrange(len(members)), members.pop(position))
    elif action == 7:
        del members[position]
    elif action == 8:
        record = random.choice(_PAX)
        body = b"%d %s\n" % (len(record) + random.choice((3, 4)), record)
        members.insert(position, _header(b"pax", len(body), random.choice(b"xgLK")) + body.ljust(_BLOCK, b"\0"))
    else:
        header, content = members[position][:_BLOCK], members[position][_BLOCK:]
        members[position] = header + mutate_bytes(random, content).ljust(len(content), b"\0")[: len(content)]
    return b"".join(members) + b"\0" * 1024


def _tar_members(data: bytes) -> list[bytes]:
    members, position = [], 0
    while position < len(data) and any(data[position : position + _BLOCK]):
        size = int(data[position + 124 : position + 135].strip(b" \0") or b"0", 8)
        end = position + _BLOCK + -(-size // _BLOCK) * _BLOCK
        members.append(data[position:end])
        position = end
    return members


def _with_field(random: Random, member: bytes) -> bytes:
    name = random.choice(("size", "size", "name", "name", "type", "link", "mode", "mtime", "magic"))
    offset, width = _TAR_FIELDS[name]
    number = random.choice((*INTEGERS, -_BLOCK, -10240))
    base256 = (b"\xff" if number < 0 else b"\x80") + (number % 2 ** (8 * width - 8)).to_bytes(width - 1, "big") if width > 1 else b""
    if name in ("name", "link"):
        value = random.choice(_TAR_NAMES)
    elif name == "type":
        value = bytes([random.choice(b"01234567xgLKSVMDN\0")])
    else:
        value = random.choice((base256, b"%o" % abs(number), b"-%o" % abs(number), b"zzz", random.randbytes(width)))
    header = bytearray(member[:_BLOCK])
    header[offset : offset + width] = value[:width].ljust(width, b"\0")
    return _signed(header) + member[_BLOCK:]


def _header(name: bytes, size: int, kind: int) -> bytes:
    header = bytearray(_BLOCK)
    header[: len(name)] = name
    header[100:108], header[124:136], header[156], header[257:265] = b"0000644\0", b"%011o\0" % size, kind, b"ustar\x0000"
    return _signed(header)


def _signed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


# --- NumPy ---------------------------------------------------------------------------------------------------------------------------------------


def mutate_npz(random: Random, data: bytes) -> bytes:
    """Another array in the archive: of another type or shape, with hostile values, under another name, or with another text in JSON."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = random.choice(list(arrays))
    action = random.randrange(8)
    if action == 0:
        del arrays[name]
    elif action == 1:
        arrays[random.choice(("x", f"extras.{name}", f"{name} ", "lengths", "positions", "extents", "labels", "sizes"))] = arrays[name]
    else:
        arrays[name] = _other_array(random, arrays[name])
    return _saved(arrays)


def mutate_npy(random: Random, data: bytes) -> bytes:
    """Another array, or another header over the same bytes."""
    if random.random() < 0.5:
        buffer = io.BytesIO()
        np.save(buffer, _other_array(random, np.load(io.BytesIO(data), allow_pickle=False)), allow_pickle=True)
        return buffer.getvalue()
    return _with_header(random, data)


def _with_header(random: Random, data: bytes) -> bytes:
    (length,) = struct.unpack("<H", data[8:10])
    fields: dict[str, Any] = ast.literal_eval(data[10 : 10 + length].decode("latin1"))
    key = random.choice(list(fields))
    if key == "descr":
        fields[key] = random.choice((*_DTYPES, "|O", "<U1000000000", "|S0", "<f16", "x", [("a", "<i4")], 5))
    elif key == "shape":
        fields[key] = random.choice(((-1,), (2**40,), (2**63, 2**63), (0,), (), 5, (1.5,), ("a",), (2**20, 2**20), (True,)))
    else:
        fields[key] = random.choice((True, 1, None, "x"))
    header = repr(fields).encode().ljust(length - 1) + b"\n"
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + length :]


def _other_array(random: Random, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "U" and array.ndim == 0 and random.random() < 0.9:
        return np.asarray(mutate_json(random, str(array).encode()).decode("utf-8", errors="replace"))
    action = random.randrange(9)
    if action == 0:
        return array.astype(random.choice(_DTYPES), casting="unsafe")
    if action == 1:
        return array.reshape(random.choice(((-1,), (1, *array.shape), (*array.shape, 1), (*array.shape[::-1],))))
    if action == 2:
        return array[random.choice((slice(0), slice(1), slice(None, -1), slice(None, None, -1)))]
    if action == 3:
        return np.concatenate([array, array])
    if action == 4:
        return np.asfortranarray(array)
    if action == 5:
        return np.asarray(random.choice((None, {}, [1, "a"])), dtype=object)
    if action == 6:
        return np.asarray(random.choice((0, -1, 2**63 - 1, 0.5, "x")))
    changed = array.copy()
    values = FLOATS if array.dtype.kind == "f" else [number for number in INTEGERS if np.can_cast(np.min_scalar_type(number), array.dtype)]
    changed.reshape(-1)[random.randrange(array.size)] = random.choice(list(values) or ["x"])
    return changed


def _saved(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


# --- safetensors ---------------------------------------------------------------------------------------------------------------------------------


def mutate_safetensors(random: Random, data: bytes) -> bytes:
    """Another header, or other bytes of tensors."""
    (length,) = struct.unpack("<Q", data[:8])
    header, content = data[8 : 8 + length], data[8 + length :]
    action = random.randrange(8)
    if action <= 2:
        header = mutate_json(random, header)
    elif action == 3:
        fields = json.loads(header)
        name = random.choice([name for name in fields if name != "__metadata__"])
        fields[name]["dtype"] = random.choice(("F16", "BF16", "I8", "I64", "BOOL", "F8_E4M3", "F64", "X"))
        header = json.dumps(fields).encode()
    elif action == 4:
        fields = json.loads(header)
        names = [name for name in fields if name != "__metadata__"]
        first, second = random.choice(names), random.choice(names)
        fields[first], fields[second] = fields[second], fields[first]
        header = json.dumps(fields).encode()
    elif action == 5 and json.loads(header).get("__metadata__"):
        fields = json.loads(header)
        key = random.choice(list(fields["__metadata__"]))
        try:
            fields["__metadata__"][key] = mutate_json(random, fields["__metadata__"][key].encode()).decode("utf-8", errors="replace")
        except ValueError:
            fields["__metadata__"][key] = "x"
        header = json.dumps(fields).encode()
    elif action == 6:
        position = random.randrange(max(1, len(content) - 4))
        content = content[:position] + struct.pack("<f", random.choice(FLOATS[:3] + FLOATS[6:])) + content[position + 4 :]
    else:
        content = mutate_bytes(random, content)
    return struct.pack("<Q", len(header)) + header + content


# --- pickles -------------------------------------------------------------------------------------------------------------------------------------


def mutate_pickle(random: Random, data: bytes) -> bytes:
    """A pickle that is no checkpoint: deep, of other objects, or of an older format."""
    depth = random.choice((10, 1000, 100_000))
    return random.choice(
        (
            b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".",
            b"\x80\x02" + b"(" * depth + b"t" * depth + b".",
            b"\x80\x02}" + b"X\x01\x00\x00\x00a}" * depth + b"s" * depth + b".",
            b"\x80\x02" + random.choice(_FORBIDDEN) + b"X\x04\x00\x00\x00true\x85R.",
            pickle.dumps({"a": 1, "b": [1.5, None]}),
            pickle.dumps({"state_dict": {"a": np.zeros(3)}}),
            pickle.dumps({1: 2, (3,): {4}}, protocol=4),
            b"\x80\x05" + data[2:],
            b"(lp0\nI" + b"9" * 5000 + b"\na.",
        )
    )


def mutate_torch(random: Random, data: bytes) -> bytes:
    """A zip archive with other members: changed, doubled, renamed, compressed or left out, and with right check sums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    position = random.randrange(len(members))
    name, content = members[position]
    pickles = [number for number, (name, _) in enumerate(members) if name.endswith(".pkl")]
    action = random.randrange(8)
    if action <= 3:
        if pickles and random.random() < 0.7:
            position = random.choice(pickles)
            name, content = members[position]
        members[position] = name, _other_member(random, name, content)
    elif action == 4:
        members.append((name, mutate_bytes(random, content)))
    elif action == 5:
        del members[position]
    elif action == 6:
        members[position] = hostile_name(random, "").encode("utf-8", errors="replace").decode(), content
    else:
        members[position] = name, content + b"\0" * random.choice((1, 2**20))
    buffer = io.BytesIO()
    compression = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
    return buffer.getvalue()


def _other_member(random: Random, name: str, content: bytes) -> bytes:
    if name.endswith(".npy"):
        return _with_header(random, content) if random.random() < 0.7 else mutate_bytes(random, content)
    if not name.endswith(".pkl"):
        return mutate_bytes(random, content)
    action = random.randrange(4)
    if action == 0:
        return mutate_pickle(random, content)
    if action == 1:
        names = [start for start in range(len(content)) if content[start : start + 1] == b"c" and content[start + 1 : start + 2].isalpha()]
        start = random.choice(names or [0])
        end = content.find(b"\n", content.find(b"\n", start) + 1) + 1
        return content[:start] + random.choice(_FORBIDDEN) + content[end:]
    if action == 2:  # sizes and strides
        starts = [start for start in range(len(content) - 1) if content[start : start + 1] == b"K"]
        start = random.choice(starts or [0])
        number = random.choice(INTEGERS)
        return content[:start] + b"\x8a\x09" + (number % 2**72).to_bytes(9, "little") + content[start + 2 :]
    return mutate_bytes(random, content)
