"""Whole runs against SeaweedFS, held against what boto3's paginator lists there."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from typing import Any

import pytest

from conftest import NIGHT, Result, Run, some
from reference import expected_bytes, expected_files
from seaweed import Seaweed, seaweed, seaweed_server  # noqa: F401  (fixtures)
from standins import BUCKET, DocDB, record

Dispatch = Callable[..., Result]


@pytest.fixture
def dispatch(run: Run, docdb: DocDB, seaweed: Seaweed) -> Dispatch:
    """Return a function that runs the program with all that SeaweedFS holds."""

    def dispatch(extension: str, *flags: str, **options: Any) -> Result:
        docdb.records["v1"].clear()
        docdb.put(
            *(record(name) for name in sorted({key.split("/")[0] for key in seaweed.listed()}))
        )
        all_flags = ["--query={}", f"--file_extension={extension}", "--max_jobs=5000", *flags]
        return run(*all_flags, env={"AWS_ENDPOINT_URL": seaweed.url}, **options)

    return dispatch


def files_of(result: Result) -> set[str]:
    assert result.status == 0, result.log
    files = [url for task in result.tasks() for url in task["file_location"]]
    assert len(files) == len(set(files))
    return {url.removeprefix(f"s3://{BUCKET}/") for url in files}


def truth(sizes: dict[str, int], extension: str) -> set[str]:
    """Return the files with the extension, by the keys that boto3 lists."""
    found: set[str] = set()
    for top in {key.split("/")[0] for key in sizes}:
        found |= {f"{top}/{file}" for file in expected_files(sizes, top, extension)}
    return found


def test_folders_that_lie_the_other_way_round_are_listed(
    dispatch: Dispatch, seaweed: Seaweed
) -> None:
    seaweed.put(
        ["one/behavior/x.nwb", "one/behavior-videos/y.nwb", "one/a b+c&d%20e.nwb", "one/é.nwb"]
    )
    assert list(seaweed.listed()) != sorted(seaweed.listed())
    result = dispatch(".nwb")
    assert files_of(result) == truth(seaweed.listed(), ".nwb")
    assert len(result.tasks()) == 4
    assert "retrying" not in result.log


NAMES = [
    "x", "x-", "x.nwb", "x.nwb-old", "x.zarr", "x.zarr!", "x.zarr0", "X", "a b", "a+b", "a%20b",
    "é.nwb", "日本", "&<>", "~.zarr", ".nwb", "…x.nwb", "x=y;z", "x'y", "x,y.nwb", "\U0001f9e0",
]  # fmt: skip


@pytest.mark.parametrize("turn", some(range(4), 2))
def test_trees_of_odd_names_are_listed_as_boto3_lists_them(
    turn: int, dispatch: Dispatch, seaweed: Seaweed
) -> None:
    draw = random.Random(turn)  # noqa: S311
    keys: set[str] = set()
    for asset in ("one", "two", "x"):
        for _ in range(draw.randint(1, 60)):
            keys.add("/".join([asset, *draw.choices(NAMES, k=draw.randint(1, 4))]))
    many = draw.choice(["x/x.zarr", "one/x.zarr", "two/x.nwb", "two/x"])
    keys |= {f"{many}/{n:04}" for n in range(draw.choice([0, 1_100]))}
    folders = {key[:end] for key in keys for end in range(len(key)) if key[end] == "/"}
    seaweed.put(sorted(keys - folders), b"xyz")  # a file system has no file that is a folder, too
    extension = draw.choice([".nwb", ".zarr", "-old", ".zarr0"])
    sizes = seaweed.listed()
    assert set(sizes) == keys - folders
    result = dispatch(extension, *draw.choice([["--split_files=0"], [], ["--keys_in_order=1"]]))
    if truth(sizes, extension):
        assert files_of(result) == truth(sizes, extension)
    weighed = dispatch(extension, "--dry_run=1", "--overwrite=1", "--split_files=0")
    total = 0
    for top in {key.split("/")[0] for key in sizes}:
        total += sum(expected_bytes(sizes, top, extension).values())
    assert sum_of_sizes(weighed) == total


def sum_of_sizes(result: Result) -> int:
    """Return the bytes of all tasks of a plan."""
    if result.status == 1:
        assert "nothing to dispatch" in result.error
        return 0
    with (result.output / "dispatch_plan.csv").open(newline="") as file:
        return sum(int(row["bytes"]) for row in csv.DictReader(file))


# It is the last one, since so many objects are slow to take away.
def test_a_store_of_several_pages_passes_over_nothing(dispatch: Dispatch, seaweed: Seaweed) -> None:
    files = {"one/a.zarr-old/x.nwb", "one/b.nwb", "two/c.nwb"}
    seaweed.put(f"one/a.zarr/{n:04}" for n in range(2_600 if NIGHT else 1_010))
    seaweed.put(files)
    result = dispatch("nwb")
    assert files_of(result) == files
    assert "10 pages" not in result.log
    vouched = dispatch("nwb", "--keys_in_order=1", "--overwrite=1")
    assert files_of(vouched) == files
    assert "come in another order than S3's: 1 asset listed anew" in vouched.log
