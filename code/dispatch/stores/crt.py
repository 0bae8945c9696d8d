"""Requests over AWS's own runtime (awscrt): connections, signature, answers, what went wrong.

The runtime calls from a thread of its own; what waits for it goes on in the loop.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from dispatch.stores import plainly
from dispatch.stores.handshakes import find_fault
from dispatch.stores.news import News, Unread
from dispatch.stores.once import Once
from dispatch.stores.places import PORTS, Answer, NoAnswer, Place
from dispatch.stores.trust import read_certificates

if TYPE_CHECKING:
    from awscrt.auth import AwsCredentialsProvider, AwsSigningConfig
    from awscrt.http import HttpClientConnection, HttpProxyOptions, HttpRequest
    from awscrt.io import ClientTlsContext, TlsConnectionOptions

SOON = 1.0  # seconds, in which most connections come about
# Bytes of memory that may come with an answer, beside its body. The runtime has no bound for a
# status line, headers, extensions of chunks and trailers, and says nothing of them before they end.
ASIDE = 256_000_000
ONE_MORE = 2  # tries, of what has had no end once


@dataclass(slots=True)
class Exchange:
    """A request that is under way, and what comes of it."""

    deadline: float
    memory: int  # in use when it began, in bytes
    answer: Answer = field(default_factory=Answer)
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    fault: NoAnswer | None = None  # why its connection was closed by us


class Runtime:
    """AWS's runtime, with its connections, which are used again."""

    def __init__(self, certificates: str, timeout: int, largest: int) -> None:
        from awscrt import auth, http, io  # which takes a moment

        self.auth, self.http = auth, http
        self.timeout, self.largest = timeout, largest  # seconds of an attempt, bytes of an answer
        self.loop = asyncio.get_running_loop()
        self.news = News()
        group = io.EventLoopGroup(1)
        self.bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
        self.socket = io.SocketOptions()
        self.socket.connect_timeout_ms = 1_000 * timeout
        self.certificates = certificates  # their file, which is read once it is needed
        self.idle: defaultdict[Place, list[HttpClientConnection]] = defaultdict(list)
        self.known: set[Place] = set()  # to which a connection has come about
        self.doubts: Once[NoAnswer | None] = Once()  # why one does not
        self.exchanges: dict[HttpClientConnection, Exchange] = {}
        self.plain: set[Place] = set()  # whose answers this runtime does not read
        self.configs: dict[Any, AwsSigningConfig] = {}
        self.memory = 0  # in use, at the last look
        self.close_overdue()

    async def get(
        self,
        place: Place,
        query: str,
        credentials: AwsCredentialsProvider | None,
        method: str = "GET",
    ) -> Answer:
        """Return the answer to a request, signed if there are credentials; raise NoAnswer."""
        http = self.http
        request = http.HttpRequest(
            method, f"{place.path}?{query}", http.HttpHeaders([("host", place.host)])
        )
        if credentials:
            config = self.signing_config(place, credentials)
            await self.news.outcome(self.auth.aws_sign_request(request, config), place)
        if place in self.plain:
            return await self.get_plainly(place, request)
        connection = self.idle_connection(place) or await self.connect(place)
        try:
            answer = await self.send(connection, request, place)
        except Unread:
            connection.close()
            self.plain.add(place)
            return await self.get_plainly(place, request)
        except BaseException:  # a task that is cancelled leaves its connection unusable, too
            connection.close()
            raise
        self.idle[place].append(connection)
        return answer

    async def get_plainly(self, place: Place, request: HttpRequest) -> Answer:
        """Return the answer to a request that is made by another library."""
        asked = (place, request, self.certificates, self.timeout, self.largest)
        async with asyncio.timeout(self.timeout):
            return await asyncio.to_thread(plainly.get, *asked)

    def idle_connection(self, place: Place) -> HttpClientConnection | None:
        """Return a connection that is open and not in use, None if there is none."""
        idle = self.idle[place]
        while idle:
            connection = idle.pop()
            if connection.is_open():
                return connection
        return None

    async def connect(self, place: Place) -> HttpClientConnection:
        """Return a new connection; raise NoAnswer, with the reason as soon as that can be known."""
        opening = self.loop.create_task(self.open(place))
        try:
            async with asyncio.timeout(self.timeout):
                await asyncio.wait({opening}, timeout=min(SOON, self.timeout / 4))
                if self.is_in_doubt(place, opening):
                    reason = await self.doubts.answer(place, partial(self.look_into, place))
                    if reason:
                        raise reason
                connection = await opening
        except TimeoutError:
            raise self.nothing_came() from None
        finally:
            opening.cancel()
        self.known.add(place)
        return connection

    async def open(self, place: Place) -> HttpClientConnection:
        """Return a new connection, as soon as it comes about."""
        url = urlsplit(place.url)
        host = url.hostname or ""
        tls = self.tls_to(host) if url.scheme == "https" else None
        proxy = self.proxy_options(place.proxy) if place.proxy else None
        opening = self.http.HttpClientConnection.new(
            host, url.port or PORTS[url.scheme], self.bootstrap, self.socket, tls, proxy
        )
        return await self.news.outcome(opening, place)

    def is_in_doubt(self, place: Place, opening: asyncio.Task[Any]) -> bool:
        """Return whether it is to be looked into why there is no connection yet, or none at all."""
        if not place.url.startswith("https:"):
            return False
        if not opening.done():
            return place not in self.known
        error = opening.exception()
        return isinstance(error, NoAnswer) and not error.tries

    async def look_into(self, place: Place) -> NoAnswer | None:
        """Return why no connection comes about, None where nothing is wrong with it."""
        return await asyncio.to_thread(find_fault, place, self.certificates, self.timeout)

    @cached_property
    def tls(self) -> ClientTlsContext:
        """What TLS is spoken with: no version that boto3 refuses; raise FailedRun."""
        from awscrt import io

        options = io.TlsContextOptions()
        options.min_tls_ver = io.TlsVersion.TLSv1_2
        options.override_default_trust_store(read_certificates(self.certificates))
        return io.ClientTlsContext(options)

    def tls_to(self, host: str) -> TlsConnectionOptions:
        """Return how to speak TLS with a host."""
        options = self.tls.new_connection_options()
        options.set_server_name(host)
        return options

    def proxy_options(self, proxy: str) -> HttpProxyOptions:
        """Return how to go through a proxy: to http forwarded by it, to https in a tunnel."""
        url = urlsplit(proxy)
        host = url.hostname or ""
        options = self.http.HttpProxyOptions(host, url.port or PORTS[url.scheme])
        if url.scheme == "https":
            options.tls_connection_options = self.tls_to(host)
        if url.username:
            options.auth_type = self.http.HttpProxyAuthenticationType.Basic
            options.auth_username = unquote(url.username)
            options.auth_password = unquote(url.password or "")
        return options

    async def send(
        self, connection: HttpClientConnection, request: HttpRequest, place: Place
    ) -> Answer:
        """Return the answer to a request over a connection; raise NoAnswer."""
        exchange = Exchange(self.loop.time() + self.timeout, self.memory)

        def on_response(status_code: int, headers: list[tuple[str, str]], **_: Any) -> None:
            self.news.keep_thread()
            exchange.answer.status, exchange.answer.headers = status_code, headers

        def on_body(chunk: bytes, **_: Any) -> None:
            exchange.size += len(chunk)
            if exchange.size <= self.largest:
                exchange.chunks.append(bytes(chunk))
                return
            exchange.fault = NoAnswer(f"an answer of more than {self.largest:,} bytes")
            connection.close()

        stream = connection.request(request, on_response, on_body)
        self.exchanges[connection] = exchange
        try:
            stream.activate()
            await self.news.outcome(stream.completion_future, place)
        except NoAnswer:
            if exchange.fault:
                raise exchange.fault from None
            raise
        finally:
            del self.exchanges[connection]
        answer = exchange.answer
        answer.body = b"".join(exchange.chunks)
        if not answer.body and request.method != "HEAD" and ends_by_closing(answer):
            raise Unread("an answer that ends by closing")
        return answer

    def close_overdue(self) -> None:
        """Close the connections on which an answer takes too long, or too much, now and then.

        A timer for each request took a tenth of its time.
        """
        now, self.memory = self.loop.time(), memory_in_use()
        for connection, exchange in self.exchanges.items():
            if now >= exchange.deadline:
                exchange.fault = self.nothing_came()
            elif self.memory - exchange.memory > ASIDE + exchange.size:
                exchange.fault = NoAnswer("an answer without end", ONE_MORE)
            else:
                continue
            connection.close()
        # often: a quick line brings a gigabyte a second
        self.loop.call_later(min(0.2, self.timeout / 10), self.close_overdue)

    def nothing_came(self) -> NoAnswer:
        """Return the error for an attempt that took too long."""
        return NoAnswer(f"nothing within {self.timeout} s (--timeout)")

    def signing_config(self, place: Place, credentials: AwsCredentialsProvider) -> AwsSigningConfig:
        """Return how requests to a place are signed, the same for a minute."""
        key = (place, credentials, int(self.loop.time() / 60))
        if key not in self.configs:
            auth = self.auth
            algorithm = auth.AwsSigningAlgorithm.V4
            if place.in_session:
                algorithm = auth.AwsSigningAlgorithm.V4_S3EXPRESS
            self.configs = {
                key: auth.AwsSigningConfig(
                    algorithm=algorithm,
                    signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
                    credentials_provider=credentials,
                    region=place.region,
                    service=place.service,
                    use_double_uri_encode=False,
                    should_normalize_uri_path=False,
                    signed_body_value=auth.AwsSignedBodyValue.EMPTY_SHA256,
                    signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
                )
            }
        return self.configs[key]

    def close(self) -> None:
        """Close the connections."""
        for connections in self.idle.values():
            for connection in connections:
                connection.close()


def ends_by_closing(answer: Answer) -> bool:
    """Return whether an answer says nowhere how long it is, so that it ends with its connection."""
    if answer.status in (204, 304):
        return False
    return not answer.header("content-length") and not answer.header("transfer-encoding")


def memory_in_use() -> int:
    """Return the bytes of memory that the process has: now, or at its peak where nobody says."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
