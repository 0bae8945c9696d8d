"""Whatever S3 does: outlived if it passes, one line if it stays, and all of the output or none."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

import pytest

from conftest import Run, fails
from faults import (  # noqa: F401  (a fixture)
    FLAGS,
    NAMES,
    Application,
    answer,
    completes,
    drop,
    is_listing,
    send,
    whole,
    world,
)
from standins import BUCKET, ERROR, S3, DocDB, Request, record

Fault = Callable[..., Any]  # an application that is also given S3
Spoil = Callable[[bytes], bytes]


def page_of(s3: S3, environ: Any) -> bytes:
    """Return the page that S3 would answer with."""
    return b"".join(s3.moto(environ, lambda *_: None))


def spoilt(spoil: Spoil) -> Fault:
    """Return what answers with something else made of a page."""

    def fault(s3: S3, environ: Any, start_response: Any) -> Any:
        return send(spoil(page_of(s3, environ)))(environ, start_response)

    return fault


def says(content: bytes) -> Fault:
    """Return what answers with this."""
    return spoilt(lambda _: content)


def refuses(status: int, code: str) -> Fault:
    """Return what answers with an error as S3 words it."""
    return lambda _, *request: answer(status, code)(*request)


def cut_off(s3: S3, environ: Any, start_response: Any) -> Iterator[bytes]:
    """Send half a page."""
    content = page_of(s3, environ)
    start_response("200 OK", [("Content-Length", str(len(content)))])
    yield content[: len(content) // 2]
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def drip(s3: S3, environ: Any, start_response: Any) -> Iterator[bytes]:
    """Send a byte of a page now and then."""
    content = page_of(s3, environ)
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
    return send(page_of(s3, environ))(environ, start_response)


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
