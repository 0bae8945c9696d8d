"""Answers of services have bounds: no redirect, nothing without end, nothing too deep."""

from __future__ import annotations

import gzip
import json
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from turns import in_turn

from conftest import NIGHT, Run, fails
from standins import BUCKET, S3, TOKEN, CodeOcean, DocDB, Fault, record
from surroundings import FLAGS, world  # noqa: F401  (a fixture)


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
    for wish in ("9" * 5_000, "1e999", "-5", "9" * 300):
        docdb.faults.append((429, {"Retry-After": wish}, b""))
    result = run(*FLAGS, constants={"LONGEST_PAUSE": 0.1})
    assert result.status == 0, result.log
    assert result.log.count("retrying in") == 4


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
