"""Whole runs by names: mixed records group, are the latest, and are shown as one generation."""

from __future__ import annotations

import csv
import itertools
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import run_capsule
from conftest import NIGHT, REAL_RECORDS, Result, Run, fails, fuzz, in_turn, some
from dispatch.assets.assets import Asset
from dispatch.terminal.messages import BadInput, FailedRun
from standins import DocDB, record
from vocabularies import SEVERAL, WHERE, a_filter, a_record, answers, some_plain, value_of

Record = dict[str, Any]
Ask = Callable[..., Result]


def v1(name: str, subject: str, day: str, **more: Any) -> Record:
    about = {"modality": [{"abbreviation": "ecephys"}], "data_level": "raw data"}
    start: Record = {"session_start_time": f"{day}T09:12:33-08:00", "rig_id": "r1"}
    start["experimenter_full_name"] = ["Ada L"]
    return record(
        name, data_description=about, subject={"subject_id": subject}, session=start, **more
    )


def v2(name: str, subject: str, day: str, **more: Any) -> Record:
    about: Record = {"modalities": [{"abbreviation": "ecephys"}], "data_level": "raw"}
    start: Record = {"acquisition_start_time": f"{day} 10:00:00Z", "instrument_id": "r1"}
    start["experimenters"] = ["Ada L"]
    about["subject_id"] = subject
    return record(name, data_description=about, acquisition=start, **more)


def dev(name: str, subject: str) -> Record:
    return record(name, data_description={"subject_id": subject, "modality": "ecephys"})


MIXED = [
    v1("a", "1", "2025-03-04"),
    v2("b", "1", "2025-03-04"),
    v2("c", "1", "2025-03-05"),
    v1("d", "2", "2025-03-05"),
    dev("e", "2"),
]


KINDS = ("gateway", "snapshot")  # of databases


def asking(kind: str) -> pytest.MarkDecorator:
    """Let a test ask both kinds of database at night, and one by day."""
    return pytest.mark.parametrize("ask", KINDS if NIGHT else [kind], indirect=True)


@pytest.fixture(params=KINDS)
def ask(request: Any, run: Run, docdb: DocDB, tmp_path: Path) -> Ask:
    """Return a function that runs the program on records."""

    def ask(records: list[Record], *flags: str) -> Result:
        docdb.clear()
        docdb.put(*records)
        (tmp_path / "records.json").write_text(json.dumps(records))
        where = ["--docdb_snapshot=records.json"] if request.param == "snapshot" else []
        return run(*flags, *where, "--overwrite=1")

    return ask


def groups(result: Result) -> dict[str, list[str]]:
    """Return the assets of each task, by what they have in common."""
    assert result.status == 0, result.log
    found = {}
    for task in result.tasks():
        found[json.dumps(list(task["group_metadata"].values()))] = task["asset_name"]
    return found


LISTS = [
    record("a", data_description={"modality": ["FIP", "behavior"]}),
    record("b", data_description={"modalities": [{"abbreviation": "fib"}]}),
    record("c", data_description={"modality": "name='x' abbreviation='behavior'"}),
    record("d", data_description={"modality": []}),
]
WORDS = [
    record("a", data_description={"modality": ["fib", "ecephys"]}),
    record("b", data_description={"modality": ["name='x' abbreviation='fib'"]}),
]
MOST_WORDS = [*WORDS, record("c", data_description={"modality": [{"abbreviation": "fib"}]})]
PATH = "data_description.modality.abbreviation"


@pytest.mark.parametrize(("records", "by", "flags", "expected", "said", "ask"), in_turn([
    (MIXED, "subject_id,session_day", [],
     {'["1", "2025-03-04"]': ["a", "b"], '["1", "2025-03-05"]': ["c"],
      '["2", "2025-03-05"]': ["d"]},
     ["skipped, no session_day: e (record id-e)"]),
    (MIXED, "modality,instrument_id,experimenter", ["--drop_null_groups=0"],
     {'[["ecephys"], "r1", ["Ada L"]]': ["a", "b", "c", "d"],
      '[["ecephys"], null, null]': ["e"]}, []),
    (MIXED, "data_level,data_description.data_level,subject_id", [],
     {'["raw", "raw", "1"]': ["b", "c"], '["raw", "raw data", "1"]': ["a"],
      '["raw", "raw data", "2"]': ["d"]}, []),
    (LISTS, "modality", ["--unwind_list_fields=modality"],
     {'["behavior"]': ["a", "c"], '["fib"]': ["a", "b"]},
     ["skipped, no modality: d (record id-d)"]),
    (MOST_WORDS, PATH, ["--drop_null_groups=0"], {"[null]": ["a", "b"], '[["fib"]]': ["c"]}, []),
    (MOST_WORDS, PATH, [], {'[["fib"]]': ["c"]},
     [f"skipped, no {PATH}: a (record id-a)",
      "2 of these records have data_description.modality in words instead"]),
], KINDS), indirect=["ask"])  # fmt: skip
def test_mixed_records_group_by_names_as_by_paths(
    records: list[Record], by: str, flags: list[str], expected: Any, said: list[str], ask: Ask
) -> None:
    result = ask(records, "--query={}", f"--group_by={by}", *flags)
    assert groups(result) == expected
    for words in said:
        assert words in result.log
    names = by.replace(".", "__").split(",")
    assert [list(task["group_metadata"]) for task in result.tasks()] == [names] * len(expected)


def test_a_path_that_all_have_in_other_words_is_bad_input(ask: Ask) -> None:
    result = ask(WORDS, "--query={}", f"--group_by={PATH}")
    fault = f"no record that matches has the field {PATH}; --group_by modality finds it"
    fails(result, fault, status=2)


@asking("gateway")
def test_the_latest_of_each_session_whatever_wrote_it(ask: Ask) -> None:
    stem = "ecephys_1_2025-03-04_09-12-33"
    records = [
        v1(f"{stem}_sorted_2025-04-01_10-00-00", "1", "2025-03-04", created="2025-04-01T10:00:00"),
        v2(f"{stem}_sorted_2025-04-02_10-00-00", "1", "2025-03-04", _created="2025-04-02T10:00:00"),
        v2("other_2025-03-04_09-12-33", "1", "2025-03-04", created="2025-04-03T10:00:00"),
    ]
    flags = ["--query={}", "--filter_latest=created", "--filter_by=session_name"]
    result = ask(records, *flags, "--strict=1")
    assert [task["asset_name"] for task in result.tasks()] == [
        [records[1]["name"]], [records[2]["name"]]
    ]  # fmt: skip
    assert f"INFO skipped, not the latest by created: {records[0]['name']}" in result.log
    nothing = v1(f"{stem}_sorted_2025-04-09_10-00-00", "1", "2025-03-04")
    result = ask([*records, nothing], *flags)
    reason = "no created, which others have that agree with it in session_name"
    assert f"WARNING skipped, {reason}: {nothing['name']}" in result.log
    assert result.status == 0
    strict = ask([*records, nothing], *flags, "--strict=1")
    assert strict.status == 1
    assert reason in strict.error


@asking("snapshot")
def test_of_a_group_without_the_value_the_later_record_id_is_the_latest(ask: Ask) -> None:
    records = [v1(f"a{number}", "1", "2025-03-04", _id=number) for number in "132"]
    records.append(v1("w", "2", "2025-03-04", _id="0", created="5"))
    flags = ["--filter_latest=created", "--filter_by=subject_id", "--strict=1"]
    tasks = ask(records, "--query={}", *flags).tasks()
    assert [task["docdb_record_id"] for task in tasks] == [["3"], ["0"]]


def test_days_the_wrong_way_round_are_bad_input() -> None:
    def parse(first: str, last: str) -> None:
        run_capsule.parse_settings([f"--session_from={first}", f"--session_to={last}"])

    for first, last in (("2025-03-02", "2025-03-01"), ("2025-04", "2025-03-31"), ("2026", "2025")):
        with pytest.raises(BadInput, match=f"session_from {first} is after --session_to {last}: "):
            parse(first, last)
    parse("2025-03-01", "2025-03-01")
    parse("2025-03-31", "2025-03")
    parse("2025", "2025-01")


@pytest.mark.parametrize(("operator", "sign", "other", "ask"), in_turn([
    ("$gte", "T", " "), ("$lte", "T", " "), ("$gte", " ", "T"), ("$lt", " ", "T"),
], KINDS), indirect=["ask"])  # fmt: skip
def test_a_bound_that_splits_a_day_by_how_it_is_written_is_told(
    operator: str, sign: str, other: str, ask: Ask
) -> None:
    path = "acquisition.acquisition_start_time"
    times = [
        f"2023-09-29{other}09:00:00",
        f"2023-09-28{other}09:00:00",
        f"2023-09-30{sign}09:00:00",
    ]
    records = [
        record(f"a{n}", acquisition={path.split(".")[1]: time}, own=["b", "c"])
        for n, time in enumerate(times)
    ]
    bound = {operator: f"2023-09-29{sign}00:00:00"}
    queries: list[Any] = [{path: bound}, {"$and": [{"own": ["b", "c"]}, {path: bound}]}]
    for query in some(queries, 2 if (operator, sign) == ("$gte", "T") else 1):
        result = ask(records, f"--query={json.dumps(query)}")
        [warning] = re.findall("WARNING (.*sort otherwise.*)", result.log)
        named = json.dumps({"session_start": bound}, separators=(",", ":"))
        assert f"1 record of that day with a {'T' if sign == ' ' else 'blank'} in place" in warning
        assert warning.endswith(f"write {named}")
        assert ask(records, f"--query={json.dumps(query)}", "--strict=1").status == 1
        by_name = json.dumps(query).replace(path, "session_start")
        right = ask(records, f"--query={by_name}", "--strict=1")
        assert "sort otherwise" not in right.log
        expected = {"$gte": ["a0", "a2"], "$lte": ["a1"], "$lt": ["a1"]}[operator]
        assert [task["asset_name"][0] for task in right.tasks()] == expected
    elsewhere = {"name": "a2", path: bound, "subject_id": "64*"}
    log = ask(records, f"--query={json.dumps(elsewhere)}").log
    assert "sort otherwise" not in log
    assert 'subject_id: a filter knows no * for any letters: write {"$regex":"^64"}' in log


def test_the_filter_that_is_asked_stands_everywhere_and_can_be_pasted(
    ask: Ask, docdb: DocDB
) -> None:
    query = {
        "subject_id": {"$in": ["1", "2"]},
        "session_day": {"$gte": "2025-03", "$lt": "2025-04"},
    }
    flags = [f"--query={json.dumps(query)}", "--modality=ECEPHYS"]
    result = ask(MIXED, *flags)
    [shown] = re.findall("the filter: (.*)", result.log)
    assert "subject.subject_id" in shown
    assert not {'"subject_id"', '"session_day"', '"modality"'} & set(re.findall('"[^"]*"', shown))
    named = json.dumps({**query, "modality": "ECEPHYS"}, separators=(",", ":"))
    assert f"it asks in the shapes of all records what was given: {named}" in result.log
    assert {task["query"] for task in result.tasks()} == {shown}
    pasted = ask(MIXED, f"--query={shown}")
    assert pasted.tasks() == result.tasks()
    assert "it asks in the shapes" not in pasted.log
    dry = ask(MIXED, *flags, "--group_by=modality,session_day", "--dry_run=1")
    assert f"filter: {shown}\n" in dry.stdout
    assert "subject.subject_id" in (dry.output / "dispatch_plan.html").read_text()
    asked = json.dumps([request.body for request in docdb.requests])
    names = {f'"{name}"' for name in [*WHERE, "session_name"]}  # which stand in tables alone
    assert not names & set(re.findall('"[^"]*"', asked))


@asking("gateway")
def test_the_plan_has_columns_by_names_and_the_page_lists_of_all_generations(ask: Ask) -> None:
    flags = ["--query={}", "--group_by=subject_id,session_day", "--drop_null_groups=0"]
    result = ask(MIXED, *flags, "--dry_run=1")
    with open(result.output / "dispatch_plan.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["group_metadata.session_day"] for row in rows][:2] == ["2025-03-04", "2025-03-05"]
    page = (result.output / "dispatch_plan.html").read_text()
    [data] = re.findall(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    known = json.loads(data)
    choices = {choice["name"]: choice for choice in known["choices"]}
    sets = choices["subject"]["values"]
    assert [sets[row] for row in choices["subject"]["rows"]] == [["1"]] * 3 + [["2"]] * 2
    subjects = known["assets"]["subject"]
    assert [subjects["values"][row] for row in subjects["rows"]] == ["1"] * 3 + ["2"] * 2
    days = known["assets"]["day"]
    assert [days["values"][row] for row in days["rows"]][:2] == ["2025-03-04", "2025-03-04"]


def test_a_table_of_ones_own_has_names_as_columns(run: Run, tmp_path: Path) -> None:
    rows = [
        {"_id": "1", "name": "a", "location": "s3://b/a", "subject_id": 643634, "modality": "FIP"},
        {"_id": "2", "name": "b", "location": "s3://b/b", "subject_id": "643634",
         "session_start": "2025-03-04"},
        {"_id": "3", "name": "c", "location": "s3://b/c", "subject_id": 5,
         "session_day": "2025-03-04"},
    ]  # fmt: skip
    (tmp_path / "records.json").write_text(json.dumps(rows))
    flags = ["--docdb_snapshot=records.json", "--overwrite=1"]
    for chosen, expected in {
        "--subject_id=643634": [["a"], ["b"]],
        "--modality=fib": [["a"]],
        "--session_from=2025": [["b"], ["c"]],
    }.items():
        assert [task["asset_name"] for task in run(*flags, chosen).tasks()] == expected
    query = "--query={'subject_id': {'$in': ['643634', 9]}}"
    assert "no record has this subject_id: 9" in run(*flags, query).log
    found = run(*flags, "--query={}", "--group_by=subject_id")
    assert groups(found) == {'["5"]': ["c"], '["643634"]': ["a", "b"]}


def test_group_assets_reads_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def by_subject_and_day(assets: list[Asset]) -> list[list[Asset]]:
        found = defaultdict(list)
        for asset in assets:
            found[asset.value("subject_id"), asset.value("session_day")].append(asset)
            assert asset.value("nothing.there") is None
            assert asset.value("data_description.data_level") in ("raw", "raw data", None)
        return list(found.values())

    monkeypatch.setattr(run_capsule, "GROUP_FIELDS", ("subject_id", "session_day"))
    monkeypatch.setattr(run_capsule, "group_assets", by_subject_and_day)
    tasks = dispatched(tmp_path, MIXED, "--query={}")
    assert [task["asset_name"] for task in tasks] == [["a", "b"], ["c"], ["d"], ["e"]]


# ------------------------------------------------------------------------------ by brute force


def dispatched(folder: Path, records: list[Record], *flags: str) -> list[Record]:
    """Return the tasks of a run in this process on a snapshot; none if nothing is dispatched."""
    (folder / "records.json").write_text(json.dumps(records))
    (folder / "data").mkdir(exist_ok=True)
    words = [
        *flags,
        *(f"--docdb_snapshot={folder / 'records.json'}", f"--input_directory={folder / 'data'}"),
        *(f"--output_directory={folder / 'results'}", "--overwrite=1", "--max_jobs=999"),
    ]
    try:
        run_capsule.dispatch(run_capsule.parse_settings(words))
    except FailedRun as error:
        assert str(error).startswith("nothing to dispatch")  # noqa: PT017
        return []
    except BadInput as error:
        assert "no record that matches has the field" in str(error)  # noqa: PT017
        return []
    folders = sorted((folder / "results").glob("[0-9]*"), key=lambda path: int(path.name))
    return [json.loads(path.read_text()) for each in folders for path in each.iterdir()]


def expected_groups(
    records: list[Record], by: list[str], unwound: list[str], drop: bool, plain: set[str]
) -> dict[str, set[str]]:
    """Return the ids of the records of each group."""
    found = defaultdict(set)
    for one in records:
        columns = []
        for name in by:
            value = value_of(name, one, plain)
            is_unwound = name in unwound and isinstance(value, list)
            columns.append(value if is_unwound else [value])
        for row in itertools.product(*columns):
            if not (drop and None in row):
                found[json.dumps(row)].add(one["_id"])
    return found


def ids_by_group(tasks: list[Record]) -> dict[str, set[str]]:
    """Return the ids of the records of each task, by what they have in common."""
    found = {}
    for task in tasks:
        found[json.dumps(list(task["group_metadata"].values()))] = set(task["docdb_record_id"])
    return found


def test_any_records_are_chosen_and_grouped_by_names_as_the_reference_does(tmp_path: Path) -> None:
    def check(number: int) -> None:
        dice = random.Random(number)  # noqa: S311
        plain = some_plain(dice)
        records = [a_record(dice, place, plain) for place in range(20)]
        plain &= set().union(*records)
        query = a_filter(dice, 1)
        names = [*WHERE, "session_name"]
        by = dice.sample(names, dice.randrange(1, 3))
        unwound = [
            name for name in by if name in (*SEVERAL, "session_name") and dice.random() < 0.5
        ]
        drop = dice.random() < 0.5
        flags = [f"--group_by={','.join(by)}", f"--drop_null_groups={int(drop)}"]
        flags.append(f"--unwind_list_fields={','.join(unwound)}")
        tasks = dispatched(tmp_path, records, f"--query={json.dumps(query)}", *flags)
        met = [one for one in records if answers(query, one, plain)]
        expected = expected_groups(met, by, unwound, drop, plain)
        for name in by:
            if not any(value_of(name, one, plain) for one in met) and (drop or not tasks):
                expected = {}  # which is bad input
        assert ids_by_group(tasks) == expected, (query, by, unwound, drop)

    fuzz(check, number=st.integers(0, 2**48))


def test_a_column_of_a_table_is_asked_for_what_a_name_means_once(tmp_path: Path) -> None:
    records = [v1("a", "1", "2025-03-04", session_day="2025-01-01")]
    query = {"session_day": {"$gt": "2025-02-28", "$eq": "2025-01-01"}}
    assert not dispatched(tmp_path, records, f"--query={json.dumps(query)}")
    query["session_day"] = {"$gt": "2025-02-28", "$eq": "2025-03-04"}
    assert len(dispatched(tmp_path, records, f"--query={json.dumps(query)}")) == 1


def test_the_latest_by_names_is_that_of_the_reference(tmp_path: Path) -> None:
    def check(number: int) -> None:
        dice = random.Random(number)  # noqa: S311
        records = [a_record(dice, place, set()) for place in range(25)]
        dice.shuffle(records)
        by = dice.choice(["session_name", "subject_id", "instrument_id"])
        flags = ["--filter_latest=created", f"--filter_by={by}"]
        tasks = dispatched(tmp_path, records, "--query={}", *flags)
        found = {record_id for task in tasks for record_id in task["docdb_record_id"]}
        best: dict[str, tuple[str, str]] = {}
        for one in records:
            value = json.dumps(value_of(by, one, set()))
            if value != "null":
                rank = (one.get("created") or one.get("_created") or "", one["_id"])
                best[value] = max(best.get(value, ("", "")), rank)
        assert found == {record_id for _, record_id in best.values()}

    fuzz(check, number=st.integers(0, 2**48))


def test_both_databases_give_the_same_by_names(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    for number in some(range(6), 3):
        dice = random.Random(number)  # noqa: S311
        records = [a_record(dice, place, set()) for place in range(30)]
        docdb.clear()
        docdb.put(*records)
        (tmp_path / "records.json").write_text(json.dumps(records))
        query = {"$or": [a_filter(dice), {"subject_id": {"$in": ["1", "12"]}}]}
        flags = [f"--query={json.dumps(query)}", "--group_by=session_day,modality",
                 "--filter_latest=created", "--filter_by=subject_id", "--drop_null_groups=0",
                 '--session_lacks={"name": {"$regex": "_sorted_"}}', "--overwrite=1",
                 "--unwind_list_fields=modality"]  # fmt: skip
        live = run(*flags)
        snapshot = run(*flags, "--docdb_snapshot=records.json")
        assert live.status == snapshot.status
        assert live.files() == snapshot.files()
        assert live.error[9:].rpartition(",")[0] == snapshot.error[9:].rpartition(",")[0]


@pytest.mark.parametrize(("name", "ask"), in_turn([
    "docdb_records.jsonl", "docdb_records_v1.jsonl", "docdb_records_dev.jsonl",
], KINDS), indirect=["ask"])  # fmt: skip
def test_real_records_answer_to_names(name: str, ask: Ask) -> None:
    path = REAL_RECORDS.with_name(name)
    if not path.exists():
        pytest.skip(f"the real records are not at {path}")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for by in ("subject_id", "session_name", "modality", "session_day"):
        result = ask(records, "--query={}", f"--group_by={by}")
        expected = expected_groups(records, [by], [], True, set())
        tasks = ids_by_group(result.tasks())
        skipped = set(re.findall(r"\(record ([^)]*)\)", result.log))
        places = {one["_id"]: one["location"] for one in records}
        wrong = {key for key, location in places.items() if not location.startswith("s3://")}
        assert {group: ids - wrong for group, ids in expected.items() if ids - wrong} == tasks
        assert by != "subject_id" or not skipped - wrong or name != "docdb_records.jsonl"
