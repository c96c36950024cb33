"""Opening files of signals wherever they are, for parsers that are given an open file: a name with a colon is no protocol to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from visiontok.base.errors import DependencyError, SignalError
from visiontok.base.files import check_regular
from visiontok.base.optional import import_optional


@contextmanager
def opened(path: str, *, name: str) -> Iterator[BinaryIO]:
    """A file by its path, or by an address that fsspec opens ("https://...", "s3://..."); what is read in the block may fail as well.

    Raises:
        SignalError: if it is missing, no regular file, or cannot be read.
        DependencyError: for addresses, without the extra `audio`.
    """
    try:
        if "://" in path:
            with import_optional("fsspec", extra="audio").open(path, "rb") as file:
                yield file
        else:
            with open(check_regular(path), "rb") as file:
                yield file
    except FileNotFoundError as error:
        raise SignalError(f"there is no file {name}") from error
    except (DependencyError, SignalError):
        raise
    except Exception as error:  # file systems and servers raise anything
        raise SignalError(f"{name} cannot be read: {error}") from error
