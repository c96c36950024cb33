import threading
import time

import pytest

from visiontok.evaluation.prefetch import prefetched


def numbers(count, *, closed=None, error_at=None):
    try:
        for number in range(count):
            if number == error_at:
                raise ValueError("broken")
            yield number
    finally:
        if closed is not None:
            closed.append(True)


def test_everything_in_order_through_several_stages():
    doubled = prefetched(2 * number for number in prefetched(numbers(50)))
    assert list(prefetched(doubled, depth=1)) == [2 * number for number in range(50)]


def test_items_are_made_while_the_caller_works():
    made = []

    def items():
        for number in range(3):
            made.append(number)
            yield number

    stream = prefetched(items())
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == [0, 1, 2]
    assert list(stream) == [1, 2]


def test_errors_arrive_after_what_came_before():
    stream = prefetched(prefetched(numbers(5, error_at=3)))
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(stream)


def test_a_caller_that_stops_ends_all_threads():
    closed = []
    stream = prefetched(number for number in prefetched(numbers(10**9, closed=closed)))
    assert next(stream) == 0
    stream.close()
    assert closed == [True]
    assert not [thread for thread in threading.enumerate() if thread.name == "visiontok-prefetch"]
