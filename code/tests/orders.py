"""A stand-in for S3 that lists keys in whatever order, under whatever name, and keeps what it got.

Moto sorts keys as S3 does, and SeaweedFS by folder; here, a test chooses the order, what a page
begins after, how many keys a page has, and what the server calls itself.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from xml.sax.saxutils import escape

import pytest

Order = Callable[[str], Any]

ORDERS: dict[str, Order] = {
    "s3": str.encode,
    "by folder": lambda key: key.split("/"),
    "any case": lambda key: (key.lower(), key),
    "UTF-16": lambda key: key.encode("utf-16-be"),
    "hashed": lambda key: hashlib.sha256(key.encode()).digest(),
    "turned": lambda key: [-byte for byte in key.encode()] + [0],
}


class Lister:
    """An S3 server that can list and nothing else; every bucket of it holds the same."""

    def __init__(self) -> None:
        self.clear()
        lister = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
                body = lister.listing(query).encode()
                self.send_response_only(200)
                name = lister.name(query)
                if name:
                    self.send_header("Server", name)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def clear(self) -> None:
        """Begin anew, as S3 does it."""
        self.sizes: dict[str, int] = {}
        self.order = self.starts = ORDERS["s3"]  # in which it lists; by which a page begins after
        self.page = 100
        self.asked: list[dict[str, str]] = []
        self.name: Callable[[dict[str, str]], str] = lambda _: "AmazonS3"
        # given each request and the keys of its page, returns others
        self.spoil: Callable[[dict[str, str], list[str]], list[str]] = lambda _, keys: keys

    def put(self, keys: Iterable[str], size: int = 1) -> None:
        """Add objects."""
        self.sizes |= dict.fromkeys(keys, size)

    def jumps(self) -> list[dict[str, str]]:
        """Return the requests that began after a key, or asked for folders."""
        return [one for one in self.asked if "start-after" in one or "delimiter" in one]

    def entries(self, query: dict[str, str], start: str) -> list[str]:
        """Return all keys and folders that a query asks for, in the order of the server."""
        prefix = query.get("prefix", "")
        found: dict[str, None] = {}
        for key in sorted(self.sizes, key=self.order):
            if key.startswith(prefix) and (not start or self.starts(key) > self.starts(start)):
                below, slash, _ = key[len(prefix) :].partition("/")
                is_folder = "delimiter" in query and slash
                found[f"{prefix}{below}/" if is_folder else key] = None
        return list(found)

    def listing(self, query: dict[str, str]) -> str:
        """Return the page that a query asks for."""
        self.asked.append(query)
        start, first = query.get("start-after", ""), 0
        if "continuation-token" in query:
            start, first = json.loads(query["continuation-token"])
        entries = self.entries(query, start)
        page = self.spoil(query, entries[first : first + self.page])
        ends = first + self.page >= len(entries)
        token = escape(json.dumps([start, first + self.page]))
        more = "" if ends else f"<NextContinuationToken>{token}</NextContinuationToken>"
        items = []
        for entry in page:
            name = quote(entry)
            if entry in self.sizes:
                size = self.sizes[entry]
                items.append(f"<Contents><Key>{name}</Key><Size>{size}</Size></Contents>")
            else:
                items.append(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>")
        return (
            f"<ListBucketResult><EncodingType>url</EncodingType>{more}"
            f"<IsTruncated>{str(not ends).lower()}</IsTruncated>{''.join(items)}</ListBucketResult>"
        )


@pytest.fixture(scope="session")
def lister_server() -> Lister:
    return Lister()


@pytest.fixture
def lister(lister_server: Lister) -> Iterator[Lister]:
    lister_server.clear()
    yield lister_server
    lister_server.clear()
