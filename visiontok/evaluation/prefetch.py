"""Stages of a run side by side: reading, the model and the metrics each work on another batch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


def prefetched(items: Generator[T, None, None], *, depth: int = 2) -> Generator[T, None, None]:
    """The same items in the same order, made by a thread of their own while the caller works on earlier ones.

    What `items` raises is raised here. When the caller stops early, the thread is ended and `items` is closed.

    Args:
        items: runs in the thread.
        depth: items that may lie ready.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    break
            items.close()
            put(_END)
        except BaseException as error:
            put(_END, error)

    thread = threading.Thread(target=work, name="visiontok-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
