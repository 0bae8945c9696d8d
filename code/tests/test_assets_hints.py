"""What helps to ask: a filter, a field or a file that is nearly right gets what it nearly is."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from turns import in_turn

from conftest import Result, Run
from standins import DocDB, Fault, record

Record = dict[str, Any]


SUBJECT = "subject.subject_id"


def project(r: Record) -> Any:
    return r["data_description"].get("project_name")


WAYS = ("gateway", "snapshot")


@pytest.fixture(params=WAYS)
def ask(
    request: pytest.FixtureRequest, run: Run, docdb: DocDB, real_records: list[Record],
    tmp_path: Path,
) -> Run:  # fmt: skip
    """Return a function that runs the program on the real records, live or as a snapshot."""
    docdb.put(*real_records)
    docdb.put(*real_records, version="v2")
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, real_records)))

    def ask(*flags: str, **more: Any) -> Result:
        where = ["--docdb_snapshot=records.jsonl"] if request.param == "snapshot" else []
        return run(*flags, *where, **more)

    return ask


def test_a_value_that_no_record_has_gets_the_nearest(ask: Run, real_records: list[Record]) -> None:
    name, times = Counter(filter(None, map(project, real_records))).most_common(1)[0]
    for wrong in (name.lower(), name[:3] + name[4:], f'"{name[:-1]}"'):
        result = ask(f"--project_name={wrong}")
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
        (["--query={'$or': [{'subject.subject_id': '75525'}, {'subjekt': 1}]}"],
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
    flags: list[str], words: str, ask: Run
) -> None:
    result = ask(*flags)
    assert result.status == 1
    assert result.error == "error: nothing to dispatch: 0 records matched, 0 skipped"
    assert words in result.log


@pytest.mark.parametrize("live", [True, False])
def test_a_modality_is_found_in_the_fields_of_the_other_version(
    live: bool, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    v1 = [record("a", data_description={"modality": [{"abbreviation": "behavior"}]})]
    docdb.put(*v1, version="v2")
    (tmp_path / "records.jsonl").write_text(json.dumps(v1[0]))
    where = [] if live else ["--docdb_snapshot=records.jsonl"]
    result = run("--modality=behavior", "--docdb_version=v2", *where)
    assert "1 record matched" in result.error
    result = run("--modality=behaviour", "--docdb_version=v2", "--overwrite=1", *where)
    assert 'no record has modality "behaviour"; near it: "behavior" (1)' in result.log


def test_what_matches_alone_gets_no_hint(ask: Run) -> None:
    result = ask("--query={'subject.subject_id': '755252', 'name': {'$exists': False}}")
    assert f'alone, {{"{SUBJECT}":"755252"}} matches 2 records' in result.log
    assert "near it" not in result.log
    assert "hint" not in ask("--query={}").log


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
    field: str, flags: list[str], ask: Run
) -> None:
    result = ask(*flags)
    assert result.status == 0, result.log
    assert f"skipped, no record has this {field}: 799999" in result.log
    assert f'no record has {field} "799999"; ' in result.log
    assert f"1 skipped (no record has this {field}: 1)" in result.error
    strict = ask(*flags, "--strict=1", "--overwrite=1")
    assert strict.status == 1
    assert f"--strict 1: 1 would be skipped, first 799999: no record has this {field}" in (
        strict.error
    )
    assert strict.files() == result.files()


def test_modalities_that_no_record_has_are_skipped_by_name(ask: Run) -> None:
    result = ask("--modality=behavior,ecephis")
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
def test_a_field_that_no_record_has_is_bad_input(flags: list[str], words: str, ask: Run) -> None:
    result = ask("--query={}", *flags)
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
def test_a_missing_file_gets_the_nearest(flag: str, run: Run, tmp_path: Path) -> None:
    query = [] if flag == "--query" else ["--query={}"]
    result = run(*query, f"{flag}=query.json")
    assert result.status == 2
    assert "there is no file 'query.json', here, in " in result.error
    assert "line 1" not in result.error
    assert "did you mean" not in result.error
    deep = tmp_path / "data" / "deep" / "er" / "query.json"
    deep.parent.mkdir(parents=True)
    deep.write_text("{}")
    assert f"did you mean {deep}?" in run(*query, f"{flag}=query.json").error
    assert f"did you mean {deep}?" in run(*query, f"{flag}=other/query.json").error
    shutil.rmtree(tmp_path / "data" / "deep")
    (tmp_path / "quary.json").write_text("{}")
    assert "quary.json?" in run(*query, f"{flag}=query.json").error
