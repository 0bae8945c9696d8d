"""What is the same work: the canonical form of a task, and its name."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import fuzz
from dispatch.assets.assets import Asset
from dispatch.tasks.tasks import Task, read_task, render_tasks
from dispatch.tasks.work import canonical_form, id_of_work

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
