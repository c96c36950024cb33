"""Samples that could not be used: kept by name, counted, reported at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from visiontok.base.errors import DataError, SignalError
from visiontok.base.printable import printable, printable_lines

UNUSABLE = (SignalError, DataError)
"""What reading one sample may raise without ending a run."""


@dataclass(frozen=True)
class Skip:
    """One sample that could not be used. What cannot be shown in key and reason becomes escapes.

    Attributes:
        key: the sample's key, or the file's name where no sample could be identified.
        reason: one sentence.
    """

    key: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", printable(self.key))
        object.__setattr__(self, "reason", printable_lines(self.reason))


class SkipReport:
    """What could not be used during a run. A sample that is met again, in a later epoch, counts once.

    Attributes:
        kept: the first `keep` skips, in the order in which they were met.
    """

    def __init__(self, skips: Iterable[Skip] = (), *, keep: int = 20) -> None:
        self.kept: list[Skip] = []
        self._keep = keep
        self._keys: set[str] = set()
        self.update(skips)

    def __len__(self) -> int:
        """The number of samples that could not be used."""
        return len(self._keys)

    def update(self, skips: Iterable[Skip]) -> None:
        """Add skips, from a batch or from another process's report."""
        for skip in skips:
            if skip.key not in self._keys:
                self._keys.add(skip.key)
                if len(self.kept) < self._keep:
                    self.kept.append(skip)

    def add(self, other: SkipReport) -> None:
        """Add all of another report."""
        self.update(other.kept)
        self._keys |= other._keys

    def __str__(self) -> str:
        if not self._keys:
            return "no sample was skipped"
        lines = [f"{len(self)} sample{'s' if len(self) > 1 else ''} skipped:", *(f"  {skip.key}: {skip.reason}" for skip in self.kept)]
        if len(self) > len(self.kept):
            lines.append(f"  ... and {len(self) - len(self.kept)} more")
        return "\n".join(lines)
