"""What many wait for at the same time is asked once. Knows nothing of what that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Questions that take a while, of which each is asked by one, for all who wait for the answer.

    They share what goes wrong, too. With a lock, each would ask anew after the other, and as many
    as there are would wait as many times as long.
    """

    def __init__(self) -> None:
        self.asking: dict[Hashable, asyncio.Task[T]] = {}

    def begin(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Return what is being asked, which begins here if nobody else asks it."""
        if key not in self.asking:
            task = asyncio.get_running_loop().create_task(ask())
            self.asking[key] = task
            task.add_done_callback(lambda _: self.asking.pop(key))
            task.add_done_callback(look_at)
        return self.asking[key]

    async def answer(
        self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, T]], seconds: float | None = None
    ) -> T:
        """Return the answer to a question; raise TimeoutError if there is none after a while."""
        task = self.begin(key, ask)
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeoutError
        return task.result()


def look_at(task: asyncio.Task[Any]) -> None:
    """Look at how a task has ended, since Python complains of a fault at which nobody looks."""
    if not task.cancelled():
        task.exception()
