"""Which files are found: the matcher alone, then against S3 servers of this order or another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Result, Run, fuzz, in_turn, some
from dispatch.assets.assets import Asset
from dispatch.files.listing import KEYS_PER_FOLDER, Listing
from dispatch.files.parts import Turns
from dispatch.given.lists import to_suffixes
from dispatch.stores import s3 as aws
from dispatch.stores.closed import FileNames
from dispatch.stores.servers import Orders
from dispatch.terminal.progress import Progress
from finding import Find, ask_at, find  # noqa: F401  (a fixture)
from orders import ORDERS, Lister, lister, lister_server  # noqa: F401  (a fixture)
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


@pytest.mark.usefixtures("small_pages")
def test_files_behind_the_folders_into_which_an_asset_is_split_are_found(
    s3: S3, find: Find
) -> None:
    keys = [f"x/{folder}/{n:04}.nwb" for folder in ("a/b", "a/c", "d") for n in range(99)]
    keys += ["x/z.nwb", "x/a/z.nwb", "x/a/b/z.nwb"]
    s3.put(BUCKET, keys)
    assert find("x", ".nwb", weigh=True) == expected_bytes(dict.fromkeys(keys, 0), "x", ".nwb")
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
    assert "begins with a dot" not in result.log  # as local folders may


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


# ------------------------------------------------------------------------------------- other orders

# Names around the slash: "!", "-" and "." come before it, "0" after; and two that UTF-16 turns.
names_by_the_slash = st.sampled_from(
    ["x", "x-", "x.nwb", "x.nwb-old", "x.zarr", "x.zarr!", "x.zarr0", "X", "\uffff", "\U0001f9e0"]
)
trees_by_the_slash = st.sets(
    st.lists(names_by_the_slash, min_size=1, max_size=4).map("/".join), max_size=40
)
# What two assets hold, and how they are listed.
DRAWN: dict[str, Any] = {
    "one": trees_by_the_slash,
    "two": trees_by_the_slash,
    "extension": st.sampled_from([".nwb", ".zarr", "0", "x"]),
    "page": st.integers(1, 4),
    "weigh": st.booleans(),
}


Listed = Callable[..., int]


@pytest.fixture
def listed(lister: Lister, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listed]:
    """Return a function that lists two assets, and looks whether brute force finds the same.

    It returns how many more requests there were than both have pages.
    """
    ask_at(lister.url, monkeypatch)
    store = aws.S3(timeout=60)
    progress = Progress()
    listing = Listing({"s3": store}, FileNames([".nwb"]), progress)

    def listed(
        one: set[str], two: set[str], extension: str, page: int, weigh: bool,
        vouched: bool | None = None,
    ) -> int:  # fmt: skip
        keys = sorted({f"one/{key}" for key in one} | {f"two/{key}" for key in two})
        sizes = {key: 1 + n for n, key in enumerate([*keys, "one-/x.nwb"])}
        lister.sizes, lister.page = sizes, page
        lister.asked.clear()
        store.orders = Orders(vouched)
        listing.found.clear()
        listing.turns = Turns()
        listing.names, listing.weigh = FileNames([extension]), weigh
        progress.files = progress.listed = progress.assets = 0
        listing.add([Asset(f"s3://{BUCKET}/{top}", "", top, "", {}) for top in ("one", "two")])
        files = listing.files()
        for at, found in files.items():
            top = at.rpartition("/")[2]
            expected = expected_bytes(sizes, top, extension)
            assert set(expected) == expected_files(sizes, top, extension)
            assert [url.removeprefix(f"{at}/") for url in found] == sorted(expected)
            if weigh:
                assert found == {f"{at}/{file}": size for file, size in expected.items()}
        assert len(files) == progress.listed == 2
        assert progress.files == sum(map(len, files.values()))
        pages = [max(1, math.ceil(len(keys) / page)) for keys in (one, two)]
        return len(lister.asked) - sum(pages)

    yield listed
    listing.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever can be split be split behind the first page."""
    monkeypatch.setattr("dispatch.files.listing.PAGES_IN_A_ROW", 1)
    monkeypatch.setattr("dispatch.files.listing.KEYS_PER_FOLDER", 1)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("order", "starts"), in_turn(ORDERS, ["own", "s3"]))
def test_a_server_that_is_not_known_is_listed_by_its_tokens_whatever_its_order(
    order: str, starts: str, lister: Lister, listed: Listed
) -> None:
    lister.order = ORDERS[order]
    lister.starts = ORDERS[order if starts == "own" else starts]

    def check(name: str, **drawn: Any) -> None:
        lister.name = lambda _: name
        assert listed(**drawn) == 0
        assert lister.jumps() == []

    fuzz(check, 0.01, **DRAWN, name=st.sampled_from(["", "SeaweedFS 4", "nginx", "XAmazonS3"]))


@pytest.mark.parametrize("vouched", [None, True])
def test_a_server_that_keeps_the_order_is_never_asked_more_than_plainly(
    vouched: bool | None, lister: Lister, listed: Listed
) -> None:
    lister.name = lambda _: "" if vouched else "MinIO"
    jumped = 0

    def check(**drawn: Any) -> None:
        nonlocal jumped
        assert listed(**drawn, vouched=vouched) <= 0
        jumped += len(lister.jumps())

    fuzz(check, 0.025, is_enough=lambda: jumped > 0, **DRAWN)
    assert jumped


@pytest.mark.parametrize("splits", [False, True])
def test_a_server_that_is_wrongly_vouched_for_is_found_out(
    splits: bool, lister: Lister, listed: Listed, request: pytest.FixtureRequest
) -> None:
    # It lists by folder, and begins after a key in its own order, as SeaweedFS does.
    if splits:
        request.getfixturevalue("soon")
    lister.order = lister.starts = ORDERS["by folder"]
    lister.name = lambda _: "SeaweedFS"

    def check(**drawn: Any) -> None:
        listed(**drawn, vouched=True)

    fuzz(check, 0.025, **DRAWN)


# ---------------------------------------------------------------------------------- whole runs


Dispatch = Callable[..., Result]
ZARR = [f"one/a.zarr/{n:03}" for n in range(50)]


@pytest.fixture
def dispatch(run: Run, docdb: DocDB, lister: Lister) -> Dispatch:
    """Return a function that runs the program, one request at a time, with what the lister has."""

    def dispatch(*flags: str, **options: Any) -> Result:
        docdb.records["v1"].clear()
        docdb.put(*(record(name) for name in sorted({key.split("/")[0] for key in lister.sizes})))
        all_flags = ["--query={}", "--max_connections=1", "--max_jobs=1000", *flags]
        return run(*all_flags, env={"AWS_ENDPOINT_URL": lister.url}, **options)

    return dispatch


def files_of(result: Result) -> list[str]:
    assert result.status == 0, result.log
    files = [url for task in result.tasks() for url in task["file_location"]]
    return [url.removeprefix(f"s3://{BUCKET}/") for url in files]


@pytest.mark.parametrize(
    "name", some(["AmazonS3", "MinIO", "", "MinIO/RELEASE.2019", "SeaweedFS 4"], 3)
)
def test_what_was_jumped_in_is_listed_anew_where_the_order_turns_out_to_be_another(
    name: str, dispatch: Dispatch, lister: Lister
) -> None:
    # By folder, a.zarr comes before a.zarr-old, which a page that begins after a.zarr/ lacks, as
    # S3 compares; that is found out when the page of `two` comes, when `one` is done.
    lister.order, lister.page = ORDERS["by folder"], 10
    lister.put([*ZARR, "one/a.zarr-old/x.nwb", "one/b.nwb", "one/._b.nwb", "one/no.nwb"])
    lister.put(["two/behavior/x.nwb", "two/behavior-videos/y.nwb"])
    lister.name = lambda _: name
    result = dispatch("--file_extension=nwb", "--exclude=no.nwb", "--balance_by=size")
    assert files_of(result) == [
        "one/a.zarr-old/x.nwb", "one/b.nwb", "two/behavior-videos/y.nwb", "two/behavior/x.nwb",
    ]  # fmt: skip
    assert "1 file left out by --include and --exclude" in result.log
    assert "3 records" not in result.error
    assert "4 files, 4 tasks" in result.error
    is_known = name[:1] in "AM" and bool(name)
    assert ("come in another order than S3's: 1 asset listed anew" in result.log) == is_known
    assert len(lister.jumps()) == is_known
    one = [query for query in lister.asked if query["prefix"] == "one/"]
    assert len(one) == 6 + 2 * is_known


def test_the_sizes_of_what_is_listed_anew_count_once(dispatch: Dispatch, lister: Lister) -> None:
    lister.order, lister.page = ORDERS["by folder"], 10
    lister.put([*ZARR, "one/b.zarr/0", "one/c/x", "one/c-d.zarr/0"], size=3)
    result = dispatch("--file_extension=zarr", "--dry_run=1", constants={"KEYS_PER_FOLDER": 1})
    assert result.status == 0, result.log
    assert "come in another order than S3's: 1 asset listed anew" in result.log
    rows = (result.output / "dispatch_plan.csv").read_text()
    assert [f",{size}," in rows for size in (150, 3, 6, 300)] == [True, True, False, False]


def test_an_answer_out_of_order_that_passes_is_asked_for_again(
    dispatch: Dispatch, lister: Lister
) -> None:
    lister.page = 10
    lister.put([*ZARR, "one/b.nwb", *(f"one/c/{n:02}.nwb" for n in range(30))])
    turned: list[str] = []

    def once(_: dict[str, str], keys: list[str]) -> list[str]:
        if "one/b.nwb" in keys and not turned:
            turned.extend(keys)
            return keys[::-1]
        return keys

    lister.spoil = once
    assert len(files_of(dispatch("--file_extension=nwb"))) == 31
    assert len(turned) == 10
    assert len(lister.jumps()) == 2  # the same one, twice
    assert len(lister.asked) == 6


def test_a_page_that_another_server_begins_after_a_key_does_not_count(
    dispatch: Dispatch, lister: Lister
) -> None:
    # Behind one address, one server keeps the order of S3 and one does not.
    lister.page = 10
    lister.put([*ZARR, "one/a.zarr-old/x.nwb", "one/b.nwb"])
    lister.order = ORDERS["by folder"]
    lister.name = lambda query: "nginx" if "start-after" in query else "AmazonS3"
    assert files_of(dispatch("--file_extension=nwb")) == ["one/a.zarr-old/x.nwb", "one/b.nwb"]


def test_a_server_that_is_not_known_is_told_once_and_can_be_vouched_for(
    dispatch: Dispatch, lister: Lister
) -> None:
    lister.name = lambda _: "Unheard/1.0 key=AKIDEXAMPLE"
    lister.page = 10
    lister.put(["one/b.nwb", *(f"one/a.zarr/{n:03}" for n in range(99))])
    ten = dispatch("--file_extension=nwb")
    assert files_of(ten) == ["one/b.nwb"]
    assert "10 pages" not in ten.log
    lister.asked.clear()
    lister.put([f"{top}/a.zarr/{n:03}" for top in ("one", "two") for n in range(101)])
    lister.put(["two/b.nwb"])
    host = lister.url.removeprefix("http://")
    told = dispatch("--file_extension=nwb", "--overwrite=1")
    words = f"more than 10 pages, .*{host} (Unheard/1.0 key=...) is not known to list keys in S3's"
    lines = [line for line in told.log.splitlines() if words.partition(".*")[2] in line]
    assert len(lines) == 1
    assert "s3://example-bucket/one: more than 10 pages" in lines[0]
    assert "--keys_in_order 1" in lines[0]
    assert len(lister.asked) == 22
    lister.asked.clear()
    vouched = dispatch("--file_extension=nwb", "--keys_in_order=1", "--overwrite=1")
    assert files_of(vouched) == files_of(told) == ["one/b.nwb", "two/b.nwb"]
    assert "10 pages" not in vouched.log
    assert len(lister.asked) == 4


def test_no_order_can_be_asked_for(dispatch: Dispatch, lister: Lister) -> None:
    lister.page = 10
    lister.order = ORDERS["by folder"]
    lister.put([*ZARR, "one/a.zarr-old/x.nwb", *(f"one/b/{n:03}" for n in range(100))])
    result = dispatch("--file_extension=nwb", "--keys_in_order", "no")
    assert files_of(result) == ["one/a.zarr-old/x.nwb"]
    assert lister.jumps() == []
    assert "--keys_in_order 0 says that keys come in another order" in result.log
    wrong = dispatch("--keys_in_order=maybe")
    assert wrong.status == 2
    assert "--keys_in_order: must be 0 or 1" in wrong.error


def test_pages_that_come_again_under_other_tokens_end(dispatch: Dispatch, lister: Lister) -> None:
    lister.name, lister.page = lambda _: "", 10
    lister.put(f"one/{n:04}.nwb" for n in range(2_000))
    lister.spoil = lambda *_: sorted(lister.sizes)[:10]
    result = dispatch("--file_extension=nwb")
    assert result.status == 1
    assert "a page that comes again, so that there is no end to them" in result.error
    assert len(lister.asked) == 2
