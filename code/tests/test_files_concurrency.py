"""How many requests are made at once, by how they are answered."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from conftest import Run, some
from dispatch.files.concurrency import (
    FEWEST_CONNECTIONS,
    FIRST_CONNECTIONS,
    OTHER_FILES,
    Concurrency,
)
from faults import answer
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


@pytest.mark.parametrize(("wanted", "open_files", "expected"), some(LIMITS, 2))
def test_so_many_requests_are_made_at_once_and_no_more(
    wanted: int, open_files: int, expected: int, run: Run, docdb: DocDB, s3: S3
) -> None:
    number = expected + 20
    s3.put(BUCKET, [f"{n:03}/a.nwb" for n in range(number)])
    docdb.put(*(record(f"{n:03}") for n in range(number)))
    lock = Lock()
    enough = Event()
    in_hand = most = 0

    def hold(environ: Any, start_response: Any) -> list[bytes]:
        nonlocal in_hand, most
        with lock:
            in_hand += 1
            if not enough.is_set():  # quick answers let more be made
                most = max(most, in_hand)
        if in_hand >= expected and not enough.is_set():
            time.sleep(0.2)  # for more, if there are
            enough.set()
        assert enough.wait(60)
        page = s3.list_objects(environ, start_response)
        with lock:
            in_hand -= 1
        return [page]

    s3.fault = lambda request: hold if "list-type" in request.query else None
    env = {"AWS_DEFAULT_REGION": "us-west-2"}
    flags = ("--query={}", "--file_extension=nwb", f"--max_connections={wanted or ''}")
    result = run(*flags, env=env, prefix=f"ulimit -Sn {open_files}; exec ")
    assert result.status == 0, result.log
    assert f"{number} files, {number} tasks" in result.error
    assert most == expected
    assert len(s3.listings()) == number


@pytest.fixture
def many(docdb: DocDB, s3: S3) -> int:
    """Put many small assets, and return their number."""
    s3.put(BUCKET, [f"{n:03}/a.nwb" for n in range(300)])
    docdb.put(*(record(f"{n:03}") for n in range(300)))
    return 300


def all_are_found(hold: Callable[..., Any], many: int, run: Run, s3: S3) -> None:
    """Let a function answer what is asked of S3, and look whether a run has all files."""
    s3.fault = lambda request: hold if "list-type" in request.query else None
    result = run("--query={}", "--file_extension=nwb", env={"AWS_DEFAULT_REGION": "us-west-2"})
    assert result.status == 0, result.log
    assert f"{many} files, {many} tasks" in result.error


def test_quick_answers_let_more_requests_be_made_at_once(many: int, run: Run, s3: S3) -> None:
    first = FIRST_CONNECTIONS
    lock = Lock()
    first_are_here, more_are_here = Event(), Event()
    asked = in_hand = 0
    came: list[bool] = []  # what was waited for

    def hold(environ: Any, start_response: Any) -> list[bytes]:
        nonlocal asked, in_hand
        with lock:
            asked, in_hand = asked + 1, in_hand + 1
            is_first = asked <= first
        if asked >= first:
            first_are_here.set()
        if in_hand > first:
            more_are_here.set()
        came.append((first_are_here if is_first else more_are_here).wait(60))
        page = s3.list_objects(environ, start_response)
        with lock:
            in_hand -= 1
        return [page]

    all_are_found(hold, many, run, s3)
    assert all(came)


def test_after_slow_down_no_more_requests_are_made_at_once(many: int, run: Run, s3: S3) -> None:
    first = FIRST_CONNECTIONS
    lock = Lock()
    asked_again = Event()
    slowed_down = ""
    in_hand = most = 0

    def hold(environ: Any, start_response: Any) -> Any:
        nonlocal in_hand, most, slowed_down
        with lock:
            in_hand += 1
            most = max(most, in_hand)
            is_first, slowed_down = not slowed_down, slowed_down or environ["QUERY_STRING"]
        if is_first:
            in_hand -= 1
            return answer(503, "SlowDown")(environ, start_response)
        if environ["QUERY_STRING"] == slowed_down:
            asked_again.set()
        assert asked_again.wait(60)
        time.sleep(0.02)  # so that many are in hand
        page = s3.list_objects(environ, start_response)
        with lock:
            in_hand -= 1
        return [page]

    all_are_found(hold, many, run, s3)
    assert most <= first


def test_where_s3_refuses_fewer_requests_are_made_at_once(many: int, run: Run, s3: S3) -> None:
    lock = Lock()
    in_hand = refused = 0

    def hold(environ: Any, start_response: Any) -> Any:
        nonlocal in_hand, refused
        with lock:
            if in_hand >= 16:
                refused += 1
                return answer(503, "SlowDown")(environ, start_response)
            in_hand += 1
        time.sleep(0.02)
        page = s3.list_objects(environ, start_response)
        with lock:
            in_hand -= 1
        return [page]

    all_are_found(hold, many, run, s3)
    assert refused < 2 * many  # three times as many where each only pauses


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


def test_slow_down_is_outlived_for_longer_than_other_faults(many: int, run: Run, s3: S3) -> None:
    refused = Counter[str]()

    def refuse(request: Request) -> Any:
        prefix = request.query.get("prefix", "")
        refused[prefix] += prefix in ("007/", "008/")
        return answer(503, "SlowDown") if 1 <= refused[prefix] <= 6 else None

    s3.fault = refuse
    result = run("--query={}", "--file_extension=nwb", constants={"LIST_TRIES": 3})
    assert result.status == 0, result.log
    assert f"{many} files, {many} tasks" in result.error
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


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        (["--docdb_snapshot=records.json"], 0),
        # DocDB, twice
        ([], 2),
        # and S3, the credentials, where to ask, and the model of a task
        (["--file_extension=nwb"], 6),
    ],
)
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
