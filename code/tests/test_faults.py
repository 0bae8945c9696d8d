"""Whatever fails: the right exit status, one line that says why, and all of the output or none."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Result, Run, Start
from dispatch.terminal.messages import echo, keep_secret
from standins import BUCKET, ERROR, KEY_ID, S3, SECRET, DocDB, Fault, Request, record

Application = Callable[..., Any]
ASCII = "".join(map(chr, range(33, 127)))
FLAGS = ("--query={}", "--file_extension=nwb")
NAMES = [f"{n:02}" for n in range(12)]


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, NAMES))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in NAMES for n in range(3)])


@pytest.fixture(scope="session")
def wholes() -> dict[str, dict[str, bytes]]:
    """Return what runs without faults have written, by their fixtures; it is always the same."""
    return {}


@pytest.fixture
def whole(
    request: pytest.FixtureRequest, run: Run, tmp_path: Path, wholes: dict[str, dict[str, bytes]]
) -> dict[str, bytes]:
    """Return what a run without faults writes."""
    request.getfixturevalue("world")
    if "world" not in wholes:
        result = run(*FLAGS, output=tmp_path / "whole")
        assert result.status == 0, result.log
        wholes["world"] = result.files()
    return wholes["world"]


def completes(result: Result, whole: dict[str, bytes]) -> None:
    assert result.status == 0, result.log
    assert result.files() == whole
    assert "Traceback" not in result.log
    assert "INFO dispatched to" in result.error


def fails(result: Result, words: str, status: int = 1) -> None:
    assert result.status == status, result.log
    assert words in result.error, result.error
    assert result.error.startswith("error: ")
    assert "Traceback" not in result.log
    assert len(re.findall("^error: ", result.log, re.MULTILINE)) == 1
    assert result.files() == {}


# ------------------------------------------------------------------------------------------- DocDB


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Cut the connection with a reset."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def begin(handler: BaseHTTPRequestHandler, length: int = 1_000) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(b'[{"_id": "a"')
    handler.wfile.flush()


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Begin a body and cut the connection."""
    begin(handler)
    reset(handler)


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Take a request, and say nothing."""
    time.sleep(6)
    handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Send a byte now and then, so that no socket ever times out."""
    begin(handler)
    for _ in range(20):
        time.sleep(0.3)
        try:
            handler.wfile.write(b" ")
        except OSError:
            break
    handler.close_connection = True


DOCDB_FAULTS: dict[str, tuple[Fault, str]] = {
    "429": ((429, {"Retry-After": "1"}, b""), "429"),
    "429 until a date": ((429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""), "429"),
    "429 for nonsense": ((429, {"Retry-After": "soon"}, b""), "429"),
    **{str(n): ((n, {}, b"<html>\nbusy"), f"{n}") for n in (500, 502, 503, 504)},
    "reset": (reset, "5 attempts"),
    "cut": (cut, "5 attempts"),
    "hang": (hang, "nothing within 1 s (--timeout)"),
    "drip": (drip, "nothing within 1 s (--timeout)"),
    "html": ((200, {}, b"<html>maintenance</html>"), "<html>maintenance"),
    "truncated": ((200, {}, b'[{"_id": "a", "na'), "not JSON"),
    "empty": ((200, {}, b""), "not JSON"),
    "object": ((200, {}, b'{"message": "no"}'), "not a list of records"),
}


# Of faults that the program treats alike one stays for ever, which takes some seconds.
LASTING = ("429", "reset", "drip", "hang", "html", "object")
UNANSWERED = ("drip", "hang")


@pytest.mark.parametrize("name", DOCDB_FAULTS)
def test_a_fault_of_docdb_that_passes_is_outlived_and_one_that_stays_ends_the_run(
    name: str, run: Run, docdb: DocDB, whole: dict[str, bytes]
) -> None:
    fault, words = DOCDB_FAULTS[name]
    constants = {"LONGEST_PAUSE": 0.1}
    docdb.faults.extend([fault, fault])
    timeout = ["--timeout=3"] * (name in UNANSWERED)  # enough for what is answered
    passing = run(*FLAGS, *timeout, constants=constants)
    completes(passing, whole)
    assert passing.log.count("retrying in") == 2
    if name not in LASTING:
        return
    docdb.always = fault
    lasting = run(*FLAGS, "--timeout=1", "--overwrite=1", constants=constants)
    assert "(5 attempts in " in lasting.error
    assert lasting.files() == whole
    shutil.rmtree(lasting.output)
    fails(lasting, words)
    assert "no usable answer from DocDB at localhost" in lasting.error


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
    completes(run(*FLAGS, "--timeout=3"), whole)
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
        fails(result, "$DOCDB_HOST", 2)
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


# ---------------------------------------------------------------------------------------------- S3


def answer(status: int, code: str) -> Application:
    """Return an application that answers with an error as S3 words it."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        content = ERROR.format(code, f"{code} it is").encode()
        start_response(f"{status} {code}", [("Content-Length", str(len(content)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else content]

    return application


def page_of(s3: S3, environ: Any) -> bytes:
    """Return the page that S3 would answer with."""
    return b"".join(s3.moto(environ, lambda *_: None))


def cut_page(s3: S3, *, framed: bool) -> Application:
    """Return an application that sends half a page, as if it were whole or not."""

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        content = page_of(s3, environ)
        half = content[: len(content) // 2]
        start_response("200 OK", [("Content-Length", str(len(half if framed else content)))])
        yield half
        if not framed:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)

    return application


def turned_page(s3: S3) -> Application:
    """Return an application that sends a page with its keys from the last to the first."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        head, *entries = page_of(s3, environ).split(b"<Contents>")
        last, end, tail = entries[-1].partition(b"</Contents>")
        turned = [last + end, *entries[-2::-1]]
        return send(b"<Contents>".join([head, *turned]) + tail)(environ, start_response)

    return application


def first_page(s3: S3) -> Application:
    """Return an application that sends the first page, whichever is asked for."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        asked = environ["QUERY_STRING"].split("&")
        first = [each for each in asked if each.partition("=")[0] not in BEHIND]
        environ["QUERY_STRING"] = "&".join([*first, f"max-keys={s3.page}"])
        return send(page_of(s3, environ))(environ, start_response)

    return application


BEHIND = ("start-after", "continuation-token")


def send(content: bytes) -> Callable[[Any, Any], list[bytes]]:
    def application(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(content)))])
        return [content]

    return application


def drop(environ: Any, _: Any) -> list[bytes]:
    """Cut the connection instead of answering."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


def dripping(s3: S3) -> Application:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        content = page_of(s3, environ)
        start_response("200 OK", [("Content-Length", str(len(content)))])
        for n in range(40):
            yield content[n : n + 1]
            time.sleep(0.2)

    return application


S3_FAULTS: dict[str, tuple[Callable[[S3], Application], str]] = {
    "503": (lambda _: answer(503, "SlowDown"), "SlowDown"),
    "500": (lambda _: answer(500, "InternalError"), "InternalError"),
    "408": (lambda _: answer(408, "Late"), "Late"),
    "429": (lambda _: answer(429, "TooMany"), "TooMany"),
    "400": (lambda _: answer(400, "RequestTimeout"), "RequestTimeout"),
    "reset": (lambda _: drop, "cannot list"),
    "drip": (dripping, "nothing within 3 s (--timeout)"),
    "cut off": (lambda s3: cut_page(s3, framed=False), "cannot list"),
    "truncated": (lambda s3: cut_page(s3, framed=True), "cannot list"),
    "html": (
        lambda _: send(b"<html><body>log in</body></html>"),
        "what S3 answers is not a listing",
    ),
    "error with 200": (lambda _: send(ERROR.format("InternalError", "x").encode()), "cannot list"),
    "nothing": (lambda _: send(b""), "cannot list"),
    "turned": (turned_page, "what S3 answers is not in the order of the keys"),
}


S3_LASTING = ("503", "drip", "truncated", "html", "turned")


def is_listing(request: Request) -> bool:
    return "list-type" in request.query


@pytest.mark.parametrize("name", S3_FAULTS)
def test_a_fault_of_s3_that_passes_is_outlived_and_one_that_stays_ends_the_run(
    name: str, run: Run, s3: S3, whole: dict[str, bytes]
) -> None:
    fault, words = S3_FAULTS[name]
    seen: set[str] = set()

    def once(request: Request) -> Application | None:  # for each asset
        prefix = request.query.get("prefix", "")
        if not is_listing(request) or prefix in seen:
            return None
        seen.add(prefix)
        return fault(s3)

    s3.fault = once
    timeout = ["--timeout=3"] * (name == "drip")  # enough for what is answered
    completes(run(*FLAGS, *timeout), whole)
    if name not in S3_LASTING:
        return
    s3.requests.clear()
    s3.fault = lambda request: (
        fault(s3) if is_listing(request) and request.query["prefix"].startswith("07") else None
    )
    lasting = run(
        *FLAGS, *timeout, "--overwrite=1", constants={"LIST_TRIES": 2, "LONGEST_SLOW_DOWN": 0}
    )
    assert sum(request.query["prefix"] == "07/" for request in s3.listings()) == 2
    assert lasting.files() == whole
    shutil.rmtree(lasting.output)
    fails(lasting, words)
    assert f"cannot list s3://{BUCKET}/07 of asset 07" in lasting.error


@pytest.mark.usefixtures("world")
def test_s3_is_asked_a_few_times_with_pauses_that_do_not_grow_for_ever(run: Run, s3: S3) -> None:
    s3.refused["07/"] = (503, "ServiceUnavailable")
    result = run(*FLAGS, constants={"LONGEST_LIST_PAUSE": 0.01})
    assert result.status == 1
    assert sum(request.query["prefix"] == "07/" for request in s3.listings()) == 7
    pauses = re.findall("WARNING .*/07: ServiceUnavailable.*; retrying in (.*) s", result.log)
    assert pauses == ["0.0"] * 5  # the first one is nothing to worry about


UNTRUE = (
    b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>true</IsTruncated></ListBucketResult>"
)
NO_LISTINGS: dict[str, tuple[Callable[[S3], Application], str]] = {
    "html": (lambda _: send(b"<html><body>log in</body></html>"), "is not a listing"),
    "error": (lambda _: send(ERROR.format("InternalError", "x").encode()), "is not a listing"),
    "no token": (lambda _: send(UNTRUE), "is not a listing"),
    "the first page": (first_page, "is not in the order of the keys"),
}
LARGE = {  # of pages of 100 keys
    "pages": ("nwb", [f"big/{n:04}.nwb" for n in range(250)]),
    "jump": ("nwb", [*(f"big/a.zarr/{n:04}" for n in range(150)), "big/b.nwb", "big/c.nwb"]),
    "split": ("nwb", [f"big/{folder}/{n:04}.nwb" for folder in "abcdefghijkl" for n in range(50)]),
    "odd": ("nwb", [f"big//{n:04}.nwb" for n in range(150)]),
    "weighed": ("zarr", [f"big/a.zarr/{n:04}" for n in range(150)]),
}


@pytest.mark.parametrize(
    ("name", "answered"),
    [
        *((name, "html") for name in LARGE if name != "pages"),
        *(("pages", one) for one in NO_LISTINGS),
    ],
)
def test_what_is_no_listing_never_ends_one(
    name: str, answered: str, run: Run, docdb: DocDB, s3: S3
) -> None:
    extension, keys = LARGE[name]
    fault, words = NO_LISTINGS[answered]
    docdb.put(record("big"), record("small"))
    s3.put(BUCKET, [*keys, f"small/x.{extension}"])
    s3.page = 100
    constants = {"KEYS_PER_FOLDER": 25, "LIST_TRIES": 2, "LONGEST_SLOW_DOWN": 0}
    flags = ["--query={}", f"--file_extension={extension}", "--split_files=0"]
    flags += ["--balance_by=size"] if name == "weighed" else []
    whole = run(*flags, constants=constants).files()
    prefixes = {request.query["prefix"] for request in s3.listings()}
    assert (len(prefixes) > 2) == (name == "split")
    seen = 0

    def later(request: Request) -> Application | None:  # than the first request for the asset
        nonlocal seen
        if not is_listing(request) or not request.query.get("prefix", "").startswith("big"):
            return None
        seen += 1
        if seen > 20:  # which no run gets to
            return answer(403, "AccessDenied")
        return fault(s3) if seen > 1 else None

    s3.fault = later
    result = run(*flags, "--overwrite=1", constants=constants)
    assert result.files() == whole
    assert result.status == 1, result.log
    assert "cannot list s3://example-bucket/big of asset big" in result.error
    assert words in result.error
    assert seen > 1


def test_a_slow_s3_gives_the_same_output(run: Run, s3: S3, whole: dict[str, bytes]) -> None:
    draw = random.Random(1)  # noqa: S311
    s3.fault = lambda _: answer(503, "SlowDown") if draw.random() < 0.2 else None
    completes(run(*FLAGS), whole)


@pytest.mark.usefixtures("world")
def test_one_asset_that_is_refused_ends_the_run(run: Run, s3: S3) -> None:
    s3.refused["07/"] = (403, "AccessDenied")
    result = run(*FLAGS)
    fails(result, f"s3://{BUCKET}/07 of asset 07: AccessDenied")
    assert "check the AWS credentials" in result.error
    assert sum(request.query["prefix"] == "07/" for request in s3.listings()) == 1
    assert not result.output.exists()


@pytest.mark.usefixtures("world")
def test_a_bucket_that_is_not_there_ends_the_run(run: Run, docdb: DocDB) -> None:
    docdb.put(record("lost", bucket="no-such-bucket"))
    result = run(*FLAGS)
    fails(result, "there is no S3 bucket 'no-such-bucket'")
    assert not result.output.exists()


def test_a_bucket_that_answers_from_elsewhere_is_followed(
    run: Run, s3: S3, whole: dict[str, bytes]
) -> None:
    def moved(environ: Any, start_response: Any) -> list[bytes]:
        content = ERROR.format("PermanentRedirect", "elsewhere").encode()
        region = [("x-amz-bucket-region", "us-west-2"), ("Content-Length", str(len(content)))]
        start_response("301 Moved Permanently", region)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else content]

    s3.fault = lambda request: None if "/us-west-2/s3/" in request.signature else moved
    completes(run(*FLAGS, env={"AWS_DEFAULT_REGION": "eu-central-1"}), whole)


def credentials_by(command: str, folder: Path) -> dict[str, str | None]:
    """Return an environment in which this command gives the credentials."""
    config = folder / "config"
    config.write_text(f"[default]\ncredential_process = {command}\n")
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    return {**keys, "AWS_CONFIG_FILE": str(config)}


def credentials_that_end_soon(folder: Path, token: str) -> Path:
    """Return a file of credentials that are renewed each time, so soon do they end."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    given = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "SessionToken": token}
    source = folder / "credentials"
    source.write_text(json.dumps({"Version": 1, **given, "Expiration": soon}))
    return source


@pytest.mark.usefixtures("world")
def test_credentials_that_expire_in_the_middle_are_renewed(
    run: Run, s3: S3, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*(record(f"more-{n:03}") for n in range(100)))
    s3.put(BUCKET, [f"more-{n:03}/1.nwb" for n in range(100)])
    whole = run(*FLAGS, output=tmp_path / "whole").files()
    # each call gives credentials of its own
    source = credentials_that_end_soon(tmp_path, "its number is")
    env = credentials_by(f"""sh -c 'sed "s/its number is/& $$/" {source}'""", tmp_path)
    tokens: list[str] = []
    over: set[str] = set()

    def expired(request: Request) -> Application | None:
        tokens.append(request.token)
        if len(tokens) in (20, 60, 61, 62):  # what was given out so far is over
            over.update(tokens)
        return answer(400, "ExpiredToken") if request.token in over else None

    s3.fault = expired
    result = run(*FLAGS, "--max_connections=2", env=env)
    assert result.status == 0, result.log
    assert all(tokens)
    assert len(set(tokens) - over) > 1
    completes(result, whole)


@pytest.mark.usefixtures("world")
def test_credentials_that_never_come_end_the_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "records.json").write_text(json.dumps(record("a")))
    flags = (*FLAGS, "--docdb_snapshot=records.json", "--timeout=1")
    env = credentials_by("sleep 60", tmp_path)
    fails(run(*flags, env=env, constants={"TRIES": 2}), "AWS: no credentials in 2 s")


@pytest.mark.usefixtures("world")
def test_credentials_that_are_never_renewed_end_the_run(run: Run, tmp_path: Path) -> None:
    source = credentials_that_end_soon(tmp_path, "a")
    calls = [f"mkdir {tmp_path / number}" for number in ("first", "second")]
    env = credentials_by(f"sh -c '{' || '.join(calls)} || sleep 60; cat {source}'", tmp_path)
    result = run(*FLAGS, "--timeout=1", env=env, constants={"LIST_TRIES": 2})
    fails(result, "nothing within 1 s (--timeout)")


# ------------------------------------------------------------------------------------- the machine


@pytest.fixture
def many(docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(1_100)))


@pytest.fixture
def all_of_many(
    request: pytest.FixtureRequest, run: Run, tmp_path: Path, wholes: dict[str, dict[str, bytes]]
) -> dict[str, bytes]:
    """Return what a run with many records writes."""
    request.getfixturevalue("many")
    if "many" not in wholes:
        wholes["many"] = run("--query={}", output=tmp_path / "whole").files()
    return wholes["many"]


# Moments of a run that writes many tasks: a request to DocDB, by its number, which is in hand, or
# something that is about to be done to a path, as Python tells it to an audit hook.
MOMENTS: dict[str, int | tuple[str, str]] = {
    "first page": 1,
    "second page": 2,
    "third page": 3,
    "staging": ("os.mkdir", r"/\.dispatch-staging-[^/]*/old$"),
    "a worker folder": ("os.mkdir", "/new/25$"),
    "a task": ("open", "/new/25/[^/]*json$"),
    "all written": ("os.rename", r"/\.dispatch-staging-[^/]*$"),
    "none moved": ("os.rename", "/new/0$"),
    "half moved": ("os.rename", "/new/25$"),
    "all moved": ("os.rename", r"/\.dispatch-moving-[^/]*$"),
    "clearing up": ("shutil.rmtree", r"/\.dispatch-staging-[^/]*$"),
}
MOVING = ("none moved", "half moved", "all moved")
DONE = ("all written", *MOVING, "clearing up")
HOOK = """
import os, re, sys

name, pattern, number = {!r}

def signal_once(event, values):
    if event == name and pattern and re.search(pattern, str(values[0])):
        globals()["pattern"] = None
        os.kill(os.getpid(), number)

sys.addaudithook(signal_once)
"""
Struck = Callable[..., Result]


@pytest.fixture
def struck(start: Start, docdb: DocDB, tmp_path: Path) -> Struck:
    """Return a function that runs the program as a process that gets a signal at a moment."""
    output = tmp_path / "struck"
    in_hand, over = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        in_hand.set()
        over.wait(120)  # rather than answer

    def struck(moment: str, number: signal.Signals, *flags: str) -> Result:
        what = MOMENTS[moment]
        env = {}
        if isinstance(what, int):
            docdb.faults.extend([*[None] * (what - 1), hold])
        else:
            (tmp_path / "hook").mkdir()
            (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK.format((*what, int(number))))
            env = {"PYTHONPATH": str(tmp_path / "hook")}
        process = start("--query={}", "--timeout=300", *flags, output=output, env=env)
        try:
            if isinstance(what, int):
                assert in_hand.wait(60)
                process.send_signal(number)
            _, log = process.communicate(timeout=40)  # while the request is in hand
        finally:
            over.set()
            process.kill()
        return Result(process.returncode, log, "", output)

    return struck


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_leaves_all_or_nothing(
    moment: str, struck: Struck, run: Run, all_of_many: dict[str, bytes]
) -> None:
    killed = struck(moment, signal.SIGKILL)
    output = killed.output
    assert killed.status == -signal.SIGKILL, killed.log
    # the moves are no single step: a hidden folder tells that they are under way
    assert any(output.glob(".dispatch-moving-*")) == (moment in MOVING)
    there = {str(path.relative_to(output)) for path in output.glob("[0-9]*/*")}
    if moment == "half moved":
        assert there < all_of_many.keys()
    else:
        assert there == (all_of_many.keys() if moment in ("all moved", "clearing up") else set())
    again = run("--query={}", "--overwrite=1", output=output)
    assert again.status == 0, again.log
    assert again.files() == all_of_many
    assert {path.name for path in output.iterdir()} == {str(n) for n in range(50)}


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("moment", MOVING)
def test_a_kill_before_all_folders_are_replaced_leaves_the_old_ones(
    moment: str, struck: Struck, run: Run, tmp_path: Path
) -> None:
    first = run("--query={'name': {'$lt': '0003'}}", output=tmp_path / "struck")
    assert first.names() == ["0", "1", "2"]
    before = first.files()
    killed = struck(moment, signal.SIGKILL, "--overwrite=1")
    assert killed.status == -signal.SIGKILL, killed.log
    refused = run("--query={}", output=tmp_path / "struck")
    assert refused.status == 2
    assert refused.files() == before
    assert {path.name for path in refused.output.iterdir()} == {"0", "1", "2"}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_at_any_moment_ends_the_run_at_once(
    number: signal.Signals, status: int, moment: str, struck: Struck, all_of_many: dict[str, bytes]
) -> None:
    result = struck(moment, number)
    if moment in DONE:
        completes(result, all_of_many)
        assert {path.name for path in result.output.iterdir()} == {str(n) for n in range(50)}
    else:
        fails(result, f"stopped by {number.name}", status)
        assert not any(result.output.glob(".*"))


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("service", ["docdb", "s3"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_that_waits_for_a_service(
    service: str, number: signal.Signals, start: Start, docdb: DocDB, s3: S3,
    tmp_path: Path,
) -> None:  # fmt: skip
    waits = threading.Event()
    over = threading.Event()

    def wait_first(_: Any) -> None:
        waits.set()
        over.wait(120)

    def wait(environ: Any, start_response: Any) -> Any:
        wait_first(environ)
        return answer(503, "SlowDown")(environ, start_response)

    if service == "docdb":
        docdb.always = wait_first
    else:
        s3.fault = lambda request: wait if is_listing(request) else None
    output = tmp_path / "results"
    process = start(*FLAGS, "--timeout=300")
    try:
        assert waits.wait(60)
        process.send_signal(number)
        _, log = process.communicate(timeout=40)  # while the service does not answer
    finally:
        over.set()
        process.kill()
    fails(Result(process.returncode, log, "", output), number.name, 128 + number)


# What a signal does that comes just before the first thread waits: another thread takes it.
TAKEN = """
import pathlib, signal, threading, time

def take():
    while not pathlib.Path({!r}).exists():
        time.sleep(0.01)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=take, daemon=True).start()
"""


def test_a_signal_that_does_not_wake_the_first_thread_is_noticed(
    start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    waits, over = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        waits.set()
        over.wait(120)

    docdb.always = hold
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(TAKEN.format(str(tmp_path / "go")))
    process = start("--query={}", env={"PYTHONPATH": str(tmp_path / "hook")})
    try:
        assert waits.wait(60)
        (tmp_path / "go").touch()
        _, log = process.communicate(timeout=40)  # less than --timeout, at which the wait ends
    finally:
        over.set()
        process.kill()
    fails(Result(process.returncode, log, "", tmp_path / "results"), "SIGTERM", 143)


@pytest.mark.usefixtures("many")
def test_a_full_disk_leaves_what_was_there(run: Run, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        before = run('--query={"name": "0001"}', output=small)  # a mount point is a folder, too
        assert before.status == 0, before.log
        result = run("--query={}", "--overwrite=1", output=small)
        assert result.status == 1
        assert str(small) in result.error
        assert "No space left" in result.error
        assert "Traceback" not in result.log
        assert result.files() == before.files()
        assert [path.name for path in small.iterdir()] == ["0"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_link_to_a_folder_is_a_folder(run: Run, whole: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    completes(run(*FLAGS, output=tmp_path / "link"), whole)
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "broken").symlink_to("nowhere")
    fails(run(*FLAGS, output=tmp_path / "broken"), "is not a folder", 2)


def test_two_dispatches_at_once_do_not_mix(
    run: Run, all_of_many: dict[str, bytes], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        for turn in range(4):
            output = tmp_path / f"shared{turn}"
            runs = [pool.submit(run, "--query={}", output=output) for _ in range(2)]
            won, lost = sorted((each.result() for each in runs), key=lambda one: one.status)
            completes(won, all_of_many)
            assert lost.status == 2
            assert re.search("another dispatch is writing|of an earlier run", lost.error)


# --------------------------------------------------------------------------------------- the input


def test_a_csv_of_50_megabytes_is_read(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"), record("b"))
    lines = [f"x{n:06},{'y' * 1_000}" for n in range(50_000)]
    lines[17], lines[30_000] = "co-b,", "co-a,"
    path = tmp_path / "data" / "data_asset_input.csv"
    path.write_text("asset_id,comment\n" + "\n".join(lines))
    assert path.stat().st_size > 50e6
    result = run("--use_data_asset_csv=1")
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [["b"], ["a"]]
    assert "no record has this id: 49,998" in result.error


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'asset_id,note\n"co-a","two\nlines"\nco-b,x\n', 0),
        (b'asset_id\n"co-\na"\nco-b\n', 0),
        (b"asset_id\nco-a\0\nco-b\n", 0),
        (b"asset_id\n\0\0\0\nco-b\n", 0),
        ("asset_id\nco-b\n".encode("utf-16"), 0),
        (b"\0" * 1_000, 2),
        (b'asset_id\n"co-b', 2),
        (b"asset_id\n" + b'"' * 1_001, 2),
    ],
)
def test_an_odd_csv_is_read_or_refused(
    content: bytes, status: int, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    (tmp_path / "data" / "data_asset_input.csv").write_bytes(content)
    result = run("--use_data_asset_csv=1")
    assert result.status == status, result.log
    assert "Traceback" not in result.log
    if status:
        fails(result, "data_asset_input.csv", 2)
    else:
        assert [task["asset_name"] for task in result.tasks()][-1] == ["b"]


DEEP = ['{"a":' * 10_000, '{"$and": [' * 10_000, "[" * 100_000, "{1:" * 9_999]


@pytest.mark.parametrize("string", DEEP, ids=["json", "and", "list", "literal"])
def test_a_query_10000_deep_is_bad_input(string: str, run: Run, tmp_path: Path) -> None:
    fails(run(f"--query={string}"), "--query", 2)
    closed = '{"a":' * 10_000 + "1" + "}" * 10_000
    (tmp_path / "data" / "deep.json").write_text(closed)
    fails(run("--query=deep.json"), "deep.json", 2)


ODD = 'two\nlines "quoted" \\ \x1b[31m\x00\u202etfel\u2028\u200b\x7f\r'


def test_odd_names_keep_the_log_to_one_line_and_the_json_valid(run: Run, docdb: DocDB) -> None:
    docdb.put(
        {**record("x"), "name": ODD},
        {**record("y"), "name": f"{ODD}!", "location": f"s3://{BUCKET}/{ODD}"},
        {**record("z"), "name": f"{ODD}?", "location": 5},
    )
    result = run("--query={}")
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [[ODD], [f"{ODD}!"]]
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line) for line in result.log.splitlines())
    assert result.log.replace("\n", "").isprintable()


def test_locations_lead_nowhere_but_to_s3(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["../x/a.nwb", "x/b.nwb", "good/c.nwb"])
    odd = ["file:///etc", f"s3://{BUCKET}", f"s3://{BUCKET}/", "/etc", "etc", "s3:///x", 5, None,
           ["s3://a/b"], "", "https://x/y", f"s3://{BUCKET}//x"]  # fmt: skip
    docdb.put(*({**record(f"odd{n:02}"), "location": at} for n, at in enumerate(odd)))
    docdb.put({**record("up"), "location": f"s3://{BUCKET}/../x"}, record("good"))
    docdb.put({**record("number"), "_id": 5}, {**record("list"), "_id": {"a": 1}})
    result = run("--query={}", "--file_extension=nwb")
    assert result.status == 0, result.log
    assert [task["file_location"] for task in result.tasks()] == [
        [f"s3://{BUCKET}/good/c.nwb"],
        [f"s3://{BUCKET}/../x/a.nwb"],
    ]
    for n in range(len(odd)):
        assert f"skipped, location is not s3://bucket/prefix: odd{n:02}" in result.log
    assert "record id is not a string: 2" in result.error


# ------------------------------------------------------------------------------------- the secrets


ECHOES = {
    "http://me:word@host/x and (https://token@": "http://...@host/x and (https://...@",
    "proxy me:wo/rd@host:3128 refuses": "proxy ...@host:3128 refuses",
    "http://me:w@rd@host": "http://...@host",
    "https://host:443/a, s3://bucket/a:b": "https://host:443/a, s3://bucket/a:b",
    "12:30:45 me@host": "12:30:45 me@host",
    f"got {'0123456789abcdef' * 4}, not {'a' * 63}": f"got ..., not {'a' * 63}",
    "x" * 20_000_000: "x" * 500 + "...",
}


@pytest.mark.parametrize("string", ECHOES, ids=range(len(ECHOES)))
def test_passwords_and_signatures_are_taken_out_and_what_is_long_is_cut(string: str) -> None:
    assert echo(string) == ECHOES[string]


@given(st.text(ASCII, min_size=12, max_size=60), st.integers(0, 5), st.integers(0, 5))
def test_a_secret_is_taken_out_in_every_spelling(secret: str, before: int, behind: int) -> None:
    keep_secret(secret)
    inside = b64encode(f"{before * 'b'}{secret}{behind * 'c'}".encode()).decode()
    for spelling in (secret, quote(secret, safe=""), inside):
        told = echo(f"refused: <{spelling}>")
        assert spelling not in told
        assert len(told) < len("refused: <>") + 25, told


@pytest.mark.usefixtures("world")
def test_no_secret_is_ever_logged(run: Run, s3: S3) -> None:
    token = "example-session-token"  # noqa: S105
    env: dict[str, str | None] = {"AWS_SESSION_TOKEN": token, "LOG_LEVEL": "DEBUG"}
    few = {"TRIES": 2, "LIST_TRIES": 2, "LONGEST_SLOW_DOWN": 0}
    logs = [run(*FLAGS, env=env).log]
    s3.refused["07/"] = (403, "AccessDenied")
    logs.append(run(*FLAGS, "--overwrite=1", env=env).log)
    s3.refused.clear()
    s3.put(BUCKET, ["03//odd.nwb"])
    s3.fault = lambda request: drop if is_listing(request) else None
    logs.append(run(*FLAGS, "--overwrite=1", env=env, constants=few).log)
    s3.fault = None
    secretive = {"AWS_ENDPOINT_URL": f"http://me:{SECRET}@localhost:9"}
    logs.append(run(*FLAGS, "--overwrite=1", env={**env, **secretive}, constants=few).log)
    proxy = {"HTTPS_PROXY": f"http://me:{SECRET}@localhost:9"}
    logs.append(run(*FLAGS, "--overwrite=1", env={**env, **proxy}, constants=few).log)
    assert sum("Traceback" in log for log in logs) == 4
    for log in logs:
        for secret in (SECRET, token, "Signature=", "AWS4-HMAC", "Authorization"):
            assert secret not in log
