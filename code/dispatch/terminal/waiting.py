"""Calls that take a while, in threads of their own, and how they are waited for.

The first thread, which alone handles signals, waits in steps: a signal that the system hands to
another thread, or just before a wait, would be noticed only when the wait ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

STEP = 0.5  # seconds, of a wait


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
