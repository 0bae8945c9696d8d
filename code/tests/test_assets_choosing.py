"""Which assets flags choose, by other assets of their session too, and what helps to ask."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from chosen import WAYS, Ask, Record, ask, names, write_snapshot  # noqa: F401  (a fixture)
from conftest import Result, Run, fuzz, in_turn, refusal
from dispatch.assets.assets import Asset, read_asset
from dispatch.assets.sessions import begin_asking, keep_by_session
from dispatch.records.named import Named
from dispatch.records.snapshot import Snapshot
from reference import matches
from standins import BUCKET, DocDB, Fault, record
from vocabularies import a_filter, a_record, answers, sessions_of, some_plain

RAW_LEVEL: Record = {"$regex": "^(raw|raw data|raw level)$"}
SPELT = ("SmartSPIM", "smartspim", "exaSPIM", "exaspim", "mesoSPIM", "mesospim", "diSPIM", "dispim")


def of_modality(*spelt: str) -> Record:
    """Return the filter for modalities that are spelt so."""
    top = "data_description"
    paths = ("modality.abbreviation", "modalities.abbreviation", "modality", "modalities")
    written = {"$regex": f"abbreviation=['\"](?:{'|'.join(spelt)})['\"]"}
    return {
        "$or": [
            *({f"{top}.{path}": {"$in": list(spelt)}} for path in paths),
            *({f"{top}.{path}": written} for path in paths[2:]),
        ]
    }


COHORTS: list[tuple[list[str], Record]] = [
    (["--project_name=MSMA Platform"], {"data_description.project_name": "MSMA Platform"}),
    (["--subject_id=774212, 755252,834691,"],
     {"subject.subject_id": {"$in": ["774212", "755252", "834691"]}}),
    (["--subject_id=755252"], {"subject.subject_id": {"$in": ["755252"]}}),
    (["--modality=ecephys"], of_modality("ecephys")),
    (["--modality=behavior,SPIM", "--data_level=raw"],
     {**of_modality("behavior", "SPIM", *SPELT), "data_description.data_level": RAW_LEVEL}),
    (["--modality=behavior", "--docdb_version=v2"], of_modality("behavior")),
    (["--query={'session': {'$ne': None}}", "--data_level=raw"],
     {"session": {"$ne": None}, "data_description.data_level": RAW_LEVEL}),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "query", "live"), in_turn(COHORTS, [True, False]))
def test_flags_choose_what_the_same_query_written_by_hand_chooses(
    flags: list[str], query: Record, live: bool, run: Run, docdb: DocDB, real_records: list[Record],
    tmp_path: Path,
) -> None:  # fmt: skip
    docdb.put(*real_records)
    docdb.put(*real_records, version="v2")
    where = [] if live else [write_snapshot(tmp_path, real_records)]
    version = [flag for flag in flags if "version" in flag]
    by_flags = run(*flags, *where)
    assert by_flags.status == 0, by_flags.log
    by_hand = [real["name"] for real in real_records if matches(query, real)]
    assert len(by_hand) not in (0, len(real_records))
    assert names(by_flags) == sorted(by_hand)
    [shown] = re.findall("the filter: (.*)", by_flags.log)
    pasted = run(f"--query={shown}", *version, *where, output=tmp_path / "pasted")
    assert pasted.tasks() == by_flags.tasks()


def test_a_flag_adds_to_a_query_about_the_same_field(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n}", subject={"subject_id": str(n)}) for n in range(5)))
    result = run('--query={"subject.subject_id": {"$gt": "1"}}', "--subject_id=0,1,2,3")
    assert [task["asset_name"] for task in result.tasks()] == [["2"], ["3"]]
    result = run(
        '--query={"subject_id": {"$regex": "[23]"}}', "--subject_id=0,1,2", "--overwrite=1"
    )
    assert [task["asset_name"] for task in result.tasks()] == [["2"]]
    assert '{"$and":[{"subject_id":{"$regex":"[23]"}},{"subject_id":{"$in":["0"' in result.log


def test_the_filter_in_the_log_is_json_whatever_it_holds(run: Run, docdb: DocDB) -> None:
    name = 'https://me:word@example.org Tåg\u202e\x85"x" \U000e0001'
    docdb.put(record("a", data_description={"project_name": name}))
    result = run(f"--project_name={name}")
    [shown] = re.findall("the filter: (.*)", result.log)
    assert json.loads(shown) == {"data_description.project_name": name}


def test_the_csv_wins_over_the_flags_that_make_a_query(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\nco-b\n")
    result = run("--use_data_asset_csv=1", "--project_name=none", '--query={"name": "a"')
    assert result.status == 0
    [task] = result.tasks()
    assert task["asset_name"] == ["b"]
    assert "query" not in task
    assert "--project_name is not used" in result.log
    assert "--query is not used" in result.log


@pytest.mark.parametrize("ask", WAYS, indirect=True)
def test_a_query_that_matches_nothing_tells_what_each_condition_matches(
    ask: Ask, real_records: list[Record]
) -> None:
    raw = sum(r["data_description"]["data_level"] in ("raw", "raw data") for r in real_records)
    flags = ["--query={'subject.subject_id': 'nobody'}", "--data_level=raw"]
    result = ask(real_records, *flags)
    assert result.status == 1
    level = '{"data_level":"raw"}'
    assert f"alone, {level} matches {raw} records" in result.log
    assert 'alone, {"subject.subject_id":"nobody"} matches 0 records' in result.log
    both = {"$and": [{"name": "x"}, {"session": {"$ne": None}}]}
    result = ask(real_records, f"--query={json.dumps(both)}")
    assert 'alone, {"name":"x"} matches 0 records' in result.log
    with_session = sum(r.get("session") is not None for r in real_records)
    assert f'alone, {{"session":{{"$ne":null}}}} matches {with_session} records' in result.log
    assert "alone" not in ask(real_records, "--query={'name': 'nobody'}").log


# ----------------------------------------------------------------------------------------- sessions

ONE, TWO = "ecephys_1_2025-03-04_09-12-33", "ecephys_1_2025-03-05_09-12-33"


def about(name: str, **description: Any) -> Record:
    return record(name, data_description={"project_name": "P", **description})


RAW = [about(ONE, data_level="raw"), about(TWO, data_level="raw")]
SORTED = about(f"{ONE}_sorted_2025-04-01_10-00-00", data_level="derived", input_data_name=ONE)
UNTOLD = about("pilot", data_level="raw")


def kept_names(result: Result) -> list[str]:
    assert result.status == 0, result.log
    return names(result)


NIGHTLY = ["--data_level=raw", "--project_name=P"]
IS_SORTED = '{"name": {"$regex": "_sorted_"}}'


def test_raw_sessions_without_a_sorted_asset_are_what_is_left(ask: Ask) -> None:
    records = [*RAW, SORTED, UNTOLD]
    result = ask(records, *NIGHTLY, f"--session_lacks={IS_SORTED}", "--strict=1")
    assert kept_names(result) == [TWO, "pilot"]
    reason = "another asset of its session matches --session_lacks"
    assert f"INFO skipped, {reason}: {ONE} (record id-{ONE})" in result.log
    assert f"3 records matched, 1 skipped ({reason}: 1)" in result.error
    assert "--session_lacks matches 1 record, of 1 session" in result.log
    untold = "its session cannot be told: pilot (record id-pilot)"
    assert f"WARNING --session_lacks keeps it, {untold}" in result.log
    result = ask(records, *NIGHTLY, f"--session_has={IS_SORTED}", "--strict=1")
    assert kept_names(result) == [ONE]
    assert "no other asset of its session matches --session_has: 1" in result.error
    assert f"WARNING skipped, {untold}" in result.log
    assert "its session cannot be told: 1" in result.error


def test_an_asset_of_several_sessions_counts_for_each(ask: Ask) -> None:
    of_both = [TWO, f"{ONE}_nwb_2025-04-02_10-00-00"]
    merged = about("merged", data_level="derived", source_data=of_both)
    kept = ask([*RAW, merged], *NIGHTLY, '--session_has={"name": "merged"}')
    assert kept_names(kept) == [ONE, TWO]
    flags = ["--query={'name': 'merged'}", '--session_has={"data_level":"raw"}']
    assert kept_names(ask([RAW[0], merged], *flags)) == ["merged"]


def test_both_flags_and_the_names_in_them(ask: Ask) -> None:
    nwb = about(f"{ONE}_nwb_2025-04-02_10-00-00", data_level="derived")
    flags = [*NIGHTLY, '--session_has={"session_day": None}', f"--session_lacks={IS_SORTED}"]
    for each in (*RAW, SORTED, nwb):
        each.pop("session", None)
    assert kept_names(ask([*RAW, nwb, SORTED], *flags[:3])) == [ONE]
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
    assert kept_names(run(*flags, '--session_has={"name": "c"}')) == ["a"]
    assert kept_names(run(*flags, '--session_lacks={"name": "c"}', "--overwrite=1")) == ["b"]
    grouped = run("--docdb_snapshot=records.json", "--query={}", "--group_by=session_name",
                  "--overwrite=1")  # fmt: skip
    assert [task["asset_name"] for task in grouped.tasks()] == [["a", "c"], ["b"]]


SESSION_FLAGS = ["--session_has", "--session_lacks"]


@pytest.mark.parametrize(("flag", "ask"), in_turn(SESSION_FLAGS, WAYS), indirect=["ask"])
def test_the_filter_of_a_session_flag_is_read_as_a_query_is(
    flag: str, ask: Ask, tmp_path: Path
) -> None:
    records = [*RAW, SORTED]
    expected = kept_names(ask(records, *NIGHTLY, f"{flag}={IS_SORTED}"))
    (tmp_path / "data" / "sorted.json").write_text(IS_SORTED)
    for given in ("sorted.json", "{'name': {'$regex': '_sorted_'}}"):
        assert kept_names(ask(records, *NIGHTLY, f"{flag}={given}")) == expected
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
    ], SESSION_FLAGS),
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
    assert kept_names(result) == [TWO]
    assert re.search("no record has this .*: nobody", result.log)
    assert "is not used" not in result.log


def test_the_question_is_asked_once_in_pages_of_what_is_needed(run: Run, docdb: DocDB) -> None:
    records = [about(f"{ONE[:-2]}{n:02}") for n in range(60)]
    docdb.put(
        *records, *(about(f"{one['name']}_sorted_2025-04-01_10-00-00") for one in records[5:])
    )
    result = run('--query={"name": {"$not": {"$regex": "sorted"}}}', f"--session_lacks={IS_SORTED}",
                 constants={"FIRST_PAGE": 7})  # fmt: skip
    assert kept_names(result) == [one["name"] for one in records[:5]]
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
    assert kept_names(result) == [TWO]
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


# -------------------------------------------------------------------------------------------- hints

SUBJECT = "subject.subject_id"


def project(r: Record) -> Any:
    return r["data_description"].get("project_name")


both_ways = pytest.mark.parametrize("ask", WAYS, indirect=True)


def test_a_value_that_no_record_has_gets_the_nearest(ask: Ask, real_records: list[Record]) -> None:
    name, times = Counter(filter(None, map(project, real_records))).most_common(1)[0]
    for wrong in (name.lower(), name[:3] + name[4:], f'"{name[:-1]}"'):
        result = ask(real_records, f"--project_name={wrong}")
        assert result.status == 1
        wrong = wrong.strip('"')
        assert f'no record has project_name "{wrong}"; near it: "{name}" ({times})' in result.log


@pytest.mark.parametrize(
    ("flags", "words", "ask"),
    in_turn([
        (["--modality=Behaviour"], 'no record has modality "Behaviour"; near it: "behavior" ('),
        (["--query={'subject.subject_id': 755252}"],
         f'the values of {SUBJECT} are strings: "755252" matches 2 records'),
        (["--query={'subject.subject_id': {'$eq': 755252}}"], '"755252" matches 2 records'),
        (["--query={'subject.subject_id': 755253}"],
         f'no record has {SUBJECT} 755253; near it: "755252" (2)'),
        (["--query={'subject_idd': '755252'}"],
         f"no record has the field subject_idd; near it: {SUBJECT}"),
        (["--query={'subject_id': '75525'}"],
         'no record has subject_id "75525"; near it: "755252" (2)'),
        (["--query={'subject.subject_idd': {'$regex': '7'}}"], f"near it: {SUBJECT}"),
        (["--query={'$or': [{'subject.subject_id': '75525'}, {'subjekt': 1}]}"],
         f'no record has {SUBJECT} "75525"; near it: "755252" (2)'),
        (["--query={'$or': [{'subject.subject_id': '1'}, {'subjekt': 1}]}"],
         "no record has the field subjekt; near it: subject"),
        (["--query={'$nor': [{'name': {'$exists': True}}], 'nam': 'a'}"],
         "no record has the field nam; near it"),
        (["--query={'name': ['x'], 'nam': 'a'}"], 'alone, {"name":["x"]} matches 0 records'),
        (["--query={'name': 'qwertyuiop'}"], 'no record has name "qwertyuiop"; nothing there'),
        (["--query={'qwertyuiop': 'x'}"], "no record has the field qwertyuiop; nothing there"),
        (["--query={'$and': [{'name': {'$in': ['x', 'y']}}]}"], 'no record has name "y"'),
    ], WAYS),
    indirect=["ask"],
)  # fmt: skip
def test_a_filter_that_matches_nothing_says_what_would(
    flags: list[str], words: str, ask: Ask, real_records: list[Record]
) -> None:
    result = ask(real_records, *flags)
    assert result.status == 1
    assert result.error == "error: nothing to dispatch: 0 records matched, 0 skipped"
    assert words in result.log


@both_ways
def test_three_near_values_are_told(ask: Ask) -> None:
    result = ask(
        [record(name, own=f"mouse {name}") for name in "abcde"], "--query={'own': 'mouse'}"
    )
    [near] = re.findall("near it: (.*)", result.log)
    assert len(re.findall('"mouse [a-e]" \\(1\\)', near)) == 3


@both_ways
def test_a_modality_is_found_in_the_fields_of_the_other_version(ask: Ask) -> None:
    v1 = [record("a", data_description={"modality": [{"abbreviation": "behavior"}]})]
    result = ask(v1, "--modality=behavior", "--docdb_version=v2")
    assert "1 record matched" in result.error
    result = ask(v1, "--modality=behaviour", "--docdb_version=v2")
    assert 'no record has modality "behaviour"; near it: "behavior" (1)' in result.log


@both_ways
def test_a_bound_is_held_against_what_records_have_there(ask: Ask) -> None:
    records = [record("a", own={"day": "2025-03-04T09:12:33"}), record("b", own={"day": "x"})]
    for path, is_told in (("own.day", True), ("name", False)):
        log = ask(records, f"--query={{'{path}': {{'$gte': '03/04/2025'}}}}").log
        told = f'{path} {{"$gte":"03/04/2025"}} is no date as records write it: write'
        assert (told in log) == is_told


@both_ways
def test_what_matches_alone_gets_no_hint(ask: Ask, real_records: list[Record]) -> None:
    result = ask(
        real_records, "--query={'subject.subject_id': '755252', 'name': {'$exists': False}}"
    )
    assert f'alone, {{"{SUBJECT}":"755252"}} matches 2 records' in result.log
    assert "near it" not in result.log
    assert "hint" not in ask(real_records, "--query={}").log


@pytest.mark.parametrize(
    ("field", "flags", "ask"),
    in_turn([
        ("subject_id", ["--subject_id=755252,799999,834691"]),
        (SUBJECT, ["--query={'subject.subject_id': {'$in': ['755252', '799999', '834691']}}"]),
        (SUBJECT, ["--query={'$and': [{'subject.subject_id': {'$in': ['755252', '799999']}}]}"]),
        ("subject_id", ["--query={'$and': [{'subject_id': {'$in': ['755252', '799999']}}]}"]),
        ("subject_id",
         ["--subject_id=755252,799999", "--query={'subject.subject_id': {'$ne': 0}}"]),
    ], WAYS),
    indirect=["ask"],
)  # fmt: skip
def test_values_of_which_no_record_has_any_are_skipped_by_name(
    field: str, flags: list[str], ask: Ask, real_records: list[Record]
) -> None:
    result = ask(real_records, *flags)
    assert result.status == 0, result.log
    assert f"skipped, no record has this {field}: 799999" in result.log
    assert f'no record has {field} "799999"; ' in result.log
    assert f"1 skipped (no record has this {field}: 1)" in result.error
    strict = ask(real_records, *flags, "--strict=1")
    assert strict.status == 1
    assert f"--strict 1: 1 would be skipped, first 799999: no record has this {field}" in (
        strict.error
    )
    assert not strict.output.exists()


def test_modalities_that_no_record_has_are_skipped_by_name(
    ask: Ask, real_records: list[Record]
) -> None:
    result = ask(real_records, "--modality=behavior,ecephis")
    assert result.status == 0
    assert "skipped, no record has this modality: ecephis" in result.log
    assert 'near it: "ecephys" (' in result.log


def test_members_that_are_there_in_any_shape_are_not_skipped(run: Run, docdb: DocDB) -> None:
    docdb.put(
        record("a", x=1, y=[{"z": ["p", "q"]}, 5], links=["u", "v"]),
        record("b", x=2.0, y={"z": "r"}, links=[]),
        record("c", x=True, y=None),
    )
    for query in (
        {"x": {"$in": [1, 2, True]}},
        {"y.z": {"$in": ["p", "q", "r", None]}},
        {"links.0": {"$in": ["u", "no index is looked at"]}},
        {"links": {"$in": ["u", {"a": 1}, ["v"]]}},
        {"$or": [{"x": {"$in": [1, 77]}}, {"x": 2}]},
        {"x": {"$nin": [5, 6]}},
    ):
        result = run(f"--query={json.dumps(query)}", "--strict=1", "--overwrite=1")
        assert result.status == 0, (query, result.log)


@pytest.mark.parametrize(
    ("flags", "words", "ask"),
    in_turn([
        (["--group_by=subject.id", "--drop_null_groups=0"],
         f"--group_by: no record that matches has the field subject.id; near it: {SUBJECT}"),
        (["--filter_latest=creatd", f"--filter_by={SUBJECT}"],
         "--filter_latest: no record that matches has the field creatd; near it: created"),
        (["--filter_latest=created", "--filter_by=subject_idd"],
         f"--filter_by: no record that matches has the field subject_idd; near it: {SUBJECT}"),
        ([f"--group_by={SUBJECT}", "--unwind_list_fields=data_description.modalitys"],
         "--unwind_list_fields: no record that matches has the field data_description.modalitys;"
         " near it: data_description.modalit"),
    ], WAYS),
    indirect=["ask"],
)  # fmt: skip
def test_a_field_that_no_record_has_is_bad_input(
    flags: list[str], words: str, ask: Ask, real_records: list[Record]
) -> None:
    result = ask(real_records, "--query={}", *flags)
    assert result.status == 2, result.log
    assert words in result.error
    assert not result.output.exists()


@pytest.mark.parametrize(
    ("values", "status"),
    [([[]], 0), ([[], {}], 0), ([[{"k": 1}]], 2), ([[5]], 2), ([[], [{"k": 1}]], 2), ([{}], 2)],
)
def test_where_all_lists_on_the_way_are_empty_a_field_may_be_there(
    values: list[Any], status: int, run: Run, docdb: DocDB
) -> None:
    docdb.put(*(record(f"a{n}", g=value) for n, value in enumerate(values)))
    result = run("--query={}", "--group_by=g.h", "--drop_null_groups=0")
    assert result.status == status, result.log


def test_a_field_that_is_null_or_empty_is_there(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a", g=None, h=[]), record("b", h=[]))
    for field in ("g", "h"):
        result = run("--query={}", f"--group_by={field}", "--drop_null_groups=0", "--overwrite=1")
        assert result.status == 0, result.log


HANG: Fault = (503, {"Retry-After": "30"}, b"")


def test_a_hint_that_cannot_be_had_fails_no_run(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a", s="x"), record("b", s="y"))

    def only_pages() -> None:
        if len(docdb.requests) == 2:
            docdb.always = HANG

    docdb.after = only_pages
    result = run("--query={'s': {'$in': ['x', 'z']}}", constants={"HINT_SECONDS": 1})
    assert result.status == 0, result.log
    assert "skipped, no record has this s: z" in result.log
    assert "near it" not in result.log


@pytest.mark.parametrize("flag", ["--query", "--docdb_snapshot", "--analysis_code"])
def test_a_missing_file_gets_the_nearest(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = tmp_path / "data" / "deep" / "er" / "query.json"
    deep.parent.mkdir(parents=True)
    flags = [f"--input_directory={tmp_path / 'data'}"]
    if flag != "--query":
        flags.append("--query={}")
    said = refusal(*flags, f"{flag}=query.json")
    assert "there is no file 'query.json', here, in " in said
    assert "line 1" not in said
    assert "did you mean" not in said
    deep.write_text("{}")
    for name in ("query.json", "other/query.json"):
        assert f"did you mean {deep}?" in refusal(*flags, f"{flag}={name}")
    shutil.rmtree(tmp_path / "data" / "deep")
    (tmp_path / "quary.json").write_text("{}")
    assert "quary.json?" in refusal(*flags, f"{flag}=query.json")
