"""Assets that are chosen by the other assets of their session."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from chosen import WAYS, Ask, Record, ask  # noqa: F401  (a fixture)
from conftest import Result, Run, fuzz
from dispatch.assets.assets import Asset, read_asset
from dispatch.assets.sessions import begin_asking, keep_by_session
from dispatch.records.named import Named
from dispatch.records.snapshot import Snapshot
from standins import BUCKET, DocDB, record
from turns import in_turn
from vocabularies import a_filter, a_record, answers, sessions_of, some_plain

ONE, TWO = "ecephys_1_2025-03-04_09-12-33", "ecephys_1_2025-03-05_09-12-33"


def about(name: str, **description: Any) -> Record:
    return record(name, data_description={"project_name": "P", **description})


RAW = [about(ONE, data_level="raw"), about(TWO, data_level="raw")]
SORTED = about(f"{ONE}_sorted_2025-04-01_10-00-00", data_level="derived", input_data_name=ONE)
UNTOLD = about("pilot", data_level="raw")


def names(result: Result) -> list[str]:
    assert result.status == 0, result.log
    return [name for task in result.tasks() for name in task["asset_name"]]


NIGHTLY = ["--data_level=raw", "--project_name=P"]
IS_SORTED = '{"name": {"$regex": "_sorted_"}}'


def test_raw_sessions_without_a_sorted_asset_are_what_is_left(ask: Ask) -> None:
    records = [*RAW, SORTED, UNTOLD]
    result = ask(records, *NIGHTLY, f"--session_lacks={IS_SORTED}", "--strict=1")
    assert names(result) == [TWO, "pilot"]
    reason = "another asset of its session matches --session_lacks"
    assert f"INFO skipped, {reason}: {ONE} (record id-{ONE})" in result.log
    assert f"3 records matched, 1 skipped ({reason}: 1)" in result.error
    assert "--session_lacks matches 1 record, of 1 session" in result.log
    untold = "its session cannot be told: pilot (record id-pilot)"
    assert f"WARNING --session_lacks keeps it, {untold}" in result.log
    result = ask(records, *NIGHTLY, f"--session_has={IS_SORTED}", "--strict=1")
    assert names(result) == [ONE]
    assert "no other asset of its session matches --session_has: 1" in result.error
    assert f"WARNING skipped, {untold}" in result.log
    assert "its session cannot be told: 1" in result.error


def test_an_asset_of_several_sessions_counts_for_each(ask: Ask) -> None:
    of_both = [TWO, f"{ONE}_nwb_2025-04-02_10-00-00"]
    merged = about("merged", data_level="derived", source_data=of_both)
    kept = ask([*RAW, merged], *NIGHTLY, '--session_has={"name": "merged"}')
    assert names(kept) == [ONE, TWO]
    flags = ["--query={'name': 'merged'}", '--session_has={"data_level":"raw"}']
    assert names(ask([RAW[0], merged], *flags)) == ["merged"]


def test_both_flags_and_the_names_in_them(ask: Ask) -> None:
    nwb = about(f"{ONE}_nwb_2025-04-02_10-00-00", data_level="derived")
    flags = [*NIGHTLY, '--session_has={"session_day": None}', f"--session_lacks={IS_SORTED}"]
    for each in (*RAW, SORTED, nwb):
        each.pop("session", None)
    assert names(ask([*RAW, nwb, SORTED], *flags[:3])) == [ONE]
    result = ask([*RAW, nwb, SORTED], *flags)
    assert result.status == 1
    assert "2 records matched, 2 skipped" in result.error


def test_a_column_of_a_table_tells_the_session(run: Run, tmp_path: Path) -> None:
    records = [
        record("a", session_name="s", data_level="raw"),
        record("b", session_name="t", data_level="raw"),
        record("c", session_name="s"),
    ]
    (tmp_path / "records.json").write_text(json.dumps(records))
    flags = ["--docdb_snapshot=records.json", "--data_level=raw"]
    assert names(run(*flags, '--session_has={"name": "c"}')) == ["a"]
    assert names(run(*flags, '--session_lacks={"name": "c"}', "--overwrite=1")) == ["b"]
    grouped = run("--docdb_snapshot=records.json", "--query={}", "--group_by=session_name",
                  "--overwrite=1")  # fmt: skip
    assert [task["asset_name"] for task in grouped.tasks()] == [["a", "c"], ["b"]]


FLAGS = ["--session_has", "--session_lacks"]


@pytest.mark.parametrize(("flag", "ask"), in_turn(FLAGS, WAYS), indirect=["ask"])
def test_the_filter_of_a_session_flag_is_read_as_a_query_is(
    flag: str, ask: Ask, tmp_path: Path
) -> None:
    records = [*RAW, SORTED]
    expected = names(ask(records, *NIGHTLY, f"{flag}={IS_SORTED}"))
    (tmp_path / "data" / "sorted.json").write_text(IS_SORTED)
    for given in ("sorted.json", "{'name': {'$regex': '_sorted_'}}"):
        assert names(ask(records, *NIGHTLY, f"{flag}={given}")) == expected
    nobody = ask(records, *NIGHTLY, f"{flag}={{'name': '{SORTED['name'][:-1]}'}}")
    assert f"{flag}: no record matches" in nobody.log
    assert "near it" in nobody.log


@pytest.mark.parametrize(
    ("wrong", "words", "flag"),
    in_turn([
        ("{'session_name': 'x'}", "session_name cannot stand in a filter"),
        ("{name: 1}", "FLAG: write names in quotes"),
        ("nothing.json", "FLAG: there is no file"),
        ("{'subject_id': {'$gt': '1'}}", "subject_id does not understand"),
        ("5", "FLAG"),
    ], FLAGS),
)  # fmt: skip
def test_a_filter_of_a_session_flag_that_is_none_is_told(
    wrong: str, words: str, flag: str, ask: Ask
) -> None:
    result = ask([*RAW, SORTED], *NIGHTLY, f"{flag}={wrong}")
    assert result.status == 2
    assert words.replace("FLAG", flag) in result.error


def test_session_flags_work_with_lists_of_assets_too(ask: Ask) -> None:
    records = [*RAW, SORTED]
    flags = [f"--asset_name={TWO},{ONE},nobody", f"--session_lacks={IS_SORTED}"]
    result = ask(records, *flags)
    assert names(result) == [TWO]
    assert re.search("no record has this .*: nobody", result.log)
    assert "is not used" not in result.log


def test_the_question_is_asked_once_in_pages_of_what_is_needed(run: Run, docdb: DocDB) -> None:
    records = [about(f"{ONE[:-2]}{n:02}") for n in range(60)]
    docdb.put(
        *records, *(about(f"{one['name']}_sorted_2025-04-01_10-00-00") for one in records[5:])
    )
    result = run('--query={"name": {"$not": {"$regex": "sorted"}}}', f"--session_lacks={IS_SORTED}",
                 constants={"FIRST_PAGE": 7})  # fmt: skip
    assert names(result) == [one["name"] for one in records[:5]]
    asked = [each.body for each in docdb.requests if "_sorted_" in json.dumps(each.body)]
    assert {json.dumps(one[-1]["$project"], sort_keys=True) for one in asked} == {
        json.dumps(dict.fromkeys(sorted(["_id", "name", "data_description.input_data_name",
                                         "data_description.source_data"]), 1))
    }  # fmt: skip
    assert len(asked) == 3


def test_assets_that_are_left_out_are_not_listed(run: Run, docdb: DocDB, s3: Any) -> None:
    docdb.put(*RAW, SORTED)
    s3.put(BUCKET, [f"{ONE}/a.nwb", f"{TWO}/a.nwb"])
    result = run(*NIGHTLY, f"--session_lacks={IS_SORTED}", "--file_extension=.nwb")
    assert names(result) == [TWO]
    assert len(s3.listings()) == 1


def test_the_command_of_the_page_keeps_the_session_flags(ask: Ask) -> None:
    result = ask([*RAW, SORTED], *NIGHTLY, f"--session_lacks={IS_SORTED}", "--dry_run=1")
    assert result.status == 0, result.log
    page = (result.output / "dispatch_plan.html").read_text()
    [data] = re.findall(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    known = json.loads(data)
    for command in ("command_without_query", "portable_without_query"):
        assert "--session_lacks=" in known[command]
        assert "--project_name" not in known[command]


def test_any_records_are_kept_as_the_reference_keeps_them() -> None:
    def check(number: int) -> None:
        dice = random.Random(number)  # noqa: S311
        plain = some_plain(dice)
        records = [a_record(dice, place, plain) for place in range(30)]
        plain &= set().union(*records)
        database = Named(Snapshot(records, Path()), plain)
        query = a_filter(dice, 1)
        entries = [read_asset(one, None, database.names) for one in records]
        met = [one for one in records if answers(query, one, plain)]
        for flag, keeps in (("--session_has", True), ("--session_lacks", False)):
            question = begin_asking(database, query)
            kept = keep_by_session(entries, database, flag, query, question)
            found = {one.record_id for one in kept if isinstance(one, Asset)}
            expected = set()
            for one in records:
                sessions = set(sessions_of(one, plain))
                others = [each for each in met if each["_id"] != one["_id"]]
                has = any(sessions & set(sessions_of(each, plain)) for each in others)
                if (has == keeps) if sessions else not keeps:
                    expected.add(one["_id"])
            assert found == expected, (flag, query)

    fuzz(check, number=st.integers(0, 2**48))


@pytest.mark.parametrize("more", [[], ["--dry_run=1"], ["--strict=1"]])
def test_a_night_in_which_all_is_made_already_ends_well(
    more: list[str], run: Run, docdb: DocDB
) -> None:
    docdb.put(RAW[0], SORTED)
    flags = ['--query={"name": {"$not": {"$regex": "sorted"}}}', f"--session_lacks={IS_SORTED}"]
    result = run(*flags, *more)
    assert result.status == 0, result.log
    assert "0 tasks, 0 workers" in result.error
    assert "another asset of its session matches --session_lacks: 1" in result.error
    assert not [name for name in result.names() if name.isdigit()]
    lost = run(flags[0], '--session_has={"name": "none"}')  # which may be a mistake
    assert lost.status == 1
