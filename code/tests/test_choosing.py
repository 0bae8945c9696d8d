"""Choosing without JSON: days, names, patterns, earlier dispatches; what is said if it fails."""

from __future__ import annotations

import csv
import fnmatch
import json
import os
import pty
import re
import select
import signal
import string
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import PROGRAM, Result, Run, Start, fuzz
from dispatch.assets.date_ranges import bounds_without_time, odd_bounds
from dispatch.files.selection import Selection
from dispatch.records.schema import DATE, Days
from reference import matches
from standins import BUCKET, S3, DocDB, record

Record = dict[str, Any]
SESSION = "session.session_start_time"


def names(result: Result) -> list[str]:
    return [name for task in result.tasks() for name in task["asset_name"]]


def write_snapshot(folder: Path, records: Iterable[Record]) -> str:
    """Write a snapshot of records into a folder; return the flag that asks it from there."""
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records)))
    return "--docdb_snapshot=records.jsonl"


def put_on_disk(folder: Path, assets: Iterable[str], keys: Iterable[str]) -> str:
    """Make files below a folder, with a snapshot of their assets; return the flag that asks it."""
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_text("")
    return write_snapshot(folder, ({**record(name), "location": name} for name in assets))


# ------------------------------------------------------------------------------------------ days

# Where either version of the metadata, and imaging, keep the start of a session.
PLACES: dict[str, Callable[[str], Record]] = {
    "1": lambda time: {"session": {"session_start_time": time}},
    "2": lambda time: {"acquisition": {"acquisition_start_time": time}},
    "imaging": lambda time: {"acquisition": {"session_start_time": time}},
}


@pytest.mark.parametrize("where", ["v1", "v2", "snapshot"])
def test_the_days_of_sessions_are_chosen_in_both_versions(
    where: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    records = []
    for place, at in PLACES.items():
        for day in ("2024-12-31", "2025-03-01", "2025-03-31", "2025-04-01"):
            for clock in ("T00:00:00", "T23:59:59.999999-08:00"):
                records.append(record(f"{day}{clock}-{place}", **at(day + clock)))
    records += [record("untold"), record("odd", session={"session_start_time": "March 2025"})]
    flags = ["--docdb_version", where]
    if where == "snapshot":
        flags = ["--docdb_snapshot=records.jsonl"]
        write_snapshot(tmp_path, records)
    else:
        docdb.put(*records, version=where)
    for first, last, days in (
        ("2025-03-01", "2025-03-31", ("2025-03-01", "2025-03-31")),
        ("2025-03", "2025-03", ("2025-03-01", "2025-03-31")),
        ("2025", "", ("2025-03-01", "2025-03-31", "2025-04-01")),
        ("", "2024", ("2024-12-31",)),
        ("", "2025-03-01", ("2024-12-31", "2025-03-01")),
    ):
        result = run(f"--session_from={first}", f"--session_to={last}", "--overwrite=1", *flags)
        assert result.status == 0, result.log
        expected = [one["name"] for one in records if one["name"].startswith(days)]
        assert sorted(names(result)) == sorted(expected)
        assert "left out, its session date cannot be told: odd (record id-odd)" in result.log
    both = run("--session_from=2025-04", "--query={'name': {'$regex': '-2$'}}", *flags,
               "--overwrite=1")  # fmt: skip
    assert {name[-2:] for name in names(both)} == {"-2"}


@pytest.mark.parametrize(
    "value", ["04/01/2025", "2025-3-1", "2025-02-30", "2025-13", "25", "now", "20250301", "0000"]
)
@pytest.mark.parametrize("flag", ["--session_from", "--session_to"])
def test_a_day_that_is_none_is_told_with_the_form_that_serves(
    flag: str, value: str, run: Run
) -> None:
    result = run(f"{flag}={value}")
    assert result.status == 2
    assert f"{flag}: must be a date such as 2025-03-01, or a month, 2025-03, or a year" in (
        result.error
    )


DAYS = st.dates(date(1999, 12, 1), date(2001, 3, 1))
WRITTEN = DAYS.map(str) | DAYS.map(lambda day: str(day)[:7]) | DAYS.map(lambda day: str(day)[:4])
TIMES = st.sampled_from(["", "T00:00:00", "T23:59:59Z", " 12:00:00.5+02:00"])


def test_the_filter_for_days_is_that_of_a_calendar() -> None:
    def check(day: date, time: str, first: str | None, last: str | None, place: str) -> None:
        condition = Days(DATE, (), first, last).condition
        held = PLACES[place](f"{day}{time}")
        expected = True
        if first:
            expected = str(day)[: len(first)] >= first
        if last:
            expected = expected and str(day)[: len(last)] <= last
        assert matches(condition, held) == expected

    fuzz(
        check,
        day=DAYS,
        time=TIMES,
        first=st.none() | WRITTEN,
        last=st.none() | WRITTEN,
        place=st.sampled_from(sorted(PLACES)),
    )


@pytest.mark.parametrize(
    ("bound", "written"),
    [
        ({"$gte": "04/01/2025"}, '{"$gte":"2025-04-01"}'),
        ({"$gte": "2025-3-1"}, '{"$gte":"2025-03-01"}'),
        ({"$lt": "31.12.2025"}, '{"$lt":"2025-12-31"}'),
        ({"$gt": 2025}, '{"$gt":"2025"}'),
        ({"$gt": 20250301}, '{"$gt":"2025-03-01"}'),
        ({"$lte": "2025-03-06"}, '{"$lt":"2025-03-07"}'),
        ({"$not": {"$gte": "2025/3/1"}}, '{"$gte":"2025-03-01"}'),
        ({"$gte": "spring"}, 'write a date as "2025-03-04"'),
    ],
)
@pytest.mark.parametrize("field", [SESSION, "created"])
@pytest.mark.parametrize("where", ["database", "snapshot"])
def test_a_bound_that_is_no_date_is_told_as_it_should_be_written(
    field: str, where: str, bound: Record, written: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    records = []
    for day in range(1, 29):
        time = f"2025-03-{day:02}T12:00:00"
        records.append(record(time, session={"session_start_time": time}, created=time))
    docdb.put(*records)
    write_snapshot(tmp_path, records)
    flags = ["--docdb_snapshot=records.jsonl"] if where == "snapshot" else []
    flags.append(f"--query={json.dumps({'$and': [{field: bound}, {'name': {'$ne': 'x'}}]})}")
    [warning] = [line for line in run(*flags).log.splitlines() if f"WARNING {field}" in line]
    assert written in warning
    strict = run(*flags, "--strict=1", "--overwrite=1")
    assert strict.status == 1
    assert "--strict 1: " in strict.error
    assert written in strict.error


@pytest.mark.parametrize(
    "query",
    [
        {SESSION: {"$gte": "2025-03-01", "$lt": "2025-04"}},
        {SESSION: {"$lte": "2025-03-06T12:00:00"}},
        {"name": {"$gte": "a", "$lt": "z"}},
        {"number": {"$gt": 3}},
        {"day": {"$lte": "2025-03-06"}},  # whose values are days
        {"nowhere": {"$gte": "04/01/2025"}},
    ],
)
def test_a_bound_that_means_what_it_seems_to_is_not_told(query: Record) -> None:
    values = {"name": ["b", "c"], "day": ["2025-03-01", "2025-03-06"]}
    times = ["2025-03-06T09:00:00"]
    bounds = bounds_without_time(query)
    assert not odd_bounds(bounds, lambda path: values.get(path, times if path == SESSION else []))


def test_a_wrong_bound_is_told_whenever_it_changes_what_is_found() -> None:
    def check(day: date, form: str, operator: str) -> None:
        bound = day.strftime(form)
        right = str(day) if operator != "$lte" else str(day + timedelta(days=1))
        stored = []
        for near in range(-40, 40):
            stored.append(f"{day + timedelta(days=near)}T12:00:00")
        wanted = {SESSION: {operator if operator != "$lte" else "$lt": right}}
        given = {SESSION: {operator: bound}}
        faults = odd_bounds(bounds_without_time(given), lambda _: stored)
        differ = False
        for moment in stored:
            held = {"session": {"session_start_time": moment}}
            differ = differ or matches(given, held) != matches(wanted, held)
        assert bool(faults) >= differ
        if faults and form in ("%Y-%m-%d", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d"):
            assert right in faults[0]

    fuzz(
        check,
        day=st.dates(date(2001, 1, 1), date(2029, 1, 1)),
        form=st.sampled_from(
            ["%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%B %d, %Y", "%d %b %y"]
        ),
        operator=st.sampled_from(["$gte", "$lt", "$lte"]),
    )


# ---------------------------------------------------------------------------------------- names


@pytest.fixture
def abc(docdb: DocDB) -> None:
    docdb.put(*map(record, "abc"))


@pytest.mark.usefixtures("abc")
@pytest.mark.parametrize("column", ["asset_name", "name", "Asset_Name"])
def test_assets_are_listed_by_their_names(column: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "data_asset_input.csv").write_text(f"n;{column}\n1;c\n2;nobody\n3;a\n")
    result = run("--use_data_asset_csv=1")
    assert names(result) == ["c", "a"]
    assert "skipped, no record has this name: nobody" in result.log
    assert "asset_id" not in result.log
    flag = run("--asset_name=c nobody a", output=tmp_path / "by_flag")
    assert flag.files() == result.files()
    assert run("--use_data_asset_csv=1", "--strict=1", "--overwrite=1").status == 1


@pytest.mark.usefixtures("abc")
def test_ids_count_where_there_are_names_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_name,asset_id\na,co-b\n")
    result = run("--use_data_asset_csv=1")
    assert names(result) == ["b"]
    assert "asset_id counts, asset_name is not used" in result.log


def test_a_name_that_two_records_have_stands_for_both(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"), record("a", _id="other", location=f"s3://{BUCKET}/other"))
    result = run("--asset_name=a")
    assert [task["docdb_record_id"] for task in result.tasks()] == [["id-a"], ["other"]]


def test_thousands_of_names_are_asked_for_in_few_requests(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(3_000)))
    result = run(f"--asset_name={chr(10).join(f'{n:04}' for n in reversed(range(3_000)))}")
    assert result.status == 0, result.log
    assert "3,000 tasks" in result.error
    assert len(docdb.requests) < 20


# -------------------------------------------------------------------------------------- patterns


def taken_as_aws_does(path: str, include: list[str], exclude: list[str]) -> bool:
    """Return whether `aws s3` would take a file: all but what is excluded, the included alone.

    Its filters are flags in order: --exclude '*' first where something is to be included.
    """
    takes = not include
    for pattern in include:
        takes = takes or fnmatch.fnmatchcase(path, pattern)
    for pattern in exclude:
        takes = takes and not fnmatch.fnmatchcase(path, pattern)
    return takes


def test_patterns_take_the_files_that_fnmatch_takes() -> None:
    def check(path: str, include: list[str], exclude: list[str]) -> None:
        selection = Selection(include, exclude)
        assert selection.takes(path, "s3://b/x") == taken_as_aws_does(path, include, exclude)
        for pattern in (*include, *exclude):
            assert (pattern in selection.matched) == fnmatch.fnmatchcase(path, pattern)

    patterns = st.lists(st.text("a*?/.[!]", min_size=1, max_size=5), max_size=2)
    fuzz(check, path=st.text("a/b.", min_size=1, max_size=6), include=patterns, exclude=patterns)


KEYS = [
    *("a/top.json", "a/one_ccf.json", "a/old/two_ccf.json", "a/behavior-videos/eye.json"),
    *("b/x/y/three_ccf.json", "b/very_old/four_ccf.json", "b/x.zarr/five.json", "b/b.json/six"),
]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ("", "", ["a/behavior-videos/eye", "a/old/two_ccf", "a/one_ccf", "a/top", "b/b",
                  "b/very_old/four_ccf", "b/x/y/three_ccf"]),
        ("*_ccf.json", "*old/*", ["a/one_ccf", "b/x/y/three_ccf"]),
        ("behavior-videos/*", "", ["a/behavior-videos/eye"]),
        ("top.json,b.json", "", ["a/top", "b/b"]),
        ("", "*_ccf.json", ["a/behavior-videos/eye", "a/top", "b/b"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["s3", "disk"])
def test_patterns_choose_among_the_files(
    where: str, include: str, exclude: str, expected: list[str],
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path,
) -> None:  # fmt: skip
    docdb.put(record("a"), record("b"))
    s3.put(BUCKET, KEYS)
    plain = run("--query={}", "--file_extension=.json")
    flags = ["--query={}", "--file_extension=.json", f"--include={include}", f"--exclude={exclude}"]
    asked = len(s3.listings())
    if where == "disk":
        flags.append(put_on_disk(tmp_path, "ab", KEYS))
    result = run(*flags, "--overwrite=1")
    assert plain.status == result.status == 0, result.log
    found = []
    for task in result.tasks():
        for url in task["file_location"]:
            found.append("/".join(re.split("/(?=[ab]/)", url, maxsplit=1)[1:]))
    assert found == [f"{path}.json" for path in expected]
    if where == "s3":
        assert len(s3.listings()) == 2 * asked  # no more than without patterns


def test_a_pattern_that_matches_nothing_is_named(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"), record("b"))
    s3.put(BUCKET, KEYS)
    result = run("--query={}", "--file_extension=json", "--include=*_ccf.json,*.JSON",
                 "--exclude=*nothing*")  # fmt: skip
    assert result.log.count("no .json file of any asset matches") == 2
    assert "no .json file of any asset matches '*.JSON'" in result.log
    nothing = run("--query={}", "--file_extension=json", "--include=x", "--overwrite=1")
    assert nothing.status == 1
    assert "no .json file that --include and --exclude leave: 2" in nothing.error
    assert run("--query={}", "--include=*.json").status == 2


@pytest.mark.parametrize("where", ["s3", "disk"])
def test_what_macos_and_nfs_leave_is_no_data(
    where: str, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    left = ["._a.nwb", "deep/._a.nwb", ".nfs0001.nwb", "deep/.nfs00000000abcd.nwb",
            "__MACOSX/a.nwb", "x/__MACOSX/deep/._a.nwb"]  # fmt: skip
    kept = ["a.nwb", "_.nwb", "nfs0001.nwb", "my__MACOSX/a.nwb", ".hidden.nwb"]
    keys = [*(f"a/{path}" for path in left + kept), *(f"b/{path}" for path in left)]
    flags = ["--query={}", "--file_extension=.nwb"]
    if where == "s3":
        docdb.put(record("a"), record("b"))
        s3.put(BUCKET, keys)
    else:
        flags.append(put_on_disk(tmp_path, "ab", keys))
    result = run(*flags)
    found = {url.partition("/a/")[2] for task in result.tasks() for url in task["file_location"]}
    assert found == set(kept)
    assert "skipped, no .nwb file: b (" in result.log
    assert result.log.count("no data, left by macOS or NFS: ") == 12
    only_a = [*flags[1:], "--query={'name': 'a'}", "--strict=1", "--overwrite=1"]
    assert run(*only_a).status == 0  # which strict does not mind


# ------------------------------------------------------------------------- earlier dispatches


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


# ------------------------------------------------------------------------------------------ hints


@pytest.mark.parametrize("where", ["s3", "disk"])
def test_what_names_end_in_is_said_where_no_file_is_found(
    where: str, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    keys = [f"{asset}/deep/{n}.nwb" for asset in "abcde" for n in range(4)]
    keys += [f"{asset}/meta.json" for asset in "abcde"] + ["a/x.nwb.zarr/0/0", "a/x.nwb.zarr/0/1"]
    s3.put(BUCKET, keys)
    docdb.put(*map(record, "abcde"))
    flags = ["--query={}"]
    if where == "disk":
        flags.append(put_on_disk(tmp_path, "abcde", keys))
    result = run(*flags, "--file_extension=.NWB")
    assert result.status == 1
    assert "names in the first 3 assets end in .nwb (12), .json (3), .nwb.zarr (1)" in result.log
    asked = len(s3.listings())
    found = run(*flags, "--file_extension=.nwb")
    assert found.status == 0
    assert "names in" not in found.log
    if where == "s3":
        assert asked <= (len(s3.listings()) - asked) + 3  # asked only then, of a few


@pytest.mark.parametrize("where", ["database", "snapshot"])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"name": "*77465*"}, '{"$regex":"77465"}'),
        ({"name": "%77465"}, '{"$regex":"77465"}'),
        ({"data_description.modality": "behavior"},
         'data_description.modality.abbreviation "behavior" matches 2 records'),
    ],
)  # fmt: skip
def test_a_filter_that_is_slightly_off_is_put_right(
    where: str, query: Record, said: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    modality = {"modality": [{"abbreviation": "behavior", "name": "Behavior"}]}
    records = [record(f"behavior_77465{n}", data_description=modality) for n in range(2)]
    docdb.put(*records)
    write_snapshot(tmp_path, records)
    flags = ["--docdb_snapshot=records.jsonl"] if where == "snapshot" else []
    result = run(f"--query={json.dumps(query)}", *flags)
    assert result.status == 1
    assert said in result.log


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("subject.subject_id=774659", '{"subject.subject_id":"774659"}'),
        ("ecephys_1_2025", '{"name":"ecephys_1_2025"}'),
    ],
)
def test_what_is_no_filter_is_told_how_one_begins(value: str, meant: str, run: Run) -> None:
    result = run(f"--query={value}")
    assert result.status == 2
    assert "a filter begins with {, such as " + meant in result.error


def test_the_log_says_which_query_file_was_read(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"))
    path = tmp_path / "data" / "query.json"
    path.write_text('{"name": "a"}')
    os.utime(path, (1_700_000_000, 1_700_000_000))
    log = run("--query=query.json").log
    assert re.search(f"the query is that of {path}, written 2023-11-1[45] ", log)
    (tmp_path / "query.json").write_text('{"name": {"$ne": "b"}}')
    assert "the query is that of query.json, written " in run("--query=query.json",
                                                              "--overwrite=1").log  # fmt: skip


# ------------------------------------------------------------------------------- plan, terminal


def test_a_plan_names_the_groups(run: Run, docdb: DocDB, s3: S3, tmp_path: Path) -> None:
    for name, subject in (("a", "s1"), ("b", "s1"), ("c", "s2")):
        docdb.put(record(name, subject={"subject_id": subject, "sex": "F"}))
        s3.put(BUCKET, [f"{name}/x.nwb"])
    sets = {"distributed_parameters": [{"n": 1}, {"n": 2}]}
    (tmp_path / "data" / "analysis_parameters.json").write_text(json.dumps(sets))
    plan = run("--query={}", "--file_extension=nwb", "--dry_run=1",
               "--group_by=subject.subject_id,subject.sex")  # fmt: skip
    _, header, *rows, counts = plan.stdout.splitlines()
    assert header.split() == ["worker", "group", "asset", "file", "size", "parameters"]
    assert [row.split()[1:3] for row in rows] == [["s1,", "F"]] * 2 + [["s2,", "F"]] * 2
    assert "files 3 (" in counts
    assert "3 files, 4 tasks" in plan.error
    with open(plan.output / "dispatch_plan.csv", newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["group_metadata.subject__subject_id"] for cell in cells] == [
        "s1", "s1", "s2", "s2"]  # fmt: skip


class Terminal:
    """A terminal of some width, and what was written on it."""

    def __init__(self, columns: int) -> None:
        self.main, self.other = pty.openpty()
        ioctl(self.other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(self, process: Any) -> str:
        """Return all that a process writes there until it ends."""
        content = b""
        while True:
            if select.select([self.main], [], [], 0.2)[0]:
                content += os.read(self.main, 65_536)
            elif process.poll() is not None:
                os.close(self.main)
                os.close(self.other)
                return content.decode()


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_the_table_fits_the_terminal(
    columns: int, docdb: DocDB, s3: S3, services: dict[str, str], tmp_path: Path
) -> None:
    long = "behavior_774659_2025-06-07_14-31-15_processed_2025-06-08_03-22-41"
    docdb.put(*(record(f"{long}_{n:03}", subject={"subject_id": f"{n}"}) for n in range(60)))
    s3.put(BUCKET, [f"{long}_{n:03}/{long}_{k}.nwb" for n in range(60) for k in range(3)])
    terminal = Terminal(columns)
    flags = ["--query={}", "--file_extension=nwb", "--dry_run=1", "--max_jobs=30",
             f"--output_directory={tmp_path / 'out'}", "--group_by=subject.subject_id"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *flags],
        env={**services, "TERM": "xterm"},
        stdout=terminal.other,
        stderr=subprocess.DEVNULL,
    )
    lines = terminal.read(process).splitlines()
    rows = [line for line in lines if re.match(r"\d+ ", line)]
    assert process.returncode == 0
    assert max(map(len, rows)) <= columns
    assert [row.split()[0] for row in rows] == [str(worker) for worker in range(20)]
    assert all("…" in row for row in rows) or columns == 160


def test_the_line_of_progress_is_cleared_before_anything_is_logged(
    start: Start, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(300)), record("odd", location="nowhere"))
    s3.put(BUCKET, [f"{n:04}/x.nwb" for n in range(300)])
    s3.fault = lambda _: time.sleep(0.05)
    terminal = Terminal(100)
    process = start("--query={}", "--file_extension=nwb", stderr=terminal.other)
    said = terminal.read(process)
    assert process.returncode == 0
    times = 0
    for line in said.splitlines():
        stamp = re.search(r"\d\d:\d\d:\d\d (INFO|WARNING)", line)
        if stamp:
            times += 1
            shown = line[: stamp.start()]
            assert not shown.rpartition("\033[K")[2].strip(string.whitespace), repr(line)
    assert times > 3


def test_flags_without_assets_name_the_example(run: Run) -> None:
    result = run("--overwrite=1", program=PROGRAM)
    assert result.status == 2
    flags = "--docdb_snapshot metadata.jsonl --query query.json --file_extension .nwb"
    assert f"the bundled example again: bash environment/run.sh {flags} --overwrite 1" in (
        result.error
    )


def test_the_line_of_progress_is_cleared_before_the_last_line_on_ctrl_c(
    start: Start, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(300)))
    s3.put(BUCKET, [f"{n:04}/x.nwb" for n in range(300)])
    s3.fault = lambda _: time.sleep(1)
    terminal = Terminal(100)
    process = start("--query={}", "--file_extension=nwb", stderr=terminal.other)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    said = terminal.read(process)
    assert process.returncode == 130
    last = said.rstrip().split("\n")[-1]
    assert "records" in last.partition("error: ")[0]  # which is told of, and taken off
    assert "\033[Kerror: stopped by SIGINT, nothing is dispatched" in last
