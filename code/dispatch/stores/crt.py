"""Requests over AWS's own runtime (awscrt): connections, signature, answers, what went wrong.

The runtime calls from a thread of its own; what waits for it goes on in the loop.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from dispatch.terminal.retries import FEW_TRIES, Fault

if TYPE_CHECKING:
    from awscrt.auth import AwsCredentialsProvider, AwsSigningConfig
    from awscrt.http import HttpClientConnection, HttpProxyOptions, HttpRequest
    from awscrt.io import TlsConnectionOptions

T = TypeVar("T")

PORTS = {"http": 80, "https": 443}

# What an answer that does not come is told as, by the end of the runtime's name for it. The tries
# are those after which more are no use.
FAULTS = {
    "HTTP_PROXY_CONNECT_FAILED": (1, "the proxy {proxy} refuses to connect"),
    "TLS_ERROR_NEGOTIATION_FAILURE": (1, "no TLS with {host}: its certificate does not fit"),
    "TLS_NEGOTIATION_FAILURE": (1, "no TLS with {host}: its certificate does not fit"),
    "DNS_INVALID_NAME": (FEW_TRIES, "there is no server called {host}"),
    "DNS_QUERY_FAILED": (FEW_TRIES, "there is no server called {host}"),
    "SOCKET_CONNECTION_REFUSED": (FEW_TRIES, "{host} refuses the connection"),
    "SOCKET_NO_ROUTE_TO_HOST": (FEW_TRIES, "no way leads to {host}"),
}


class NoAnswer(Fault):
    """A request got no answer."""


@dataclass(frozen=True, eq=False)  # there is one for each bucket, and to compare two takes time
class Place:
    """Where requests go, and for what they are signed."""

    url: str  # with scheme and host, and a path without a slash at its end
    region: str
    service: str = "s3"
    proxy: str | None = None
    in_session: bool = False  # as directory buckets are, whose keys go in a header of their own

    @cached_property
    def host(self) -> str:
        """The server, and its port if that is not the usual one, without user and password."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @cached_property
    def path(self) -> str:
        """What a request begins with."""
        return urlsplit(self.url).path or "/"


@dataclass
class Answer:
    """An answer, as it comes in."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)  # as they come
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return what a header says, "" if there is none; of several, all, after commas."""
        return ", ".join([value for one, value in self.headers if one.lower() == name])


class Runtime:
    """AWS's runtime, with its connections, which are used again."""

    def __init__(self, certificates: str, timeout: int, largest: int) -> None:
        from awscrt import auth, http, io  # which takes a moment

        self.auth, self.http = auth, http
        self.timeout, self.largest = timeout, largest  # seconds of an attempt, bytes of an answer
        self.loop = asyncio.get_running_loop()
        self.news: deque[asyncio.Future[None]] = deque()  # what the loop is to let go on
        self.is_awoken = False  # the loop, to see all news
        group = io.EventLoopGroup(1)
        self.bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
        self.socket = io.SocketOptions()
        self.socket.connect_timeout_ms = 1_000 * timeout
        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(None, certificates)
        self.tls = io.ClientTlsContext(options)
        self.idle: defaultdict[Place, list[HttpClientConnection]] = defaultdict(list)
        self.keeps_thread = False
        self.deadlines: dict[HttpClientConnection, float] = {}
        self.configs: dict[Any, AwsSigningConfig] = {}
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
            await self.outcome(self.auth.aws_sign_request(request, config), place)
        connection = self.idle_connection(place) or await self.connect(place)
        try:
            answer = await self.send(connection, request, place)
        except BaseException:  # a task that is cancelled leaves its connection unusable, too
            connection.close()
            raise
        self.idle[place].append(connection)
        return answer

    def idle_connection(self, place: Place) -> HttpClientConnection | None:
        """Return a connection that is open and not in use, None if there is none."""
        idle = self.idle[place]
        while idle:
            connection = idle.pop()
            if connection.is_open():
                return connection
        return None

    async def connect(self, place: Place) -> HttpClientConnection:
        """Return a new connection."""
        url = urlsplit(place.url)
        host = url.hostname or ""
        tls = self.tls_to(host) if url.scheme == "https" else None
        proxy = self.proxy_options(place.proxy) if place.proxy else None
        opening = self.http.HttpClientConnection.new(
            host, url.port or PORTS[url.scheme], self.bootstrap, self.socket, tls, proxy
        )
        try:
            async with asyncio.timeout(self.timeout):
                return await self.outcome(opening, place)
        except TimeoutError:
            raise self.nothing_came() from None

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
        answer = Answer()
        chunks: list[bytes] = []
        size = 0

        def on_response(status_code: int, headers: list[tuple[str, str]], **_: Any) -> None:
            self.keep_thread()
            answer.status, answer.headers = status_code, headers

        def on_body(chunk: bytes, **_: Any) -> None:
            nonlocal size
            size += len(chunk)
            if size > self.largest:
                connection.close()
            else:
                chunks.append(bytes(chunk))

        stream = connection.request(request, on_response, on_body)
        self.deadlines[connection] = self.loop.time() + self.timeout
        try:
            stream.activate()
            await self.outcome(stream.completion_future, place)
        except NoAnswer:
            if size > self.largest:
                raise NoAnswer(f"an answer of more than {self.largest:,} bytes") from None
            if self.loop.time() >= self.deadlines[connection]:
                raise self.nothing_came() from None
            raise
        finally:
            del self.deadlines[connection]
        answer.body = b"".join(chunks)
        return answer

    def keep_thread(self) -> None:
        """Let Python keep what it knows of the runtime's thread; called from there.

        To make it anew for each call, and to give its memory back to the system, took 25 of 110 us
        a request.
        """
        if not self.keeps_thread:
            self.keeps_thread = True
            import ctypes

            ctypes.pythonapi.PyGILState_Ensure()  # never released

    def close_overdue(self) -> None:
        """Close the connections on which an answer takes too long, now and then.

        A timer for each request took a tenth of its time.
        """
        now = self.loop.time()
        for connection, deadline in self.deadlines.items():
            if now >= deadline:
                connection.close()
        self.loop.call_later(min(1.0, self.timeout / 10), self.close_overdue)

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

    async def outcome(self, future: Future[T], place: Place) -> T:
        """Return what the runtime says; raise NoAnswer."""
        if not future.done():
            here = self.loop.create_future()
            future.add_done_callback(partial(self.tell, here))
            await here
        # never raised itself: its traceback would hold this frame, which holds the future, which
        # holds the error, and so all that has come of an answer that was cut
        error = future.exception()
        if error:
            raise no_answer(error, place)
        return future.result()

    def tell(self, here: asyncio.Future[None], _: object) -> None:
        """Let go on what waits; called in the runtime's thread.

        The loop is awoken once for all that is new: to awake it is a call of the system.
        """
        self.news.append(here)
        if not self.is_awoken:
            self.is_awoken = True
            with suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(self.hear)

    def hear(self) -> None:
        """Let go on whatever has news."""
        self.is_awoken = False  # before the last look: what comes later awakes the loop again
        while self.news:
            here = self.news.popleft()
            if not here.done():  # it is, where it was cancelled
                here.set_result(None)

    def close(self) -> None:
        """Close the connections."""
        for connections in self.idle.values():
            for connection in connections:
                connection.close()


def no_answer(error: BaseException, place: Place) -> BaseException:
    """Return why there is no answer, and whether another try can help."""
    from awscrt.exceptions import AwsCrtError

    if not isinstance(error, AwsCrtError):
        return error
    name = error.name.removeprefix("AWS_ERROR_").removeprefix("AWS_IO_")
    for end, (tries, fault) in FAULTS.items():
        if name.endswith(end):
            host, proxy = place.host, urlsplit(place.proxy or "")
            shown = f"{proxy.scheme}://{proxy.hostname}:{proxy.port}"
            if place.proxy and tries > 1:
                host = f"the proxy {shown}"
            return NoAnswer(fault.format(host=host, proxy=shown), tries)
    return NoAnswer(f"{error.message.rstrip('.')} ({name})")
