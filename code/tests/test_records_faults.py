"""Whatever DocDB does: outlived if it passes, one line if it stays, all of the output or none."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from conftest import Run, fails
from faults import DOCDB_FAULTS, FLAGS, UNANSWERED, completes, reset, whole, world  # noqa: F401  (a fixture)
from standins import DocDB, record

# Of faults that the program treats alike one stays for ever, which takes some seconds.
LASTING = ("429", "reset", "drip", "hang", "html", "object")


def test_faults_of_docdb_that_pass_are_outlived(
    run: Run, docdb: DocDB, whole: dict[str, bytes]
) -> None:
    number = len(DOCDB_FAULTS)
    docdb.faults.extend(fault for fault, _ in DOCDB_FAULTS.values())
    constants = {"LONGEST_PAUSE": 0.1, "TRIES": number + 1}
    passing = run(*FLAGS, "--timeout=2", constants=constants)  # enough for what is answered
    completes(passing, whole)
    assert passing.log.count("retrying in") == number
    docdb.always = DOCDB_FAULTS["html"][0]
    lasting = run(*FLAGS, "--overwrite=1", constants={"LONGEST_PAUSE": 0.1})
    assert lasting.status == 1
    assert lasting.files() == whole


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("name", LASTING)
def test_a_fault_of_docdb_that_stays_ends_the_run(name: str, run: Run, docdb: DocDB) -> None:
    docdb.always, words = DOCDB_FAULTS[name]
    tries = 2 if name in UNANSWERED else 5
    lasting = run(*FLAGS, "--timeout=1", constants={"LONGEST_PAUSE": 0.1, "TRIES": tries})
    fails(lasting, words, f"({tries} attempts in ", "no usable answer from DocDB at localhost")


def test_a_connection_that_was_given_up_is_closed(
    run: Run, docdb: DocDB, whole: dict[str, bytes]
) -> None:
    closed = threading.Event()
    by_then: list[bool] = []

    def watch(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.connection.recv(1)  # until there is no more to come
        closed.set()
        handler.close_connection = True

    def wait(handler: BaseHTTPRequestHandler) -> None:
        closed.wait(10)
        reset(handler)

    def look(handler: BaseHTTPRequestHandler) -> None:
        by_then.append(closed.is_set())
        reset(handler)

    docdb.faults.extend([watch, wait, look])
    completes(run(*FLAGS, "--timeout=2"), whole)
    assert by_then == [True]


@pytest.mark.usefixtures("world")
def test_docdb_that_cannot_be_reached_or_trusted_ends_the_run(run: Run) -> None:
    for env in (
        {"REQUESTS_CA_BUNDLE": None},
        {"REQUESTS_CA_BUNDLE": "/nowhere"},
        {"DOCDB_HOST": "localhost:9"},
        {"DOCDB_HOST": "nowhere.invalid"},
    ):
        result = run(*FLAGS, "--timeout=2", env=env, constants={"TRIES": 2})
        fails(result, "no usable answer from DocDB at ")
        assert "HTTPSConnection" not in result.log
    for host in ("http://localhost", "localhost/v1", "me:hunter2@localhost"):
        result = run(*FLAGS, env={"DOCDB_HOST": host})
        fails(result, "$DOCDB_HOST", status=2)
        assert "hunter2" not in result.log


def test_a_record_that_comes_between_two_pages_disturbs_no_other(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(2_500)))
    changes = iter(range(100))

    def change() -> None:
        n = next(changes)
        docdb.put(record(f"0000-new-{n}"), record(f"0999{'z' * n}-new"), record(f"9{n}-new"))
        records = docdb.records["v1"]
        next(r for r in records if r["_id"] == "id-1500")["name"] = f"moved {n}"
        docdb.records["v1"] = [r for r in records if r["_id"] != f"id-000{n}"]

    docdb.after = change
    result = run("--query={}", "--max_jobs=1")
    assert result.status == 0, result.log
    written = [task["docdb_record_id"][0] for task in result.tasks()]
    assert len(written) == len(set(written))
    assert {f"id-{n:04}" for n in range(10, 2_500)} <= set(written)


def test_a_page_that_is_repeated_ends_the_run(run: Run, docdb: DocDB) -> None:
    page = json.dumps([record(f"{n:04}") for n in range(1_000)]).encode()
    docdb.always = (200, {}, page)
    fails(run("--query={}"), "do not continue")


def test_a_page_is_halved_until_it_passes(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:04}", padding="x" * 500) for n in range(1_100)))
    whole = run("--query={}", "--max_jobs=1").files()
    assert len(whole) == 1_100
    docdb.max_answer = 20_000
    docdb.requests.clear()
    result = run("--query={}", "--max_jobs=1", "--overwrite=1")
    completes(result, whole)
    assert 10 < len(docdb.requests) < 25  # a page is never larger than one that has passed
    shutil.rmtree(result.output)
    docdb.max_answer = 100  # less than a record
    fails(run("--query={}"), "too large")
    docdb.always = (413, {}, b"")
    fails(run("--query={}"), "too large")
