"""How many requests are made at once, by how they are answered."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from conftest import NIGHT, Run, some
from dispatch.files.concurrency import (
    FEWEST_CONNECTIONS,
    FIRST_CONNECTIONS,
    OTHER_FILES,
    Concurrency,
)
from faults import answer, is_listing
from standins import BUCKET, S3, DocDB, Request, record


@dataclass
class Hand:
    """Answers of S3 that are held back, and how many of them are in hand."""

    s3: S3
    lock: Lock = field(default_factory=Lock)
    now: int = 0
    most: int = 0

    def take(self) -> int:
        """Take one more in hand, and return how many there are."""
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            return self.now

    def answer(self, environ: Any, start_response: Any) -> list[bytes]:
        """Answer with a page, after which there is one less in hand."""
        page = self.s3.list_objects(environ, start_response)
        self.drop()
        return [page]

    def drop(self) -> None:
        """Have one less in hand."""
        with self.lock:
            self.now -= 1


@pytest.fixture
def hand(s3: S3) -> Hand:
    return Hand(s3)


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


# By day, none of these needs a process of its own, which alone has few open files.
@pytest.mark.parametrize(
    ("wanted", "open_files", "expected"), LIMITS if NIGHT else [(7, 0, 7), (0, 40, 1)]
)
def test_so_many_requests_are_made_at_once_and_no_more(
    wanted: int, open_files: int, expected: int, run: Run, docdb: DocDB, s3: S3, hand: Hand
) -> None:
    number = expected + 20
    s3.put(BUCKET, [f"{n:03}/a.nwb" for n in range(number)])
    docdb.put(*(record(f"{n:03}") for n in range(number)))
    enough = Event()
    most = 0

    def hold(environ: Any, start_response: Any) -> list[bytes]:
        nonlocal most
        in_hand = hand.take()
        if not enough.is_set():  # quick answers let more be made
            most = max(most, in_hand)
        if in_hand >= expected and not enough.is_set():
            time.sleep(0.2)  # for more, if there are
            enough.set()
        assert enough.wait(60)
        return hand.answer(environ, start_response)

    s3.fault = lambda request: hold if is_listing(request) else None
    env = {"AWS_DEFAULT_REGION": "us-west-2"}
    flags = ("--query={}", "--file_extension=nwb", f"--max_connections={wanted or ''}")
    prefix = {"prefix": f"ulimit -Sn {open_files}; exec "} if open_files else {}
    result = run(*flags, env=env, **prefix)
    assert result.status == 0, result.log
    assert f"{number} files, {number} tasks" in result.error
    assert most == expected
    assert len(s3.listings()) == number


FEW = {"FIRST_CONNECTIONS": 16}
NUMBER = 100  # of small assets


@pytest.fixture
def all_are_found(run: Run, docdb: DocDB, s3: S3) -> Callable[..., None]:
    """Return a function that looks whether a run has all files of many small assets.

    It is given what answers in place of S3, by a request to list, and constants of the program.
    """
    s3.put(BUCKET, [f"{n:03}/a.nwb" for n in range(NUMBER)])
    docdb.put(*(record(f"{n:03}") for n in range(NUMBER)))

    def look(answer_to: Callable[[Request], Any], constants: dict[str, float]) -> None:
        s3.fault = lambda request: answer_to(request) if is_listing(request) else None
        result = run("--query={}", "--file_extension=nwb", constants=constants)
        assert result.status == 0, result.log
        assert f"{NUMBER} files, {NUMBER} tasks" in result.error

    return look


AllAreFound = Callable[..., None]


def test_quick_answers_let_more_requests_be_made_at_once(
    all_are_found: AllAreFound, hand: Hand
) -> None:
    first_are_here, more_are_here = Event(), Event()
    came: list[bool] = []  # what was waited for
    numbers = count(1)

    def hold(environ: Any, start_response: Any) -> list[bytes]:
        in_hand, number = hand.take(), next(numbers)
        if number >= 16:
            first_are_here.set()
        if in_hand > 16:
            more_are_here.set()
        came.append((first_are_here if number <= 16 else more_are_here).wait(60))
        return hand.answer(environ, start_response)

    all_are_found(lambda _: hold, FEW)
    assert all(came)


def test_after_slow_down_no_more_requests_are_made_at_once(
    all_are_found: AllAreFound, hand: Hand
) -> None:
    asked_again = Event()
    slowed_down = ""

    def hold(environ: Any, start_response: Any) -> Any:
        nonlocal slowed_down
        hand.take()
        with hand.lock:
            is_first, slowed_down = not slowed_down, slowed_down or environ["QUERY_STRING"]
        if is_first:
            hand.drop()
            return answer(503, "SlowDown")(environ, start_response)
        if environ["QUERY_STRING"] == slowed_down:
            asked_again.set()
        assert asked_again.wait(60)
        time.sleep(0.02)  # so that many are in hand
        return hand.answer(environ, start_response)

    all_are_found(lambda _: hold, FEW)
    assert hand.most <= 16


def test_where_s3_refuses_fewer_requests_are_made_at_once(
    all_are_found: AllAreFound, hand: Hand
) -> None:
    refused = 0

    def hold(environ: Any, start_response: Any) -> Any:
        nonlocal refused
        if hand.take() > 16:
            hand.drop()
            refused += 1
            return answer(503, "SlowDown")(environ, start_response)
        time.sleep(0.02)
        return hand.answer(environ, start_response)

    all_are_found(lambda _: hold, {})
    assert refused < 2 * NUMBER  # three times as many where each only pauses


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


def test_slow_down_is_outlived_for_longer_than_other_faults(all_are_found: AllAreFound) -> None:
    refused = Counter[str]()

    def refuse(request: Request) -> Any:
        prefix = request.query["prefix"]
        refused[prefix] += prefix in ("007/", "008/")
        return answer(503, "SlowDown") if 1 <= refused[prefix] <= 6 else None

    all_are_found(refuse, {"LIST_TRIES": 3})
    assert refused["007/"] == refused["008/"] == 7


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
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(THREADS.format(str(tmp_path / "started")))
    result = run("--query={}", *flags, env={"PYTHONPATH": str(tmp_path / "hook")})
    assert result.status == 0, result.log
    assert "100 tasks" in result.error
    started = tmp_path / "started"
    assert (len(started.read_text().splitlines()) if started.exists() else 0) in range(
        min(1, most), most + 1
    )
