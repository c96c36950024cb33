"""How the benchmarks measure: seconds and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median of so many runs, after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_bytes(run: Callable[[], object]) -> int:
    """Peak of what a run allocates beyond what was there before, by torch's own account; the same every time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()  # kept until the account is closed, as its user would keep it
    held = highest = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    del result
    return highest
