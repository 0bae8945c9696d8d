"""A small world."""

from __future__ import annotations

import pytest

from standins import BUCKET, S3, DocDB, record

NAMES = [f"{n:02}" for n in range(8)]


FLAGS = ("--query={}", "--file_extension=nwb")


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, NAMES))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in NAMES for n in range(2)])
