"""`python -m fuzzing`: damage inputs of every reader until the time is up, or read one case again."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from fuzzing.parent import Failure, Reader

_BATCH = 100


def main() -> int:
    """Returns the exit code: 1 if an input failed."""
    parser = argparse.ArgumentParser(prog="fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="how long to go on (default: one hour)")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; every round over all entries takes the next one")
    parser.add_argument("--entry", help="one entry instead of all")
    parser.add_argument("--case", type=int, help="one case of --entry and --seed")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder for inputs that fail")
    arguments = parser.parse_args()
    from fuzzing.entries import ENTRIES

    if arguments.entry is not None and arguments.entry not in ENTRIES:
        parser.error(f"there is no entry {arguments.entry!r}; known: {', '.join(ENTRIES)}")
    names = [arguments.entry] if arguments.entry else list(ENTRIES)
    if arguments.case is not None:
        with Reader(arguments.failures.resolve()) as reader:
            counts, failures = reader.read(names[0], seed=arguments.seed, first=arguments.case, count=1)
        print(failures[0] if failures else f"{names[0]}, seed {arguments.seed}, case {arguments.case}: {max(counts, key=lambda kind: counts[kind])}")
        return 1 if failures else 0
    return _rounds(names, arguments.seed, arguments.seconds, arguments.failures.resolve())


def _rounds(names: list[str], seed: int, seconds: float, folder: Path) -> int:
    end = time.monotonic() + seconds
    faults: dict[tuple[str, str], Failure] = {}
    totals = dict.fromkeys(names, 0)
    refused = dict.fromkeys(names, 0)
    with Reader(folder) as reader:
        while time.monotonic() < end:
            for name in names:
                if time.monotonic() >= end:
                    break
                counts, failures = reader.read(name, seed=seed, count=_BATCH)
                totals[name] += sum(counts.values())
                refused[name] += counts["refused"]
                for failure in failures:
                    if (name, failure.at) not in faults:
                        faults[name, failure.at] = failure
                        print(failure, flush=True)
            seed += 1
    for name in names:
        print(f"{name:20s} {totals[name]:8d} inputs, {refused[name]} refused, {sum(fault[0] == name for fault in faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
