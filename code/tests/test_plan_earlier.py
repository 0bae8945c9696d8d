"""Earlier dispatches: what they have is left out, or compared with; and the table of a plan."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from conftest import NIGHT, Result, Run, give_parameters
from dispatch.assets.assets import Asset
from dispatch.plan.columns import first_file
from dispatch.plan.earlier import tasks_below
from dispatch.plan.on_terminal import first_tasks, middle_cut, widths_of
from dispatch.plan.plan import Plan
from dispatch.plan.table import cell
from dispatch.tasks.tasks import Task
from dispatch.terminal.messages import BadInput
from plans_made import (
    HOSTILE,
    REQUEST,
    make_asset,
    make_named_plan,
    make_plan,
    plan_of,
    read_cell,
    write,
)
from standins import BUCKET, S3, DocDB, record

BASE = ("--query={}", "--file_extension=nwb")


@pytest.fixture
def files(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, "abc"))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in "abc" for n in range(3)])


@pytest.mark.usefixtures("files")
def test_what_earlier_dispatches_have_is_left_out(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    whole = run(*BASE, output=tmp_path / "whole").tasks()
    first = run(*BASE, "--max_tasks=2", "--max_jobs=1", output=tmp_path / "first")
    second = run(*BASE, "--max_tasks=3", "--skip_dispatched=first", output=tmp_path / "second")
    assert "3 tasks (2 dispatched already, 4 more left out)" in second.error
    both = f"--skip_dispatched={tmp_path / 'first'},{tmp_path / 'second'}"
    rest = run(*BASE, both, output=tmp_path / "rest")
    assert "4 tasks (5 dispatched already)" in rest.error
    key = json.dumps
    parts = [*first.tasks(), *second.tasks(), *rest.tasks()]
    assert sorted(map(key, parts)) == sorted(map(key, whole))
    nothing = run(*BASE, "--skip_dispatched=whole", output=tmp_path / "none")
    assert nothing.status == 0, nothing.log
    assert nothing.names() == []
    assert "nothing new to dispatch to" in nothing.error
    docdb.put(record("d", location=f"s3://{BUCKET}/a"))  # next week, with a wider query
    wider = run("--query={'name': {'$ne': 'x'}}", "--file_extension=nwb",
                "--skip_dispatched=whole", output=tmp_path / "wider")  # fmt: skip
    assert {task["asset_name"][0] for task in wider.tasks()} == {"d"}


@pytest.mark.usefixtures("files")
def test_a_plan_counts_what_is_dispatched_already(run: Run, tmp_path: Path) -> None:
    run(*BASE, "--max_tasks=2", output=tmp_path / "first")
    plan = run(*BASE, "--skip_dispatched=first", "--dry_run=1")
    assert plan.stdout.splitlines()[-1].startswith("tasks 7, dispatched already 2, workers 7,")
    with open(plan.output / "dispatch_plan.csv", newline="") as file:
        marks = [row["dispatched"] for row in csv.DictReader(file)]
    assert marks == ["0"] * 7 + ["1"] * 2
    assert "2 tasks dispatched already." in (plan.output / "dispatch_plan.html").read_text()
    empty = run(*BASE, "--max_tasks=0", output=tmp_path / "all")
    assert empty.status == 0
    over = run(*BASE, "--skip_dispatched=all", "--dry_run=1", "--overwrite=1")
    assert over.status == 0, over.log
    assert "0 tasks (9 dispatched already)" in over.error


@pytest.mark.usefixtures("files")
def test_a_folder_to_skip_that_is_none_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    for name, words in (
        ("nowhere", "--skip_dispatched: nowhere is not a folder"),
        ("a_file", "the plan a_file: it is empty"),
    ):
        result = run("--query={}", f"--skip_dispatched={name}")
        assert result.status == 2
        assert words in result.error


def ids(result: Result) -> set[str]:
    """Return the ids of the tasks in worker folders."""
    return {path.stem for path in result.output.glob("[0-9]*/*.json")}


@pytest.fixture
def first(run: Run, request: pytest.FixtureRequest, tmp_path: Path) -> Result:
    """Dispatch four of nine tasks."""
    request.getfixturevalue("files")
    result = run(*BASE, "--max_tasks=4", "--max_jobs=2", output=tmp_path / "runs" / "first")
    assert len(ids(result)) == 4
    return result


def linked(first: Result, tmp_path: Path) -> str:
    """Return a folder in which the worker folders are links, as an engine stages them."""
    (tmp_path / "linked").mkdir()
    for name in first.names():
        (tmp_path / "linked" / name).symlink_to(first.output / name)
    return "linked"


def with_a_stray(first: Result, _: Path) -> str:
    """Put into each worker folder what a file manager does, and results."""
    for name in first.names():
        (first.output / name / ".DS_Store").write_bytes(b"\0")
        (first.output / name / "result.h5").write_bytes(b"\0")
    return "runs/first"


def renamed(first: Result, _: Path) -> str:
    """Call the files of tasks otherwise, and drop the plan."""
    for number, path in enumerate(sorted(first.output.glob("*/*.json"))):
        path.rename(path.with_name(f"task {number}.json"))
    (first.output / ".dispatch_plan.jsonl").unlink()
    return "runs/first"


def emptied(first: Result, _: Path) -> str:
    """Leave the hidden plan alone, as where worker folders are cleared away."""
    for name in first.names():
        shutil.rmtree(first.output / name)
    return "runs/first"


WAYS: dict[str, Callable[[Result, Path], str]] = {
    "an output folder": lambda *_: "runs/first",
    "a folder of dispatches": lambda *_: "runs",
    "a pattern": lambda *_: "runs/*",
    "a pattern of letters": lambda *_: "runs/f[hi]r?t",
    "a plan": lambda *_: "runs/first/.dispatch_plan.jsonl",
    "its worker folders": lambda *_: "runs/first/0,runs/first/1",
    "links": linked,
    "strays": with_a_stray,
    "a plan alone": emptied,
    "other names": renamed,
}


def test_earlier_dispatches_are_named_in_many_ways(first: Result, run: Run, tmp_path: Path) -> None:
    earlier = ids(first)
    shutil.copytree(first.output, tmp_path / "kept")
    whole = ids(run(*BASE, output=tmp_path / "whole"))
    for way, name_it in WAYS.items():
        shutil.rmtree(first.output)  # what another way has made of it
        shutil.copytree(tmp_path / "kept", first.output)
        named = name_it(first, tmp_path)
        result = run(*BASE, f"--skip_dispatched={named}", "--overwrite=1", output=tmp_path / "rest")
        assert result.status == 0, (way, result.log)
        assert "5 tasks (4 dispatched already)" in result.error, way
        assert not ids(result) & earlier, way
        assert ids(result) | earlier == whole, way
        assert "WARNING" not in result.log, way


@pytest.mark.usefixtures("first")
def test_a_worker_folder_counts_for_what_it_has_and_a_dry_run_for_nothing(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "first" / "0" / "notes.txt").write_text("not of the dispatch")
    result = run(*BASE, "--skip_dispatched=runs/first/0", output=tmp_path / "rest")
    assert "7 tasks (2 dispatched already)" in result.error
    assert "not a task" not in result.log
    run(*BASE, "--dry_run=1", output=tmp_path / "planned")
    (tmp_path / "empty").mkdir()
    result = run(*BASE, "--skip_dispatched=planned,empty", output=tmp_path / "all")
    assert result.status == 0, result.log
    for name in ("planned", "empty"):
        assert f"WARNING {name}: there is no task of a dispatch" in result.log
    assert "9 tasks (0 dispatched already)" in result.error


@pytest.mark.parametrize(("place", "number"), [("x/y", 4), ("x/y/z", 0)])
def test_worker_folders_count_three_folders_down(
    place: str, number: int, first: Result, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(
        first.output, tmp_path / "kept" / place, ignore=lambda *_: [".dispatch_plan.jsonl"]
    )
    result = run(*BASE, "--skip_dispatched=kept", output=tmp_path / "rest")
    assert f"({number} dispatched already)" in result.error


def test_json_in_a_worker_folder_that_is_no_task_is_told(
    first: Result, run: Run, tmp_path: Path
) -> None:
    (first.output / "0" / "settings.json").write_text("{}")
    broken = next(iter((first.output / "1").glob("*.json")))
    broken.write_text(broken.read_text()[:-20])
    result = run(*BASE, "--skip_dispatched=runs/first", output=tmp_path / "rest")
    assert result.status == 0, result.log
    assert "6 tasks (3 dispatched already)" in result.error
    assert "not a task of a dispatch: runs/first/0/settings.json" in result.log
    assert f"not a task of a dispatch: {broken.relative_to(tmp_path)}" in result.log


def test_an_earlier_folder_that_has_gone_meanwhile_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"cannot read {tmp_path / 'gone'}: "):
        next(tasks_below(tmp_path / "gone", 1))


def test_the_same_work_is_known_however_it_was_asked_for(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    docdb.put(record("a", external_links={"Code Ocean": ["one", "two"]}))
    s3.put(BUCKET, ["a/1.nwb"])
    give_parameters(tmp_path, sets=[{"a": 1, "b": {"c": 2, "d": 3}}])
    flags = ("--file_extension=nwb", "--skip_dispatched=runs/*")
    first = run("--asset_id=one", *flags, output=tmp_path / "runs" / "first")
    assert len(ids(first)) == 1
    assert "nothing matches runs/* yet" in first.log
    give_parameters(tmp_path, sets=[{"b": {"d": 3, "c": 2}, "a": 1}])
    for number, choice in enumerate(("--asset_id=two", "--query={}", "--asset_name=a")):
        again = run(choice, *flags, output=tmp_path / f"again{number}")
        assert again.status == 0, again.log
        assert "0 tasks (1 dispatched already)" in again.error
    give_parameters(tmp_path, sets=[{"b": {"d": 3, "c": 2}, "a": 2}])
    other = run("--query={}", *flags, output=tmp_path / "runs" / "other")
    assert len(ids(other) | ids(first)) == 2


def test_every_night_what_is_new_is_dispatched_once(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    dice = random.Random(7)  # noqa: S311
    done: list[str] = []
    names: list[str] = []
    for night in range(6 if NIGHT else 4):
        for _ in range(dice.randrange(3)):
            names.append(f"asset{len(names)}")
            docdb.put(record(names[-1]))
            s3.put(BUCKET, [f"{names[-1]}/x.nwb"])
        docdb.put(record("none")) if not night else None
        result = run(*BASE, "--skip_dispatched=runs/*", output=tmp_path / "runs" / f"night {night}")
        assert result.status == (0 if names else 1), result.log
        done += [task["asset_name"][0] for task in result.tasks()]
        assert sorted(done) == sorted(names)


def test_to_replace_what_counts_as_dispatched_is_warned_of(first: Result, run: Run) -> None:
    result = run(*BASE, "--skip_dispatched=runs/*", "--overwrite=1", output=first.output)
    assert result.status == 0, result.log
    assert "WARNING" in result.log
    assert "is replaced: what it has now is left out this time, and comes again" in result.log
    assert len(ids(result)) == 5


# ------------------------------------------------------------------------------------ to compare


def test_what_is_new_gone_and_the_same_is_told(
    first: Result, run: Run, s3: S3, tmp_path: Path
) -> None:
    s3.put(BUCKET, ["a/9.nwb"])
    query = "--query={'name': {'$ne': 'b'}}"
    wanted = run(query, "--file_extension=nwb", output=tmp_path / "wanted")
    new, gone = ids(wanted) - ids(first), ids(first) - ids(wanted)
    assert (len(new), len(gone)) == (4, 1)
    for number, source in enumerate(("runs/first", "runs/first/.dispatch_plan.jsonl")):
        flags = [query, "--file_extension=nwb", f"--compare_with={source}"]
        plan = run(*flags, "--dry_run=1", output=tmp_path / f"plan{number}")
        done = run(*flags, output=tmp_path / f"done{number}")
        for result in (plan, done):
            assert result.status == 0, result.log
            assert "4 new, 1 gone, 3 the same" in result.error
            assert re.findall("INFO gone: (.*)", result.log) == [f"'b', 's3://{BUCKET}/b/0.nwb'"]
        with open(plan.output / "dispatch_plan.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        found = {word: {row["task_id"] for row in rows if row["compared"] == word}
                 for word in ("new", "gone", "same")}  # fmt: skip
        assert found == {"new": new, "gone": gone, "same": ids(wanted) & ids(first)}
        assert {row["worker"] for row in rows if row["compared"] == "gone"} == {""}
    both = run(*BASE, "--compare_with=plan0", "--skip_dispatched=runs/first", "--max_tasks=2",
               output=tmp_path / "both")  # fmt: skip
    assert "1 new, 6 gone, 1 the same" in both.error
    assert len(re.findall("INFO gone, dispatched: ", both.log)) == 3
    assert len(re.findall("INFO gone, over the limit: ", both.log)) == 3


def test_a_folder_is_compared_by_its_worker_folders_then_its_plans(
    first: Result, run: Run, tmp_path: Path
) -> None:
    run(*BASE, "--dry_run=1", output=first.output)
    compared = (*BASE, "--compare_with=runs/first", "--dry_run=1")
    assert "5 new, 0 gone, 4 the same" in run(*compared).error
    for name in ("0", "1"):
        shutil.rmtree(first.output / name)
    assert "5 new, 0 gone, 4 the same" in run(*compared).error
    (first.output / ".dispatch_plan.jsonl").unlink()
    assert "0 new, 0 gone, 9 the same" in run(*compared).error
    (tmp_path / "empty").mkdir()
    nothing = run(*BASE, "--compare_with=empty", "--dry_run=1")
    assert nothing.status == 0, nothing.log
    assert "no worker folders and no plan to compare with" in nothing.log
    assert "9 new, 0 gone, 0 the same" in nothing.error


# --------------------------------------------------------------------- into the folder of a dry run


@pytest.mark.usefixtures("files")
def test_a_dispatch_keeps_the_files_of_a_dry_run_and_tells_how_it_differs(run: Run, s3: S3) -> None:
    planned = run(*BASE, "--max_jobs=2", "--dry_run=1")
    before = planned.files()
    plan = planned.output / "dispatch_plan.jsonl"
    some = [
        line["task_id"]
        for line in csv.DictReader(before["dispatch_plan.csv"].decode().splitlines())
    ]
    page_command = [f"--from_plan={plan}", f"--task_id={','.join(some[2:5])}", "--overwrite=1"]
    same = run(f"--from_plan={planned.output}")
    assert same.status == 0, same.log
    assert f"these are the tasks of the plan {plan}" in same.log
    assert (
        "the files of the dry run are kept, as .dispatch_plan.csv, .dispatch_plan.html" in same.log
    )
    assert same.names() == ["0", "1"]

    def kept() -> list[bytes]:
        names = (".dispatch_plan.csv", ".dispatch_plan.html", ".dispatch_plan.dry_run.jsonl")
        return [(planned.output / name).read_bytes() for name in names]

    assert kept() == [before[name] for name in sorted(before)]
    # the command of the page that a colleague still has open
    chosen = run(*page_command)
    assert chosen.status == 0, chosen.log
    assert ids(chosen) == set(some[2:5])
    others = run(*page_command[:1], f"--task_id={some[7]}", "--overwrite=1")
    assert ids(others) == {some[7]}
    assert kept() == [before[name] for name in sorted(before)]
    again = run(*BASE, "--max_jobs=2", "--dry_run=1")
    assert again.status == 0
    s3.put(BUCKET, ["a/9.nwb"])
    differs = run("--query={'name': {'$ne': 'b'}}", "--file_extension=nwb", "--overwrite=1")
    assert differs.status == 0, differs.log
    words = (
        f"these are not the tasks of the plan {plan}: 1 task that it does not have, 3 tasks of it"
    )
    assert words in differs.log
    assert kept()[0] == (again.output / ".dispatch_plan.csv").read_bytes()


@pytest.mark.usefixtures("files")
def test_where_nothing_is_new_the_plan_of_the_last_dispatch_stays(run: Run, tmp_path: Path) -> None:
    first = run(*BASE, output=tmp_path / "first")
    run(*BASE, "--dry_run=1", output=first.output)
    before = (first.output / ".dispatch_plan.jsonl").read_bytes()
    nothing = run(*BASE, "--skip_dispatched=first", "--overwrite=1", output=first.output)
    assert nothing.status == 0, nothing.log
    assert nothing.names() == []
    assert (first.output / ".dispatch_plan.jsonl").read_bytes() == before
    assert (first.output / ".dispatch_plan.html").exists()
    again = run(f"--from_plan={first.output}", output=tmp_path / "again")
    assert len(ids(again)) == 9


@pytest.mark.usefixtures("files")
def test_a_plan_in_the_folder_that_is_broken_stops_no_dispatch(run: Run) -> None:
    planned = run(*BASE, "--dry_run=1")
    (planned.output / "dispatch_plan.jsonl").write_text("broken")
    result = run(*BASE)
    assert result.status == 0, result.log
    assert "WARNING what is dispatched cannot be compared with the dry run: the plan" in result.log


# ---------------------------------------------------------------------------------------- the table


def read_table(plan: Plan, folder: Path) -> pd.DataFrame:
    write(plan, REQUEST, folder)
    return pd.read_csv(folder / "dispatch_plan.csv", dtype=str, keep_default_na=False)


def test_the_table_holds_all_tasks_in_the_order_of_the_workers(tmp_path: Path) -> None:
    plan = make_plan()
    table = read_table(plan, tmp_path)
    rows = [(str(worker), task.id) for worker, tasks in enumerate(plan.workers) for task in tasks]
    assert list(zip(table["worker"], table["task_id"], strict=True)) == rows
    assert table["bytes"].astype(int).sum() == sum(task.size or 0 for task in plan.tasks)


def test_the_first_file_of_a_group_is_told_below_its_first_asset() -> None:
    assets = [Asset(f"s3://bucket/{name}", "", name, name, {}) for name in "xy"]
    for location, told in (("s3://bucket/x", "1.nwb"), ("s3://bucket/y", "s3://bucket/y/1.nwb")):
        task = Task(assets, [f"{location}/1.nwb"], 1, None, None, id="1", content=b"{}")
        cut = first_file(task)
        assert cut
        assert "x".join(cut) == told


def test_hostile_names_come_back_from_the_table_as_they_were(tmp_path: Path) -> None:
    table = read_table(make_named_plan(HOSTILE), tmp_path)
    for column in ("asset_names", "asset_ids", "record_ids", "first_file"):
        assert [read_cell(text) for text in table[column]] == [[name] for name in HOSTILE]
    assert [json.loads(text) for text in table["parameters"]] == [{n: n} for n in HOSTILE]


def test_a_cell_is_a_list_only_where_it_has_to_be() -> None:
    assert cell(["one"]) == "one"
    assert cell([]) == "[]"
    assert cell(["a", "b"]) == '["a", "b"]'
    assert cell(["[a"]) == '["[a"]'
    assert cell(["a\nb"]) == '["a\\nb"]'


def test_a_terminal_shows_the_first_tasks_and_counts_all() -> None:
    a, b = (make_asset(name, "771200", "2025-01-06") for name in "ab")
    files = [f"s3://bucket/a/{n}.nwb" for n in (1, 2)]
    twice = [Task([a], files, 3_000, {"k": k}, None, id=f"{k}") for k in (1, 2)]
    plan = plan_of([twice, [Task([a, b], ["s3://bucket/b/3.nwb"], 500, None, None, id="3")]])
    counts = "tasks 3, workers 2, assets 2, files 3 ({}), records 2, skipped 0"
    assert first_tasks(plan, None).splitlines() == [
        "worker  asset         file              size    parameters",
        '0       a             1.nwb and 1 more  3.00kB  {"k": 1}',
        '0       a             1.nwb and 1 more  3.00kB  {"k": 2}',
        "1       a and 1 more  3.nwb             500B",
        counts.format("3.50kB"),  # each file once
    ]
    of_a: dict[str, int | None] = {files[0]: 2_000, files[1]: None}
    sized = replace(plan, files={a.location: of_a, b.location: {"s3://bucket/b/3.nwb": 500}})
    assert first_tasks(sized, None).splitlines()[-1] == counts.format("2.50kB")
    many = plan_of([[Task([a], None, 0, None, None, id=f"{n}") for n in range(1_021)]])
    assert first_tasks(many, None).splitlines()[-2] == "... and 1,001 more"


@pytest.mark.parametrize(
    ("longest", "width", "wide"),
    [
        ([5, 70], None, [5, 60]),
        ([5, 70], 80, [5, 60]),
        ([5, 20], 27, [5, 20]),  # with two blanks between them
        ([5, 20], 26, [5, 19]),
        ([30, 20], 30, [14, 14]),
        ([3, 30], 5, [3, 8]),  # none is narrower than one can read
    ],
)
def test_the_widest_columns_of_a_terminal_give_way(
    longest: list[int], width: int | None, wide: list[int]
) -> None:
    assert widths_of([["", "x" * length] for length in longest], width) == wide


@pytest.mark.parametrize(
    ("width", "shown"),
    [(10, "abcdefghij"), (9, "abcd…ghij"), (8, "abcd…hij"), (2, "a…"), (1, "…")],
)
def test_a_cell_that_is_too_long_loses_its_middle(width: int, shown: str) -> None:
    assert middle_cut("abcdefghij", width) == shown


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/c calc'!A1"])
def test_no_cell_is_a_formula_to_a_spreadsheet(formula: str) -> None:
    assert cell([formula]) == f"'{formula}"
    assert cell([f"'{formula}"]) == json.dumps([f"'{formula}"])  # so that each is read as it was


def test_what_is_not_known_is_blank_in_the_table(tmp_path: Path) -> None:
    assets = [Asset("", "", name, record_id, {}) for name, record_id in [("a", "1"), ("b", "2")]]
    task = Task(assets, None, 0, None, None, id="id")
    table = read_table(plan_of([[task]]), tmp_path)
    assert table.to_dict("records") == [
        {
            "worker": "0",
            "task_id": "id",
            "asset_names": '["a", "b"]',
            "asset_ids": '["", ""]',
            "record_ids": '["1", "2"]',
            "number_of_files": "",
            "bytes": "",
            "first_file": "",
            "parameters": "",
            "result": "",
            "processed": "0",
            "dispatched": "0",
        }
    ]
