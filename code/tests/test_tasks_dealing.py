"""How tasks are shared out: in order, in lots, by size."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cohorts import best
from conftest import Run, a_task
from dispatch.tasks.sharing import Sharing, share_out
from dispatch.tasks.tasks import deal_by_size, number_of_workers
from pipelines import Pipeline
from standins import BUCKET, S3, DocDB, record


def test_only_so_many_tasks_are_dispatched(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n}") for n in range(9)))
    whole = run("--query={}").tasks()
    result = run("--query={}", "--max_number_of_tasks_dispatched=4", "--overwrite=1")
    assert result.tasks() == whole[:4]
    assert "5 tasks left out" in result.log
    assert "4 tasks (5 more left out)" in result.error
    assert run("--query={}", "--max_tasks=9", "--overwrite=1").tasks() == whole
    assert "left out" not in run("--query={}", "--max_tasks=0", "--overwrite=1").log


@pytest.mark.parametrize("jobs", [1, 3, 50])
@pytest.mark.parametrize("at_least", [1, 4, 5, 12, 13])
def test_workers_get_enough_tasks(at_least: int, jobs: int) -> None:
    most = [
        w for w in range(1, jobs + 1) if all(len(range(n, 12, w)) >= at_least for n in range(w))
    ]
    assert number_of_workers(12, jobs, at_least, says_code=False) == max(most, default=1)


SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=9)


@given(SIZES, st.integers(1, 4))
@example([0] * 6, 4)
def test_the_heaviest_worker_is_within_four_thirds_of_the_best(
    sizes: list[int], workers: int
) -> None:
    workers = min(workers, len(sizes))
    tasks = [a_task(size, str(n)) for n, size in enumerate(sizes)]
    shares = deal_by_size(tasks, workers)
    assert Counter(task for share in shares for task in share) == Counter(tasks)
    assert all(shares)
    if not any(sizes):  # tasks without a byte are work, too
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share == sorted(share, key=lambda task: int(task.id)) for share in shares)
    heaviest = max(sum(task.size or 0 for task in share) for share in shares)
    assert 3 * heaviest <= 4 * best(sizes, workers)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=500), st.integers(1, 60))
def test_many_tasks_are_near_the_mean_or_the_largest(sizes: list[int], workers: int) -> None:
    workers = min(workers, len(sizes))
    tasks = [a_task(size, str(n)) for n, size in enumerate(sizes)]
    loads = [sum(task.size or 0 for task in s) for s in deal_by_size(tasks, workers)]
    # the mean, the largest, and two of the tasks that cannot all have a worker of their own
    pair = sum(sorted(sizes, reverse=True)[workers - 1 : workers + 1]) * (len(sizes) > workers)
    least = max(sum(sizes) / workers, *sizes, pair)
    assert max(loads) <= 4 / 3 * least


def test_sizes_are_those_of_files_and_of_what_lies_in_folders(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*(record(name) for name in "abcd"))
    s3.put(BUCKET, ["a/1.nwb/x", "d/odd.nwb//y"])
    for key, size in {
        "a/1.nwb/c/0": 300, "a/1.nwb/c/1": 400, "a/2.nwb": 10, "b/1.nwb": 500, "c/1.nwb": 150,
        "c/1.nwb2": 9_999, "d/odd.nwb/a//b": 90, "d/odd.nwb/z": 9,
    }.items():  # fmt: skip
        s3.backend.put_object(BUCKET, key, b"x" * size)
    result = run("--query={}", "--file_extension=nwb", "--balance_by=size", "--max_jobs=2")
    assert result.status == 0, result.log
    loads = [sorted(file.split("/", 3)[3] for task in worker for file in task["file_location"])
             for worker in result.workers()]  # fmt: skip
    # 700 and then 10; 500, 150 and 99, in the order of the sizes
    assert loads == [["a/1.nwb", "a/2.nwb"], ["b/1.nwb", "c/1.nwb", "d/odd.nwb"]]
    assert "2 workers, the heaviest with 749B, 1.03 times the mean" in result.error
    assert len(s3.listings()) == 4  # what is in folders comes with the pages that are read anyway


def test_a_store_of_many_pages_is_weighed_whole(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"), record("b"))
    s3.page = 100
    s3.put(BUCKET, [])
    for n in range(4):
        for m in range(150):
            s3.backend.put_object(BUCKET, f"a/x.zarr/{n}/{m:04}", b"x" * 20)
    s3.backend.put_object(BUCKET, "b/x.zarr/0", b"x" * 4_000)
    result = run("--query={}", "--file_extension=zarr", "--balance_by=size")
    assert "2 workers, the heaviest with 12.0kB, 1.50 times the mean" in result.error
    assert len(s3.listings()) > 6


def test_local_files_have_their_size(tmp_path: Path, run: Run) -> None:
    for path, size in {"a/x.nwb/1": 3_000, "a/x.nwb/2/3": 4_000, "b/x.nwb": 1_000}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x" * size)
    (tmp_path / "a" / "x.nwb" / "link").symlink_to("nowhere")
    records = [{"_id": name, "name": name, "location": name} for name in "ab"]
    (tmp_path / "records.json").write_text(json.dumps(records))
    result = run("--query={}", "--docdb_snapshot=records.json", "--file_extension=nwb",
                 "--balance_by=size")  # fmt: skip
    assert "the heaviest with 7.00kB, 1.75 times the mean" in result.error


MANY = "2,000 folders are many for an engine and a file system: "


@pytest.mark.parametrize("number", [1_999, 2_000])
def test_thousands_of_folders_are_told_of(number: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    tasks = [a_task(0)] * number
    sharing = Sharing(None, 1, by_size=False, no_code="none", before={})
    assert len(share_out(tasks, sharing)) == number
    assert caplog.text.count(f"{MANY}--max_jobs 1000 makes fewer") == (number == 2_000)
    caplog.clear()
    assert len(share_out(tasks, replace(sharing, each=None))) == 50
    assert "are many" not in caplog.text
    assert len(share_out(tasks, replace(sharing, each=None, no_code=None))) == number
    assert caplog.text.count(f"{MANY}--max_tasks 1000 ") == (number == 2_000)


def test_a_run_tells_of_thousands_of_folders_once(
    run: Run, docdb: DocDB, pipeline: Pipeline
) -> None:
    docdb.put(*(record(f"a{n:04}") for n in range(2_000)))
    result = run("--query={}", "--dry_run=1", env=pipeline.environment)
    assert result.status == 0, result.log
    assert result.log.count(f"{MANY}--max_tasks 1000 ") == 1
