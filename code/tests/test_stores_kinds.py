"""A third kind of location is a class and a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import run_capsule
from dispatch.stores import kinds
from dispatch.stores.kinds import Kind
from dispatch.stores.locations import Page
from standins import DocDB, record

MEMORY = {"session/a.nwb": 1, "session/b/c.nwb": 2, "session/b/d.txt": 3, "other/e.txt": 4,
          "other/f.txt": 5}  # fmt: skip


class Memory:
    """The store of memory:// locations: names and sizes of files."""

    refusals = 0

    def __init__(self, **_: object) -> None:
        """Take no option."""

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def list_page(self, location: str, folder: str, **_: object) -> Page:
        """Return all that lies in a folder."""
        top = f"{location.removeprefix('memory://')}/"
        sizes = {}
        for path, size in MEMORY.items():
            if path.startswith(f"{top}{folder}"):
                sizes[path.removeprefix(top)] = size
        return Page(sizes, [], "")

    async def size_of(self, location: str) -> int | None:
        """Return the size of the file at a location."""
        return MEMORY.get(location.removeprefix("memory://"))

    def url_of(self, location: str, path: str) -> str:
        """Return the URL of a file."""
        return f"{location}#{path}"


@pytest.fixture(autouse=True)
def memory(docdb: DocDB, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Kind(Memory, r"memory://\w", "memory://name", from_network=True)
    monkeypatch.setitem(kinds.KINDS, "memory", line)
    monkeypatch.setenv("DOCDB_HOST", docdb.host)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(docdb.ca_file))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "example")


def test_a_third_kind_of_location_is_a_class_and_a_line(
    docdb: DocDB, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, location in {
        "session": "memory://session",
        "other": "memory://other",
        "odd": "memory:///x",
        "elsewhere": "ftp://session",
    }.items():
        docdb.put({**record(name), "location": location})
    output = tmp_path / "results"
    flags = ["--query={}", "--overwrite=1", f"--output_directory={output}"]
    flags.append(f"--input_directory={tmp_path}")
    assert run_capsule.main([*flags, "--file_extension=nwb"]) == 0, caplog.text
    tasks = [json.loads(path.read_text()) for path in sorted(output.glob("*/*.json"))]
    files = ["memory://session#a.nwb", "memory://session#b/c.nwb"]
    assert sorted(file for task in tasks for file in task["file_location"]) == files
    assert {location for task in tasks for location in task["s3_location"]} == {"memory://session"}
    reason = "location is not s3://bucket/prefix or memory://name"
    for name in ("odd", "elsewhere"):
        assert f"skipped, {reason}: {name}" in caplog.text
    assert "skipped, no .nwb file: other" in caplog.text
    assert run_capsule.main([*flags, "--file_extension=zip"]) == 1
    assert "names in the first 2 assets end in .txt (3), .nwb (2)" in caplog.text
