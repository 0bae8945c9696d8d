"""Local folders are a store like a bucket."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote

from dispatch.assets.assets import Asset
from dispatch.files.listing import Listing
from dispatch.stores.closed import FileNames
from dispatch.stores.local_files import LocalFiles
from dispatch.terminal.progress import Progress
from reference import expected_files


def test_local_folders_are_listed_like_buckets(tmp_path: Any) -> None:
    keys = {
        "a.nwb", "b/c.nwb/0", "b/c.nwb/units/d.nwb", "s.zarr/e.nwb", "s.zarr/.zattrs", "f.txt",
        "deep/er/é %20.nwb",
    }  # fmt: skip
    for key in keys:
        (tmp_path / "top" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / key).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.nwb").touch()
    os.symlink(tmp_path / "elsewhere", tmp_path / "top" / "link")
    os.symlink(tmp_path / "top", tmp_path / "top" / "deep" / "loop")
    os.symlink(tmp_path / "elsewhere", tmp_path / "elsewhere" / "itself")
    os.symlink(tmp_path / "top" / "b", tmp_path / "top" / "deep" / "b")
    os.symlink(tmp_path / "top" / "deep", tmp_path / "top" / "b" / "deep")
    os.symlink(tmp_path / "elsewhere", tmp_path / "top" / "link again")
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
