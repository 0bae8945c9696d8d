"""Tasks that earlier dispatches have are left out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from conftest import Run
from standins import BUCKET, S3, DocDB, record


@pytest.fixture
def files(docdb: DocDB, s3: S3) -> None:
    docdb.put(*map(record, "abc"))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in "abc" for n in range(3)])


@pytest.mark.usefixtures("files")
def test_what_earlier_dispatches_have_is_left_out(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    base = ["--query={}", "--file_extension=nwb"]
    whole = run(*base, output=tmp_path / "whole").tasks()
    first = run(*base, "--max_tasks=2", "--max_jobs=1", output=tmp_path / "first")
    second = run(*base, "--max_tasks=3", "--skip_dispatched=first", output=tmp_path / "second")
    assert "3 tasks (2 dispatched already, 4 more left out)" in second.error
    both = f"--skip_dispatched={tmp_path / 'first'},{tmp_path / 'second'}"
    rest = run(*base, both, output=tmp_path / "rest")
    assert "4 tasks (5 dispatched already)" in rest.error
    key = json.dumps
    parts = [*first.tasks(), *second.tasks(), *rest.tasks()]
    assert sorted(map(key, parts)) == sorted(map(key, whole))
    nothing = run(*base, "--skip_dispatched=whole", output=tmp_path / "none")
    assert nothing.status == 0, nothing.log
    assert nothing.names() == []
    assert "nothing new to dispatch to" in nothing.error
    docdb.put(record("d", location=f"s3://{BUCKET}/a"))  # next week, with a wider query
    wider = run("--query={'name': {'$ne': 'x'}}", "--file_extension=nwb",
                "--skip_dispatched=whole", output=tmp_path / "wider")  # fmt: skip
    assert {task["asset_name"][0] for task in wider.tasks()} == {"d"}


@pytest.mark.usefixtures("files")
def test_a_plan_counts_what_is_dispatched_already(run: Run, tmp_path: Path) -> None:
    base = ["--query={}", "--file_extension=nwb"]
    run(*base, "--max_tasks=2", output=tmp_path / "first")
    plan = run(*base, "--skip_dispatched=first", "--dry_run=1")
    assert plan.stdout.splitlines()[-1].startswith("tasks 7, dispatched already 2, workers 7,")
    with open(plan.output / "dispatch_plan.csv", newline="") as file:
        marks = [row["dispatched"] for row in csv.DictReader(file)]
    assert marks == ["0"] * 7 + ["1"] * 2
    assert "2 tasks dispatched already." in (plan.output / "dispatch_plan.html").read_text()
    empty = run(*base, "--max_tasks=0", output=tmp_path / "all")
    assert empty.status == 0
    over = run(*base, "--skip_dispatched=all", "--dry_run=1", "--overwrite=1")
    assert over.status == 0, over.log
    assert "0 tasks (9 dispatched already)" in over.error


@pytest.mark.usefixtures("files")
def test_a_folder_to_skip_that_is_none_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    for name in ("nowhere", "a_file"):
        result = run("--query={}", f"--skip_dispatched={name}")
        assert result.status == 2
        assert f"--skip_dispatched: {name} is not a folder" in result.error
