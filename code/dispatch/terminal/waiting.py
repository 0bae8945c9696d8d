"""How long to wait for a service, and how often to ask again.

The first thread, which alone handles signals, waits in steps: a signal that the system hands to
another thread, or just before a wait, would be noticed only when the wait ends.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

STEP = 0.5  # seconds, of a wait
TRIES = 5  # of a question to DocDB, Code Ocean, or for AWS credentials


def begin(call: Callable[..., T], *values: Any) -> Future[T]:
    """Begin a call in a thread of its own, and return what will hold what it returns."""
    return ThreadPoolExecutor(1).submit(call, *values)


def result_of(future: Future[T], seconds: float | None = None) -> T:
    """Return what a call returns, or raise what it raises; TimeoutError after so many seconds."""
    started = time.monotonic()
    while not future.done():
        step = STEP
        if seconds is not None:
            step = min(STEP, started + seconds - time.monotonic())
            if step <= 0:
                raise TimeoutError
        wait([future], step)
    return future.result()


def pause(seconds: float) -> None:
    """Wait."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(STEP, left))


def backoff(attempt: int) -> float:
    """Return the seconds to wait after so many attempts, a little different each time."""
    return float(random.uniform(0.5, 1) * 2 ** (attempt - 2))  # noqa: S311
