"""The output: names, bytes, worker folders, and what may lie beside them."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from itertools import chain, repeat
from pathlib import Path

import pytest
from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run, a_task
from dispatch.assets.assets import Asset
from dispatch.tasks.lock import lock
from dispatch.tasks.output import write_workers
from dispatch.tasks.tasks import Task, deal_in_order, render_tasks
from standins import BUCKET, S3, DocDB, record

PLAN = ".dispatch_plan.jsonl"


@given(tasks=st.lists(st.integers(), min_size=1, max_size=300), max_jobs=st.integers(1, 400))
def test_dealing_gives_every_task_once_in_order_and_evenly(tasks: list[int], max_jobs: int) -> None:
    workers = deal_in_order(tasks, min(max_jobs, len(tasks)))
    assert [task for worker in workers for task in worker] == tasks
    assert len(workers) == min(max_jobs, len(tasks))
    lengths = [len(worker) for worker in workers]
    assert max(lengths) - min(lengths) <= 1


def test_tasks_validate_and_have_the_keys_in_order(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["a/x.nwb", "a/y.nwb"])
    docdb.put(record("a"))
    result = run("--query={}", "--file_extension=nwb", "--split_files=0")
    [path] = result.output.glob("*/*.json")
    content = path.read_text()
    task = AnalysisDispatchModel.model_validate_json(content)
    assert task.file_location == [f"s3://{BUCKET}/a/x.nwb", f"s3://{BUCKET}/a/y.nwb"]
    assert list(json.loads(content)) == [
        "s3_location", "asset_id", "asset_name", "docdb_record_id", "file_location", "query",
    ]  # fmt: skip
    assert content.startswith('{\n    "s3_location": [\n        "s3://')
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", path.stem
    )


@pytest.mark.parametrize("length", [8_000, 8_001])
def test_a_query_past_8000_characters_is_left_out(length: int, run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    query = {"name": {"$in": ["a", ""]}}
    query["name"]["$in"][1] = "x" * (length - len(json.dumps(query, separators=(",", ":"))))
    result = run(f"--query={json.dumps(query)}")
    assert result.status == 0, result.log
    assert ("query" in result.tasks()[0]) == (length == 8_000)
    assert ("left out of the tasks" in result.log) == (length == 8_001)


def test_the_same_input_gives_the_same_bytes(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(*(record(f"{n}") for n in range(7)))
    first = run("--query={}", "--max_jobs=3")
    again = run("--query={}", "--max_jobs=3", output=tmp_path / "again")
    assert first.files() == again.files()
    replaced = run("--query={}", "--max_jobs=3", "--overwrite=1")
    assert replaced.files() == first.files()


def test_worker_folders_of_an_earlier_run_are_refused_or_replaced(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n}") for n in range(5)))
    first = run("--query={}")
    before = first.files()
    refused = run("--query={}")
    assert refused.status == 2
    assert "--overwrite 1" in refused.error
    assert refused.files() == before
    fewer = run('--query={"name": "3"}', "--overwrite=1")
    assert fewer.status == 0
    assert fewer.names() == ["0"]
    assert sorted(path.name for path in fewer.output.iterdir()) == [PLAN, "0"]


def test_nothing_but_worker_folders_may_lie_in_the_output(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    output = tmp_path / "results"
    output.mkdir()
    (output / ".gitkeep").touch()
    assert run("--query={}").names() == ["0"]
    for stray in ("notes.txt", "0/data.h5", "0/mine.json", "1/deep/er", "01/x.json"):
        shutil.rmtree(output)
        (output / stray).parent.mkdir(parents=True)
        (output / stray).write_text("mine")
        result = run("--query={}", "--overwrite=1")
        assert result.status == 2
        assert stray.split("/")[0] in result.error
        assert (output / stray).read_text() == "mine"
    shutil.rmtree(output)
    output.write_text("a file")
    assert run("--query={}").status == 2


def test_a_run_that_was_killed_while_moving_is_cleaned_up_after(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*(record(f"{n}") for n in range(3)))
    output = tmp_path / "results"
    staging = output / ".dispatch-moving-2-x"
    name = f"{uuid.uuid4()}.json"
    for path in (staging / "new" / "1" / name, staging / "old" / "0" / name, output / "0" / name):
        path.parent.mkdir(parents=True)
        path.write_text(str(path.parent.parent.name))
    refused = run("--query={}")
    assert refused.status == 2
    assert "killed" in refused.log
    assert refused.files() == {f"0/{name}": b"old"}
    result = run("--query={}", "--overwrite=1")
    assert result.status == 0
    assert sorted(path.name for path in output.iterdir()) == [PLAN, "0", "1", "2"]


def test_a_failing_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [[a_task(0)] for _ in range(2)]
    write_workers(old, tmp_path / "out", overwrite=False)
    before = sorted(tmp_path.rglob("*"))
    rename = Path.rename

    def break_once(self: Path, target: Path) -> Path:
        if next(breaks):
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", break_once)
    for number in range(6):  # all moves of two new worker folders in place of two
        breaks = chain([False] * number, [True], repeat(False))
        with pytest.raises(OSError, match="no space"):
            write_workers([[a_task(0)], [a_task(0)]], tmp_path / "out", overwrite=True)
        assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_cannot_be_a_folder_is_told_at_once(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = run("--query={}", output=tmp_path / "file" / "below")
    assert result.status == 2
    assert f"{tmp_path / 'file'} is not a folder" in result.error
    assert docdb.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_may_not_be_written_is_told_at_once(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    result = run("--query={}", output=tmp_path / "locked" / "below")
    assert result.status == 1
    assert "cannot be written to" in result.error
    assert docdb.requests == []


def test_a_folder_that_another_dispatch_writes_into_is_left_to_it(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    (tmp_path / "results").mkdir()
    with lock(tmp_path / "results"):
        result = run("--query={}")
    assert result.status == 2
    assert "another dispatch" in result.error
    assert result.files() == {}
    assert run("--query={}").status == 0


def test_a_task_that_the_model_refuses_is_not_written() -> None:
    asset = Asset("s3://bucket/x", "x", "x", None, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="docdb_record_id"):
        render_tasks([Task([asset], None, 0, None, None)])
