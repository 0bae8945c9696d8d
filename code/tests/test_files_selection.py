"""Patterns choose among files as fnmatch does; what systems leave is no data."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest
from hypothesis import strategies as st

from chosen import put_on_disk
from conftest import Run, fuzz, some
from dispatch.assets.assets import Skip
from dispatch.files.selection import Selection
from dispatch.files.skips import report_skipped
from dispatch.terminal.messages import FailedRun
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
