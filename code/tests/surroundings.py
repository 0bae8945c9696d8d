"""A small world, and a service in it that does not answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from standins import BUCKET, S3, DocDB, record

NAMES = [f"{n:02}" for n in range(8)]


FLAGS = ("--query={}", "--file_extension=nwb")


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, NAMES))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in NAMES for n in range(2)])


class Held:
    """A fault of DocDB or S3: what is asked is in hand, and not answered before it is let go."""

    def __init__(self) -> None:
        self.asked, self.over = threading.Event(), threading.Event()

    def __call__(self, _: Any, start_response: Any = None) -> Any:
        """Be asked, by DocDB's handler, or as an application of S3's."""
        self.asked.set()
        self.over.wait(120)
        if start_response:
            start_response("503 SlowDown", [])
        return []
