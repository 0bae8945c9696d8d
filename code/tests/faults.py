"""Faults of services, and what a run without any writes."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from conftest import Result, Run
from standins import BUCKET, ERROR, S3, DocDB, Fault, Request, record

Application = Callable[..., Any]
FLAGS = ("--query={}", "--file_extension=nwb")
NAMES = [f"{n:02}" for n in range(12)]


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, NAMES))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in NAMES for n in range(3)])


WHOLES: dict[str, dict[str, bytes]] = {}  # what runs write, by their worlds: always the same


@pytest.fixture
def whole(world: None, run: Run, tmp_path: Path) -> dict[str, bytes]:  # noqa: ARG001
    """Return what a run without faults writes."""
    if "world" not in WHOLES:
        result = run(*FLAGS, output=tmp_path / "whole")
        assert result.status == 0, result.log
        WHOLES["world"] = result.files()
    return WHOLES["world"]


def completes(result: Result, whole: dict[str, bytes]) -> None:
    assert result.status == 0, result.log
    assert result.files() == whole
    assert "Traceback" not in result.log
    assert "INFO dispatched to" in result.error


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


UNANSWERED = ("drip", "hang")


def send(content: bytes, status: str = "200 OK") -> Application:
    """Return an application that answers with this."""

    def application(_: Any, start_response: Any) -> list[bytes]:
        start_response(status, [("Content-Length", str(len(content)))])
        return [content]

    return application


def page_of(keys: Iterable[str], token: str, prefix: str) -> bytes:
    """Return a page of objects of a byte each; where it has a token, there are more."""
    contents = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return (
        f"<ListBucketResult><Prefix>{prefix}</Prefix>{contents}{more}"
        f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated></ListBucketResult>"
    ).encode()


def answer(status: int, code: str, more: dict[str, str] | None = None) -> Application:
    """Return an application that answers with an error as S3 words it, and more headers."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        content = ERROR.format(code, f"{code} it is").encode()
        start_response(
            f"{status} {code}", [("Content-Length", str(len(content))), *(more or {}).items()]
        )
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else content]

    return application


def drop(environ: Any, _: Any) -> list[bytes]:
    """Cut the connection instead of answering."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


class Held:
    """A fault of DocDB or S3: what is asked is in hand, and not answered before it is let go."""

    def __init__(self) -> None:
        self.asked, self.over = threading.Event(), threading.Event()

    def __call__(self, _: Any, start_response: Any = None) -> Any:
        """Be asked, by DocDB's handler, or as an application of S3's."""
        self.asked.set()
        self.over.wait(120)
        if start_response:
            start_response("503 SlowDown", [])
        return []


def is_listing(request: Request) -> bool:
    return "list-type" in request.query


@pytest.fixture
def many(docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(1_100)))


@pytest.fixture
def all_of_many(many: None, run: Run, tmp_path: Path) -> dict[str, bytes]:  # noqa: ARG001
    """Return what a run with many records writes."""
    if "many" not in WHOLES:
        WHOLES["many"] = run("--query={}", output=tmp_path / "whole").files()
    return WHOLES["many"]
