"""Servers that list in other orders than S3: nothing is passed over, and nothing counts twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import Result, Run, fuzz, some
from dispatch.assets.assets import Asset
from dispatch.files.listing import Listing
from dispatch.files.parts import Turns
from dispatch.stores import s3 as aws
from dispatch.stores.closed import FileNames
from dispatch.stores.servers import Orders
from dispatch.terminal.progress import Progress
from finding import ask_at
from orders import ORDERS, Lister, lister, lister_server  # noqa: F401  (fixtures)
from reference import expected_bytes, expected_files
from standins import BUCKET, DocDB, record
from turns import in_turn

# Names around the slash: "!", "-" and "." come before it, "0" after; and two that UTF-16 turns.
names = st.sampled_from(
    ["x", "x-", "x.nwb", "x.nwb-old", "x.zarr", "x.zarr!", "x.zarr0", "X", "\uffff", "\U0001f9e0"]
)
trees = st.sets(st.lists(names, min_size=1, max_size=4).map("/".join), max_size=40)
# What two assets hold, and how they are listed.
DRAWN: dict[str, st.SearchStrategy[Any]] = {
    "one": trees,
    "two": trees,
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

    fuzz(check, 0.025, **DRAWN)
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
