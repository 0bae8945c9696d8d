"""The cohort that flags choose is that of the same query written by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chosen import WAYS, Ask, Record, ask, names, write_snapshot  # noqa: F401  (a fixture)
from conftest import Run
from reference import matches
from standins import DocDB, record
from turns import in_turn

RAW: Record = {"$regex": "^(raw|raw data|raw level)$"}
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
     {**of_modality("behavior", "SPIM", *SPELT), "data_description.data_level": RAW}),
    (["--modality=behavior", "--docdb_version=v2"], of_modality("behavior")),
    (["--query={'session': {'$ne': None}}", "--data_level=raw"],
     {"session": {"$ne": None}, "data_description.data_level": RAW}),
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
