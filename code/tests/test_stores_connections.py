"""Connections that do not come about, and answers that are framed in an odd way."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from conftest import NIGHT, Result, Run
from standins import record

FLAGS = ("--query={}", "--file_extension=nwb")
NAMES = [f"{n:02}" for n in range(9)]
LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>
<Contents><Key>{}/a.nwb</Key><Size>1</Size></Contents></ListBucketResult>"""
Handler = Callable[[socket.socket], None]
ALERT_80 = bytes([21, 3, 3, 0, 2, 2, 80])  # a record of TLS: fatal, internal error


class Line:
    """A server on loopback that does what a test tells it with each connection."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Hand each connection to a thread of its own."""
        with suppress(OSError):
            while True:
                line, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self.serve, args=(line,), daemon=True).start()

    def serve(self, line: socket.socket) -> None:
        """Do what is to be done with a connection, and close it."""
        with suppress(OSError), line:
            self.handle(line)


@pytest.fixture
def open_line() -> Iterator[Callable[[Handler], Line]]:
    """Return a function that starts a server, which is closed at the end."""
    lines: list[Line] = []

    def start(handle: Handler) -> Line:
        lines.append(Line(handle))
        return lines[-1]

    yield start
    for line in lines:
        line.listener.close()


OpenLine = Callable[[Handler], Line]


def requests_on(line: socket.socket) -> Iterator[str]:
    """Yield the head of each request that comes on a connection."""
    said = b""
    while True:
        while b"\r\n\r\n" not in said:
            piece = line.recv(65_536)
            if not piece:
                return
            said += piece
        head, _, said = said.partition(b"\r\n\r\n")
        yield head.decode()


def page_for(head: str) -> bytes:
    """Return the listing that a request asks for."""
    asked = re.search(r"prefix=(\w+)", head)
    return LISTING.format(asked[1] if asked else "").encode()


def answer_all(line: socket.socket) -> None:
    """Answer each request with its listing."""
    for head in requests_on(line):
        body = page_for(head)
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def over_tls(context: ssl.SSLContext, handle: Handler = answer_all) -> Handler:
    """Return what speaks TLS, and then does something else."""

    def handle_secretly(line: socket.socket) -> None:
        with suppress(ssl.SSLError):
            handle(context.wrap_socket(line, server_side=True))

    return handle_secretly


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """Return who issues certificates, and the file of its own."""
    made = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(str(file))
    return made, file


def context_for(authority: trustme.CA, host: str = "localhost") -> ssl.SSLContext:
    """Return what a server that is called so speaks TLS with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


@pytest.fixture
def list_at(run: Run, tmp_path: Path, authority: tuple[trustme.CA, Path]) -> Callable[..., Result]:
    """Return a function that dispatches nine assets of a server."""
    records = tmp_path / "records.json"
    records.write_text(json.dumps(list(map(record, NAMES))))

    def dispatch(
        url: str, *flags: str, constants: dict[str, float] | None = None, **env: str | None
    ) -> Result:
        env = {"AWS_CA_BUNDLE": str(authority[1]), "AWS_ENDPOINT_URL": url, **env}
        return run(*FLAGS, f"--records={records}", *flags, env=env, constants=constants)

    return dispatch


ListAt = Callable[..., Result]


def lists_all(result: Result) -> None:
    assert result.status == 0, result.log
    assert len(result.tasks()) == len(NAMES)


def ends(result: Result, words: str) -> None:
    assert result.status == 1, result.log
    assert words in result.error, result.log
    assert not result.names()


# ---------------------------------------------------------------------------------------------- TLS


def speak_plainly(line: socket.socket) -> None:
    """Answer without TLS."""
    line.recv(65_536)
    line.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("server", "timeout", "words"),
    [
        ("plain", 60, ": wrong version number"),
        ("TLSv1_1", 60, ""),  # which boto3 refuses, too
        ("elsewhere", 1, ": its certificate does not fit"),
        ("elsewhere", 60, ": its certificate does not fit"),
    ],
)
def test_a_server_without_tls_that_fits_is_told_at_once_whatever_the_timeout(
    server: str, timeout: int, words: str, list_at: ListAt, open_line: OpenLine,
    authority: tuple[trustme.CA, Path],
) -> None:  # fmt: skip
    context = context_for(authority[0], "elsewhere" if server == "elsewhere" else "localhost")
    if server == "TLSv1_1":
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    line = open_line(speak_plainly if server == "plain" else over_tls(context))
    started = time.monotonic()
    result = list_at(f"https://localhost:{line.port}", f"--timeout={timeout}", LOG_LEVEL="DEBUG")
    ends(result, f"no TLS with localhost:{line.port}{words}")
    assert "retrying" not in result.log
    if server == "elsewhere":
        assert time.monotonic() - started < 9  # s2n itself is silent for 10 to 30 seconds


# ------------------------------------------------------------------------------------------ proxies


def proxy(statuses: Callable[[int], int], to: int) -> Handler:
    """Return a proxy that answers its requests to connect so, and connects to a port."""
    turns: list[int] = []

    def handle(line: socket.socket) -> None:
        next(requests_on(line))
        turns.append(1)
        status = statuses(len(turns))
        line.sendall(b"HTTP/1.1 %d So\r\nContent-Length: 0\r\n\r\n" % status)
        if status != 200:
            return
        with socket.create_connection(("127.0.0.1", to)) as there:
            back = threading.Thread(target=pass_on, args=(there, line), daemon=True)
            back.start()
            pass_on(line, there)
            back.join()

    return handle


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Send what comes from one socket to another one, until it ends."""
    with suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def test_proxies_and_handshakes_that_fail_now_and_then_are_tried_again(
    list_at: ListAt, open_line: OpenLine, authority: tuple[trustme.CA, Path]
) -> None:
    context, turns = context_for(authority[0]), []

    def sometimes(line: socket.socket) -> None:
        turns.append(line)
        if len(turns) % 3 == 1:
            line.recv(65_536)
            line.sendall(ALERT_80)
            return
        over_tls(context)(line)

    server = open_line(sometimes)
    between = open_line(proxy(lambda turn: {1: 502, 4: 503}.get(turn % 6, 200), server.port))
    result = list_at(
        f"https://localhost:{server.port}",
        "--max_connections=4",
        HTTPS_PROXY=f"http://127.0.0.1:{between.port}",
        NO_PROXY="127.0.0.1",
    )
    lists_all(result)
    assert len(turns) > 4
    assert between.connections > len(turns) + 1  # with both words of the proxy


@pytest.mark.parametrize(("status", "many"), [(407, False), (403, False), (502, True)])
def test_a_proxy_that_never_connects_ends_the_run(
    status: int, many: bool, list_at: ListAt, open_line: OpenLine
) -> None:
    between = open_line(proxy(lambda _: status, 9))
    result = list_at(
        "https://localhost:9",
        constants={"LIST_TRIES": 2},
        LOG_LEVEL="DEBUG",
        HTTPS_PROXY=f"http://me:secret@127.0.0.1:{between.port}",
    )
    ends(result, f"the proxy http://127.0.0.1:{between.port} refuses to connect: {status} ")
    assert ("retrying" in result.log) == many
    assert "secret" not in result.log


# ------------------------------------------------------------------------------------------ answers

FRAMES = [  # of the assets in turn
    b"HTTP/1.0 200 OK\r\nContent-Type: application/xml\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Who: Andr\xe9\r\n\r\n",
]


@pytest.mark.parametrize("is_tls", [False, True])
def test_answers_that_end_by_closing_or_have_an_odd_header_are_read(
    is_tls: bool, list_at: ListAt, open_line: OpenLine, authority: tuple[trustme.CA, Path]
) -> None:
    def answer_and_close(line: socket.socket) -> None:
        head = next(requests_on(line))
        number = int(re.findall(r"prefix=(\w+)", head)[0])
        line.sendall(FRAMES[number % len(FRAMES)] + page_for(head))
        line.close()

    handle = over_tls(context_for(authority[0]), answer_and_close) if is_tls else answer_and_close
    line = open_line(handle)
    lists_all(list_at(f"http{'s' * is_tls}://localhost:{line.port}"))


def test_an_error_that_ends_by_closing_says_what_s3_says(
    list_at: ListAt, open_line: OpenLine
) -> None:
    def refuse(line: socket.socket) -> None:
        next(requests_on(line))
        error = b"<Error><Code>AccessDenied</Code><Message>not yours</Message></Error>"
        line.sendall(b"HTTP/1.0 403 Forbidden\r\n\r\n" + error)
        line.close()

    ends(list_at(f"http://localhost:{open_line(refuse).port}"), "AccessDenied: not yours")


def flood(head: bytes, piece: bytes) -> Handler:
    """Return what answers a request with something, and then something else without end."""

    def handle(line: socket.socket) -> None:
        next(requests_on(line))
        line.sendall(head)
        while True:
            line.sendall(piece * 2_000)

    return handle


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 100 + b"\r\n"),
    "a status line": (b"HTTP/1.1 200 ", b"a" * 100),
    "an extension of a chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        b"a" * 100,
    ),
    "trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        b"X-A: " + b"a" * 100 + b"\r\n",
    ),
    "a body": (b"HTTP/1.0 200 OK\r\n\r\n", b"a" * 100),
}


@pytest.mark.parametrize("name", FLOODS)
def test_an_answer_without_end_is_given_up(name: str, list_at: ListAt, open_line: OpenLine) -> None:
    line = open_line(flood(*FLOODS[name]))
    started = time.monotonic()
    aside, most = (256, 900) if NIGHT else (8, 200)  # MB; boundless, it was 2,000 to 4,000
    constants = {"ASIDE": aside * 1_000_000, "LIST_TRIES": 1}
    url = f"http://localhost:{line.port}"
    result = list_at(url, "--max_connections=1", constants=constants)
    ends(result, "an answer without end" if name != "a body" else "more than 16,000,000 bytes")
    assert time.monotonic() - started < 60
    assert result.megabytes < most


# ------------------------------------------------------------------------------------- certificates


def trusted(pem: str) -> str:
    """Return a certificate as OpenSSL writes one that says what it is trusted for."""
    content = ssl.PEM_cert_to_DER_cert(pem)
    uses = bytes.fromhex("300c300a06082b06010505070301")  # servers on the web
    body = b64encode(content + uses).decode()
    lines = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
    return f"-----BEGIN TRUSTED CERTIFICATE-----\n{lines}\n-----END TRUSTED CERTIFICATE-----\n"


def test_certificates_that_say_what_they_are_trusted_for_are_read(
    list_at: ListAt, open_line: OpenLine, authority: tuple[trustme.CA, Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    other = trustme.CA().cert_pem.bytes().decode()
    bundle.write_text(f"# a comment\n{other}{trusted(authority[1].read_text())}")
    line = open_line(over_tls(context_for(authority[0])))
    url = f"https://localhost:{line.port}"
    lists_all(list_at(url, AWS_CA_BUNDLE=str(bundle)))


def test_a_bundle_without_certificates_matters_where_tls_is_spoken(
    list_at: ListAt, open_line: OpenLine, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    line = open_line(answer_all)
    words = "there is no file of certificates"
    for content in (None, "", "nothing of the kind\n"):
        if content is not None:
            bundle.write_text(content)
            words = "there are no certificates in the file"
        url = f"https://localhost:{line.port}"
        ends(list_at(url, AWS_CA_BUNDLE=str(bundle)), f"{words} {bundle}")
    lists_all(list_at(f"http://localhost:{line.port}", AWS_CA_BUNDLE=str(bundle)))
