"""What helps to ask: a filter, a field or a file that is nearly right gets what it nearly is."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from chosen import WAYS, Ask, Record, ask  # noqa: F401  (a fixture)
from conftest import Run
from flags_helpers import refusal
from standins import DocDB, Fault, record
from turns import in_turn

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
