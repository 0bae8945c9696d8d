"""How many requests are made at once, by how they are answered."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from conftest import NIGHT, Run, hooked, some
from dispatch.files.concurrency import (
    FEWEST_CONNECTIONS,
    FIRST_CONNECTIONS,
    OTHER_FILES,
    Concurrency,
)
from faults import answer, is_listing
from standins import BUCKET, S3, DocDB, Request, record

# How many connections are wanted, how many files may be open, how many requests come of that.
LIMITS = [
    (0, 256, FIRST_CONNECTIONS),
    (0, 100, 100 - OTHER_FILES),
    (7, 1_024, 7),
    (300, 1_024, 300),
    (300, 256, 256 - OTHER_FILES),
    (0, 40, 1),
]


@pytest.mark.parametrize(("wanted", "open_files", "expected"), LIMITS)
def test_so_many_requests_may_be_made_at_once(
    wanted: int, open_files: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (open_files, open_files))
    assert Concurrency(wanted).limit == expected


NUMBER = 400 if NIGHT else 100  # of small assets
Before = Callable[[int, str], bool]


@pytest.fixture
def most_in_hand(run: Run, docdb: DocDB, s3: S3) -> Callable[..., int]:
    """Return a function that lists many small assets, and returns how many requests came at once.

    Before each answer, it calls what it is given with the number of requests in hand and a prefix,
    and refuses where that is true.
    """
    names = [f"{n:03}" for n in range(NUMBER)]
    s3.put(BUCKET, [f"{name}/a.nwb" for name in names])
    docdb.put(*map(record, names))
    lock = Lock()
    in_hand = most = 0

    def look(before: Before, *flags: str, **options: Any) -> int:
        def hold(request: Request, environ: Any, start_response: Any) -> Any:
            nonlocal in_hand, most
            with lock:
                in_hand += 1
                now, most = in_hand, max(most, in_hand)
            if before(now, request.query["prefix"]):
                page = answer(503, "SlowDown")(environ, start_response)
            else:
                page = [s3.list_objects(environ, start_response)]
            with lock:
                in_hand -= 1
            return page

        s3.fault = lambda request: partial(hold, request) if is_listing(request) else None
        result = run("--query={}", "--file_extension=nwb", *flags, **options)
        assert result.status == 0, result.log
        assert f"{NUMBER} files, {NUMBER} tasks" in result.error
        return most

    return look


MostInHand = Callable[..., int]


@pytest.mark.parametrize(
    ("wanted", "open_files", "expected"), LIMITS if NIGHT else [(7, 0, 7), (0, 40, 1)]
)
def test_so_many_requests_are_made_at_once_and_no_more(
    wanted: int, open_files: int, expected: int, most_in_hand: MostInHand, s3: S3
) -> None:
    enough = Event()
    numbers = []

    def before(in_hand: int, _: str) -> bool:
        if not enough.is_set():  # quick answers let more be made
            numbers.append(in_hand)
        if in_hand >= expected and not enough.is_set():
            time.sleep(0.2)  # for more, if there are
            enough.set()
        return not enough.wait(60)

    # a process of its own alone can have few open files
    prefix = {"prefix": f"ulimit -Sn {open_files}; exec "} if open_files else {}
    most_in_hand(before, f"--max_connections={wanted or ''}", **prefix)
    assert max(numbers) == expected
    assert len(s3.listings()) == NUMBER


FEW = {"FIRST_CONNECTIONS": 16}


def test_quick_answers_let_more_requests_be_made_at_once(most_in_hand: MostInHand) -> None:
    first_are_here, more_are_here = Event(), Event()
    numbers = count(1)

    def before(in_hand: int, _: str) -> bool:
        number = next(numbers)
        if number >= 16:
            first_are_here.set()
        if in_hand > 16:
            more_are_here.set()
        return not (first_are_here if number <= 16 else more_are_here).wait(60)

    most_in_hand(before, constants=FEW)
    assert next(numbers) == NUMBER + 1  # none of which was refused


def test_after_slow_down_no_more_requests_are_made_at_once(most_in_hand: MostInHand) -> None:
    asked_again = Event()
    slowed_down: list[str] = []
    numbers = count()

    def before(_: int, prefix: str) -> bool:
        if next(numbers) == 0:
            slowed_down.append(prefix)
            return True
        if prefix in slowed_down:
            asked_again.set()
        assert asked_again.wait(60)
        time.sleep(0.02)  # so that many are in hand
        return False

    assert most_in_hand(before, constants=FEW) <= 16


def test_slow_down_is_outlived_for_longer_than_other_faults(most_in_hand: MostInHand) -> None:
    refused = Counter[str]()

    def before(_: int, prefix: str) -> bool:
        refused[prefix] += prefix in ("007/", "008/")
        return 1 <= refused[prefix] <= 6

    most_in_hand(before, constants={"LIST_TRIES": 3})
    assert refused["007/"] == refused["008/"] == 7


def test_refusals_lower_the_number_of_requests_and_answers_raise_it_again() -> None:
    concurrency = Concurrency(100)
    concurrency.adapt("s3", 0.05, 60)
    assert 70 <= concurrency.limit < 71
    for _ in range(10_000):
        concurrency.adapt("s3", 0.05, 60)
    assert concurrency.limit == 100
    for refusals in range(61, 1_000):
        concurrency.adapt("s3", 0.05, refusals)
        assert FEWEST_CONNECTIONS <= concurrency.limit <= 100
    assert concurrency.limit < FEWEST_CONNECTIONS + 1
    for refusals in range(1_000, 10_000):  # each time one of eight: a share that is still too high
        concurrency.adapt("s3", 0.05, 999 + (refusals - 999) // 8)
    assert concurrency.limit < FEWEST_CONNECTIONS + 1


@pytest.mark.parametrize("most", [1, 3, 7])
def test_refusals_leave_no_run_without_requests(most: int) -> None:
    concurrency = Concurrency(most)
    for refusals in range(1, 100):
        concurrency.adapt("s3", 0.05, refusals)
        assert concurrency.limit == most


THREADS = """
import threading

start = threading.Thread.start

def count(thread):
    with open({!r}, "a") as started:
        print(thread.name, file=started)
    start(thread)

threading.Thread.start = count
"""


# DocDB, twice; and S3, the credentials, where to ask, and the model of a task
MOST = [(["--docdb_snapshot=records.json"], 0), ([], 2), (["--file_extension=nwb"], 6)]


@pytest.mark.parametrize(("flags", "most"), some(MOST, 2))
def test_no_more_threads_are_started_than_have_something_to_do(
    flags: list[str], most: int, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    records = [record(f"{n:03}") for n in range(100)]
    s3.put(BUCKET, [f"{n:03}/a.nwb" for n in range(100)])
    docdb.put(*records)
    (tmp_path / "records.json").write_text(json.dumps(records))
    env = hooked(tmp_path, THREADS.format(str(tmp_path / "started")))
    result = run("--query={}", *flags, env=env)
    assert result.status == 0, result.log
    assert "100 tasks" in result.error
    started = tmp_path / "started"
    assert (len(started.read_text().splitlines()) if started.exists() else 0) in range(
        min(1, most), most + 1
    )
