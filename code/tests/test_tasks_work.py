"""What work there is: once for each set of parameters, under which name, and who gets it."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cohorts import best
from conftest import Run, a_task, fails, fuzz
from dispatch.assets.assets import Asset
from dispatch.given.inputs import read_parameters
from dispatch.tasks.sharing import Sharing, share_out
from dispatch.tasks.tasks import (
    Task,
    deal_by_size,
    deal_in_order,
    number_of_workers,
    read_task,
    render_tasks,
)
from dispatch.tasks.work import canonical_form, id_of_work
from dispatch.terminal.messages import BadInput
from pipelines import Pipeline
from standins import BUCKET, S3, DocDB, record

TASK: dict[str, Any] = {
    "s3_location": ["s3://b/a", "s3://b/c"],
    "asset_id": ["co-a", "co-c"],
    "asset_name": ["a", "c"],
    "docdb_record_id": ["1", "2"],
    "file_location": ["s3://b/a/x.nwb", "s3://b/c/x.nwb"],
    "distributed_parameters": {"window": 1, "units": ["good", None], "deep": {"b": 1, "a": 2}},
    "group_metadata": {"subject__subject_id": "7", "session__day": ["x", "y"]},
    "query": "{}",
    "analysis_code": {
        "object_type": "Code",
        "url": "https://code",
        "version": "1",
        "commit_hash": "abc",
        "language": "Python",
        "parameters": {"smooth": True, "file_location": ["s3://b/a/x.nwb"]},
        "input_data": [{"object_type": "Data asset", "url": "s3://b/a"}],
    },
}
WORK = ("docdb_record_id", "s3_location", "file_location", "group_metadata",
        "distributed_parameters")  # fmt: skip
WORK_OF_CODE = ("url", "version", "commit_hash", "parameters")


def shuffled(value: Any, dice: random.Random) -> Any:
    """Return the same value, with the keys of all objects in another order."""
    if isinstance(value, list):
        return [shuffled(item, dice) for item in value]
    if not isinstance(value, dict):
        return value
    items = list(value.items())
    dice.shuffle(items)
    return {key: shuffled(item, dice) for key, item in items}


def test_the_order_of_keys_is_no_other_work() -> None:
    dice = random.Random(1)  # noqa: S311
    assert {id_of_work(shuffled(TASK, dice)) for _ in range(50)} == {id_of_work(TASK)}


@pytest.mark.parametrize("name", [*TASK, *(f"analysis_code.{n}" for n in TASK["analysis_code"])])
def test_what_counts_makes_another_work_and_nothing_else_does(name: str) -> None:
    other = json.loads(json.dumps(TASK))
    part, key = other, name
    if "." in name:
        part, key = other["analysis_code"], name.partition(".")[2]
    counts = key in (WORK if part is other else WORK_OF_CODE) or key == "analysis_code"
    for value in ["another", ["another"], {"another": 1}]:
        if name == "analysis_code":
            value = {"url": value}
        part[key] = value
        assert (id_of_work(other) != id_of_work(TASK)) == counts
    if isinstance(TASK.get(name), list) and len(TASK[name]) > 1:
        part[key] = TASK[name][::-1]  # lists keep their order
        assert (id_of_work(other) != id_of_work(TASK)) == counts


def test_the_name_is_that_of_the_documented_form() -> None:
    work = {name: TASK[name] for name in WORK}
    work["analysis_code"] = {name: TASK["analysis_code"][name] for name in WORK_OF_CODE}
    form = json.dumps(work, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert canonical_form(TASK) == form
    assert id_of_work(TASK) == str(
        uuid.uuid5(uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8"), form)
    )


@pytest.mark.parametrize("name", ["file_location", "group_metadata", "distributed_parameters",
                                  "analysis_code"])  # fmt: skip
def test_null_empty_and_missing_are_the_same(name: str) -> None:
    without = {key: value for key, value in TASK.items() if key != name}
    empty: Any = [] if name == "file_location" else {}
    for value in (None, empty):
        assert id_of_work({**TASK, name: value}) == id_of_work(without) != id_of_work(TASK)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, VALUE, max_size=4)


def test_a_task_that_is_written_is_read_as_the_same_work() -> None:
    def check(names: list[str], parameters: Any, group: Any, files: Any) -> None:
        assets = [Asset(f"s3://b/{n}", n, n, n, {}, group) for n in names]
        [task] = render_tasks([Task(assets, files, 1, parameters, "{}")])
        read = read_task(task.content)
        assert (read.id, read.content) == (task.id, task.content)
        assert (read.names, read.files, read.query) == (task.names, task.files, task.query)
        assert read.assets[0].record_id == names[0]
        # whatever its asset was asked by, and which filter chose it
        again = [Asset(f"s3://b/{n}", "other", n, n, {}, group) for n in names]
        [other] = render_tasks([Task(again, files, 1, parameters, "{'other': 1}")])
        assert other.id == task.id

    fuzz(
        check,
        names=st.lists(TEXT, min_size=1, max_size=3),
        parameters=st.none() | OBJECT,
        group=OBJECT,
        files=st.none() | st.lists(TEXT, max_size=3),
    )


CHANGES: list[dict[str, Any]] = [
    {"s3_location": ["one"]},
    {"asset_name": None},
    {"docdb_record_id": [1, 2]},
    {"s3_location": [], "asset_name": [], "docdb_record_id": [], "asset_id": []},
    {"asset_id": "ab"},
    {"file_location": "a"},
    {"file_location": [1]},
    {"query": {}},
    {"distributed_parameters": []},
    {"group_metadata": "x"},
    {"analysis_code": "x"},
]
BROKEN = [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"s3_location": ["a"]}']


@pytest.mark.parametrize(
    "content", [*BROKEN, *(json.dumps({**TASK, **change}).encode() for change in CHANGES)]
)
def test_what_says_no_task_is_none(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_task(content)


def test_a_task_without_asset_ids_is_read() -> None:
    task = read_task(json.dumps({key: TASK[key] for key in TASK if key != "asset_id"}).encode())
    assert [asset.id for asset in task.assets] == ["", ""]
    assert task.id == id_of_work(TASK)


# --------------------------------------------------------------------------------------- parameters


def test_every_task_comes_once_for_each_set_of_parameters(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    s3.put(BUCKET, ["a/1.nwb", "a/2.nwb", "b/1.nwb"])
    plain = run("--query={}", "--file_extension=nwb").tasks()
    sets = [{"w": 2, "deep": {"x": [1, None]}}, {"w": 1}, {}]
    string = json.dumps({"distributed_parameters": [*sets, {"w": 1}]})
    staged = tmp_path / "data" / "input_files"
    staged.mkdir()
    (staged / "analysis_parameters.json").write_text(string)
    result = run("--query={}", "--file_extension=nwb", "--overwrite=1")
    assert result.status == 0, result.log
    expected = [{**task, "distributed_parameters": one} for task in plain for one in sets]
    assert result.tasks() == expected
    assert list(result.tasks()[0])[-2:] == ["distributed_parameters", "query"]
    assert "3 tasks not repeated, equal to another one" in result.log


def test_no_parameters_change_nothing(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"))
    before = run("--query={}").files()
    for content in (
        "{}",
        '{"distributed_parameters": []}',
        '{"distributed_parameters": null}',
        '\ufeff{"fixed_parameters": {}}',
    ):
        (tmp_path / "data" / "analysis_parameters.json").write_text(content)
        assert run("--query={}", "--overwrite=1").files() == before, content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1"),
        ("{", "line 1"),
        ("[]", "a list, not an object"),
        ('{"distributed_parameters": {}', "line 1"),
        ('{"distributed_parameters": {"a": 1}}', "distributed_parameters"),
        ('{"distributed_parameters": {}}', "distributed_parameters"),
        ('{"distributed_parameters": 0}', "distributed_parameters"),
        ('{"distributed_parameters": [{}, 1]}', "distributed_parameters"),
        ('{"fixed_parameters": [1]}', "fixed_parameters"),
        ('{"fixed_parameters": null}', "fixed_parameters"),
        ('{"fixed_parameters": {"a": NaN}}', "fixed_parameters cannot be sent"),
        ('{"fixed_parameters": {"a": "\\ud800"}}', "fixed_parameters cannot be sent"),
        ('{"fixed_parameters": {"a": 1, "a": 2}}', "'a' appears twice"),
        ('{"fixed_parameters": ' + '{"a":' * 300 + "1" + "}" * 300 + "}", "100 deep"),
        ('{"distributed": []}', "'distributed'"),
        ('{"distributed_parameters": [{"a": NaN}]}', "cannot be sent"),
        ('{"distributed_parameters": [{"a": 1e999}]}', "cannot be sent"),
        ('{"distributed_parameters": [{"a": "\\ud800"}]}', "cannot be sent"),
        ('{"distributed_parameters": [{"a": 1, "a": 2}]}', "'a' appears twice"),
        ('{"distributed_parameters": [' + '{"a":' * 300 + "1" + "}" * 300 + "]}", "100 deep"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_parameters_that_cannot_be_used_are_bad_input(
    content: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "analysis_parameters.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=re.escape(str(path))) as error:
        read_parameters(tmp_path)
    assert words in str(error.value)


def test_a_run_with_such_parameters_writes_nothing(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"))
    (tmp_path / "data" / "analysis_parameters.json").write_text("[]")
    result = run("--query={}")
    fails(result, "analysis_parameters.json is a list, not an object", status=2)
    assert not result.output.exists()


# --------------------------------------------------------------------------------------- shared out


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


@given(tasks=st.lists(st.integers(), min_size=1, max_size=300), max_jobs=st.integers(1, 400))
def test_dealing_gives_every_task_once_in_order_and_evenly(tasks: list[int], max_jobs: int) -> None:
    workers = deal_in_order(tasks, min(max_jobs, len(tasks)))
    assert [task for worker in workers for task in worker] == tasks
    assert len(workers) == min(max_jobs, len(tasks))
    lengths = [len(worker) for worker in workers]
    assert max(lengths) - min(lengths) <= 1


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
