"""A plan is dispatched: exactly, or some of it, without asking any service."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import NIGHT, Result, Run, fails, fuzz, give_parameters
from dispatch.plan.earlier import compare, set_apart_dispatched
from dispatch.plan.file import read_plan
from dispatch.plan.taken import take_tasks
from dispatch.terminal.messages import BadInput
from forks import with_folders
from run_capsule import dispatch, parse_settings
from standins import BUCKET, S3, DocDB, record

BASE = ("--query={}", "--file_extension=nwb")
ASKS: dict[str, list[str]] = {
    "files": [],
    "no files": ["--file_extension="],
    "whole assets in lots": ["--split_files=0", "--tasks_per_job=2"],
    "groups": ["--group_by=subject.subject_id", "--max_jobs=1"],
    "by size": ["--balance_by=size", "--max_jobs=3"],
    "some": ["--max_tasks=4"],
    "a list": ["--query=", "--asset_name=c,a"],
    "skips": ["--exclude=1.nwb,0.nwb,2.nwb", "--max_jobs=2"],
}
WAYS = ASKS if NIGHT else ("files", "groups")  # of which the plan is named in each way
OTHER = "00000000-0000-5000-8000-000000000000"  # which no plan has
NOWHERE = {"DOCDB_HOST": "localhost:9", "AWS_ENDPOINT_URL": "http://localhost:9"}


@pytest.fixture(autouse=True)
def world(docdb: DocDB, s3: S3) -> None:
    docdb.put(*(record(name, subject={"subject_id": str(n % 2)}) for n, name in enumerate("abcd")))
    docdb.put(record("none"))
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in "abcd" for n in range(3)])
    s3.backend.put_object(BUCKET, "d/3.nwb", b"x" * 1_000)


Planned = Callable[..., Path]


@pytest.fixture
def planned(run: Run, tmp_path: Path) -> Planned:
    """Return a function that makes a dry run, and returns its plan."""

    def plan(*flags: str) -> Path:
        result = run(*BASE, *flags, "--dry_run=1", output=tmp_path / "planned")
        assert result.status == 0, result.log
        return result.output / "dispatch_plan.jsonl"

    return plan


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plan")


@pytest.fixture
def plan(planned: Planned, kept: Path) -> Path:
    """Return the plan of all, which is made once, and changed by no test."""
    if not any(kept.iterdir()):
        shutil.copytree(planned().parent, kept, dirs_exist_ok=True)
    return kept / "dispatch_plan.jsonl"


def tasks_in(plan: Path) -> list[dict[str, Any]]:
    """Return the lines of the tasks of a plan."""
    lines = map(json.loads, plan.read_text(encoding="ascii").splitlines())
    return [line for line in lines if line["kind"] == "task"]


def ids(result: Result) -> set[str]:
    """Return the ids of the tasks in worker folders."""
    return {path.stem for path in result.output.glob("[0-9]*/*.json")}


def comes_to(result: Result) -> str:
    """Return what the last line says of files, tasks and workers."""
    said = re.search(r", ([^,]* (?:files?|for), .* workers?)", result.error)
    assert said, result.error
    return said[1]


@pytest.mark.parametrize("name", ASKS)
def test_a_plan_is_dispatched_exactly_without_any_service(
    name: str, run: Run, docdb: DocDB, s3: S3, tmp_path: Path, planned: Planned
) -> None:
    give_parameters(tmp_path, {"fixed": 1}, [{"a": 1}, {"b": [1.5, None]}])
    plan = planned(*ASKS[name])
    direct = run(*BASE, *ASKS[name], output=tmp_path / "direct")
    assert direct.status == 0, direct.log
    docdb.clear()
    s3.clear()
    (tmp_path / "data" / "analysis_parameters.json").write_text("{broken")
    files = direct.files()
    assert len(files) > 1
    sources = [plan, plan.parent, tmp_path / "direct"]
    for number, source in enumerate(sources if name in WAYS else sources[:1]):
        result = run(f"--from_plan={source}", env=NOWHERE, output=tmp_path / f"again{number}")
        assert result.status == 0, result.log
        assert result.files() == files
        assert result.names() == direct.names()
        if name != "some":  # of which the plan has not all files that were found
            assert comes_to(result) == comes_to(direct)
        assert (
            "group_assets, analysis_parameters.json and --analysis_code are not used" in result.log
        )
        hidden = result.output / ".dispatch_plan.jsonl"
        assert tasks_in(hidden) == tasks_in(tmp_path / "direct" / ".dispatch_plan.jsonl")
        head = json.loads(hidden.read_text().partition("\n")[0])
        assert head["from_plan"]["file"].endswith("dispatch_plan.jsonl")
        assert head["counts"] == next(read_plan(plan))["counts"] | {"left_out": 0}
    assert not docdb.requests
    assert not s3.requests
    if name in WAYS:
        again = tmp_path / "again0"
        chained = run(f"--from_plan={again}", env=NOWHERE, output=tmp_path / "chained")
        assert chained.files() == files


def test_the_file_says_what_the_documents_say(planned: Planned) -> None:
    plan = planned("--max_jobs=2", "--max_tasks=7")
    head, *lines = map(json.loads, plan.read_text(encoding="ascii").splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", head.pop("made"))
    assert head.pop("flags")[-1] == "--dry_run=1"
    assert head == {
        "kind": "plan", "format": 1, "program": "1.0.0", "filter": {}, "from_plan": None,
        "code": None,
        "counts": {"records": 5, "skips": 1, "tasks": 7, "workers": 2, "files": 7,
                   "processed": 0, "dispatched": 0, "left_out": 6},
    }  # fmt: skip
    assert lines[0] == {
        "kind": "skip", "reason": "no .nwb file", "name": f"none (s3://{BUCKET}/none)",
    }  # fmt: skip
    tasks = lines[1:]
    assert [line["worker"] for line in tasks] == [0, 0, 0, 1, 1, 1, 1]
    for line in tasks:
        assert list(line) == ["kind", "worker", "id", "result", "bytes", "json", "sha256"]
        assert line["sha256"] == hashlib.sha256(line["json"].encode()).hexdigest()
        assert json.loads(line["json"])["file_location"]
        assert line["result"] is None


REFUSED = [
    "--query={}", "--project_name=x", "--subject_id=1", "--modality=x", "--data_level=raw",
    "--session_from=2025", "--session_to=2025", "--use_data_asset_csv=1", "--asset_id=a",
    "--asset_name=a", "--docdb_version=v2", "--docdb_snapshot=x", "--filter_latest=x",
    "--filter_by=x", "--group_by=x", "--unwind_list_fields=x", "--drop_null_groups=0",
    "--file_extension=nwb", "--include=x", "--exclude=x", "--split_files=0",
    "--max_connections=3", "--no_sign_request=1",
]  # fmt: skip


def test_every_flag_is_either_refused_by_name_or_can_be_added(
    run: Run, tmp_path: Path, plan: Path
) -> None:
    whole = f"--from_plan={plan}"
    for flag in REFUSED:
        with pytest.raises(BadInput, match=f"leave out {flag.partition('=')[0]}, or"):
            parse_settings([whole, flag])
    fails(run(whole, *REFUSED[:2]), "leave out --query, --project_name, or", status=2)
    added = ["--max_tasks=2", "--max_jobs=2", "--tasks_per_job=1", "--balance_by=size",
             f"--compare_with={plan}", f"--skip_dispatched={plan.parent}", "--overwrite=1",
             "--strict=1", "--timeout=5", f"--input_directory={tmp_path / 'data'}",
             "--analysis_code=none", "--analysis_capsule=x", "--split_files=1", "--query=",
             "--docdb_version=", "--drop_null_groups=true"]  # fmt: skip
    for flag in added:
        parse_settings([whole, flag])
    together = run(whole, *added)
    assert together.status == 0, together.log


def test_workers_are_dealt_anew_where_that_is_asked_for(run: Run, planned: Planned) -> None:
    plan = planned("--max_jobs=3")
    order = [line["id"] for line in tasks_in(plan)]
    assert len(order) == 13

    def dealt(*flags: str) -> list[list[str]]:
        result = run(f"--from_plan={plan}", "--overwrite=1", *flags)
        assert result.status == 0, result.log
        lines = tasks_in(result.output / ".dispatch_plan.jsonl")
        number = int(lines[-1]["worker"]) + 1
        return [[one["id"] for one in lines if one["worker"] == n] for n in range(number)]

    assert [len(share) for share in dealt()] == [4, 4, 5]
    assert dealt("--max_jobs=2") == [order[:6], order[6:]]
    assert dealt("--tasks_per_job=6") == [order[:6], order[6:12], order[12:]]
    assert dealt("--max_tasks=2") == [order[:1], order[1:2]]
    [heavy, light] = dealt("--max_jobs=2", "--balance_by=size")
    assert (len(heavy), len(light)) == (1, 12)  # one file of 1,000 bytes
    assert sorted(heavy + light) == sorted(order)


def test_some_tasks_of_a_plan_keep_company_and_leave_no_gap(run: Run, planned: Planned) -> None:
    plan = planned("--max_jobs=5")
    lines = tasks_in(plan)
    dice = random.Random(3)  # noqa: S311
    for _ in range(8 if NIGHT else 4):
        chosen = [line for line in lines if dice.random() < 0.4] or lines[:1]
        pick = [line["id"] for line in chosen]
        dice.shuffle(pick)
        result = run(f"--from_plan={plan}", f"--task_id={','.join(pick)}", "--overwrite=1")
        assert result.status == 0, result.log
        old = sorted({line["worker"] for line in chosen})
        expected = {
            f"{old.index(line['worker'])}/{line['id']}.json": line["json"].encode()
            for line in chosen
        }
        assert result.files() == expected
        number = "" if len(pick) == len(lines) else f"{len(pick)} of "
        assert f"{number}13 tasks of the plan of 20" in result.error


def test_ids_are_given_in_many_ways(tmp_path: Path, plan: Path) -> None:
    some = [line["id"] for line in tasks_in(plan)][2:9:3]
    header, *rows = plan.with_name("dispatch_plan.csv").read_text().splitlines()
    for name, content in {
        "some lines.csv": "\ufeff" + "\r\n".join([*some, some[0], ""]),
        "semicolons.csv": "note;Task_ID\n" + "".join(f"x;{one}\n" for one in some),
        "rows.csv": "\n".join([header, *rows[2:9:3]]),
    }.items():
        (tmp_path / "data" / name).write_text(content)
    for given in (
        ["; ".join(some)], [json.dumps(some)], [some[0], f"{some[1]},{some[2]}"],
        [",".join(some).upper()], ["some lines.csv"], ["semicolons.csv"], ["rows.csv"],
    ):  # fmt: skip
        flags = [f"--from_plan={plan}", *(f"--task_id={one}" for one in given)]
        settings = parse_settings(with_folders(flags, tmp_path / "data", tmp_path / "results"))
        found = take_tasks(plan, settings.task_id, strict=True)
        assert [task.id for task in found.tasks] == some, given


def test_the_table_of_a_plan_names_its_tasks_even_if_others_were_left_out(
    run: Run, tmp_path: Path, planned: Planned
) -> None:
    first = run(*BASE, "--max_tasks=2", output=tmp_path / "first")
    assert first.status == 0
    plan = planned("--skip_dispatched=first", f"--compare_with={tmp_path / 'first'}")
    table = plan.with_name("dispatch_plan.csv")
    result = run(f"--from_plan={plan}", f"--task_id={table}", "--strict=1")
    assert result.status == 0, result.log
    assert "2 rows without a worker, not counted" in result.log
    assert ids(result) == {line["id"] for line in tasks_in(plan)}
    assert not ids(result) & ids(first)


def test_unknown_ids_are_named_and_strict_minds(run: Run, plan: Path) -> None:
    known = tasks_in(plan)[0]["id"]
    result = run(f"--from_plan={plan}", f"--task_id={OTHER},{known},nonsense")
    assert result.status == 0, result.log
    assert f"skipped, no task of the plan has this id: {OTHER}" in result.log
    assert "skipped, no task of the plan has this id: nonsense" in result.log
    assert ids(result) == {known}
    before = result.files()
    strict = run(f"--from_plan={plan}", f"--task_id={OTHER},{known}", "--strict=1", "--overwrite=1")
    assert strict.status == 1
    assert OTHER in strict.error
    none = run(f"--from_plan={plan}", f"--task_id={OTHER}", "--overwrite=1")
    assert none.status == 1
    assert "has no task with any of these ids" in none.error
    assert result.files() == before


def test_what_is_not_there_or_something_else_is_told(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("task_id,worker\n")
    (tmp_path / "several.csv").write_text("a,b\n1,2\n")
    (tmp_path / "twice.csv").write_text("task_id,task_id\n1,2\n")
    whole = f"--from_plan={plan}"
    for flags, words in {
        (whole, "--task_id=nowhere.csv"): "it is no id, and: there is no file 'nowhere.csv'",
        (whole, "--task_id=empty.csv"): "has no id of a task",
        (whole, "--task_id=several.csv"): "a column task_id, or one id a line",
        (whole, "--task_id=twice.csv"): "several columns task_id",
        ("--from_plan=nowhere",): "--from_plan: there is no file 'nowhere'",
        ("--from_plan=~nobodyhere/x",): "there is no file '~nobodyhere",
        ("--from_plan=empty",): "there is no plan in the folder",
        (whole, "--compare_with=nowhere"): "--compare_with: there is no file 'nowhere'",
        ("--from_plan=several.csv",): "several.csv, line 1: it is no plan",
        ("--query={}", f"--task_id={OTHER}"): "--task_id needs --from_plan",
    }.items():
        with pytest.raises(BadInput, match=re.escape(words)):
            dispatch(parse_settings(with_folders(flags, tmp_path / "data", tmp_path / "results")))
        assert not (tmp_path / "results").exists()


# ---------------------------------------------------------------------------- plans that are broken


EMPTY_LIST = hashlib.sha256(b"[]").hexdigest()


def changed(plan: Path, number: int, **values: Any) -> str:
    """Return the text of a plan with other values in a line."""
    lines = list(map(json.loads, plan.read_text().splitlines()))
    lines[number] |= values
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def test_a_plan_that_is_not_whole_is_refused(run: Run, tmp_path: Path, planned: Planned) -> None:
    plan = planned("--max_jobs=2")
    text = plan.read_text()
    lines = text.splitlines(keepends=True)
    last = json.loads(lines[-1])
    counts = json.loads(lines[0])["counts"]
    broken = {
        "empty": ("", "it is empty"),
        "cut": ("".join(lines[:-1]), "12 of 13 tasks"),
        "one line": (lines[0], "0 of 1 skips"),
        "cut in a line": (text[:-40], "it is not what a plan says"),
        "twice": (text + lines[-1], "or is there twice"),
        "a worker before the first": (changed(plan, 2, worker=-1), "names the worker -1"),
        "more": (text.replace('"tasks":13', '"tasks":12'), "13 of 12 tasks"),
        "format": (changed(plan, 0, format=2), "of format 2, this program reads 1"),
        "no counts": (changed(plan, 0, counts=None), "no counts"),
        "no number": (changed(plan, 0, counts={**counts, "tasks": "13"}), "no number of tasks"),
        "sha": (changed(plan, 5, sha256="0" * 64), "its bytes have another SHA-256"),
        "json": (changed(plan, 5, json="{}"), "its bytes have another SHA-256"),
        "id": (changed(plan, 5, id=OTHER), "it was changed"),
        "path": (changed(plan, 5, id="../../x"), "is no UUID"),
        "worker": (changed(plan, 5, worker=7), "it names the worker 7"),
        "back": (changed(plan, -1, worker=0), "it names the worker 0"),
        "true": (changed(plan, 2, worker=False), "it names the worker False"),
        "bytes": (changed(plan, 5, bytes="many"), "no number"),
        "result": (changed(plan, 5, result=7), "no string"),
        "no bytes": (text.replace('"bytes":', '"byteS":'), "no number"),
        "no result": (text.replace('"result":', '"resulT":'), "no string"),
        "no filter": (text.replace('"filter":', '"filteR":'), "of which filter"),
        "kind": (changed(plan, 5, kind="other"), "not what a plan says"),
        "order": ("".join([lines[0], *lines[2:], lines[1]]), "not what a plan says"),
        "reason": (changed(plan, 1, reason=None), "what is skipped"),
        "no task": (changed(plan, -1, json="[]", sha256=EMPTY_LIST), "the JSON of a task"),
        "a task": (last["json"], "it is no plan"),
    }  # fmt: skip
    run(*BASE, output=tmp_path / "used")
    before = Result(0, "", "", tmp_path / "used").files()
    for number, (name, (content, words)) in enumerate(broken.items()):
        path = tmp_path / f"{name.replace(' ', '_')}.jsonl"
        path.write_text(content)
        with pytest.raises(BadInput, match=re.escape(words)):
            take_tasks(path, (), strict=False)
        with pytest.raises(BadInput, match=re.escape(str(path))):
            set_apart_dispatched([], [str(path)], None)
        with pytest.raises(BadInput, match=re.escape(str(path))):
            compare([], path, {})
        if NIGHT or number in (1, 14):
            for flag in ("--from_plan", "--skip_dispatched", "--compare_with"):
                asked = () if flag == "--from_plan" else BASE
                flags = [*asked, f"{flag}={path}", "--overwrite=1"]
                result = run(*flags, output=tmp_path / "used")
                assert result.status == 2, name
                assert words in result.error or flag != "--from_plan", name
                assert str(path) in result.error
                assert result.files() == before


def contents(plan: Path) -> list[tuple[str, bytes | None]]:
    """Return the tasks that are read from a plan."""
    taken = take_tasks(plan, (), strict=True)
    assert len(set(taken.workers.values())) <= 2
    return [(task.id, task.content) for task in taken.tasks]


def test_a_plan_that_is_cut_or_changed_anywhere_is_whole_or_refused(
    tmp_path: Path, planned: Planned
) -> None:
    plan = planned("--max_jobs=2")
    content = plan.read_bytes()
    whole = contents(plan)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(content.replace(b"\n", b"\r\n"))  # as Windows saves it
    assert contents(copy) == whole

    def check(at: int, byte: int, cut: bool) -> None:
        at %= len(content)
        copy.write_bytes(content[:at] if cut else content[:at] + bytes([byte]) + content[at + 1 :])
        try:
            taken = contents(copy)
        except BadInput:
            return
        assert not cut or at == len(content) - 1
        assert taken == whole

    fuzz(check, 0.02, at=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())


def test_a_plan_of_nothing_dispatches_nothing(run: Run, plan: Path, planned: Planned) -> None:
    nothing = planned(f"--skip_dispatched={plan}")
    assert next(read_plan(nothing))["counts"]["dispatched"] == 13
    result = run(f"--from_plan={nothing}")
    assert result.status == 0, result.log
    assert "nothing new to dispatch" in result.error
    assert ", 0 files, 0 tasks, 0 workers" in result.error
    assert result.names() == []


def test_a_dry_run_of_a_plan_gives_the_same_plan(run: Run, planned: Planned) -> None:
    plan = planned("--group_by=subject.subject_id")
    result = run(f"--from_plan={plan}", "--dry_run=1", env=NOWHERE)
    assert result.status == 0, result.log
    assert tasks_in(result.output / plan.name) == tasks_in(plan)
    assert result.names() == ["dispatch_plan.csv", "dispatch_plan.html", "dispatch_plan.jsonl"]
    table = result.output / "dispatch_plan.csv"
    assert table.read_bytes() == plan.with_name(table.name).read_bytes()
    assert "tasks 2, workers 2, assets 4, files 13 (1.00kB), records 5, skipped 1" in result.stdout
