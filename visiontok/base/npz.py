"""NumPy archives (.npz), written atomically, and read without trusting their headers."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from visiontok.base.files import check_regular, replacing

MAX_BYTES = 2**32
"""The most that the arrays of one file may take in memory."""


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed archive; it gets its name when it is complete."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_npz(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """All arrays of an archive. Nothing is unpickled, and no more memory is taken than the file's directory declares.

    Args:
        path: of the archive.
        max_bytes: the most that its arrays may take in memory.

    Raises:
        ValueError: if it is no such archive, is damaged, holds Python objects, or declares more than `max_bytes`.
        FileNotFoundError: if there is none.
    """
    with _open(path) as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
                repeated = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
                if repeated:
                    raise ValueError(f"it holds {repeated[0]!r} more than once, so nobody knows which one is meant")
                declared = sum(member.file_size for member in members)
                if declared > max_bytes:
                    raise ValueError(f"its arrays take {declared} bytes, more than the {max_bytes} that are read")
                return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
        except Exception as error:  # damaged archives fail in as many ways as there are bytes
            raise ValueError(f"{path} is not a NumPy archive (.npz), or is damaged: {error}") from error


def _open(path: str | Path) -> IO[bytes]:
    try:
        return check_regular(path).open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError(f"the array {member.filename} holds Python objects, which are not read")
        if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"the array {member.filename} does not have the size that its header declares")
        values = np.frombuffer(bytearray(file.read()), dtype=dtype)
        if not dtype.isnative:
            values = values.astype(dtype.newbyteorder("="))
        if dtype.kind == "U" and not _is_unicode(values):
            raise ValueError(f"the array {member.filename} holds texts that are no Unicode")
        return values.reshape(shape, order="F" if fortran_order else "C")


def _is_unicode(texts: np.ndarray) -> bool:
    """Whether texts hold characters only: libraries below crash on numbers beyond them, and no file can hold half of one."""
    codes = texts.view(np.uint32) if texts.dtype.itemsize else np.zeros(0, dtype=np.uint32)
    return bool(((codes < 0xD800) | ((codes > 0xDFFF) & (codes < 0x110000))).all())
