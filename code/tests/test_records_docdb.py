"""Whatever DocDB answers, page by page: outlived if it passes, one line if it stays; bounded."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import standins
from conftest import NIGHT, Run, fails, in_turn
from dispatch.assets.assets import ASSET_FIELDS
from dispatch.records import docdb as live_docdb
from dispatch.terminal.messages import FailedRun
from dispatch.terminal.retries import LONGEST_PAUSE
from faults import DOCDB_FAULTS, FLAGS, UNANSWERED, completes, reset, whole, world  # noqa: F401  (a fixture)
from standins import BUCKET, S3, TOKEN, CodeOcean, DocDB, Fault, record
from worlds import Record


def test_both_generations_of_the_database_are_asked(run: Run, docdb: DocDB) -> None:
    docdb.put(record("one"), version="v1")
    docdb.put(record("two"), version="v2")
    for flags, env, name in (
        ([], {}, "one"),
        (["--docdb_version=v2"], {}, "two"),
        ([], {"DOCDB_VERSION": "v2"}, "two"),
        (["--docdb_version="], {"DOCDB_VERSION": " "}, "one"),
        (["--docdb_version=v1"], {"DOCDB_VERSION": "v2"}, "one"),
    ):
        results_store = {"DOCDB_DATABASE": "analysis", "DOCDB_COLLECTION": "results"}
        result = run("--query={}", "--overwrite=1", *flags, env={**env, **results_store})
        assert [task["asset_name"] for task in result.tasks()] == [[name]], result.log
    assert {r.path for r in docdb.requests} == {
        "/v1/metadata_index/data_assets/aggregate",
        "/v2/metadata_index/data_assets/aggregate",
    }
    assert run("--query={}", "--overwrite=1", env={"DOCDB_VERSION": "v3"}).status == 2
    unused = run("--query={}", "--overwrite=1", "--docdb_version=v1", env={"DOCDB_VERSION": "v3"})
    assert unused.status == 0


def test_pages_go_by_key_and_lose_nothing(docdb: DocDB, monkeypatch: pytest.MonkeyPatch) -> None:
    docdb.put(*(record(f"{n:03}") for n in range(25)), record("odd", _id={"z": 1}))
    monkeypatch.setenv("DOCDB_HOST", docdb.host)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(docdb.ca_file))
    live = live_docdb.open_docdb("v1", 60)
    for size in (2, 5, 10, 25, 26, 27, 100):
        small = live_docdb.DocDB(live.aggregate, size)
        pages = list(small.find({}, ASSET_FIELDS))
        found = [repr(record["_id"]) for page in pages for record in page]
        assert sorted(found) == sorted([*(f"'id-{n:03}'" for n in range(25)), "{'z': 1}"])
        docdb.requests.clear()


WRONG_PAGES: dict[str, list[list[Any]]] = {  # the record ids on the pages that are answered
    "repeated": [["a", "b"], ["a", "b"]],
    "behind an earlier one": [["a", "c"], ["b", "d"]],
    "in no order": [["b", "a"]],
    "twice": [["a", "a"]],
    "no string among strings": [["a", "b"], ["c", 1]],
    "a string among no strings": [["b", 1], [], ["a"]],
    "no string twice": [[1, 2], [1, 2]],
}


@pytest.mark.parametrize("name", WRONG_PAGES)
def test_pages_that_do_not_go_on_end_the_run(name: str) -> None:
    answers = iter(WRONG_PAGES[name])
    database = live_docdb.DocDB(lambda _: [{"_id": id_} for id_ in next(answers, [])], 2)
    with pytest.raises(FailedRun, match="do not continue"):
        list(database.find({}, ["_id"]))


def test_the_gateways_wish_to_wait_is_granted(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    docdb.faults.append((429, {"Retry-After": "1"}, b""))
    assert run("--query={}").status == 0
    first, second, _ = docdb.requests
    assert second.time - first.time >= 1
    assert LONGEST_PAUSE == 60
    docdb.faults.append((429, {"Retry-After": "20"}, b""))
    limited = run("--query={}", "--overwrite=1", constants={"LONGEST_PAUSE": 1})
    assert limited.status == 0
    assert "429 Too Many Requests: ''; retrying in 1 s" in limited.log


def test_only_the_fields_in_use_are_asked_for(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a", subject={"subject_id": "1"}, session={"epochs": ["x" * 1000]}))
    assert run("--query={}").status == 0
    for request in docdb.requests:
        stages = {name: value for stage in request.body for name, value in stage.items()}
        assert set(stages["$project"]) == {
            "_id", "name", "location", "external_links", "other_identifiers",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ((400, {}, b'{"message": "unknown operator: $foo"}'), 2, "unknown operator: $foo"),
        ((403, {}, b"<html>\nForbidden</html>"), 1, "403"),
        ((200, {}, b"[1]"), 1, "not a list of records"),
    ],
)
def test_an_answer_that_is_no_records_ends_the_run(
    fault: Any, status: int, words: str, run: Run, docdb: DocDB
) -> None:
    docdb.always = fault
    result = run("--query={}")
    assert result.status == status
    assert result.error.startswith("error: ")
    assert words in result.error
    assert docdb.host in result.error
    assert not result.output.exists()


# as many as the first page takes, or nearly; and more than it and a further one take
@pytest.mark.parametrize("number", [99, 100, 101, 1_150])
def test_records_whose_ids_are_no_strings_are_counted(number: int, run: Run, docdb: DocDB) -> None:
    docdb.put(*({**record(f"{n}"), "_id": n} for n in range(number)), record("a"), record("b"))
    constants = {"FIRST_PAGE": 100}
    result = run("--query={}", constants=constants)
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [["a"], ["b"]]
    assert f"{number + 2:,} records matched, {number:,} skipped" in result.error
    del docdb.records["v1"][-2:]
    result = run("--query={}", "--overwrite=1", constants=constants)
    assert f"nothing to dispatch: {number:,} records matched, {number:,} skipped" in result.error


def test_pages_begin_small_and_take_few_requests(docdb: DocDB) -> None:
    docdb.put(*({"_id": f"{n:05}"} for n in range(12_000)))
    asked: list[int] = []

    def aggregate(pipeline: list[Record]) -> list[Record]:
        asked.append(pipeline[2]["$limit"])
        return standins.aggregate(list(docdb.records["v1"]), pipeline)

    pages = live_docdb.DocDB(aggregate).find({}, ["_id"])
    assert sum(map(len, pages)) == 12_000
    assert asked == [1_000, 5_000, 5_000, 5_000, 5_000]


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
    for env, tried in (
        ({"REQUESTS_CA_BUNDLE": None}, "1 attempt "),  # whose certificate nobody vouches for
        ({"REQUESTS_CA_BUNDLE": "/nowhere"}, "2 attempts"),
        ({"DOCDB_HOST": "localhost:9"}, "2 attempts"),
        ({"DOCDB_HOST": "nowhere.invalid"}, "2 attempts"),
    ):
        result = run(*FLAGS, "--timeout=2", env=env, constants={"TRIES": 2})
        fails(result, "no usable answer from DocDB at ")
        assert f"({tried}" in result.error
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


def find_at(host: str) -> str:
    return f"https://{host}/v1/metadata_index/data_assets/find"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("status", "kind"), in_turn([301, 302, 303, 307, 308], ["itself", "another", "path", "nowhere"])
)
def test_no_redirect_of_docdb_is_followed(
    status: int, kind: str, run: Run, docdb: DocDB, s3: S3
) -> None:
    places = {"itself": find_at(docdb.host), "another": s3.url, "path": "/", "nowhere": ""}
    place = places[kind]
    docdb.always = (status, {"Location": place} if place else {}, b"[]")
    fails(run(*FLAGS), f"answers {status}, a redirect to")
    assert len(docdb.requests) == 1
    assert not s3.requests


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("version", ["1", None])
def test_no_redirect_of_code_ocean_is_followed(
    version: str | None, run: Run, docdb: DocDB, code_ocean: CodeOcean
) -> None:
    env: dict[str, str | None] = {
        "CO_PIPELINE_ID": "p", "CO_COMPUTATION_ID": "run-1", "CODEOCEAN_API_TOKEN": TOKEN,
        "CODEOCEAN_DOMAIN": code_ocean.host,
    }  # fmt: skip
    process = {"name": "wrapper", "capsule_id": "c", "version": version}
    answered = {"id": "run-1", "created": 0, "run_time": 0, "processes": [process]}
    body = json.dumps(answered).encode()
    for before in range(3):  # the library asks with a client of its own
        code_ocean.clear()
        code_ocean.faults.extend([(200, {}, body)] * before)
        code_ocean.always = (302, {"Location": find_at(docdb.host)}, b"")
        docdb.requests.clear()
        fails(run(*FLAGS, env=env), "answers 302, a redirect to")
        assert len(code_ocean.requests) == before + 1
        assert not any(request.method == "GET" for request in docdb.requests)


@pytest.mark.usefixtures("world")
def test_no_redirect_of_the_results_store_is_followed(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    (tmp_path / "code.json").write_text('{"url": "https://example.org/mine", "version": "1"}')
    env: dict[str, str | None] = {"DOCDB_DATABASE": "analysis", "DOCDB_COLLECTION": "results"}
    docdb.faults.extend([None, None])
    docdb.always = (302, {"Location": find_at(docdb.host)}, b"")
    result = run(*FLAGS, "--analysis_code=code.json", "--skip_processed=1", env=env)
    fails(result, "answers 302, a redirect to")


@pytest.mark.parametrize("cap", [1, 3, 19, 20, 21])
def test_a_gateway_that_cuts_pages_loses_no_record(cap: int, run: Run, docdb: DocDB) -> None:
    names = [f"{n:03}" for n in range(20)]
    docdb.put(*map(record, names), record("odd", _id=7), record("other", _id={"z": 1}))
    docdb.spoil = lambda _, body: (200, {}, json.dumps(json.loads(body)[:cap]).encode())
    result = run("--query={}", "--max_jobs=1000")
    assert result.status == 0, result.log
    assert {task["asset_name"][0] for task in result.tasks()} == {*names}
    assert "22 records matched, 2 skipped (record id is not a string: 2)" in result.error


def test_records_without_end_are_an_error(run: Run, docdb: DocDB) -> None:
    number = iter(range(10**9))

    def more(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps([record(f"{next(number):09}")]).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    docdb.always = more
    result = run("--query={}", constants={"MOST_PAGES": 30})
    fails(result, "DocDB's answer has no end: 31 records on 31 pages so far")


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Begin an answer, and go on for ever."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(b"[" + b" " * 1_000_000)
    except OSError:
        pass


BOUND = 32 if NIGHT else 4  # MB


@cache
def packed() -> bytes:
    """Return what is small until it is unpacked."""
    return gzip.compress(b" " * BOUND * 10_000_000)


def unfolding(handler: BaseHTTPRequestHandler) -> None:
    """Answer with what is small until it is unpacked."""
    body = packed()
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("fault", [endless, unfolding], ids=["endless", "unfolding"])
def test_an_answer_of_any_size_is_read_up_to_a_bound(fault: Fault, run: Run, docdb: DocDB) -> None:
    docdb.always = fault
    constants = {"LARGEST_ANSWER": BOUND * 1_000_000, "TRIES": 2}
    result = run(*FLAGS, constants=constants)
    fails(result, f"an answer of more than {BOUND},000,000 bytes")
    assert result.megabytes < 20 + 6 * BOUND


@pytest.mark.usefixtures("world")
def test_an_answer_that_is_nested_without_end_is_none(run: Run, docdb: DocDB) -> None:
    docdb.always = (200, {}, b"[" * 100_000)
    fails(run(*FLAGS), "no usable answer from DocDB")
    deep = '{"a":' * 900 + "1" + "}" * 900
    docdb.always = None
    docdb.faults.append((200, {}, f'[{{"_id": "x", "name": {deep}}}]'.encode()))
    result = run(*FLAGS)
    assert "Traceback" not in result.log
    assert result.status in (0, 1)


@pytest.mark.usefixtures("world")
def test_wishes_to_wait_that_mean_nothing_are_no_faults(run: Run, docdb: DocDB) -> None:
    for wish in ("9" * 5_000, "1e999", "-5", "9" * 300, "Mon, 01 Jan 99999999999 00:00:00 GMT"):
        docdb.faults.append((429, {"Retry-After": wish}, b""))
    result = run(*FLAGS, constants={"LONGEST_PAUSE": 0.1, "TRIES": 6})
    assert result.status == 0, result.log
    assert result.log.count("retrying in") == 5


KINDS = {"lists": ("[", "]"), "objects": ('{"a":', "}")}
DEEP = "answers with a record that is nested more than 100 deep"


def nested(kind: str, depth: int, value: str) -> str:
    begin, end = KINDS[kind]
    return begin * depth + value + end * depth


@pytest.mark.parametrize(
    ("depth", "field", "kind"),
    in_turn([100, 100, 300, 500, 900, 900], ["v", "name", "_id"], list(KINDS)),
)
def test_a_record_that_is_nested_too_deeply_is_told(
    field: str, kind: str, depth: int, run: Run, docdb: DocDB
) -> None:
    body = json.dumps([{**record("a"), field: "deep"}, record("b")])
    docdb.always = (200, {}, body.replace('"deep"', nested(kind, depth, "1")).encode())
    fails(run("--query={}"), DEEP)


ASKED = [
    ("v", 99, ["--group_by=v"]),
    ("v", 99, ["--group_by=v", "--unwind_list_fields=v"]),
    ("v", 99, ["--filter_latest=v", "--filter_by=name"]),
    ("v", 99, ["--filter_latest=name", "--filter_by=v.a"]),
    ("v", 99, ["--group_by=v", "--dry_run=1"]),
    *((field, 50, ["--dry_run=1"]) for field in ("name", "location", "external_links", "_id")),
    ("subject", 50, ["--dry_run=1"]),
]


@pytest.mark.parametrize(("field", "depth", "flags", "kind"), in_turn(ASKED, list(KINDS)))
def test_a_value_that_is_nested_as_deeply_as_may_be_is_a_value(
    field: str, depth: int, flags: list[str], kind: str, run: Run, docdb: DocDB, s3: S3
) -> None:
    s3.put(BUCKET, ["a/1.nwb", "b/1.nwb"])
    body = json.dumps([{**record("a"), field: "deep"}, record("b", v={"a": "flat"})])
    docdb.faults.append((200, {}, body.replace('"deep"', nested(kind, depth, "1")).encode()))
    result = run(*FLAGS, *flags)
    assert "2 records matched" in result.log
    assert "Error" not in result.log, result.log
    if field == "v":
        assert result.status == 0, result.log
