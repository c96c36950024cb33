"""Files that are either whole or absent, whatever stops the process, their checksums, and inputs that can be read to an end."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if os.name != "nt":
    import fcntl

TEMPORARY = ".writing-"
"""How the names of all temporary files and folders begin, until they are whole and get their own names."""

LOCK = ".lock"
"""How the names of lock files begin, see `base.locks`."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success it is synced to disk and takes the place of `path`, on failure it is removed.

    The temporary name keeps the suffix, so that writers that choose a format by suffix work. What a killed process leaves is removed by
    `clear_stale`, and `contents` does not show it.

    Raises:
        OSError: naming `path`, if it is a folder or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; expected the name of a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        with _locked(temporary):
            yield temporary
            sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) in ("None", str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def contents(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without lock files and the temporaries of writers that are at work or were killed."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith((TEMPORARY, LOCK)))


def clear_stale(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder that several may write to; those of living ones stay."""
    for path in folder.glob(f"{TEMPORARY}*") if folder.is_dir() else ():
        if path.is_file():
            with contextlib.suppress(OSError), _locked(path) as held:
                if held:
                    path.unlink()


def remove_temporaries(folder: Path) -> None:
    """Remove all temporary files and folders in a folder, for whoever holds its lock, see `base.locks`."""
    for path in folder.glob(f"{TEMPORARY}*") if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_folder(folder: Path) -> None:
    """Take the name away first, so that a process killed in between leaves no half folder under it; `remove_temporaries` removes the rest."""
    doomed = folder.with_name(f"{TEMPORARY}removed-{uuid.uuid4().hex[:12]}")
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


def check_writable(path: str | Path, *, file: bool = False) -> None:
    """Make sure before long work that a file or folder can be written at its end; nothing is left behind.

    Args:
        path: to be written.
        file: whether it will be a file, not a folder.

    Raises:
        OSError: naming the path: no permission, a read-only file system, a file where a folder is needed or a folder where a file is.
    """
    if file and Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; expected the name of a file", str(path))
    path = Path(path).absolute()
    folder = path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if folder == path and not path.is_dir():
        if not path.is_file():
            raise OSError(errno.EEXIST, "exists and is neither a file nor a folder", str(path))
        folder = path.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"cannot be made, because {folder} is a file", str(path))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(path)) from error


def check_regular(path: str | Path) -> Path:
    """The path of a file that ends: named pipes, sockets and devices are refused, which a reader would wait for or never finish.

    Raises:
        OSError: naming the path and its kind; FileNotFoundError if there is none.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        known = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = known.get(stat.S_IFMT(mode), "a device")
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"is {kind}; expected a regular file", str(path))
    return Path(path)


def read_text(path: str | Path, *, max_bytes: int) -> str:
    """The text of a regular file, in UTF-8.

    Raises:
        OSError: if it is missing, no regular file, larger than `max_bytes`, or cannot be read.
        UnicodeDecodeError: if it is not UTF-8.
    """
    size = check_regular(path).stat().st_size
    if size > max_bytes:
        raise OSError(errno.EFBIG, f"has {size} bytes; at most {max_bytes} are read", str(path))
    return Path(path).read_text(encoding="utf-8")


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk; systems that cannot open folders flush their entries by themselves."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits, as `sha256sum` prints it."""
    digest, block = hashlib.sha256(), memoryview(bytearray(2**20))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock on a temporary file while it is written, so that nobody takes it for stale; the system drops it when the process ends.

    Yields whether it is held: not where another process holds it, nor on file systems without locks, where stale files stay. Windows refuses
    to remove open files by itself.
    """
    if os.name == "nt":
        yield True
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)
