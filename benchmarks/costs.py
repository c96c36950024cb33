"""Seconds and memory of a call, for the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` runs, after one warm-up run."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_bytes(run: Callable[[], object]) -> int:
    """Peak memory that a run allocates in addition to what was allocated before, by torch's profiler; reproducible."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()  # kept alive while it is profiled, as by a caller
    held = highest = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    del result
    return highest
