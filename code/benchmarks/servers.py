"""S3 and DocDB stand-ins that answer after a fixed latency and cost next to nothing themselves.

Both hold one made-up world, a number of assets with the same tree. Pages are made once and kept as
bytes, so that what is measured is the client. `python servers.py SHAPE ASSETS LATENCY FOLDER`
serves until it is killed, and prints one JSON line: the S3 address, the DocDB host, and the file of
the certificate authority. GET /stats on the S3 address tells the requests since the last time.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import trustme

BUCKET = "benchmark-bucket"
REGION = "us-west-2"
MODIFIED = "2025-03-04T09:12:33.000Z"
TAG = "&quot;d41d8cd98f00b204e9800998ecf8427e&quot;"

# What an asset holds, as keys below it, by the name of the shape.
SHAPES: dict[str, Callable[[], Iterable[str]]] = {
    "session": lambda: ["behavior/session.nwb", *(f"videos/{n:03}.mp4" for n in range(119))],
    "small": lambda: ["behavior/session.nwb", *(f"videos/{n:03}.mp4" for n in range(19))],
    "zarr": lambda: [
        f"ecephys/probe{p}.zarr/{n // 100}/{n}" for p in range(10) for n in range(10_000)
    ],
    "tiny-folders": lambda: [f"tiles/{n:05}/{m}.json" for n in range(10_000) for m in range(5)],
    "images": lambda: [f"images/{n:03}/{m:04}.tif" for n in range(200) for m in range(1_000)],
}
EXTENSIONS = {"session": ".nwb", "small": ".nwb", "zarr": ".zarr", "tiny-folders": "4.json",
              "images": "0999.tif"}  # fmt: skip


def asset_name(number: int) -> str:
    """Return the name, and prefix, of an asset."""
    return f"behavior_{700000 + number}_2025-03-04_09-12-33"


class World:
    """The keys and the records, as answers."""

    def __init__(self, shape: str, assets: int) -> None:
        self.below = sorted(SHAPES[shape]())
        self.assets = {asset_name(n): n for n in range(assets)}
        self.records = [
            {
                "_id": f"{n:08}-0000-4000-8000-000000000000",
                "name": name,
                "location": f"s3://{BUCKET}/{name}",
                "external_links": {"Code Ocean": [f"{n:08}-1111-4000-8000-000000000000"]},
            }
            for name, n in self.assets.items()
        ]
        self.pages: dict[tuple[str, str, str], bytes] = {}

    def listing(self, query: dict[str, str]) -> bytes:
        """Return the answer to a ListObjectsV2 request for a prefix inside one asset."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token", query.get("start-after", ""))
        page = self.pages.get((prefix, after, delimiter))
        if page is None:
            page = self.pages[prefix, after, delimiter] = self.make_page(prefix, after, delimiter)
        return page

    def make_page(self, prefix: str, after: str, delimiter: str) -> bytes:
        """Return up to 1,000 keys, or common prefixes, behind a key."""
        asset = prefix.partition("/")[0]
        start = prefix[len(asset) + 1 :]
        entries: dict[str, str] = {}
        index = bisect_right(self.below, after[len(asset) + 1 :]) if after else 0
        index = max(index, bisect_right(self.below, start) if start else 0)
        keys = self.below if asset in self.assets else []
        token = last = ""
        while index < len(keys) and keys[index].startswith(start):
            if len(entries) == 1_000:
                token = last
                break
            key = last = f"{asset}/{keys[index]}"
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                folder = key[: end + 1]
                entries[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
                last = folder + "\x7f"
                index = bisect_right(keys, last[len(asset) + 1 :])
                continue
            entries[key] = (
                f"<Contents><Key>{key}</Key><LastModified>{MODIFIED}</LastModified><ETag>{TAG}"
                "</ETag><Size>1000</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
            index += 1
        more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><MaxKeys>1000</MaxKeys>"
            f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>{str(bool(token)).lower()}"
            f"</IsTruncated>{more}{''.join(entries.values())}</ListBucketResult>"
        ).encode()

    def aggregate(self, pipeline: list[dict[str, Any]]) -> bytes:
        """Return the page of records behind the id that the pipeline names."""
        stages = {name: value for stage in pipeline for name, value in stage.items()}
        bounds = [part.get("_id", {}) for part in stages["$match"].get("$and", [])]
        if any("$not" in bound for bound in bounds):
            return b"[]"
        last = max((bound.get("$gt", "") for bound in bounds), default="")
        start = bisect_right(self.records, last, key=lambda record: str(record["_id"]))
        return json.dumps(self.records[start : start + stages["$limit"]]).encode()


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive; requests may come in pieces."""

    def __init__(self, world: World, latency: float, counts: Counter[str]) -> None:
        self.world, self.latency, self.counts = world, latency, counts
        self.buffer = b""

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
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        delay = self.latency
        if url.path == "/stats":
            answer, delay = json.dumps(self.counts).encode(), 0
            self.counts.clear()
        elif method == "POST":
            self.counts["DocDB"] += 1
            answer = self.world.aggregate(json.loads(body))
        elif method == "HEAD":
            self.counts["HEAD"] += 1
            answer = b""
        else:
            self.counts["LIST"] += 1
            answer = self.world.listing(query)
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nContent-Type: application/xml\r\n"
            f"x-amz-bucket-region: {REGION}\r\n\r\n"
        ).encode()
        asyncio.get_running_loop().call_later(delay, self.transport.write, head + answer)


async def serve(shape: str, assets: int, latency: float, folder: Path) -> None:
    """Serve both services until the process is killed."""
    loop = asyncio.get_running_loop()
    world, counts = World(shape, assets), Counter[str]()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    def connection() -> Connection:
        return Connection(world, latency, counts)

    s3 = await loop.create_server(connection, "127.0.0.1", 0, backlog=1024)
    docdb = await loop.create_server(connection, "127.0.0.1", 0, ssl=context, backlog=1024)
    ports = [server.sockets[0].getsockname()[1] for server in (s3, docdb)]
    print(
        json.dumps(
            [f"http://127.0.0.1:{ports[0]}", f"localhost:{ports[1]}", str(folder / "ca.pem")]
        ),
        flush=True,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
