"""S3 and DocDB stand-ins that answer after a fixed latency and cost next to nothing themselves.

Both hold one made-up world, a number of assets with the same tree. Pages are made once and kept as
bytes, so that what is measured is the client. `python servers.py SHAPE ASSETS LATENCY FOLDER`
serves until it is killed, and prints one JSON line: the S3 address, the DocDB host, and the file of
the certificate authority. With `--rate 500` S3 answers 503 SlowDown to whatever is more than 500
requests to list a second, with `--line 2e6` all that it sends passes through one line of 2 MB a
second, and with `--tls` it is asked over HTTPS. GET /stats on the S3 address tells what has been
asked since the last time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import trustme

BUCKET = "benchmark-bucket"
REGION = "us-west-2"
MODIFIED = "2025-03-04T09:12:33.000Z"
TAG = "&quot;d41d8cd98f00b204e9800998ecf8427e&quot;"
ASSET = "\0"  # stands for the name of the asset in pages, which are else the same for all assets

# What an asset holds, as keys below it, by the name of the shape.
SHAPES: dict[str, Callable[[], Iterable[str]]] = {
    "session": lambda: ["behavior/session.nwb", *(f"videos/{n:03}.mp4" for n in range(119))],
    "small": lambda: ["behavior/session.nwb", *(f"videos/{n:03}.mp4" for n in range(19))],
    "page": lambda: ["behavior/session.nwb", *(f"videos/{n:03}.mp4" for n in range(999))],
    "zarr": lambda: [
        f"ecephys/probe{p}.zarr/{n // 100}/{n}" for p in range(10) for n in range(10_000)
    ],
    "tiny-folders": lambda: [f"tiles/{n:05}/{m}.json" for n in range(10_000) for m in range(5)],
    "images": lambda: [f"images/{n:03}/{m:04}.tif" for n in range(200) for m in range(1_000)],
}
EXTENSIONS = {"session": ".nwb", "small": ".nwb", "page": ".nwb", "zarr": ".zarr",
              "tiny-folders": "4.json", "images": "0999.tif"}  # fmt: skip


def asset_name(number: int) -> str:
    """Return the name, and prefix, of an asset."""
    return f"behavior_{700000 + number}_2025-03-04_09-12-33"


class World:
    """The keys and the records, as answers."""

    def __init__(self, shape: str, assets: int) -> None:
        self.below = sorted(SHAPES[shape]())
        self.records = [
            {
                "_id": f"{n:08}-0000-4000-8000-000000000000",
                "name": asset_name(n),
                "location": f"s3://{BUCKET}/{asset_name(n)}",
                "external_links": {"Code Ocean": [f"{n:08}-1111-4000-8000-000000000000"]},
            }
            for n in range(assets)
        ]
        self.pages: dict[tuple[str, str, str], bytes] = {}

    def listing(self, query: dict[str, str]) -> bytes:
        """Return the answer to a ListObjectsV2 request for a prefix inside one asset."""
        asset, _, prefix = query.get("prefix", "").partition("/")
        after = query.get("continuation-token", query.get("start-after", ""))[len(asset) + 1 :]
        asked = (prefix, after, query.get("delimiter", ""))
        page = self.pages.get(asked)
        if page is None:
            page = self.pages[asked] = make_page(self.below, *asked)
        return page.replace(ASSET.encode(), asset.encode())

    def aggregate(self, pipeline: list[dict[str, Any]]) -> bytes:
        """Return the page of records behind the id that the pipeline names."""
        stages = {name: value for stage in pipeline for name, value in stage.items()}
        bounds = [part.get("_id", {}) for part in stages["$match"].get("$and", [])]
        for part in stages["$match"].get("$and", []):
            bounds += [other.get("_id", {}) for other in part.get("$or", [])]
        last = max((bound.get("$gt", "") for bound in bounds), default="")
        start = bisect_right(self.records, last, key=lambda record: str(record["_id"]))
        return json.dumps(self.records[start : start + stages["$limit"]]).encode()


def make_page(keys: list[str], prefix: str, after: str, delimiter: str) -> bytes:
    """Return up to 1,000 keys below an asset, or common prefixes, behind a key."""
    entries: dict[str, str] = {}
    index = bisect_right(keys, max(prefix, after))
    token = last = ""
    while index < len(keys) and keys[index].startswith(prefix):
        if len(entries) == 1_000:
            token = f"{ASSET}/{last}"
            break
        key = last = keys[index]
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        if end >= 0:
            folder = f"{ASSET}/{key[: end + 1]}"
            entries[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            last = key[: end + 1] + "\x7f"
            index = bisect_right(keys, last)
            continue
        entries[key] = (
            f"<Contents><Key>{ASSET}/{key}</Key><LastModified>{MODIFIED}</LastModified>"
            f"<ETag>{TAG}</ETag><Size>1000</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
        index += 1
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{ASSET}/{prefix}</Prefix><MaxKeys>1000</MaxKeys>"
        f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>{str(bool(token)).lower()}"
        f"</IsTruncated>{more}{''.join(entries.values())}</ListBucketResult>"
    ).encode()


SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
BURST = 0.1  # seconds of the rate that may be asked for at once, after a time without requests


@dataclass
class Network:
    """How fast answers come, and how many of them S3 gives."""

    latency: float  # seconds
    rate: float  # requests to list a second, 0: any number
    line: float  # bytes a second, 0: any number
    tokens: float = 0.0  # requests that may be made at once
    refilled: float = 0.0
    line_free: float = 0.0

    def refuses(self) -> bool:
        """Return whether one more request is too much, by a bucket of tokens."""
        now = time.monotonic()
        self.tokens = min(self.rate * BURST, self.tokens + (now - self.refilled) * self.rate)
        self.refilled = now
        if not self.rate:
            return False
        if self.tokens < 1:
            return True
        self.tokens -= 1
        return False

    def delay(self, size: int) -> float:
        """Return how long an answer takes, behind all others that the line still holds."""
        if not self.line:
            return self.latency
        now = time.monotonic()
        self.line_free = max(self.line_free, now + self.latency) + size / self.line
        return self.line_free - now


@dataclass
class Stats:
    """What has been asked."""

    requests: Counter[str] = field(default_factory=Counter)  # by kind, refused ones as SlowDown
    connections: int = 0  # on which S3 was asked to list
    first_list: float = 0.0  # when, by time.monotonic(), which all processes share
    last_list: float = 0.0


@dataclass
class Services:
    """What all connections share."""

    world: World
    network: Network
    stats: Stats = field(default_factory=Stats)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive; requests may come in pieces."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.buffer = b""
        self.lists = False

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that has come whole."""
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {
                k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])
            }
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
            method, target, _ = lines[0].split(" ")
            self.answer(method, target, body)

    def answer(self, method: str, target: str, body: bytes) -> None:
        """Send an answer when the latency is over."""
        services, stats = self.services, self.services.stats
        url = urlsplit(target)
        if url.path == "/stats":
            services.stats = Stats()
            self.send(json.dumps(vars(stats)).encode(), 0)
        elif method == "POST":
            stats.requests["DocDB"] += 1
            self.send(services.world.aggregate(json.loads(body)), services.network.latency)
        elif method == "HEAD":
            stats.requests["HEAD"] += 1
            self.send(b"", services.network.latency)
        else:
            self.list(dict(parse_qsl(url.query, keep_blank_values=True)))

    def list(self, query: dict[str, str]) -> None:
        """Answer a request to list."""
        network, stats = self.services.network, self.services.stats
        stats.last_list = time.monotonic()
        stats.first_list = stats.first_list or stats.last_list
        stats.connections += not self.lists
        self.lists = True
        if network.refuses():
            stats.requests["SlowDown"] += 1
            self.send(SLOW_DOWN, network.latency, "503 Slow Down")
            return
        stats.requests["LIST"] += 1
        page = self.services.world.listing(query)
        self.send(page, network.delay(len(page)))

    def send(self, body: bytes, delay: float, status: str = "200 OK") -> None:
        """Send an answer after a delay."""
        head = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nContent-Type: application/xml\r\n"
            f"Server: AmazonS3\r\nx-amz-bucket-region: {REGION}\r\n\r\n"
        ).encode()
        asyncio.get_running_loop().call_later(delay, self.transport.write, head + body)


async def serve(shape: str, assets: int, network: Network, folder: Path, *, tls: bool) -> None:
    """Serve both services until the process is killed."""
    loop = asyncio.get_running_loop()
    services = Services(World(shape, assets), network)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)

    def connection() -> Connection:
        return Connection(services)

    s3 = await loop.create_server(
        connection, "127.0.0.1", 0, ssl=context if tls else None, backlog=1024
    )
    docdb = await loop.create_server(connection, "127.0.0.1", 0, ssl=context, backlog=1024)
    ports = [server.sockets[0].getsockname()[1] for server in (s3, docdb)]
    print(
        json.dumps(
            [
                f"http{'s' * tls}://127.0.0.1:{ports[0]}",
                f"localhost:{ports[1]}",
                str(folder / "ca.pem"),
            ]
        ),
        flush=True,
    )
    await asyncio.Event().wait()


def main() -> None:
    """Do what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("assets", type=int)
    parser.add_argument("latency", type=float, help="seconds")
    parser.add_argument("folder", type=Path, help="where the certificate is written")
    parser.add_argument("--rate", type=float, default=0, help="requests to list a second")
    parser.add_argument("--line", type=float, default=0, help="bytes a second")
    parser.add_argument("--tls", action="store_true", help="S3 over HTTPS")
    args = parser.parse_args()
    network = Network(args.latency, args.rate, args.line)
    asyncio.run(serve(args.shape, args.assets, network, args.folder, tls=args.tls))


if __name__ == "__main__":
    main()
