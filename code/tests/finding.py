"""Assets of S3 listed in the process of their test, one after the other by one listing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import botocore.session
import pytest

from dispatch.assets.assets import Asset
from dispatch.files.listing import Listing
from dispatch.stores import s3 as aws
from dispatch.stores.closed import FileNames
from dispatch.terminal.messages import FailedRun
from dispatch.terminal.progress import Progress
from standins import BUCKET, KEY_ID, S3, SECRET

# What AWS's services are like is read from files once, which takes a tenth of a second.
ONE_LOADER = (botocore.session, "create_loader", cache(botocore.session.create_loader))
Find = Callable[..., dict[str, int | None]]


def ask_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process ask for S3 at an address."""
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-west-2",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(*ONE_LOADER)


@pytest.fixture
def find(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Find]:
    """Return a function from a prefix and an extension to the files found, below the prefix."""
    ask_at(s3.url, monkeypatch)
    monkeypatch.setattr("dispatch.terminal.retries.backoff", lambda _: 0.01)
    s3.put(BUCKET, [])

    def start() -> Listing:
        stores = {"s3": aws.S3(timeout=60)}
        return Listing(stores, FileNames([".nwb"]), Progress())

    listing = start()

    def find(
        prefix: str, extension: str, *, weigh: bool = False, bucket: str = BUCKET
    ) -> dict[str, int | None]:
        nonlocal listing
        location = f"s3://{bucket}/{prefix}"
        listing.found.clear()
        listing.names, listing.weigh = FileNames([extension]), weigh
        try:
            listing.add([Asset(location, "", "example", "", {})])
            [(at, files)] = listing.files().items()
        except FailedRun:
            listing.close()
            listing = start()
            raise
        assert at == location
        assert list(files) == sorted(files)
        return {file.removeprefix(f"{location}/"): size for file, size in files.items()}

    yield find
    listing.close()
