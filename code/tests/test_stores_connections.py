"""Connections that do not come about, and answers that are framed in an odd way."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, cycle, repeat
from pathlib import Path
from typing import Any

import pytest
import trustme

from conftest import NIGHT, Result, Run
from dispatch.stores.news import News
from dispatch.stores.once import Once
from standins import record

NAMES = [f"{n:02}" for n in range(9)]
LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>
<Contents><Key>{}/a.nwb</Key><Size>1</Size></Contents></ListBucketResult>"""
Handler = Callable[[socket.socket], Any]
ALERT_80 = bytes([21, 3, 3, 0, 2, 2, 80])  # a record of TLS: fatal, internal error


class Net:
    """Servers on loopback, an authority that they are trusted by, and assets to ask them for."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.listeners: list[socket.socket] = []

    def open(self, handle: Handler) -> int:
        """Start a server that does this with each connection; return its port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.listeners.append(listener)
        threading.Thread(target=self.accept, args=(listener, handle), daemon=True).start()
        return int(listener.getsockname()[1])

    def accept(self, listener: socket.socket, handle: Handler) -> None:
        """Hand each connection to a thread of its own."""

        def serve(line: socket.socket) -> None:
            with suppress(OSError), line:
                handle(line)

        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                threading.Thread(target=serve, args=(line,), daemon=True).start()

    def context(self, host: str = "localhost") -> ssl.SSLContext:
        """Return what a server that is called so speaks TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(host).configure_cert(context)
        return context

    def list_at(
        self, url: str, *flags: str, constants: dict[str, float] | None = None, **env: str
    ) -> Result:
        """Dispatch some assets of a server."""
        (self.folder / "records.json").write_text(json.dumps(list(map(record, NAMES))))
        flags = ("--query={}", "--file_extension=nwb", "--records=records.json", *flags)
        env = {"AWS_CA_BUNDLE": str(self.folder / "ca.pem"), "AWS_ENDPOINT_URL": url, **env}
        return self.run(*flags, env=env, constants=constants)


@pytest.fixture
def net(run: Run, tmp_path: Path) -> Iterator[Net]:
    net = Net(run, tmp_path)
    yield net
    for listener in net.listeners:
        listener.close()


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


def reply(line: socket.socket, head: str) -> None:
    """Answer a request with its listing."""
    body = page_for(head)
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def answer_all(line: socket.socket) -> None:
    """Answer each request with its listing."""
    for head in requests_on(line):
        reply(line, head)


FRAMES = [  # of the assets in turn
    b"HTTP/1.0 200 OK\r\nContent-Type: application/xml\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Who: Andr\xe9\r\n\r\n",
]


def answer_and_close(line: socket.socket) -> None:
    """Answer one request, in a frame that AWS's runtime does not read, which closing ends."""
    head = next(requests_on(line))
    number = int(re.findall(r"prefix=(\w+)", head)[0])
    line.sendall(FRAMES[number % len(FRAMES)] + page_for(head))
    line.close()


def over_tls(context: ssl.SSLContext, handle: Handler = answer_all) -> Handler:
    """Return what speaks TLS, and then does something else."""

    def handle_secretly(line: socket.socket) -> None:
        with suppress(ssl.SSLError):
            handle(context.wrap_socket(line, server_side=True))

    return handle_secretly


def says(answer: bytes) -> Handler:
    """Return what says this to the first that comes, and hangs up."""

    def handle(line: socket.socket) -> None:
        line.recv(65_536)
        line.sendall(answer)

    return handle


def lists_all(result: Result) -> None:
    assert result.status == 0, result.log
    assert len(result.tasks()) == len(NAMES)


def ends(result: Result, words: str) -> None:
    assert result.status == 1, result.log
    assert words in result.error, result.log
    assert not result.names()


# ---------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize(
    ("server", "timeout", "words"),
    [
        ("plain", 60, ": wrong version number"),
        ("TLSv1_1", 60, ""),  # which boto3 refuses, too
        ("elsewhere", 1, ": its certificate does not fit"),
        ("elsewhere", 60, ": its certificate does not fit"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a_server_without_tls_that_fits_is_told_at_once_whatever_the_timeout(
    server: str, timeout: int, words: str, net: Net
) -> None:
    context = net.context("elsewhere" if server == "elsewhere" else "localhost")
    if server == "TLSv1_1":
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    plain = says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    port = net.open(plain if server == "plain" else over_tls(context))
    started = time.monotonic()
    result = net.list_at(f"https://localhost:{port}", f"--timeout={timeout}", LOG_LEVEL="DEBUG")
    ends(result, f"no TLS with localhost:{port}{words}")
    assert "retrying" not in result.log
    if server == "elsewhere":
        assert time.monotonic() - started < 9  # s2n itself is silent for 10 to 30 seconds


def test_a_server_that_greets_soon_is_only_asked_for_listings(net: Net) -> None:
    silent = set()

    def handle(line: socket.socket) -> None:
        silent.add(line)
        for head in requests_on(line):
            silent.discard(line)
            reply(line, head)

    port = net.open(over_tls(net.context(), handle))
    started = time.monotonic()
    lists_all(net.list_at(f"https://localhost:{port}"))
    was_soon = time.monotonic() - started < 1  # else the machine is busy, and greetings take long
    assert not (silent and was_soon)


# ------------------------------------------------------------------------------------------ proxies


def pump(source: socket.socket, target: socket.socket) -> None:
    """Send what comes from one socket to another one, until it ends."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def proxy(statuses: Iterator[int], to: int, user: str = "") -> Handler:
    """Return a proxy that answers its requests to connect so, if this user asks."""

    def handle(line: socket.socket) -> None:
        head = next(requests_on(line))
        status = next(statuses) if user in head else 407
        line.sendall(b"HTTP/1.1 %d So\r\nContent-Length: 0\r\n\r\n" % status)
        if status != 200:
            return
        with socket.create_connection(("127.0.0.1", to)) as there:
            back = threading.Thread(target=pump, args=(there, line), daemon=True)
            back.start()
            pump(line, there)
            back.join()

    return handle


def test_proxies_and_handshakes_that_fail_now_and_then_are_tried_again(net: Net) -> None:
    handle = over_tls(net.context())
    handlers = cycle([says(ALERT_80), handle, handle])
    port = net.open(lambda line: next(handlers)(line))
    first = iter([502, 200, 200, 503])
    asked = chain(first, repeat(200))
    result = net.list_at(
        f"https://localhost:{port}",
        "--max_connections=4",
        HTTPS_PROXY=f"http://127.0.0.1:{net.open(proxy(asked, port))}",
        NO_PROXY="127.0.0.1",
    )
    lists_all(result)
    assert next(first, None) is None


def test_a_proxy_over_tls_passes_on_answers_that_are_read_in_another_way(net: Net) -> None:
    port = net.open(over_tls(net.context(), answer_and_close))
    at = net.open(over_tls(net.context(), proxy(repeat(200), port)))
    url, through = f"https://localhost:{port}", f"https://localhost:{at}"
    lists_all(net.list_at(url, HTTPS_PROXY=through, NO_PROXY="127.0.0.1"))


@pytest.mark.parametrize(("status", "many"), [(407, False), (403, False), (502, True)])
def test_a_proxy_that_never_connects_ends_the_run(status: int, many: bool, net: Net) -> None:
    port = net.open(proxy(repeat(status), 9))
    result = net.list_at(
        "https://localhost:9",
        constants={"LIST_TRIES": 2},
        LOG_LEVEL="DEBUG",
        HTTPS_PROXY=f"http://me:secret@127.0.0.1:{port}",
    )
    ends(result, f"the proxy http://127.0.0.1:{port} refuses to connect: {status} ")
    assert ("retrying" in result.log) == many
    assert "secret" not in result.log


def test_a_proxy_is_told_its_user_where_a_fault_is_looked_into_too(net: Net) -> None:
    port = net.open(over_tls(net.context("elsewhere")))
    user = f"Proxy-Authorization: Basic {b64encode(b'me:p@ss').decode()}"
    result = net.list_at(
        f"https://localhost:{port}",
        HTTPS_PROXY=f"http://me:p%40ss@127.0.0.1:{net.open(proxy(repeat(200), port, user))}",
        NO_PROXY="127.0.0.1",
    )
    ends(result, f"no TLS with localhost:{port}: its certificate does not fit")


# ------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize("is_tls", [False, True])
def test_answers_that_end_by_closing_or_have_an_odd_header_are_read(is_tls: bool, net: Net) -> None:
    port = net.open(over_tls(net.context(), answer_and_close) if is_tls else answer_and_close)
    lists_all(net.list_at(f"http{'s' * is_tls}://localhost:{port}"))


def test_an_error_that_ends_by_closing_says_what_s3_says(net: Net) -> None:
    error = b"<Error><Code>AccessDenied</Code><Message>not yours</Message></Error>"
    port = net.open(says(b"HTTP/1.0 403 Forbidden\r\n\r\n" + error))
    ends(net.list_at(f"http://localhost:{port}"), "AccessDenied: not yours")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEADER, MORE = b"X-A: " + b"a" * 100 + b"\r\n", b"a" * 100
# How an answer begins, and what follows without end.
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "headers": (b"HTTP/1.1 200 OK\r\n", HEADER),
    "a status line": (b"HTTP/1.1 200 ", MORE),
    "an extension of a chunk": (CHUNKED + b"5;", MORE),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\n", HEADER),
    "a body": (b"HTTP/1.0 200 OK\r\n\r\n", MORE),
}


@pytest.mark.parametrize("name", FLOODS)
def test_an_answer_without_end_is_given_up(name: str, net: Net) -> None:
    head, piece = FLOODS[name]
    asked = []
    tries = 3 if name == "headers" else 1

    def flood(line: socket.socket) -> None:
        asked.append(next(requests_on(line)))
        line.sendall(head)
        while True:
            line.sendall(piece * 2_000)

    started = time.monotonic()
    aside, most = 256 if NIGHT else 8, 900  # MB; boundless, it was 2,000 to 4,000
    constants: dict[str, float] = {"ASIDE": aside * 1_000_000, "LIST_TRIES": tries}
    url = f"http://localhost:{net.open(flood)}"
    result = net.list_at(url, "--max_connections=1", constants=constants)
    ends(result, "an answer without end" if name != "a body" else "more than 16,000,000 bytes")
    if name == "headers":
        assert sum("prefix=00" in head for head in asked) == 2  # once more, however many tries
    assert time.monotonic() - started < 60
    assert result.megabytes < most


def in_a_loop(asked: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine, in another thread, since the browser's loop may be running in this one."""
    with ThreadPoolExecutor() as beside:
        beside.submit(asyncio.run, asked).result()


def test_the_loop_is_awoken_once_for_all_that_comes_while_it_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dispatch.stores.news.NEXT_LOOK", 60)  # what comes meanwhile is late, then

    async def hear() -> None:
        news, loop = News(), asyncio.get_running_loop()
        here = [loop.create_future() for _ in range(3)]
        for one in here[:2]:
            news.tell(one, None)
        await asyncio.wait_for(asyncio.gather(*here[:2]), 60)
        assert news.is_awoken
        news.tell(here[2], None)
        await asyncio.sleep(0)
        assert not here[2].done()  # until the next look, which finds more, and then nothing
        for _ in range(2):
            news.hear()
            assert here[2].done()
            assert not news.waiting
        assert not news.is_awoken

    in_a_loop(hear())


# ------------------------------------------------------------------------------------- certificates


def trusted(pem: str) -> str:
    """Return a certificate as OpenSSL writes one that says what it is trusted for."""
    content = ssl.PEM_cert_to_DER_cert(pem)
    uses = bytes.fromhex("300c300a06082b06010505070301")  # servers on the web
    plain = ssl.DER_cert_to_PEM_cert(content + uses)
    return plain.replace("CERTIFICATE", "TRUSTED CERTIFICATE")


def test_certificates_that_say_what_they_are_trusted_for_are_read(net: Net) -> None:
    bundle = net.folder / "ca.pem"
    other = trustme.CA().cert_pem.bytes().decode()
    bundle.write_text(f"# a comment\n{other}{trusted(bundle.read_text())}")
    lists_all(net.list_at(f"https://localhost:{net.open(over_tls(net.context()))}"))


def test_a_bundle_without_certificates_matters_where_tls_is_spoken(net: Net) -> None:
    bundle = net.folder / "ca.pem"
    bundle.unlink()
    port = net.open(answer_all)
    words = "there is no file of certificates"
    for content in (None, "", "nothing of the kind\n"):
        if content is not None:
            bundle.write_text(content)
            words = "there are no certificates in the file"
        ends(net.list_at(f"https://localhost:{port}"), f"{words} {bundle}")
    lists_all(net.list_at(f"http://localhost:{port}"))


def test_python_has_nothing_to_say_of_a_question_for_whose_answer_nobody_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise OSError

    async def ask() -> None:
        once: Once[None] = Once()
        once.begin("fails", fail)
        cancelled = once.begin("is cancelled", fail)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        assert not once.asking

    in_a_loop(ask())
    gc.collect()
    assert caplog.text == ""
