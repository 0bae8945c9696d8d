"""Where requests go, what an answer is, and that there is none: what all know who carry them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from urllib.parse import urlsplit

from dispatch.terminal.retries import Fault

PORTS = {"http": 80, "https": 443}


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
    def shown_proxy(self) -> str:
        """The proxy, without user and password."""
        url = urlsplit(self.proxy or "")
        return f"{url.scheme}://{url.hostname}:{url.port or PORTS.get(url.scheme, 0)}"

    @cached_property
    def path(self) -> str:
        """What a request begins with."""
        return urlsplit(self.url).path or "/"


@dataclass(slots=True)
class Answer:
    """An answer, as it comes in."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)  # as they come
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return what a header says, "" if there is none; of several, all, after commas."""
        return ", ".join([value for one, value in self.headers if one.lower() == name])


def phrase_of(status: int) -> str:
    """Return what a status of HTTP is called."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "of no known kind"
