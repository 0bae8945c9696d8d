"""Local folders are listed like buckets, and what else a location may be: S3, or a new kind."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest

import run_capsule
from chosen import write_snapshot
from conftest import Run
from dispatch.assets.assets import Asset
from dispatch.files.listing import Listing
from dispatch.stores import kinds
from dispatch.stores.closed import FileNames
from dispatch.stores.kinds import Kind
from dispatch.stores.local_files import LocalFiles
from dispatch.stores.locations import Page
from dispatch.terminal.progress import Progress
from faults import FLAGS
from reference import expected_files
from standins import BUCKET, S3, DocDB, record


def test_local_folders_are_listed_like_buckets(tmp_path: Path) -> None:
    keys = {
        "a.nwb", "b/c.nwb/0", "b/c.nwb/units/d.nwb", "s.zarr/e.nwb", "s.zarr/.zattrs", "f.txt",
        "deep/er/é %20.nwb",
    }  # fmt: skip
    for path in ("elsewhere/linked.nwb", *(f"top/{key}" for key in keys)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    for link, target in {
        "top/link": "elsewhere",
        "top/deep/loop": "top",
        "elsewhere/itself": "elsewhere",
        "top/deep/b": "top/b",
        "top/b/deep": "top/deep",
        "top/link again": "elsewhere",
    }.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    keys.add("link/linked.nwb")  # each folder by one path
    for extension in (".nwb", ".zarr"):
        expected = expected_files({f"top/{key}" for key in keys}, "top", extension)
        listing = Listing({"file": LocalFiles()}, FileNames([extension]), Progress())
        try:
            for name in ("top", "gone"):
                listing.add([Asset((tmp_path / name).as_uri(), "", name, "", {})])
            [(top, files), (_, none)] = listing.files().items()
        finally:
            listing.close()
        assert {unquote(url).removeprefix(f"{top}/") for url in files} == expected
        assert none == {}


@pytest.mark.parametrize("outside", [False, True])
def test_folders_full_of_links_to_each_other_are_walked_once(
    outside: bool, run: Run, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    folders = [(tmp_path / "out" if outside else top) / f"d{n}" for n in range(9)]
    for folder in (top, *folders):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        (folder / f"{folder.name}.nwb").touch()
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    expected = [f"/d{n}/d{n}.nwb" for n in range(9)]
    if outside:
        (top / "first").symlink_to(folders[3])
        expected = [f"/first/to_d{n}/d{n}.nwb" for n in range(9) if n != 3]
        expected.insert(0, "/first/d3.nwb")
    flag = write_snapshot(tmp_path / "data", [record("a", location=top.as_uri())])
    result = run(*FLAGS, flag)
    assert result.status == 0, result.log
    found = [url for task in result.tasks() for url in task["file_location"]]
    assert sorted(found) == [f"{top.as_uri()}{path}" for path in expected]


def test_a_url_of_this_machine_is_its_path(tmp_path: Path) -> None:
    whole = kinds.url_of("file://localhost/a://localhost/b", tmp_path)
    assert whole == Path("/a:/localhost/b").as_uri()


def test_locations_lead_nowhere_but_to_s3(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["../x/a.nwb", "x/b.nwb", "good/c.nwb"])
    odd = ["file:///etc", f"s3://{BUCKET}", f"s3://{BUCKET}/", "/etc", "etc", "s3:///x", 5, None,
           ["s3://a/b"], "", "https://x/y", f"s3://{BUCKET}//x"]  # fmt: skip
    docdb.put(*({**record(f"odd{n:02}"), "location": at} for n, at in enumerate(odd)))
    docdb.put({**record("up"), "location": f"s3://{BUCKET}/../x"}, record("good"))
    docdb.put({**record("number"), "_id": 5}, {**record("list"), "_id": {"a": 1}})
    result = run("--query={}", "--file_extension=nwb")
    assert result.status == 0, result.log
    assert [task["file_location"] for task in result.tasks()] == [
        [f"s3://{BUCKET}/good/c.nwb"],
        [f"s3://{BUCKET}/../x/a.nwb"],
    ]
    for n in range(len(odd)):
        assert f"skipped, location is not s3://bucket/prefix: odd{n:02}" in result.log
    assert "record id is not a string: 2" in result.error


# ------------------------------------------------------------------------------------- a third kind

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


@pytest.fixture
def memory(docdb: DocDB, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Kind(Memory, r"memory://\w", "memory://name", from_network=True)
    monkeypatch.setitem(kinds.KINDS, "memory", line)
    monkeypatch.setenv("DOCDB_HOST", docdb.host)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(docdb.ca_file))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "example")


@pytest.mark.usefixtures("memory")
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
