"""Which files are taken: by patterns, endings and sizes, with what lies beside them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import strategies as st

from chosen import put_on_disk, write_snapshot
from conftest import Run, fuzz, some
from dispatch.assets.assets import Asset, Skip
from dispatch.files.listing import Listing
from dispatch.files.selection import Selection
from dispatch.files.skips import report_skipped
from dispatch.given.lists import to_bytes
from dispatch.stores import s3 as aws
from dispatch.stores.closed import FileNames
from dispatch.stores.local_files import LocalFiles
from dispatch.stores.locations import Store
from dispatch.terminal.messages import FailedRun
from dispatch.terminal.progress import Progress
from finding import ask_at
from reference import expected_sets
from standins import BUCKET, S3, DocDB, record


def test_the_first_of_what_is_skipped_is_named_with_its_reason_where_nothing_may_be() -> None:
    skips = [Skip("asked", "0", asked=True), Skip("small", "a"), Skip("large", "b")]
    report_skipped(skips, strict=False)
    report_skipped(skips[:1], strict=True)
    with pytest.raises(FailedRun, match=r"^--strict 1: 2 would be skipped, first a: small$"):
        report_skipped(skips, strict=True)


def taken_as_aws_does(path: str, include: list[str], exclude: list[str]) -> bool:
    """Return whether `aws s3` would take a file: all but what is excluded, the included alone.

    Its filters are flags in order: --exclude '*' first where something is to be included.
    """
    takes = not include
    for pattern in include:
        takes = takes or fnmatch.fnmatchcase(path, pattern)
    for pattern in exclude:
        takes = takes and not fnmatch.fnmatchcase(path, pattern)
    return takes


def test_patterns_take_the_files_that_fnmatch_takes() -> None:
    def check(path: str, include: list[str], exclude: list[str]) -> None:
        selection = Selection(include, exclude)
        assert selection.takes(path, "s3://b/x") == taken_as_aws_does(path, include, exclude)
        for pattern in (*include, *exclude):
            assert (pattern in selection.matched) == fnmatch.fnmatchcase(path, pattern)

    patterns = st.lists(st.text("a*?/.[!]", min_size=1, max_size=5), max_size=2)
    fuzz(
        check,
        0.025,
        path=st.text("a/b.", min_size=1, max_size=6),
        include=patterns,
        exclude=patterns,
    )


KEYS = [
    *("a/top.json", "a/one_ccf.json", "a/old/two_ccf.json", "a/behavior-videos/eye.json"),
    *("b/x/y/three_ccf.json", "b/very_old/four_ccf.json", "b/x.zarr/five.json", "b/b.json/six"),
]


# What --include and --exclude say, and the files they choose.
CHOSEN = [
    ("", "", ["a/behavior-videos/eye", "a/old/two_ccf", "a/one_ccf", "a/top", "b/b",
              "b/very_old/four_ccf", "b/x/y/three_ccf"]),
    ("behavior-videos/*", "", ["a/behavior-videos/eye"]),
    ("*_ccf.json", "*old/*", ["a/one_ccf", "b/x/y/three_ccf"]),
    ("top.json,b.json", "", ["a/top", "b/b"]),
    ("", "*_ccf.json", ["a/behavior-videos/eye", "a/top", "b/b"]),
]  # fmt: skip


@pytest.mark.parametrize(("where", "number"), [("s3", len(CHOSEN)), ("disk", 3)])
def test_patterns_choose_among_the_files(
    where: str, number: int, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    s3.put(BUCKET, KEYS)
    flags = ["--query={}", "--file_extension=.json", "--overwrite=1"]
    if where == "disk":
        flags.append(put_on_disk(tmp_path, "ab", KEYS))
    asked = set()
    for include, exclude, expected in some(CHOSEN, number):
        s3.requests.clear()
        result = run(*flags, f"--include={include}", f"--exclude={exclude}")
        assert result.status == 0, result.log
        found = []
        for task in result.tasks():
            for url in task["file_location"]:
                found.append("/".join(re.split("/(?=[ab]/)", url, maxsplit=1)[1:]))
        assert found == [f"{path}.json" for path in expected]
        asked.add(len(s3.listings()))
    assert len(asked) == 1  # no more than without patterns


def test_a_pattern_that_matches_nothing_is_named(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"), record("b"))
    s3.put(BUCKET, KEYS)
    result = run("--query={}", "--file_extension=json", "--include=*_ccf.json,*.JSON",
                 "--exclude=*nothing*")  # fmt: skip
    assert result.log.count("no .json file of any asset matches") == 2
    assert "no .json file of any asset matches '*.JSON'" in result.log
    nothing = run("--query={}", "--file_extension=json", "--include=x", "--overwrite=1")
    assert nothing.status == 1
    assert "no .json file that --include and --exclude leave: 2" in nothing.error
    assert run("--query={}", "--include=*.json").status == 2


@pytest.mark.parametrize("where", ["s3", "disk"])
def test_what_macos_and_nfs_leave_is_no_data(
    where: str, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    left = ["._a.nwb", "deep/._a.nwb", ".nfs0001.nwb", "deep/.nfs00000000abcd.nwb",
            "__MACOSX/a.nwb", "x/__MACOSX/deep/._a.nwb"]  # fmt: skip
    kept = ["a.nwb", "_.nwb", "nfs0001.nwb", "my__MACOSX/a.nwb", ".hidden.nwb"]
    keys = [*(f"a/{path}" for path in left + kept), *(f"b/{path}" for path in left)]
    flags = ["--query={}", "--file_extension=.nwb"]
    if where == "s3":
        docdb.put(record("a"), record("b"))
        s3.put(BUCKET, keys)
    else:
        flags.append(put_on_disk(tmp_path, "ab", keys))
    result = run(*flags)
    found = {url.partition("/a/")[2] for task in result.tasks() for url in task["file_location"]}
    assert found == set(kept)
    assert "skipped, no .nwb file: b (" in result.log
    assert result.log.count("no data, left by macOS or NFS: ") == 12
    only_a = [*flags[1:], "--query={'name': 'a'}", "--strict=1", "--overwrite=1"]
    assert run(*only_a).status == 0  # which strict does not mind


# ----------------------------------------------------------------------------------------- together

NAMES = [
    *("a.ap.bin", "a.ap.meta", "a.bin", "a.meta", "a.nidq.bin", "b.bin", "b.meta", "b.zarr"),
    *("v.mp4", "v.csv", "x.nwb", "x.nwb.zarr", "n.n5", "d", "zarr.json", "old d.bin", "old d.meta"),
]
parts = st.sampled_from(NAMES)
trees = st.dictionaries(
    st.lists(parts, min_size=1, max_size=3).map("/".join), st.integers(0, 30), max_size=25
)
endings = st.sampled_from(
    [".bin", ".ap.bin", ".meta", ".ap.meta", ".nwb", ".nwb.zarr", ".zarr", ".csv", ".json", ".n5"]
)
lists = st.lists(endings, unique=True, max_size=3).map(tuple)
patterns = st.lists(st.sampled_from(["*", "a*", "old d*", "d/*", "*[an].*", "*.bin"]), max_size=1)


@pytest.fixture
def listing(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listing]:
    ask_at(s3.url, monkeypatch)
    monkeypatch.setattr("dispatch.files.listing.PAGES_IN_A_ROW", 2)
    monkeypatch.setattr("dispatch.files.listing.KEYS_PER_FOLDER", 2)
    s3.put(BUCKET, [])
    stores: dict[str, Store] = {"s3": aws.S3(timeout=60), "file": LocalFiles()}
    listing = Listing(stores, FileNames([".bin"]), Progress())
    yield listing
    listing.close()


def as_a_tree(sizes: dict[str, int]) -> dict[str, int]:
    """Return the files that can lie beside each other on a disk: none is a folder of another."""
    return {
        path: size
        for path, size in sizes.items()
        if not any(other.startswith(f"{path}/") for other in sizes)
    }


def test_files_and_what_lies_beside_them_are_those_of_brute_force(
    s3: S3, listing: Listing, tmp_path: Path
) -> None:
    number = 0

    def check(
        sizes: dict[str, int], extensions: tuple[str, ...], sidecars: tuple[str, ...],
        min_size: int, include: list[str], exclude: list[str], weigh: bool, page: int, where: str,
    ) -> None:  # fmt: skip
        nonlocal number
        number += 1
        extensions = extensions or (".bin",)
        sidecars = tuple(one for one in sidecars if one not in extensions)
        location = f"s3://{BUCKET}/top"
        if where == "file":
            sizes = as_a_tree(sizes)
            folder = tmp_path / str(number)
            folder.mkdir()
            for path, size in sizes.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(b"x" * size)
            location = folder.as_uri()
        else:
            s3.backend.buckets[BUCKET].keys.clear()
            s3.page = page
            for path, size in sizes.items():
                s3.backend.put_object(BUCKET, f"top/{path}", b"x" * size)

        def below_top(url: str) -> str:
            return unquote(url)[len(unquote(location)) + 1 :]

        def takes(path: str, size: int) -> bool:
            return size >= min_size and taken_as_aws_does(path, include, exclude)

        for kept in (listing.found, listing.together, listing.skips):
            kept.clear()
        listing.selection = Selection(include, exclude, min_size)
        listing.names, listing.weigh = FileNames(extensions, sidecars), weigh
        listing.add([Asset(location, "", "example", "", {})])
        [files] = listing.files().values()
        below = {f"top/{path}": size for path, size in sizes.items()}
        sets, lacking = expected_sets(below, "top", extensions, sidecars, takes)
        together = listing.together.get(location)
        assert [list(map(below_top, one)) for one in together or [[url] for url in files]] == sets
        assert {below_top(one.name) for one in listing.skips.get(location, [])} == lacking
        if together:
            assert list(files) == list(dict.fromkeys(chain(*together)))

    fuzz(
        check, share=0.06, sizes=trees, extensions=lists, sidecars=lists,
        min_size=st.sampled_from([0, 0, 1, 10, 40]), include=patterns, exclude=patterns,
        weigh=st.booleans(), page=st.integers(1, 4), where=st.sampled_from(["s3", "file"]),
    )  # fmt: skip


PROBES = [
    *("a/p0/x.ap.bin", "a/p0/x.ap.meta", "a/p0/x.lf.bin", "a/p0/x.lf.meta", "a/p1/y.ap.bin"),
    *("a/p2/y.ap.meta", "b/v.mp4", "b/v.csv", "b/v.json", "c/z.ap.bin"),
]


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_a_file_and_its_sidecars_are_one_task(
    where: str, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    s3.put(BUCKET, PROBES)
    docdb.put(*map(record, "abc"))
    flags = ["--query={}", "--overwrite=1"]
    if where == "disk":
        flags.append(put_on_disk(tmp_path, "abc", PROBES))
    result = run(*flags, "--file_extension=.ap.bin", "--sidecar=.ap.meta")
    assert result.status == 0, result.log
    [task] = result.tasks()
    assert [url.partition("/a/")[2] for url in task["file_location"]] == [
        "p0/x.ap.bin", "p0/x.ap.meta"
    ]  # fmt: skip
    assert "a/p1/y.ap.bin" in result.log
    assert "c/z.ap.bin" in result.log
    assert "3 skipped (no .ap.meta beside it: 2, no .ap.bin file: 1)" in result.error
    if where == "disk":  # what follows does not ask where a file is
        return
    strict = run(*flags, "--file_extension=.ap.bin", "--sidecar=.ap.meta", "--strict=1")
    assert strict.status == 1
    several = run(*flags, "--file_extension=mp4,.bin", "--sidecar=.csv", "--sidecar=.json",
                  "--dry_run=1")  # fmt: skip
    assert "1 task" in several.error
    assert "no .csv and no .json beside it" in several.log
    whole = run(*flags, "--file_extension=.bin", "--sidecar=.meta", "--split_files=0")
    assert [len(task["file_location"]) for task in whole.tasks()] == [4]
    assert run(*flags, "--sidecar=.meta").status == 2
    assert run(*flags, "--file_extension=.meta", "--sidecar=.meta").status == 2


def test_the_ending_that_found_nothing_is_named(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb.zarr/0", "a/y.nwb/0", "a/z.nwb"])
    flags = ("--query={}", "--overwrite=1")
    result = run(*flags, "--file_extension=.nwb, .nwb.zarr,.zarr", "--split_files=0")
    [task] = result.tasks()
    assert task["file_location"] == [
        f"s3://{BUCKET}/a/{name}" for name in ("x.nwb.zarr", "y.nwb", "z.nwb")
    ]
    assert "no file of any asset ends in .zarr" in result.log
    assert result.log.count("no file of any asset") == 1
    nothing = run(*flags, "--file_extension=.mat,.npy")
    assert "no .mat or .npy file: a" in nothing.log
    for same in (['[".nwb", ".nwb.zarr"]'], ["nwb", ".nwb.zarr"]):
        result = run(*flags, *(f"--file_extension={one}" for one in same))
        assert len(result.tasks()) == 3


def test_nothing_in_a_folder_that_is_closed_is_a_file(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"))
    s3.page = 100
    chunks = [f"a/x.nwb/acquisition/c/{n:04}" for n in range(300)]
    s3.put(BUCKET, [*chunks, "a/x.nwb/zarr.json", "a/y.n5/attributes.json", "a/subject.json"])
    result = run("--query={}", "--file_extension=.json")
    assert [task["file_location"] for task in result.tasks()] == [[f"s3://{BUCKET}/a/subject.json"]]
    assert len(s3.listings()) == 2
    nothing = run("--query={}", "--file_extension=.txt", "--overwrite=1")
    assert "names in the first 1 asset end in .json (1), .nwb (1)" in nothing.log


def test_files_below_a_size_are_counted_and_left_out(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"), record("b"))
    s3.put(BUCKET, [])
    sizes = {
        **{"a/small.nwb": 9, "a/large.nwb": 10, "a/folder.nwb/0": 5, "a/folder.nwb/1": 5},
        **{"a/tiny.nwb/0": 9, "a/empty.nwb/": 0, "a/marked.nwb/": 0, "a/marked.nwb/x": 20},
    }
    for key, number in sizes.items():
        s3.backend.put_object(BUCKET, key, b"x" * number)
    result = run("--query={}", "--file_extension=.nwb", "--min_size=0.0095KiB")
    assert result.status == 0, result.log
    found = [task["file_location"][0].rpartition("/")[2] for task in result.tasks()]
    assert found == ["folder.nwb", "large.nwb", "marked.nwb"]
    assert "2 files left out by --min_size: smaller than 10 bytes" in result.log
    plain = run("--query={}", "--file_extension=.nwb", "--overwrite=1")
    assert len(plain.tasks()) == 5  # not the folder that holds nothing but its marker
    assert run("--query={}", "--min_size=10").status == 2
    wrong = run("--query={}", "--file_extension=.nwb", "--min_size=10 monkeys")
    assert wrong.status == 2
    words = "--min_size: must be a size, such as 10MB, 1.5GiB or a number of bytes"
    assert words in wrong.error
    for number in range(100):
        s3.backend.put_object(BUCKET, f"b/x.zarr/{number:03}", b"x" * 10)
    s3.page = 10
    s3.requests.clear()
    large = run("--query={}", "--file_extension=.zarr", "--min_size=250", "--overwrite=1")
    assert len(large.tasks()) == 1
    # a folder is added up until it is large enough
    assert len([one for one in s3.listings() if one.query["prefix"].startswith("b")]) <= 5


def test_what_is_no_size_is_told() -> None:
    for size in ("ten", "10 monkeys", "-1", "1e3", "10i", "1.2.3"):
        with pytest.raises(ValueError, match="must be a size, such as 10MB"):
            to_bytes(size)


def test_a_location_can_be_the_file_itself(run: Run, docdb: DocDB, s3: S3, tmp_path: Path) -> None:
    s3.put(BUCKET, ["zarr/1f2e.zarr/0/0", "zarr/1f2e.zarr/.zgroup", "deep/x.nwb", "deep/x.nwb.bak",
                    "root.nwb", "void.nwb/", "zarr/1f2e.zarr.nwb"])  # fmt: skip
    names = {"store": "zarr/1f2e.zarr", "object": "deep/x.nwb", "root": "root.nwb",
             "nothing": "deep/x.nw", "void": "void.nwb"}  # fmt: skip
    for name, key in names.items():
        for slash in ("", "/"):
            docdb.put(record(f"{name}{slash}", location=f"s3://{BUCKET}/{key}{slash}"))
    result = run("--query={}", "--file_extension=.nwb,.zarr", "--include=x.nwb,*.zarr,root*")
    assert result.status == 0, result.log
    assert {task["asset_name"][0]: task["file_location"] for task in result.tasks()} == {
        f"{name}{slash}": [f"s3://{BUCKET}/{names[name]}"]
        for name in ("object", "root", "store")
        for slash in ("", "/")
    }
    assert "4 skipped" in result.error
    inside = run("--query={}", "--file_extension=.zgroup", "--overwrite=1")
    assert len(inside.tasks()) == 2
    weighed = run("--query={}", "--file_extension=.nwb,.zarr", "--dry_run=1", "--overwrite=1")
    assert "6 tasks" in weighed.error
    (tmp_path / "y.zarr").mkdir()
    (tmp_path / "y.zarr" / "0").write_text("x")
    (tmp_path / "z.nwb").touch()
    local = [record("f", location="y.zarr"), record("g", location=str(tmp_path / "z.nwb"))]
    write_snapshot(tmp_path, local)
    on_disk = run("--records=records.jsonl", "--file_extension=.nwb,.zarr", "--overwrite=1")
    assert [task["file_location"] for task in on_disk.tasks()] == [
        [(tmp_path / "y.zarr").as_uri()], [(tmp_path / "z.nwb").as_uri()]
    ]  # fmt: skip


def test_a_datalad_folder_has_each_file_once_and_names_what_is_not_here(
    run: Run, tmp_path: Path
) -> None:
    top = tmp_path / "study"
    for key, is_here in (("K1.nwb", True), ("K2.nwb", False)):
        content = top / ".git" / "annex" / "objects" / "X" / key / key
        if is_here:
            content.parent.mkdir(parents=True)
            content.touch()
        (top / "sub").mkdir(exist_ok=True)
        os.symlink(os.path.relpath(content, top / "sub"), top / "sub" / key.replace("K", "ses"))
    os.symlink("nowhere", top / "sub" / "other.mp4")
    (top / ".ipynb_checkpoints").mkdir()
    (top / ".ipynb_checkpoints" / "ses1-checkpoint.nwb").touch()
    write_snapshot(tmp_path, [record("study", location="study")])
    flags = ("--records=records.jsonl", "--file_extension=.nwb", "--overwrite=1")
    result = run(*flags)
    assert result.status == 0, result.log
    assert [task["file_location"] for task in result.tasks()] == [
        [(top / "sub" / "ses1.nwb").as_uri()]
    ]
    assert "a link that leads nowhere, its content is not here: " in result.log
    assert "study/sub/ses2.nwb" in result.log
    assert "other.mp4" not in result.log
    assert "no data, begins with a dot: 2 folders of local assets" in result.log
    assert "1 skipped" in result.error
    strict = run(*flags, "--strict=1")
    assert strict.status == 1
    assert "ses2.nwb" in strict.error
    assert run(*flags, "--exclude=*ses2*", "--strict=1").status == 0
