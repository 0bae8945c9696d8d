"""Which files are found: the matcher alone, then against an S3 server."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run, fuzz
from dispatch.files.listing import KEYS_PER_FOLDER
from dispatch.given.lists import to_suffixes
from dispatch.stores.closed import FileNames
from finding import Find, find  # noqa: F401  (a fixture)
from reference import expected_bytes, expected_files
from standins import BUCKET, S3, DocDB, record

# Short names over a small alphabet, so that folders share, nest, match and end alike; and odd ones.
names = st.one_of(
    st.sampled_from(
        ["a", "b", "a.nwb", "b.nwb", ".nwb", "c.zarr", "c.nwb.zarr", "c.zarr0", "a.nwb0"]
    ),
    st.sampled_from(
        ["", ".", "..", "a b", "é", "日本.nwb", "a%20b", "%2e.nwb", "a+b&c", "a\\b.nwb"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=6),
)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
extensions = st.sampled_from([".nwb", ".zarr", ".nwb.zarr", "b", "0", ".zarr0", "é"])


@given(keys=st.sets(paths, max_size=30), extension=extensions)
def test_the_matcher_finds_what_brute_force_finds(keys: set[str], extension: str) -> None:
    file_of = FileNames([extension]).file_of
    found = {file_of(key)[0] for key in keys} - {None}
    sizes = {f"top/{key}": 1 for key in keys}
    assert found == expected_files(sizes, "top", extension)


@pytest.fixture
def small_pages(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages, and what depends on them, be a fiftieth as large."""
    s3.page = 20
    monkeypatch.setattr("dispatch.files.listing.KEYS_PER_FOLDER", KEYS_PER_FOLDER // 50)


# Folders with their markers, and the siblings that sort around them: before "/" come "!", "-", ".".
siblings = st.sampled_from(
    ["x", "x!", "x-.nwb", "x.nwb", "x.zarr", "x0", "d", "d.nwb!", "\U0010ffff", "y\U0010ffff.nwb"]
)
keys_of_trees = st.builds(
    lambda parts, marker: "/".join(parts) + marker,
    st.lists(siblings | siblings | names, min_size=1, max_size=5),
    st.sampled_from(["", "", "/"]),
)
trees = st.sets(paths, max_size=40) | st.sets(keys_of_trees, max_size=40)


def test_a_server_with_small_pages_gives_what_brute_force_finds(
    s3: S3, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(
        keys: set[str], extension: str, page: int, weigh: bool, limits: tuple[int, int]
    ) -> None:
        in_a_row, per_folder = limits
        monkeypatch.setattr("dispatch.files.listing.PAGES_IN_A_ROW", in_a_row)
        monkeypatch.setattr("dispatch.files.listing.KEYS_PER_FOLDER", per_folder)
        s3.backend.buckets[BUCKET].keys.clear()
        s3.page = page
        all_keys = {f"top/{key}" for key in keys} | {"top_other/a.nwb", "top", "to/a.nwb"}
        sizes = {key: 1 + len(key) % 7 for key in all_keys}
        for key, size in sizes.items():
            s3.backend.put_object(BUCKET, key, b"x" * size)
        s3.requests.clear()
        found = find("top", extension, weigh=weigh)
        if weigh:
            assert found == expected_bytes(sizes, "top", extension)
        else:
            assert set(found) == expected_files(sizes, "top", extension)
        if in_a_row == 1_000:
            assert len(s3.listings()) <= max(1, math.ceil(len(keys) / page))

    fuzz(
        check, share=0.06, keys=trees, extension=extensions, page=st.integers(1, 4),
        weigh=st.booleans(), limits=st.sampled_from([(1_000, 1), (1, 1), (1, 2), (2, 3)]),
    )  # fmt: skip


@pytest.mark.parametrize("number", [9, 10, 20])
def test_a_full_last_page_may_end_in_anything(number: int, s3: S3, find: Find) -> None:
    s3.page = 10
    for last in ("video/", "video!", "\U0010ffff", "video/\U0010ffff.nwb"):
        keys = [f"x/{n:04}.txt" for n in range(number - 2)] + ["x/video.nwb", f"x/{last}"]
        s3.backend.buckets[BUCKET].keys.clear()
        s3.put(BUCKET, keys)
        s3.requests.clear()
        assert set(find("x", ".nwb")) == expected_files(keys, "x", ".nwb")
        assert len(s3.listings()) == math.ceil(number / 10)


@pytest.mark.usefixtures("small_pages")
def test_siblings_of_a_marker_at_which_an_asset_is_split_weigh_once(s3: S3, find: Find) -> None:
    keys = [f"x/{folder}/{n:04}.nwb" for folder in "abc" for n in range(24)]
    keys += [f"x/d/{n:03}.nwb" for n in range(5)] + ["x/d/x!.nwb", "x/d/x-.nwb", "x/d/x/"]
    keys += [f"x/e/{n:04}.nwb" for n in range(12)]
    assert sorted(keys)[79] == "x/d/x/"  # the last one of a row of pages
    sizes = dict.fromkeys(keys, 1) | {"x/d/x!.nwb": 7, "x/d/x-.nwb": 9}
    s3.put(BUCKET, [])
    for key, size in sizes.items():
        s3.backend.put_object(BUCKET, key, b"x" * size)
    assert find("x", ".nwb", weigh=True) == expected_bytes(sizes, "x", ".nwb")
    assert len({request.query["prefix"] for request in s3.listings()}) > 1


def test_odd_keys_and_locations_are_listed_as_they_are(s3: S3, find: Find) -> None:
    keys = {
        "a/x//y.nwb", "a/./z.nwb", "a/../w.nwb", "a/tab\there.nwb", "a/bell\x07.nwb/0",
        "a/fine.nwb", "a/marker.nwb/", "a/deep.zarr//no.nwb", "a//lead.nwb", "ab/other.nwb",
    }  # fmt: skip
    s3.put(BUCKET, keys)
    found = set(find("a", ".nwb"))
    assert found == expected_files(keys, "a", ".nwb")
    assert "marker.nwb" not in found
    assert len(found) == 7
    s3.put(BUCKET, ["a//b/x.nwb", "a/../b/y.nwb"])
    assert set(find("a//b", ".nwb")) == {"x.nwb"}
    assert set(find("a/../b", ".nwb")) == {"y.nwb"}


HUGE = [f"i/{n:02}/{m:04}.tif" for n in range(12) for m in range(20)]
ODD = ["/b.tif", "i/03//odd.tif", "i/04/../up.tif", "i/05/bell\x07.tif", "/b.nwb", "i/03//odd.nwb",
       "i/04/0014/../x.nwb", "i/05/z.nwb", "i/06.nwb/1"]  # fmt: skip
BEHIND = ["a.zarr.nwb", "a.zarr0", "a.zarr0.nwb", "a.zarr0/b.nwb"]
# What an asset holds; the endings, each with the requests that it takes to find it: pages in a row,
# one a level, the folders ahead, what follows the last page.
TREES: dict[str, tuple[list[str], dict[str, int]]] = {
    "stores": (
        [*(f"e/{p}.zarr/t/{n}" for p in "abc" for n in range(50)), "e/z.nwb"],
        {".nwb": 4, ".zarr": 4},  # where plain listing takes 8
    ),
    "many stores": (
        [f"e/{n:02}.zarr/t/{m}" for n in range(20) for m in range(20)],
        {".zarr": 4 + 2 + 16},  # of which each may be an empty folder
    ),
    "right behind a store": (
        [*(f"a.zarr/{n:04}" for n in range(24)), *BEHIND],
        {".nwb": 2, ".zarr0": 2, "0": 2, ".zarr": 2},
    ),
    "behind the last character": (
        [*(f"a.zarr/\U0010ffff{n:02}" for n in range(50)), "b.nwb"],
        {".nwb": 3},
    ),
    "folders": (
        [*(f"i/{n:03}/{m:04}.tif" for n in range(20) for m in range(20)), "s.json", "z/1.tif"],
        {".tif": 4 + 2 + 17 + 1, "9.tif": 24},
    ),
    "tiny folders": (
        [f"t/{n:04}/{m}.json" for n in range(100) for m in range(2)],
        {"1.json": 11},  # where plain listing takes 10
    ),
    "folders just large enough": (
        [f"t/{n:03}/{m}.json" for n in range(40) for m in range(5)],
        {".json": 32},
    ),
    "odd names in folders": ([*HUGE, *ODD], {".tif": 17, ".nwb": 18}),
}


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("name", TREES)
def test_a_tree_takes_so_many_requests(name: str, s3: S3, find: Find) -> None:
    paths, endings = TREES[name]
    keys = [f"asset/{path}" for path in paths]
    s3.put(BUCKET, keys)
    for ending, requests in endings.items():
        s3.requests.clear()
        assert set(find("asset", ending)) == expected_files(keys, "asset", ending)
        assert len(s3.listings()) == requests


def test_each_small_asset_takes_one_request(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.page = 20
    s3.put(BUCKET, [f"asset{n}/{key}" for n in range(100) for key in ("s.nwb", "videos/1.mp4")])
    s3.put(BUCKET, [f"full/{n}.nwb" for n in range(20)])
    docdb.put(record("full"), *(record(f"asset{n}") for n in range(100)))
    result = run("--query={}", "--file_extension=nwb", "--split_files=0")
    assert result.status == 0, result.log
    files = Counter(len(task["file_location"]) for task in result.tasks())
    assert files == {1: 100, 20: 1}
    assert len(s3.listings()) == 101
    assert len(docdb.requests) == 2  # the second one finds no more
    assert not any(request.method == "HEAD" for request in s3.requests)


def test_the_parts_of_a_huge_asset_queue_behind_the_other_assets(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    s3.page = 20
    s3.put(BUCKET, [f"asset0/i/{n:03}/{m:04}.tif" for n in range(8) for m in range(20)])
    s3.put(BUCKET, [f"asset{n}/0.tif" for n in range(1, 9)])
    docdb.put(*(record(f"asset{n}") for n in range(9)))
    flags = ("--query", "{}", "--file_extension=tif", "--max_connections=1")
    result = run(*flags, constants={"KEYS_PER_FOLDER": 5})
    assert result.status == 0, result.log
    assert "9 records matched, 0 skipped, 168 files, 168 tasks" in result.error
    order = [request.query["prefix"] for request in s3.listings()]
    last_small = max(order.index(f"asset{n}/") for n in range(1, 9))
    assert [order.index(f"asset0/i/{n:03}/") > last_small for n in range(4, 8)] == [True] * 4


def test_an_asset_without_a_match_is_skipped_by_name(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb", "x/a.NWB", "y/a.txt", "y_other/b.nwb"])
    docdb.put(record("x"), record("y"), record("nowhere"))
    result = run("--query", "{}", "--file_extension", "nwb")
    assert result.status == 0
    assert [task["file_location"] for task in result.tasks()] == [[f"s3://{BUCKET}/x/a.nwb"]]
    assert "no .nwb file: y " in result.log
    assert "no .nwb file: nowhere " in result.log
    assert (
        "3 records matched, 2 skipped (no .nwb file: 2), 1 file, 1 task, 1 worker" in result.error
    )
    strict = run("--query", "{}", "--file_extension", ".nwb", "--strict=1", "--overwrite=1")
    assert strict.status == 1
    assert "--strict" in strict.error
    assert strict.files() == result.files()


@pytest.mark.parametrize(
    ("word", "extension"),
    [("nwb", ".nwb"), (".nwb", ".nwb"), ("nwb.zarr", "nwb.zarr"), ("_probe", "_probe"),
     ("subject.json", "subject.json"), ("-ap", "-ap"), ("日本", ".日本")],
)  # fmt: skip
def test_a_word_without_a_dot_gets_one(word: str, extension: str) -> None:
    assert to_suffixes(word) == (extension,)


def test_a_closed_standard_error_is_no_fault(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    result = run("--query={}", "--file_extension=nwb", prefix="exec 2>&-; exec ")
    assert result.status == 0
    assert result.stdout == ""
    assert len(result.tasks()) == 1
