"""Which files are found: the matcher alone, then against an S3 server."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock
from typing import Any
from urllib.parse import quote_plus, unquote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run, fuzz
from dispatch.assets.assets import Asset
from dispatch.files.concurrency import (
    FEWEST_CONNECTIONS,
    FIRST_CONNECTIONS,
    OTHER_FILES,
    Concurrency,
)
from dispatch.files.listing import KEYS_PER_FOLDER, Listing, file_of
from dispatch.given.flags import to_suffix
from dispatch.stores import s3 as aws
from dispatch.stores.local_files import LocalFiles
from dispatch.stores.s3 import read_page
from dispatch.terminal.messages import FailedRun
from dispatch.terminal.progress import Progress
from reference import expected_bytes, expected_files
from standins import BUCKET, KEY_ID, S3, SECRET, DocDB, Proxy, Request, record
from test_faults import answer

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
    found = {file_of(key, extension)[0] for key in keys} - {None}
    assert found == expected_files([f"top/{key}" for key in keys], "top", extension)


Find = Callable[..., dict[str, int | None]]


@pytest.fixture
def find(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Find]:
    """Return a function from a prefix and an extension to the files found, below the prefix."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-west-2",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("dispatch.stores.s3.backoff", lambda _: 0.01)
    s3.put(BUCKET, [])

    def start() -> Listing:
        stores = {"s3": aws.S3(timeout=60)}
        return Listing(stores, ".nwb", Progress())

    listing = start()

    def find(prefix: str, extension: str, *, weigh: bool = False) -> dict[str, int | None]:
        nonlocal listing
        location = f"s3://{BUCKET}/{prefix}"
        listing.sizes.clear()
        listing.extension, listing.weigh = extension, weigh
        try:
            listing.add([Asset(location, "", "example", "", {})])
            [(at, files)] = listing.files().items()
        except FailedRun:
            listing.close()
            listing = start()
            raise
        assert at == location
        assert list(files) == sorted(files)
        return {file.removeprefix(f"{location}/"): size for file, size in files.items()}

    yield find
    listing.close()


@pytest.fixture
def small_pages(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages, and what depends on them, be a tenth as large."""
    s3.page = 100
    monkeypatch.setattr("dispatch.files.listing.KEYS_PER_FOLDER", KEYS_PER_FOLDER // 10)


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


@pytest.mark.parametrize(("in_a_row", "per_folder"), [(1_000, 1), (1, 1), (1, 2), (2, 3)])
def test_a_server_with_small_pages_gives_what_brute_force_finds(
    in_a_row: int, per_folder: int, s3: S3, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatch.files.listing.PAGES_IN_A_ROW", in_a_row)
    monkeypatch.setattr("dispatch.files.listing.KEYS_PER_FOLDER", per_folder)

    def check(keys: set[str], extension: str, page: int, weigh: bool) -> None:
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
            assert set(found) == expected_files(all_keys, "top", extension)
        if in_a_row == 1_000:
            assert len(s3.listings()) <= max(1, math.ceil(len(keys) / page))

    fuzz(check, keys=trees, extension=extensions, page=st.integers(1, 4), weigh=st.booleans())


@pytest.mark.parametrize("last", ["video/", "video!", "\U0010ffff", "video/\U0010ffff.nwb"])
@pytest.mark.parametrize("number", [99, 100, 200])
def test_a_full_last_page_may_end_in_anything(
    number: int, last: str, run: Run, docdb: DocDB, s3: S3
) -> None:
    keys = [f"x/{n:04}.txt" for n in range(number - 2)] + ["x/video.nwb", f"x/{last}"]
    s3.page = 100
    s3.put(BUCKET, keys)
    docdb.put(record("x"))
    result = run("--query={}", "--file_extension=nwb", "--split_files=0")
    assert result.status == 0, result.log
    [task] = result.tasks()
    files = {file.removeprefix(f"s3://{BUCKET}/x/") for file in task["file_location"]}
    assert files == expected_files(keys, "x", ".nwb")
    assert len(s3.listings()) == math.ceil(number / 100)


@pytest.mark.usefixtures("small_pages")
def test_siblings_of_a_marker_at_which_an_asset_is_split_weigh_once(s3: S3, find: Find) -> None:
    keys = [f"x/{folder}/{n:04}.nwb" for folder in "abc" for n in range(130)]
    keys += [f"x/d/{n:03}.nwb" for n in range(7)] + ["x/d/x!.nwb", "x/d/x-.nwb", "x/d/x/"]
    keys += [f"x/e/{n:04}.nwb" for n in range(60)]
    assert sorted(keys)[399] == "x/d/x/"
    sizes = dict.fromkeys(keys, 1) | {"x/d/x!.nwb": 7, "x/d/x-.nwb": 9}
    s3.put(BUCKET, [])
    for key, size in sizes.items():
        s3.backend.put_object(BUCKET, key, b"x" * size)
    assert find("x", ".nwb", weigh=True) == expected_bytes(sizes, "x", ".nwb")
    assert len({request.query["prefix"] for request in s3.listings()}) > 1


@pytest.mark.usefixtures("small_pages")
def test_an_odd_key_does_not_keep_a_huge_asset_from_being_split(s3: S3, find: Find) -> None:
    keys = [f"asset/i/{n:02}/{m:04}.tif" for n in range(12) for m in range(100)]
    odd = ["/b.tif", "i/03//odd.tif", "i/04/../up.tif", "i/05/bell\x07.tif"]
    odd += ["/b.nwb", "i/03//odd.nwb", "i/04/0070/../x.nwb", "i/05/z.nwb", "i/06.nwb/1"]
    keys += [f"asset/{key}" for key in odd]
    s3.put(BUCKET, keys)
    for extension in (".tif", ".nwb"):
        s3.requests.clear()
        assert set(find("asset", extension)) == expected_files(keys, "asset", extension)
        assert len({request.query["prefix"] for request in s3.listings()}) > 8
    found = list(find("asset", ".nwb"))
    assert found == ["/b.nwb", "i/03//odd.nwb", "i/04/0070/../x.nwb", "i/05/z.nwb", "i/06.nwb"]


def test_odd_keys_are_listed_as_they_are(s3: S3, find: Find) -> None:
    keys = {
        "a/x//y.nwb", "a/./z.nwb", "a/../w.nwb", "a/tab\there.nwb", "a/bell\x07.nwb/0",
        "a/fine.nwb", "a/marker.nwb/", "a/deep.zarr//no.nwb", "a//lead.nwb", "ab/other.nwb",
    }  # fmt: skip
    s3.put(BUCKET, keys)
    found = set(find("a", ".nwb"))
    assert found == expected_files(keys, "a", ".nwb")
    assert "marker.nwb" in found
    assert len(found) == 8


def test_a_location_with_odd_segments_is_listed(s3: S3, find: Find) -> None:
    s3.put(BUCKET, ["a//b/x.nwb", "a/../b/y.nwb"])
    assert set(find("a//b", ".nwb")) == {"x.nwb"}
    assert set(find("a/../b", ".nwb")) == {"y.nwb"}


@pytest.mark.usefixtures("small_pages")
def test_pages_of_a_store_are_jumped_over(s3: S3, find: Find) -> None:
    stores = [f"asset/ecephys/{name}.zarr" for name in "abc"]
    chunks = [f"{store}/traces/{n}" for store in stores for n in range(250)]
    s3.put(BUCKET, [*chunks, "asset/ecephys/z.nwb"])
    for extension, files in ((".nwb", {"ecephys/z.nwb"}), (".zarr", {s[6:] for s in stores})):
        s3.requests.clear()
        assert set(find("asset", extension)) == files
        assert len(s3.listings()) == 4  # where plain listing takes 8


@pytest.mark.usefixtures("small_pages")
def test_many_stores_are_found_in_a_request_for_their_folder(s3: S3, find: Find) -> None:
    stores = [f"asset/ecephys/{n:02}.zarr" for n in range(20)]
    s3.put(BUCKET, [f"{store}/traces/{n}" for store in stores for n in range(100)])
    s3.requests.clear()
    assert set(find("asset", ".zarr")) == {store[6:] for store in stores}
    assert len(s3.listings()) == 4 + 2


@pytest.mark.usefixtures("small_pages")
def test_what_lies_right_behind_a_store_is_not_jumped_over(s3: S3, find: Find) -> None:
    keys = [f"asset/a.zarr/{n:04}" for n in range(120)]
    behind = ["asset/a.zarr.nwb", "asset/a.zarr0", "asset/a.zarr0.nwb", "asset/a.zarr0/b.nwb"]
    s3.put(BUCKET, [*keys, *behind])
    for extension in (".nwb", ".zarr0", "0", ".zarr"):
        found = set(find("asset", extension))
        assert found == expected_files([*keys, *behind], "asset", extension)


def test_a_store_whose_keys_begin_with_the_last_character_is_left_behind(
    s3: S3, find: Find
) -> None:
    s3.page = 2
    keys = [f"asset/a.zarr/\U0010ffff{n}" for n in range(5)] + ["asset/b.nwb"]
    s3.put(BUCKET, keys)
    assert set(find("asset", ".nwb")) == {"b.nwb"}
    assert len(s3.listings()) == 3


@pytest.mark.usefixtures("small_pages")
def test_a_huge_asset_is_split_by_folder(s3: S3, find: Find) -> None:
    keys = [f"asset/images/{n:03}/{m:04}.tif" for n in range(20) for m in range(100)]
    more = ["asset/zebra/1.tif", "asset/subject.json"]
    s3.put(BUCKET, [*keys, *more])
    s3.requests.clear()
    assert len(find("asset", ".tif")) == 2_001
    listings = s3.listings()
    # a row of pages, a request a level, the folders ahead, what follows the last page
    assert len(listings) <= 4 + 2 + 17 + 1
    assert len({request.query["prefix"] for request in listings}) > 16


@pytest.mark.usefixtures("small_pages")
def test_tiny_folders_are_listed_in_pages(s3: S3, find: Find) -> None:
    s3.put(BUCKET, [f"asset/tiles/{n:04}/{m}.json" for n in range(400) for m in range(5)])
    s3.requests.clear()
    assert len(find("asset", "4.json")) == 400
    assert len(s3.listings()) <= 21  # where plain listing takes 20


# The benchmark's workloads, scaled down: assets, what each holds, the extension, LIST requests.
WORKLOADS: dict[str, tuple[int, list[str], str, int]] = {
    "sessions": (20, ["s.nwb", *(f"videos/{n}.mp4" for n in range(119))], "nwb", 20),
    "zarr stores": (2, [f"e/{p}.zarr/0/{n}" for p in range(3) for n in range(1500)], "zarr", 2 * 4),
    "tiny folders": (
        1,
        [f"t/{n:04}/{m}.json" for n in range(2000) for m in range(5)],
        "4.json",
        10 + 1,
    ),
    "images": (
        1,
        [f"i/{n:03}/{m:04}.tif" for n in range(8) for m in range(1000)],
        "9.tif",
        4 + 2 + 4 + 1,
    ),
    "small": (200, ["s.nwb", *(f"videos/{n}.mp4" for n in range(19))], "nwb", 200),
}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_workload_takes_so_many_requests(workload: str, run: Run, docdb: DocDB, s3: S3) -> None:
    assets, keys, extension, lists = WORKLOADS[workload]
    s3.put(BUCKET, [f"asset{n}/{key}" for n in range(assets) for key in keys])
    docdb.put(*(record(f"asset{n}") for n in range(assets)))
    result = run(
        "--query={}", f"--file_extension={extension}", "--split_files=0",
        env={"AWS_DEFAULT_REGION": "us-west-2"},
    )  # fmt: skip
    assert result.status == 0, result.log
    expected = len(expected_files([f"a/{key}" for key in keys], "a", to_suffix(extension)))
    assert {len(task["file_location"]) for task in result.tasks()} == {expected}
    assert len(s3.listings()) == lists
    assert len(docdb.requests) == 2  # the second one finds no more
    assert not any(request.method == "HEAD" for request in s3.requests)


def test_the_parts_of_a_huge_asset_queue_behind_the_other_assets(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    s3.page = 100
    s3.put(BUCKET, [f"asset0/i/{n:03}/{m:04}.tif" for n in range(8) for m in range(100)])
    s3.put(BUCKET, [f"asset{n}/0.tif" for n in range(1, 9)])
    docdb.put(*(record(f"asset{n}") for n in range(9)))
    flags = ("--query", "{}", "--file_extension=tif", "--max_connections=1")
    result = run(*flags, constants={"KEYS_PER_FOLDER": 25})
    assert result.status == 0, result.log
    assert "9 records matched, 0 skipped, 808 files, 808 tasks" in result.error
    order = [request.query["prefix"] for request in s3.listings()]
    last_small = max(order.index(f"asset{n}/") for n in range(1, 9))
    assert [order.index(f"asset0/i/{n:03}/") > last_small for n in range(4, 8)] == [True] * 4


@pytest.mark.parametrize(
    ("flags", "prefix", "expected"),
    [
        ([], "ulimit -Sn 256; exec ", FIRST_CONNECTIONS),
        ([], "ulimit -Sn 100; exec ", 100 - OTHER_FILES),
        ([], "ulimit -Sn 40; exec ", 1),
        (["--max_connections=7"], "", 7),
        (["--max_connections=300"], "ulimit -Sn 1024; exec ", 300),
        (["--max_connections=300"], "ulimit -Sn 256; exec ", 256 - OTHER_FILES),
    ],
)
def test_so_many_requests_are_made_at_once_and_no_more(
    flags: list[str], prefix: str, expected: int, run: Run, docdb: DocDB, s3: S3
) -> None:
    number = expected + 20
    s3.put(BUCKET, [f"{n:03}/a.nwb" for n in range(number)])
    docdb.put(*(record(f"{n:03}") for n in range(number)))
    lock = Lock()
    enough = Event()
    in_hand = most = 0

    def hold(environ: Any, start_response: Any) -> list[bytes]:
        nonlocal in_hand, most
        with lock:
            in_hand += 1
            if not enough.is_set():  # quick answers let more be made
                most = max(most, in_hand)
        if in_hand >= expected and not enough.is_set():
            time.sleep(0.2)  # for more, if there are
            enough.set()
        assert enough.wait(60)
        page = s3.list_objects(environ, start_response)
        with lock:
            in_hand -= 1
        return [page]

    s3.fault = lambda request: hold if "list-type" in request.query else None
    env = {"AWS_DEFAULT_REGION": "us-west-2"}
    more = {"prefix": prefix} if prefix else {}
    result = run("--query={}", "--file_extension=nwb", *flags, env=env, **more)
    assert result.status == 0, result.log
    assert f"{number} files, {number} tasks" in result.error
    assert most == expected
    assert len(s3.listings()) == number


@pytest.fixture
def many(docdb: DocDB, s3: S3) -> int:
    """Put many small assets, and return their number."""
    s3.put(BUCKET, [f"{n:03}/a.nwb" for n in range(300)])
    docdb.put(*(record(f"{n:03}") for n in range(300)))
    return 300


def all_are_found(hold: Callable[..., Any], many: int, run: Run, s3: S3) -> None:
    """Let a function answer what is asked of S3, and look whether a run has all files."""
    s3.fault = lambda request: hold if "list-type" in request.query else None
    result = run("--query={}", "--file_extension=nwb", env={"AWS_DEFAULT_REGION": "us-west-2"})
    assert result.status == 0, result.log
    assert f"{many} files, {many} tasks" in result.error


def test_quick_answers_let_more_requests_be_made_at_once(many: int, run: Run, s3: S3) -> None:
    first = FIRST_CONNECTIONS
    lock = Lock()
    first_are_here, more_are_here = Event(), Event()
    asked = in_hand = 0

    def hold(environ: Any, start_response: Any) -> list[bytes]:
        nonlocal asked, in_hand
        with lock:
            asked, in_hand = asked + 1, in_hand + 1
            is_first = asked <= first
        if asked >= first:
            first_are_here.set()
        if in_hand > first:
            more_are_here.set()
        assert (first_are_here if is_first else more_are_here).wait(60)
        page = s3.list_objects(environ, start_response)
        with lock:
            in_hand -= 1
        return [page]

    all_are_found(hold, many, run, s3)
    assert more_are_here.is_set()


def test_after_slow_down_no_more_requests_are_made_at_once(many: int, run: Run, s3: S3) -> None:
    first = FIRST_CONNECTIONS
    lock = Lock()
    asked_again = Event()
    slowed_down = ""
    in_hand = most = 0

    def hold(environ: Any, start_response: Any) -> Any:
        nonlocal in_hand, most, slowed_down
        with lock:
            in_hand += 1
            most = max(most, in_hand)
            is_first, slowed_down = not slowed_down, slowed_down or environ["QUERY_STRING"]
        if is_first:
            in_hand -= 1
            return answer(503, "SlowDown")(environ, start_response)
        if environ["QUERY_STRING"] == slowed_down:
            asked_again.set()
        assert asked_again.wait(60)
        time.sleep(0.02)  # so that many are in hand
        page = s3.list_objects(environ, start_response)
        with lock:
            in_hand -= 1
        return [page]

    all_are_found(hold, many, run, s3)
    assert most <= first


def test_where_s3_refuses_fewer_requests_are_made_at_once(many: int, run: Run, s3: S3) -> None:
    lock = Lock()
    in_hand = refused = 0

    def hold(environ: Any, start_response: Any) -> Any:
        nonlocal in_hand, refused
        with lock:
            if in_hand >= 16:
                refused += 1
                return answer(503, "SlowDown")(environ, start_response)
            in_hand += 1
        time.sleep(0.02)
        page = s3.list_objects(environ, start_response)
        with lock:
            in_hand -= 1
        return [page]

    all_are_found(hold, many, run, s3)
    assert refused < 2 * many  # three times as many where each only pauses


def test_refusals_lower_the_number_of_requests_and_answers_raise_it_again() -> None:
    concurrency = Concurrency(100)
    concurrency.adapt("s3", 0.05, 60)
    assert 70 <= concurrency.limit < 71
    for _ in range(10_000):
        concurrency.adapt("s3", 0.05, 60)
    assert concurrency.limit == 100
    for refusals in range(61, 1_000):
        concurrency.adapt("s3", 0.05, refusals)
        assert FEWEST_CONNECTIONS <= concurrency.limit <= 100
    assert concurrency.limit < FEWEST_CONNECTIONS + 1
    for refusals in range(1_000, 10_000):  # each time one of eight: a share that is still too high
        concurrency.adapt("s3", 0.05, 999 + (refusals - 999) // 8)
    assert concurrency.limit < FEWEST_CONNECTIONS + 1


@pytest.mark.parametrize("most", [1, 3, 7])
def test_refusals_leave_no_run_without_requests(most: int) -> None:
    concurrency = Concurrency(most)
    for refusals in range(1, 100):
        concurrency.adapt("s3", 0.05, refusals)
        assert concurrency.limit == most


def test_slow_down_is_outlived_for_longer_than_other_faults(many: int, run: Run, s3: S3) -> None:
    refused = Counter[str]()

    def refuse(request: Request) -> Any:
        prefix = request.query.get("prefix", "")
        refused[prefix] += prefix in ("007/", "008/")
        return answer(503, "SlowDown") if 1 <= refused[prefix] <= 6 else None

    s3.fault = refuse
    result = run("--query={}", "--file_extension=nwb", constants={"LIST_TRIES": 3})
    assert result.status == 0, result.log
    assert f"{many} files, {many} tasks" in result.error
    assert refused["007/"] == refused["008/"] == 7


THREADS = """
import threading

start = threading.Thread.start

def count(thread):
    with open({!r}, "a") as started:
        print(thread.name, file=started)
    start(thread)

threading.Thread.start = count
"""


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        (["--docdb_snapshot=records.json"], 0),
        # DocDB, twice
        ([], 2),
        # and S3, the credentials, and the model of a task
        (["--file_extension=nwb"], 5),
    ],
)
def test_no_more_threads_are_started_than_have_something_to_do(
    flags: list[str], most: int, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    records = [record(f"{n:03}") for n in range(100)]
    s3.put(BUCKET, [f"{n:03}/a.nwb" for n in range(100)])
    docdb.put(*records)
    (tmp_path / "records.json").write_text(json.dumps(records))
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(THREADS.format(str(tmp_path / "started")))
    result = run("--query={}", *flags, env={"PYTHONPATH": str(tmp_path / "hook")})
    assert result.status == 0, result.log
    assert "100 tasks" in result.error
    started = tmp_path / "started"
    assert (len(started.read_text().splitlines()) if started.exists() else 0) in range(
        min(1, most), most + 1
    )


def test_pages_of_records_come_over_one_connection(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:05}") for n in range(1_100)))
    result = run("--query={}", "--max_jobs=1")
    assert "1,100 tasks" in result.error
    assert len(docdb.requests) == 3  # the last one for records whose ids are no strings
    assert docdb.connections == 1


def test_each_bucket_is_asked_in_its_own_region(run: Run, docdb: DocDB, s3: S3) -> None:
    for bucket, region in (("west-bucket", "us-west-2"), ("europe-bucket", "eu-central-1")):
        s3.put(bucket, ["x/a.nwb", "y/tab\t.nwb"], region)
        docdb.put(record("x", bucket, _id=bucket + "x"), record("y", bucket, _id=bucket + "y"))
    result = run(
        "--query", "{}", "--file_extension", ".nwb", env={"AWS_DEFAULT_REGION": "us-east-1"}
    )
    assert result.status == 0, result.log
    assert {task["file_location"][0] for task in result.tasks()} == {
        "s3://west-bucket/x/a.nwb",
        "s3://west-bucket/y/tab\t.nwb",
        "s3://europe-bucket/x/a.nwb",
        "s3://europe-bucket/y/tab\t.nwb",
    }
    assert all(request.signature for request in s3.listings())


def test_without_credentials_requests_are_unsigned(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put("open-bucket", ["x/a.nwb", "y/tab\t.nwb"], public=True)
    docdb.put(record("x", "open-bucket"), record("y", "open-bucket"))
    no_credentials = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    result = run("--query", "{}", "--file_extension", ".nwb", env=no_credentials)
    assert result.status == 0, result.log
    assert len(result.tasks()) == 2
    assert "unsigned" in result.log
    assert not any(request.signature for request in s3.requests)


def test_profile_credentials_and_endpoint_are_used(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb", "y/tab\t.nwb"])
    docdb.put(record("x"), record("y"))
    first = run("--query", "{}", "--file_extension", ".nwb")
    home = first.output.parent / "home" / ".aws"
    home.mkdir()
    (home / "credentials").write_text(
        f"[lab]\naws_access_key_id={KEY_ID}\naws_secret_access_key={SECRET}\n"
    )
    (home / "config").write_text(f"[profile lab]\nregion=us-west-2\nendpoint_url={s3.url}\n")
    profile = {
        "AWS_PROFILE": "lab",
        "AWS_ACCESS_KEY_ID": None,
        "AWS_SECRET_ACCESS_KEY": None,
        "AWS_ENDPOINT_URL": None,
    }
    again = run("--query", "{}", "--file_extension", ".nwb", "--overwrite=1", env=profile)
    assert again.status == 0, again.log
    assert again.files() == first.files()
    missing = run("--query", "{}", "--file_extension", ".nwb", env={"AWS_PROFILE": "nobody"},
                  output=first.output.parent / "other")  # fmt: skip
    assert missing.status == 1
    assert "nobody" in missing.error


def test_an_authority_of_ones_own_is_trusted(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    with s3.over_tls(docdb.certificate) as url:
        for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
            env = {"AWS_ENDPOINT_URL": url, name: str(docdb.ca_file)}
            result = run("--query", "{}", "--file_extension=.nwb", "--overwrite=1", env=env)
            assert result.status == 0, result.log


def test_a_proxy_is_used_unless_the_host_needs_none(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    proxy = Proxy()
    with s3.over_tls(docdb.certificate) as url:
        host = url.removeprefix("https://")
        env = {"AWS_ENDPOINT_URL": url, "HTTPS_PROXY": proxy.url, "AWS_DEFAULT_REGION": "us-west-2"}
        result = run("--query", "{}", "--file_extension=.nwb", env=env)
        assert result.status == 0, result.log
        assert proxy.asked.count(host) == 1
        proxy.asked.clear()
        result = run("--query={}", "--file_extension=.nwb", "--overwrite=1",
                     env={**env, "NO_PROXY": "localhost"})  # fmt: skip
        assert result.status == 0, result.log
        assert proxy.asked == []


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_for_s3_wins(name: str, run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    nowhere = "http://127.0.0.1:9"
    env = {"AWS_ENDPOINT_URL": nowhere, "AWS_ENDPOINT_URL_S3": s3.url}
    if name == "AWS_ENDPOINT_URL":
        env = {"AWS_ENDPOINT_URL": s3.url}
    assert run("--query", "{}", "--file_extension", ".nwb", env=env).status == 0


def test_a_role_is_assumed(run: Run, docdb: DocDB, s3: S3) -> None:
    # moto answers for STS at the same address; the keys it gives out are not the stand-in's, so
    # the refusal that names them shows that the role's own were used.
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    folder = run("--query", "{}").output.parent
    (folder / "home" / ".aws").mkdir()
    (folder / "home" / ".aws" / "config").write_text(
        "[profile role]\nrole_arn=arn:aws:iam::123456789012:role/reader\n"
        "source_profile=base\nregion=us-west-2\n"
        f"[profile base]\naws_access_key_id={KEY_ID}\naws_secret_access_key={SECRET}\n"
    )
    env = {"AWS_PROFILE": "role", "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    result = run("--query", "{}", "--file_extension", ".nwb", env=env, output=folder / "with-role")
    assert result.status == 1
    assert "InvalidAccessKeyId" in result.error
    assert any(request.method == "POST" and request.path == "/" for request in s3.requests)


def test_an_asset_without_a_match_is_skipped_by_name(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb", "y/a.txt", "y_other/b.nwb"])
    docdb.put(record("x"), record("y"), record("nowhere"))
    result = run("--query", "{}", "--file_extension", ".nwb")
    assert result.status == 0
    assert [task["asset_name"] for task in result.tasks()] == [["x"]]
    assert "no .nwb file: y " in result.log
    assert "no .nwb file: nowhere " in result.log
    assert (
        "3 records matched, 2 skipped (no .nwb file: 2), 1 file, 1 task, 1 worker" in result.error
    )
    strict = run("--query", "{}", "--file_extension", ".nwb", "--strict=1", "--overwrite=1")
    assert strict.status == 1
    assert "--strict" in strict.error
    assert strict.files() == result.files()


def test_the_case_of_the_extension_counts(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.NWB", "x/b.nwb"])
    docdb.put(record("x"))
    result = run("--query", "{}", "--file_extension", "nwb")
    assert [task["file_location"] for task in result.tasks()] == [[f"s3://{BUCKET}/x/b.nwb"]]


@pytest.mark.parametrize(
    ("word", "extension"),
    [("nwb", ".nwb"), (".nwb", ".nwb"), ("nwb.zarr", "nwb.zarr"), ("_probe", "_probe"),
     ("subject.json", "subject.json"), ("-ap", "-ap"), ("日本", ".日本")],
)  # fmt: skip
def test_a_word_without_a_dot_gets_one(word: str, extension: str) -> None:
    assert to_suffix(word) == extension


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
        listing = Listing({"file": LocalFiles()}, extension, Progress())
        try:
            for name in ("top", "gone"):
                listing.add([Asset((tmp_path / name).as_uri(), "", name, "", {})])
            [(top, files), (_, none)] = listing.files().items()
        finally:
            listing.close()
        assert {unquote(url).removeprefix(f"{top}/") for url in files} == expected
        assert none == {}


OBJECTS = st.tuples(
    st.text("ab/.é+% &<", min_size=1, max_size=6),
    st.integers(0, 2**40),
    st.sampled_from(["aws", "aws", "aws", "checksum", "owner", "size first", "spaced", "no size"]),
)


def object_in_xml(key: str, size: int, style: str) -> str:
    """Return an object as one server or another words it."""
    name = f"<Key>{escape(key)}</Key>"
    tag = "<LastModified>2025-03-04T09:12:33.000Z</LastModified><ETag>&quot;a&quot;</ETag>"
    number, storage = f"<Size>{size}</Size>", "<StorageClass>STANDARD</StorageClass>"
    checksum = "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL</ChecksumType>"
    owner = "<Owner><ID>1</ID><DisplayName>Key</DisplayName></Owner>"
    parts = {
        "aws": [name, tag, number, storage],
        "checksum": [name, tag, checksum, number, storage],
        "owner": [name, tag, number, owner, storage],
        "size first": [number, name, tag, storage],
        "spaced": ["\n  ", name, "\n  ", tag, number, storage],
        "no size": [name, tag, storage],
    }[style]
    return f"<Contents>{''.join(parts)}</Contents>"


@given(
    st.lists(OBJECTS, max_size=6, unique_by=lambda one: one[0]),
    st.booleans(),
    st.lists(st.text("ab/&", min_size=1, max_size=3), max_size=2),
    st.booleans(),
    st.sampled_from(["", " broken", "&"]),
    st.sampled_from(["", "a", "b"]),
)
def test_a_page_says_the_same_however_it_is_worded(
    objects: list[tuple[str, int, str]],
    in_order: bool,
    folders: list[str],
    quoted: bool,
    odd: str,
    last: str,
) -> None:
    encode = quote_plus if quoted else str
    listed = sorted(objects) if in_order else objects
    shown = "".join(object_in_xml(encode(key), size, style) for key, size, style in listed)
    below = "".join(
        f"<CommonPrefixes><Prefix>{escape(encode(one))}</Prefix></CommonPrefixes>"
        for one in folders
    )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>false</IsTruncated>{'<EncodingType>url</EncodingType>' * quoted}"
        f"{shown}{below}{odd}</ListBucketResult>"
    ).encode()
    keys = [key for key, _, _ in listed]
    wrong = "&" in odd or keys != sorted(keys) or any(key <= last for key in keys)
    if wrong or any(style == "no size" for _, _, style in listed):
        with pytest.raises(ValueError, match=r"S3|zip"):
            read_page(body, last)
        return
    page = read_page(body, last)
    assert list(page.sizes.items()) == [(key, size) for key, size, _ in listed]
    assert page.folders == folders
    assert page.token == ""


def test_a_setting_that_boto3_refuses_is_told(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    for name, value in (
        ("AWS_ENDPOINT_URL", "nonsense"),
        ("AWS_ENDPOINT_URL", "http://me:secret@no host"),
        ("AWS_CA_BUNDLE", "/nowhere"),
    ):
        result = run("--query={}", "--file_extension=nwb", env={name: value})
        assert result.status == 1
        assert result.error.startswith("error: AWS: ")
        assert "secret" not in result.log


def test_a_closed_standard_error_is_no_fault(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    result = run("--query={}", "--file_extension=nwb", prefix="exec 2>&-; exec ")
    assert result.status == 0
    assert result.stdout == ""
    assert len(result.tasks()) == 1
