"""Local folders are listed like buckets, and other locations lead nowhere but to S3."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from conftest import Run
from dispatch.assets.assets import Asset
from dispatch.files.listing import Listing
from dispatch.stores.closed import FileNames
from dispatch.stores.local_files import LocalFiles
from dispatch.terminal.progress import Progress
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
