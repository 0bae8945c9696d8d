"""A loop of asyncio that runs in whichever thread has news.

AWS's runtime calls from a thread of its own, and what waits for an answer goes on right there. To
hand each answer over to a loop with a thread of its own took 56 of 170 us a request: two threads
that take turns at the interpreter wait for each other.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import Context
from threading import Event, Lock
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Values = TypeVarTuple("Values")

THREADS = 32  # that calls which wait are made in; as many as asyncio itself has at most


class Loop(asyncio.AbstractEventLoop):
    """What tasks, futures and timeouts of asyncio need of a loop, and no sockets.

    One callback runs at a time, in the thread that has the turn: the one that waits for the whole
    to be done, or one that calls `call_here`.
    """

    def __init__(self) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self.turn = Lock()
        self.timers: list[asyncio.TimerHandle] = []  # a heap
        self.timing = Lock()  # of whoever changes the timers
        self.news = Event()  # for the thread that waits
        self.executor = ThreadPoolExecutor(THREADS)
        self.fault: BaseException | None = None  # of a callback, which no task would tell

    def run_until_done(self, future: Awaitable[T]) -> T:
        """Return what a coroutine returns; raise what it raises, or what a callback does."""
        task = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(lambda _: self.news.set())
        while not task.done() and not self.fault:
            self.run_ready()
            self.news.wait(self.seconds_left())
            self.news.clear()
            self.ready.extend(self.due_timers())
        if self.fault:
            raise self.fault
        return task.result()

    def run_ready(self) -> None:
        """Run what is ready, unless another thread is at it, which then runs it all."""
        # and again: what came after the last look of a thread that still had the turn
        while self.ready and self.turn.acquire(blocking=False):
            asyncio._set_running_loop(self)
            try:
                while self.ready:
                    handle = self.ready.popleft()
                    if not handle.cancelled():
                        handle._run()
            finally:
                asyncio._set_running_loop(None)
                self.turn.release()

    # ------------------------------------------------------------------------------ from a callback

    def call_soon(
        self, callback: Callable[[*Values], object], *args: *Values, context: Context | None = None
    ) -> asyncio.Handle:
        """Call when what is ready already has been."""
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Values], object],
        *args: *Values,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call after so many seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Values], object],
        *args: *Values,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call at a time of this loop."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        with self.timing:
            heapq.heappush(self.timers, timer)
            is_next = self.timers[0] is timer
        if is_next:
            self.news.set()
        return timer

    # --------------------------------------------------------------------------- from other threads

    def call_here(self, callback: Callable[[*Values], object], *args: *Values) -> None:
        """Call in this thread, with all that this lets go on, unless another one is at it."""
        self.call_soon(callback, *args)
        self.run_ready()

    def call_soon_threadsafe(
        self, callback: Callable[[*Values], object], *args: *Values, context: Context | None = None
    ) -> asyncio.Handle:
        """Call in the thread that waits for the whole, for one that has other things to do."""
        handle = self.call_soon(callback, *args, context=context)
        self.news.set()
        return handle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Values], T], *args: *Values
    ) -> asyncio.Future[T]:
        """Begin a call that waits, in a thread of its own."""
        return asyncio.wrap_future((executor or self.executor).submit(func, *args), loop=self)

    # -------------------------------------------------------------------------------- what is asked

    def seconds_left(self) -> float | None:
        """Return how long it is until the next timer, None if there is none."""
        with self.timing:
            return max(0.0, self.timers[0].when() - self.time()) if self.timers else None

    def due_timers(self) -> list[asyncio.TimerHandle]:
        """Take the timers whose time has come."""
        due = []
        with self.timing:
            while self.timers and self.timers[0].when() <= self.time():
                due.append(heapq.heappop(self.timers))
        return due

    def time(self) -> float:
        """Return the seconds that timers are set by."""
        return time.monotonic()

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **more: Any) -> asyncio.Task[Any]:
        """Begin a coroutine."""
        return asyncio.Task(coro, loop=self, **more)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Let the whole fail with a callback; what no task has asked for concerns nobody."""
        if "handle" in context:
            self.fault = context["exception"]
            self.news.set()

    def get_debug(self) -> bool:
        """Return that nothing is checked more than is needed."""
        return False

    def is_closed(self) -> bool:
        """Return that it can be used, as it always can."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Let it be: when its time comes, nothing is called."""


def new_loop() -> Loop:
    """Return a loop, of which tasks ask no more than it has."""
    return Loop()  # type: ignore[abstract]


def running_loop() -> Loop:
    """Return the loop in which this is called; raise TypeError for one of another kind."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Loop):
        raise TypeError(f"not in a {Loop.__name__}, but in {loop}")
    return loop
