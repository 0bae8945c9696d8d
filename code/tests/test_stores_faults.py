"""Whatever S3 does: outlived if it passes, one line if it stays, and all of the output or none."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import NIGHT, Result, Run, fails, fuzz
from faults import (  # noqa: F401  (a fixture)
    FLAGS,
    NAMES,
    Application,
    answer,
    completes,
    drop,
    is_listing,
    page_of,
    send,
    whole,
    world,
)
from finding import Find, find  # noqa: F401  (a fixture)
from standins import BUCKET, ERROR, KEY_ID, S3, DocDB, Request, record

Fault = Callable[..., Any]  # an application that is also given S3
Spoil = Callable[[bytes], bytes]


def true_page(s3: S3, environ: Any) -> bytes:
    """Return the page that S3 would answer with."""
    return b"".join(s3.moto(environ, lambda *_: None))


def spoilt(spoil: Spoil) -> Fault:
    """Return what answers with something else made of a page."""

    def fault(s3: S3, environ: Any, start_response: Any) -> Any:
        return send(spoil(true_page(s3, environ)))(environ, start_response)

    return fault


def says(content: bytes) -> Fault:
    """Return what answers with this."""
    return spoilt(lambda _: content)


def refuses(status: int, code: str) -> Fault:
    """Return what answers with an error as S3 words it."""
    return lambda _, *request: answer(status, code)(*request)


def cut_off(s3: S3, environ: Any, start_response: Any) -> Iterator[bytes]:
    """Send half a page."""
    content = true_page(s3, environ)
    start_response("200 OK", [("Content-Length", str(len(content)))])
    yield content[: len(content) // 2]
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def drip(s3: S3, environ: Any, start_response: Any) -> Iterator[bytes]:
    """Send a byte of a page now and then."""
    content = true_page(s3, environ)
    start_response("200 OK", [("Content-Length", str(len(content)))])
    for n in range(40):
        yield content[n : n + 1]
        time.sleep(0.2)


def turn(page: bytes) -> bytes:
    """Return a page with its keys from the last to the first."""
    head, *entries = page.split(b"<Contents>")
    last, end, tail = entries[-1].partition(b"</Contents>")
    return b"<Contents>".join([head, last + end, *entries[-2::-1]]) + tail


def begin_anew(s3: S3, environ: Any, start_response: Any) -> Any:
    """Send the first page, whichever is asked for."""
    asked = environ["QUERY_STRING"].split("&")
    first = [each for each in asked if not each.startswith(("start-after", "continuation-token"))]
    environ["QUERY_STRING"] = "&".join([*first, f"max-keys={s3.page}"])
    return send(true_page(s3, environ))(environ, start_response)


LOG_IN = says(b"<html><body>log in</body></html>")
ERROR_WITH_200 = says(ERROR.format("InternalError", "x").encode())
S3_FAULTS: dict[str, Fault] = {
    "503": refuses(503, "SlowDown"),
    "500": refuses(500, "InternalError"),
    "408": refuses(408, "Late"),
    "429": refuses(429, "TooMany"),
    "400": refuses(400, "RequestTimeout"),
    "reset": lambda _, *request: drop(*request),
    "drip": drip,
    "cut off": cut_off,
    "truncated": spoilt(lambda page: page[: len(page) // 2]),
    "html": LOG_IN,
    "error with 200": ERROR_WITH_200,
    "nothing": says(b""),
    "turned": spoilt(turn),  # which is no fault where it stays: another order
}
S3_LASTING = {
    "503": "SlowDown",
    "drip": "nothing within 2 s (--timeout)",
    "truncated": "what S3 answers is not a listing",
    "html": "what S3 answers is not a listing",
}


def test_a_fault_of_s3_that_passes_is_outlived_and_one_that_stays_ends_the_run(
    run: Run, s3: S3, whole: dict[str, bytes]
) -> None:
    faults: dict[str, list[Fault]] = {}  # of each asset, one after the other
    for name, fault in zip(cycle(NAMES), S3_FAULTS.values(), strict=False):
        faults.setdefault(f"{name}/", []).append(fault)

    def pass_by(request: Request) -> Application | None:
        left = faults.get(request.query.get("prefix", "")) if is_listing(request) else None
        return partial(left.pop(0), s3) if left else None

    s3.fault = pass_by
    completes(run(*FLAGS, "--timeout=2"), whole)
    assert not any(faults.values())
    for name, words in S3_LASTING.items():
        stays = partial(S3_FAULTS[name], s3)
        s3.requests.clear()
        s3.fault = lambda request, stays=stays: stays if is_of_one(request) else None
        tries = 1 if name == "drip" else 2
        constants = {"LIST_TRIES": tries, "LONGEST_SLOW_DOWN": 0}
        lasting = run(*FLAGS, "--timeout=2", "--overwrite=1", constants=constants)
        assert sum(map(is_of_one, s3.listings())) == tries
        assert lasting.files() == whole  # of before: nothing else is written
        fails(replace(lasting, output=lasting.output / "none"), words)
        assert f"cannot list s3://{BUCKET}/07 of asset 07" in lasting.error


def is_of_one(request: Request) -> bool:
    """Return whether a request lists one of the assets, the eighth."""
    return request.query.get("prefix") == "07/"


@pytest.mark.usefixtures("world")
def test_s3_is_asked_a_few_times_with_pauses_that_do_not_grow_for_ever(run: Run, s3: S3) -> None:
    s3.refused["07/"] = (503, "ServiceUnavailable")
    result = run(*FLAGS, constants={"LONGEST_LIST_PAUSE": 0.01})
    assert result.status == 1
    assert sum(map(is_of_one, s3.listings())) == 7
    pauses = re.findall("WARNING .*/07: ServiceUnavailable.*; retrying in (.*) s", result.log)
    assert pauses == ["0.0"] * 5  # the first one is nothing to worry about


UNTRUE = (
    b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>true</IsTruncated></ListBucketResult>"
)
NO_LISTINGS: list[tuple[Fault, str]] = [
    (LOG_IN, "is not a listing"),
    (ERROR_WITH_200, "is not a listing"),
    (says(UNTRUE), "is not a listing"),
    (begin_anew, "a page that comes again"),
]

LARGE = {  # of pages of 20 keys
    "pages": ("nwb", [f"big/{n:04}.nwb" for n in range(50)]),
    "jump": ("nwb", [*(f"big/a.zarr/{n:04}" for n in range(30)), "big/b.nwb", "big/c.nwb"]),
    "split": ("nwb", [f"big/{folder}/{n:04}.nwb" for folder in "abcdefghijkl" for n in range(10)]),
    "odd": ("nwb", [f"big//{n:04}.nwb" for n in range(30)]),
    "weighed": ("zarr", [f"big/a.zarr/{n:04}" for n in range(30)]),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_no_listing_never_ends_one(name: str, run: Run, docdb: DocDB, s3: S3) -> None:
    extension, keys = LARGE[name]
    docdb.put(record("big"), record("small"))
    s3.put(BUCKET, [*keys, f"small/x.{extension}"])
    s3.page = 20
    constants = {"KEYS_PER_FOLDER": 5, "LIST_TRIES": 2, "LONGEST_SLOW_DOWN": 0}
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
        return fault_of_s3 if seen > 1 else None

    s3.fault = later
    for fault, words in NO_LISTINGS if name == "pages" else NO_LISTINGS[:1]:
        seen = 0
        fault_of_s3 = partial(fault, s3)
        result = run(*flags, "--overwrite=1", constants=constants)
        assert result.files() == whole
        assert result.status == 1, result.log
        assert "cannot list s3://example-bucket/big of asset big" in result.error
        assert words in result.error
        assert seen > 1


@pytest.mark.usefixtures("world")
def test_a_bucket_that_is_not_there_ends_the_run(run: Run, docdb: DocDB) -> None:
    docdb.put(record("lost", bucket="no-such-bucket"))
    result = run(*FLAGS)
    fails(result, "there is no S3 bucket 'no-such-bucket'")
    assert not result.output.exists()


# -------------------------------------------------------------------------------- directory buckets

EXPRESS = "lab--usw2-az1--x-s3"
ANEW = (*FLAGS, "--overwrite=1")
SESSION = """<CreateSessionResult><Credentials><SessionToken>session-{number}</SessionToken>
<SecretAccessKey>secret-{number}</SecretAccessKey><AccessKeyId>id-{number}</AccessKeyId>
<Expiration>{end}</Expiration></Credentials></CreateSessionResult>"""


class Directory:
    """A directory bucket: its keys come in no order, to whoever has keys of a session."""

    def __init__(self, keys: list[str], page: int = 1_000) -> None:
        self.keys, self.page = keys, page
        self.sessions = 0  # that have begun
        self.over = 0  # of them, the first ones
        self.seconds = 300.0  # until a session ends

    def answer(self, request: Request) -> Application | None:
        """Return what answers a request for the bucket, None for another one."""
        if request.path.strip("/") != EXPRESS:
            return None
        assert "/us-west-2/s3express/aws4_request" in request.signature, request.signature
        if "session" in request.query:
            assert f"Credential={KEY_ID}/" in request.signature
            return self.begin_session()
        number = re.search("Credential=id-([0-9]+)/", request.signature)
        if not number or int(number[1]) < self.over:
            return answer(400, "ExpiredToken")
        for name in ("start-after", "delimiter"):
            assert name not in request.query, request.query
        return send(self.list(request.query))

    def begin_session(self) -> Application:
        """Return what answers with keys of one more session."""
        end = datetime.now(UTC) + timedelta(seconds=self.seconds)
        words = SESSION.format(number=self.sessions, end=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.sessions += 1
        return send(words.encode())

    def list(self, query: dict[str, str]) -> bytes:
        """Return a page."""
        prefix = query["prefix"]
        keys = [key for key in self.keys if key.startswith(prefix)]
        first = int(query.get("continuation-token", "0"))
        behind = first + self.page
        token = str(behind) if behind < len(keys) else ""
        return page_of(keys[first:behind], token, prefix)


def files_of(result: Result) -> list[str]:
    """Return the files that are dispatched."""
    return sorted(file for task in result.tasks() for file in task["file_location"])


def test_assets_in_directory_buckets_and_others_are_all_found(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    names = [f"{number:02}" for number in range(30)]
    s3.put(BUCKET, [f"o{name}/x.nwb" for name in names])
    directory = Directory([f"d{name}/x.nwb" for name in names])
    s3.fault = directory.answer
    docdb.put(*(record(f"d{name}", EXPRESS) for name in names))
    docdb.put(*(record(f"o{name}") for name in names))
    expected = [f"s3://{EXPRESS}/d{name}/x.nwb" for name in names]
    expected += [f"s3://{BUCKET}/o{name}/x.nwb" for name in names]
    for turn in range(3 if NIGHT else 1):
        result = run(*ANEW)
        assert result.status == 0, result.log
        assert files_of(result) == sorted(expected)
        assert directory.sessions == turn + 1


def test_a_directory_bucket_is_listed_by_its_tokens_whatever_its_order(find: Find, s3: S3) -> None:
    def check(keys: list[str], page: int) -> None:
        s3.fault = Directory(keys, page).answer
        expected = set()
        for key in keys:
            found = re.fullmatch(r"a/((?:(?!\.zarr/|\.nwb/).)*?\.nwb)(/.*)?", key)
            if found:
                expected.add(found[1])
        assert set(find("a", ".nwb", bucket=EXPRESS)) == expected

    name = st.sampled_from(["b", "c", "d.nwb", "e.zarr", "f.nwb"])
    path = st.lists(name, min_size=1, max_size=3).map("/".join)
    keys = st.lists(path.map("a/{}".format), unique=True, max_size=12)
    fuzz(check, 0.03, keys=keys, page=st.integers(1, 5))


def test_a_session_that_ends_is_followed_by_another_one(run: Run, docdb: DocDB, s3: S3) -> None:
    names = [f"{number:02}" for number in range(30)]
    docdb.put(*(record(name, EXPRESS) for name in names))
    directory = Directory([f"{name}/x.nwb" for name in names])
    number = 0

    def end_some(request: Request) -> Application | None:
        nonlocal number
        number += "prefix" in request.query
        if number in (10, 20):
            directory.over = directory.sessions  # sooner than was said
        return directory.answer(request)

    s3.fault = end_some
    result = run(*ANEW, "--max_connections=2")
    assert result.status == 0, result.log
    assert len(files_of(result)) == 30
    assert directory.sessions == 3
    directory.sessions = directory.over = 0
    directory.seconds = 5
    number = 100
    result = run(*ANEW, "--max_connections=2")
    assert len(files_of(result)) == 30
    assert 3 <= directory.sessions <= 30


def drip_blanks(_: Any, start_response: Any) -> Iterator[bytes]:
    """Send a byte now and then, so that no socket ever times out."""
    start_response("200 OK", [("Content-Length", "1000")])
    for _ in range(60):
        yield b" "
        time.sleep(0.2)


def endless(_: Any, start_response: Any) -> Iterator[bytes]:
    """Begin an answer, and go on for ever."""
    start_response("200 OK", [])
    while True:
        yield b" " * 1_000_000


NO_ANSWERS: dict[str, tuple[Application, str]] = {
    "drip": (drip_blanks, "nothing within 1 s (--timeout)"),
    "endless": (endless, "an answer of more than 16,000,000 bytes"),
    "html": (send(b"<html>log in</html>"), "not a "),
    "nothing": (send(b""), "not a "),
    "refused": (answer(403, "AccessDenied"), "AccessDenied"),
    "500": (answer(500, "InternalError"), "InternalError"),
    "no bucket": (answer(404, "NoSuchBucket"), f"no S3 bucket '{EXPRESS}'"),
}


# Pages are read as those of other buckets, so that these faults of a session's say all by day.
OF_PAGES = list(NO_ANSWERS) if NIGHT else ["drip", "refused", "no bucket"]


@pytest.mark.parametrize(
    ("step", "name"),
    [*(("session", name) for name in NO_ANSWERS), *(("list-type", name) for name in OF_PAGES)],
)
def test_what_is_no_answer_of_a_directory_bucket_ends_the_run_in_time(
    step: str, name: str, run: Run, docdb: DocDB, s3: S3
) -> None:
    fault, words = NO_ANSWERS[name]
    docdb.put(record("a", EXPRESS))
    directory = Directory(["a/x.nwb"])
    s3.fault = lambda request: fault if step in request.query else directory.answer(request)
    started = time.monotonic()
    result = run(*ANEW, "--timeout=1", constants={"LIST_TRIES": 1})
    assert time.monotonic() - started < 12
    assert result.status == 1, result.log
    assert words in result.error
    assert result.files() == {}
    assert result.megabytes < 150


# -------------------------------------------------------------------------------- buckets elsewhere


def test_a_redirect_without_a_region_is_not_waited_for_without_an_end(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    docdb.put(record("a", "far"))

    s3.fault = lambda request: (
        drip_headers if request.method == "HEAD" else answer(301, "PermanentRedirect")
    )
    started = time.monotonic()
    result = run(*ANEW, "--timeout=1", constants={"LIST_TRIES": 1})
    assert time.monotonic() - started < 12
    assert result.status == 1
    assert "cannot list s3://far/a of asset a: nothing within 1 s (--timeout)" in result.error


def drip_headers(environ: Any, _: Any) -> Any:
    """Begin an answer whose headers do not end."""
    connection = environ["werkzeug.socket"]
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(60):
        connection.sendall(b"x")
        time.sleep(0.2)
    raise ConnectionResetError


def test_a_bucket_that_is_elsewhere_is_looked_for_once_for_all(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    names = [f"{number:03}" for number in range(40)]
    s3.put(BUCKET, [f"{name}/x.nwb" for name in names], region="eu-north-1")
    docdb.put(*map(record, names))
    constants = {"FIRST_CONNECTIONS": 16}
    result = run(*ANEW, constants=constants)
    assert result.status == 0, result.log
    assert len(files_of(result)) == 40
    elsewhere = [one for one in s3.listings() if "/us-west-2/s3/" in one.signature]
    assert len(elsewhere) <= 16  # those that were sent at first
    assert len(s3.listings()) == 40 + len(elsewhere)
    assert not [one for one in s3.requests if one.method == "HEAD"]
