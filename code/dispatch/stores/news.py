"""What AWS's runtime says, from a thread of its own, told to the loop that waits for it."""

from __future__ import annotations

import asyncio
import ctypes
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from dispatch.stores.places import NoAnswer, Place
from dispatch.terminal.retries import FEW_TRIES

T = TypeVar("T")

# What an answer that does not come is told as, by the end of the runtime's name for it.
FAULTS = {
    "DNS_INVALID_NAME": "there is no server called {host}",
    "DNS_QUERY_FAILED": "there is no server called {host}",
    "SOCKET_CONNECTION_REFUSED": "{host} refuses the connection",
    "SOCKET_NO_ROUTE_TO_HOST": "no way leads to {host}",
}
DOUBTS = {  # what may have several reasons, of which some pass
    "HTTP_PROXY_CONNECT_FAILED": "the proxy {proxy} refuses to connect",
    "TLS_ERROR_NEGOTIATION_FAILURE": "no TLS with {host}",
    "TLS_ERROR_ALERT_RECEIVED": "no TLS with {host}",
    "TLS_NEGOTIATION_FAILURE": "no TLS with {host}",
}
# Seconds after which the loop looks for more news, while news come, rather than be awoken for each:
# the two threads take turns at the interpreter a third as often, and an asset takes 35 of 260 us
# less. Of 2 and of 5 ms, the gain is the same.
NEXT_LOOK = 0.001
UNREAD = ("UNKNOWN",)  # where Python raises while it reads a header, that is not UTF-8


class Unread(NoAnswer):
    """An answer that the runtime does not read."""


class News:
    """What the runtime has said that the loop does not know of yet."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[asyncio.Future[None]] = deque()  # for what has come
        self.is_awoken = False  # the loop, to look
        self.keeps_thread = False

    async def outcome(self, future: Future[T], place: Place) -> T:
        """Return what the runtime says; raise NoAnswer."""
        if not future.done():
            here = self.loop.create_future()
            future.add_done_callback(partial(self.tell, here))
            await here
        # never raised itself: its traceback would hold this frame, which holds the future, which
        # holds the error, and so all that has come of an answer that was cut
        error = future.exception()
        if error:
            raise no_answer(error, place)
        return future.result()

    def tell(self, here: asyncio.Future[None], _: object) -> None:
        """Let go on what waits; called in the runtime's thread.

        The loop is awoken once for all that is new: to awake it is a call of the system.
        """
        self.waiting.append(here)
        if not self.is_awoken:
            self.is_awoken = True
            with suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(self.hear)

    def hear(self) -> None:
        """Let go on whatever has news; while news come, look again by itself."""
        if self.waiting:
            self.loop.call_later(NEXT_LOOK, self.hear)
        else:
            self.is_awoken = False  # before the last look: what comes later awakes the loop again
        while self.waiting:
            here = self.waiting.popleft()
            if not here.done():  # it is, where it was cancelled
                here.set_result(None)

    def keep_thread(self) -> None:
        """Let Python keep what it knows of the runtime's thread; called from there.

        To make it anew for each call, and to give its memory back to the system, took 25 of 110 us
        a request.
        """
        if not self.keeps_thread:
            self.keeps_thread = True
            ctypes.pythonapi.PyGILState_Ensure()  # never released


def no_answer(error: BaseException, place: Place) -> BaseException:
    """Return why there is no answer, and whether another try can help."""
    from awscrt.exceptions import AwsCrtError

    if not isinstance(error, AwsCrtError):
        return error
    name = error.name.removeprefix("AWS_ERROR_").removeprefix("AWS_IO_")
    for end, fault in DOUBTS.items():
        if name.endswith(end):
            return NoAnswer(fault.format(host=place.host, proxy=place.shown_proxy))
    for end, fault in FAULTS.items():
        if name.endswith(end):
            host = f"the proxy {place.shown_proxy}" if place.proxy else place.host
            return NoAnswer(fault.format(host=host), FEW_TRIES)
    told = f"{error.message.rstrip('.')} ({name})"
    return Unread(told) if name in UNREAD else NoAnswer(told)
