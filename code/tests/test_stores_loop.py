"""The loop in which assets are listed, held against asyncio's own, and asked from many threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import fuzz
from dispatch.stores.loop import Loop, new_loop, running_loop

SHORT, LONG = 0.002, 0.5  # seconds: far enough apart for a busy machine

# Programs as trees: what is done, and the programs that it is done to.
leaves = st.sampled_from(
    [["nothing"], ["soon"], ["sleep"], ["thread"], ["news"], ["news", "late"], ["fail"]]
)
programs = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["all", "row", "queue", "locked"]), st.lists(inner, max_size=4)),
        st.tuples(st.sampled_from(["timeout", "cancel", "catch", "group"]), inner),
    ).map(list),
    max_leaves=12,
)


async def do(program: list[Any], hear: Callable[[], asyncio.Future[str]]) -> Any:
    """Do what a program says, and return what comes of it; `hear` returns news of a thread."""
    match program:
        case ["soon"]:
            await asyncio.sleep(0)
        case ["sleep"]:
            await asyncio.sleep(SHORT)
        case ["thread"]:
            return await asyncio.to_thread(lambda: "called")
        case ["news"]:
            return await hear()
        case ["news", "late"]:
            await asyncio.sleep(SHORT)
            return await hear()
        case ["fail"]:
            raise ValueError("as asked")
        case [("all" | "row" | "queue" | "locked" | "timeout" | "cancel" | "catch" | "group"), _]:
            return [program[0], await do_inner(program[0], program[1], hear)]
    return program[0]


async def do_inner(how: str, inner: list[Any], hear: Callable[[], asyncio.Future[str]]) -> Any:
    """Do programs in one of the ways in which they are done together."""
    if how == "all":
        done = await asyncio.gather(*(do(one, hear) for one in inner), return_exceptions=True)
        return [str(one) for one in done]
    if how == "row":
        return [await do(one, hear) for one in inner]
    if how == "queue":
        queue: asyncio.Queue[list[Any]] = asyncio.Queue()
        worker = asyncio.ensure_future(take(queue, hear))
        for one in inner:
            queue.put_nowait(one)
        await queue.join()
        worker.cancel()
        return len(inner)
    if how == "locked":
        lock = asyncio.Lock()

        async def under_lock(one: list[Any]) -> str:
            async with lock:
                return str(await do(one, hear))

        return await asyncio.gather(*map(under_lock, inner))
    if how == "timeout":
        async with asyncio.timeout(LONG):
            await do(inner, hear)
        with suppress(TimeoutError):
            async with asyncio.timeout(SHORT):
                await asyncio.sleep(LONG)
        return await asyncio.wait_for(do(inner, hear), LONG)
    if how == "cancel":
        task = asyncio.ensure_future(do(["row", [["sleep"], ["sleep"], inner]], hear))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()
    if how == "group":
        async with asyncio.TaskGroup() as group:
            first = group.create_task(do(inner, hear))
            group.create_task(asyncio.sleep(SHORT))
        return first.result()
    try:
        return await do(inner, hear)
    except Exception as error:
        return type(error).__name__


async def take(queue: asyncio.Queue[list[Any]], hear: Callable[[], asyncio.Future[str]]) -> None:
    """Do the programs of a queue, one after the other."""
    while True:
        with suppress(ValueError, ExceptionGroup):
            await do(await queue.get(), hear)
        queue.task_done()


def tell(here: asyncio.Future[str]) -> None:
    """Give news to what waits for them, if it still does."""
    if not here.done():
        here.set_result("news")


def outcome(run: Callable[[Coroutine[Any, Any, Any]], Any], program: Any, hear: Any) -> str:
    """Return what comes of a program, in words."""
    try:
        return str(run(do(program, hear)))
    except Exception as error:
        return repr(error)


def test_whatever_asyncio_is_asked_to_do_comes_out_as_in_its_own_loop() -> None:
    with ThreadPoolExecutor(3) as pool:

        def to_asyncio() -> asyncio.Future[str]:
            return asyncio.wrap_future(pool.submit(lambda: "news"))

        def to_ours() -> asyncio.Future[str]:
            loop = running_loop()
            here = loop.create_future()
            pool.submit(loop.call_here, tell, here)
            return here

        def check(program: list[Any]) -> None:
            theirs = outcome(asyncio.run, program, to_asyncio)
            assert outcome(new_loop().run_until_done, program, to_ours) == theirs

        fuzz(check, 0.1, program=programs)


def test_many_threads_lose_no_call_and_one_runs_at_a_time() -> None:
    threads, calls = 6, 2_000
    loop = new_loop()
    done = loop.create_future()
    running: list[int] = []
    number = 0

    def callback() -> None:
        nonlocal number
        running.append(1)
        assert len(running) == 1
        before = number
        if number % 50 == 0:
            time.sleep(0)  # let another thread have the interpreter
        number = before + 1
        running.pop()
        if number == threads * calls:
            done.set_result(None)

    def call(thread: int) -> None:
        for _ in range(calls):
            (loop.call_here if thread % 2 else loop.call_soon_threadsafe)(callback)

    for thread in range(threads):
        threading.Thread(target=call, args=[thread]).start()
    loop.run_until_done(asyncio.wait_for(done, 60))
    assert number == threads * calls


def tell_after(pause: float, loop: Loop, name: str, done: asyncio.Future[str]) -> None:
    """Give news in one of the ways, after so many seconds."""
    time.sleep(pause)
    getattr(loop, name)(tell, done)


@pytest.mark.parametrize("name", ["call_here", "call_soon_threadsafe"])
def test_news_that_come_as_the_loop_goes_to_sleep_wake_it(name: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        for pause in [0, 1e-5, 1e-4] * 400:
            loop = new_loop()
            done = loop.create_future()

            pool.submit(tell_after, pause, loop, name, done)
            started = time.monotonic()
            assert loop.run_until_done(done) == "news"
            assert time.monotonic() - started < 5


def test_what_waits_goes_on_in_the_thread_that_has_the_news() -> None:
    loop = new_loop()
    here = loop.create_future()

    async def name_of_thread() -> str:
        await here
        return threading.current_thread().name

    news = threading.Thread(
        target=tell_after, args=[0.05, loop, "call_here", here], name="of the runtime"
    )
    news.start()
    assert loop.run_until_done(name_of_thread()) == "of the runtime"


def test_timers_come_in_their_order_and_not_once_they_are_cancelled() -> None:
    loop = new_loop()
    called: list[float] = []
    end = loop.create_future()
    started = loop.time()
    delays = [0.03, 0.01, 0.05, 0.01, 0.02]
    for delay in delays:
        loop.call_later(delay, called.append, delay)
    loop.call_later(0.015, called.append, 9).cancel()
    loop.call_later(0.06, end.set_result, None)
    loop.run_until_done(end)
    assert called == sorted(delays)
    assert loop.time() - started >= 0.06


def test_a_callback_that_fails_ends_the_whole() -> None:
    loop = new_loop()
    loop.call_later(0.01, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run_until_done(loop.create_future())


def test_what_nobody_asks_for_ends_nothing() -> None:
    loop = new_loop()

    async def leave() -> str:
        failed: Future[str] = Future()
        failed.set_exception(ValueError("unheard"))
        asyncio.wrap_future(failed)
        await asyncio.sleep(SHORT)
        gc.collect()
        await asyncio.sleep(SHORT)
        return "done"

    assert loop.run_until_done(leave()) == "done"


def test_a_runtime_takes_no_other_loop() -> None:
    async def ask() -> None:
        running_loop()

    with pytest.raises(TypeError, match="not in a Loop"):
        asyncio.run(ask())
