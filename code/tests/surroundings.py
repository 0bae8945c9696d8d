"""A small world, and what a run takes of memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from standins import BUCKET, S3, DocDB, record

NAMES = [f"{n:02}" for n in range(8)]


FLAGS = ("--query={}", "--file_extension=nwb")


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, NAMES))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in NAMES for n in range(2)])


MEMORY = """
import os, shutil
leave = os._exit
def say(status):
    shutil.copyfile("/proc/self/status", {!r})
    leave(status)
os._exit = say
"""


@pytest.fixture
def peak(tmp_path: Path) -> tuple[dict[str, str | None], Callable[[], float]]:
    """Return the environment of a run that notes its memory, and what tells it in MB."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(MEMORY.format(str(tmp_path / "peak")))

    def megabytes() -> float:
        found = re.search(r"VmHWM:\s*(\d+) kB", (tmp_path / "peak").read_text())
        assert found
        return int(found[1]) / 1024

    return {"PYTHONPATH": str(tmp_path / "hook")}, megabytes
