"""Whole runs: which assets, which tasks, which workers, against both kinds of database."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
import shutil
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel
from hypothesis import given
from hypothesis import strategies as st

import run_capsule
import standins
from conftest import PROGRAM, ROOT, Result, Run, a_task, fuzz
from dispatch.assets.asset_csv import AssetList, find_listed, read_asset_list
from dispatch.assets.assets import ASSET_FIELDS, Asset
from dispatch.given import inputs
from dispatch.given.values import as_list
from dispatch.records import docdb as live_docdb
from dispatch.records.rest import LONGEST_PAUSE
from dispatch.tasks.lock import lock
from dispatch.tasks.output import write_workers
from dispatch.tasks.tasks import Task, deal_in_order, render_tasks
from dispatch.terminal.messages import BadInput, FailedRun
from reference import expected_files
from standins import BUCKET, S3, DocDB, record

Record = dict[str, Any]


def ids_of(record: Record) -> list[str]:
    """Return the Code Ocean ids of a real record, in the shapes seen there."""
    ids: list[str] = []
    for field in ("external_links", "other_identifiers"):
        links = record.get(field)
        ids += links.get("Code Ocean", []) if isinstance(links, dict) else []
    return ids


def expected_task(record: Record, asset_id: str, files: list[str] | None, query: Any) -> Record:
    task = {
        "s3_location": [record["location"]],
        "asset_id": [asset_id],
        "asset_name": [record["name"]],
        "docdb_record_id": [record["_id"]],
        "file_location": files,
    }
    return task if query is None else {**task, "query": json.dumps(query, separators=(",", ":"))}


def by_json(tasks: list[Record]) -> list[str]:
    return sorted(json.dumps(task) for task in tasks)


# ------------------------------------------------------------------ the real records, all forms


def tree_of(record: Record) -> list[str]:
    """Return a tree for a real record, in the style of its kind."""
    name = record["name"]
    if "ecephys" in name:
        stream = f"{name}/ecephys/ecephys_compressed/experiment1_ProbeA.zarr"
        return [
            f"{name}/nwb/{name}_experiment1_recording1.nwb/.zattrs",
            f"{name}/nwb/{name}_experiment1_recording1.nwb/units/id/0",
            *(f"{stream}/traces/{n}" for n in range(30)),
            f"{stream}/traces/inner.nwb",
        ]
    if "behavior" in name:
        return [f"{name}/behavior/{name}.nwb", f"{name}/behavior-videos/a.mp4", f"{name}/x.json"]
    if "SPIM" in name:
        return [f"{name}/SPIM.ome.zarr/0/0/{n}" for n in range(30)] + [f"{name}/acq.json"]
    return [f"{name}/ophys/plane{n}.h5" for n in range(3)] + [f"{name}_copy/plane.nwb"]


QUERIES: dict[str, tuple[Record, Callable[[Record], bool]]] = {
    "all": ({}, lambda _: True),
    "raw": (
        {"data_description.data_level": "raw"},
        lambda r: r["data_description"]["data_level"] == "raw",
    ),
    "subjects": (
        {"subject.subject_id": {"$in": ["774212", "755252", "834691"]}},
        lambda r: r["subject"]["subject_id"] in ("774212", "755252", "834691"),
    ),
    "name": (
        {"name": {"$regex": "^ecephys_.*_sorted_"}, "session": {"$ne": None}},
        lambda r: bool(re.match("ecephys_.*_sorted_", r["name"])) and r.get("session") is not None,
    ),
    "modality": (
        {"data_description.modality.abbreviation": "behavior"},
        lambda r: any(
            modality["abbreviation"] == "behavior"
            for modality in as_list(r["data_description"].get("modality"))
            if isinstance(modality, dict)
        ),
    ),
}


@pytest.fixture
def world(docdb: DocDB, s3: S3, real_records: list[Record]) -> dict[str, list[str]]:
    """Put the real records behind both services; return all keys of each location."""
    docdb.put(*real_records)
    trees: dict[str, list[str]] = {}
    for real in real_records:
        bucket, _, prefix = real["location"].removeprefix("s3://").partition("/")
        keys = [prefix + key.removeprefix(real["name"]) for key in tree_of(real)]
        s3.put(bucket, keys)
        trees.setdefault(f"s3://{bucket}/", []).extend(keys)
    return {
        real["location"]: trees[real["location"].rpartition("/")[0] + "/"] for real in real_records
    }


def brute_force(
    records: list[Record], world: dict[str, list[str]], extension: str, split: int, query: Any
) -> list[Record]:
    tasks = []
    for real in records:
        ids = ids_of(real)
        prefix = real["location"].removeprefix("s3://").partition("/")[2]
        files = [
            f"{real['location']}/{path}"
            for path in sorted(expected_files(world[real["location"]], prefix, extension))
        ]
        parts: list[Any] = [[file] for file in files] if split else [files] * bool(files)
        for part in parts if extension else [None]:
            tasks.append(expected_task(real, ids[0] if ids else "", part, query))
    return tasks


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("extension", ["", ".nwb", "zarr", ".h5"])
def test_real_records_give_what_brute_force_gives(
    query: str, extension: str, run: Run, world: dict[str, list[str]], real_records: list[Record]
) -> None:
    filter_, matches = QUERIES[query]
    chosen = [real for real in real_records if matches(real)]
    for split in (1, 0):
        expected = brute_force(chosen, world, extension, split, filter_)
        result = run(
            f"--query={json.dumps(filter_)}",
            f"--file_extension={extension}",
            f"--split_files={split}",
            "--max_jobs=1000",
            "--overwrite=1",
        )
        if not expected:
            assert result.status == 1
            assert result.error.startswith("error: nothing to dispatch")
            continue
        assert result.status == 0, result.log
        assert by_json(result.tasks()) == by_json(expected)
        assert result.names() == sorted(map(str, range(len(expected))))
        order = [(task["asset_name"][0], task["file_location"]) for task in result.tasks()]
        assert order == sorted(order, key=lambda pair: (pair[0], pair[1] or []))


@pytest.mark.usefixtures("world")
def test_every_form_of_a_query_is_the_same_query(run: Run, tmp_path: Path) -> None:
    filter_, _ = QUERIES["subjects"]
    (tmp_path / "data" / "inputs").mkdir()
    (tmp_path / "data" / "inputs" / "in-data.json").write_text(json.dumps(filter_, indent=2))
    (tmp_path / "here.json").write_text("\ufeff" + json.dumps(filter_) + "\r\n", encoding="utf-8")
    (tmp_path / "literal.json").write_text(repr(filter_))
    forms = [
        json.dumps(filter_),
        json.dumps(filter_, indent=4),
        repr(filter_),
        f"  '{json.dumps(filter_)}' ",
        f'"{filter_!r}"',
        json.dumps(json.dumps(filter_)),
        "here.json",
        str(tmp_path / "here.json"),
        "'inputs/in-data.json'",
        "literal.json",
    ]
    runs = [run("--query", form, "--overwrite=1") for form in forms]
    runs.append(run(f"--docdb_query={forms[0]}", "--query=", "--overwrite=1"))
    for result in runs:
        assert result.status == 0, result.log
        assert result.files() == runs[0].files()
    assert len(runs[0].tasks()) == 5


@pytest.mark.usefixtures("world")
def test_a_snapshot_answers_like_the_live_database(
    run: Run, docdb: DocDB, real_records: list[Record], tmp_path: Path
) -> None:
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(r) + "\n" for r in real_records))
    (tmp_path / "data" / "array.json").write_text(json.dumps(real_records, indent=1))
    live = run("--query={}", "--file_extension=.nwb", "--overwrite=1")
    docdb.requests.clear()
    for snapshot in ("lines.jsonl", "array.json"):
        result = run(
            "--query={}", "--file_extension=.nwb", "--overwrite=1", f"--docdb_snapshot={snapshot}"
        )
        assert result.status == 0, result.log
        assert result.files() == live.files()
    assert docdb.requests == []


@pytest.mark.usefixtures("world")
def test_real_ids_in_a_csv_give_their_assets_in_its_order(
    run: Run, real_records: list[Record], tmp_path: Path
) -> None:
    chosen = [(ids_of(real)[-1], real) for real in real_records if ids_of(real)][::-1]
    rows = "".join(f"{asset_id}\n" for asset_id, _ in chosen)
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\n" + rows)
    result = run("--use_data_asset_csv=1", "--max_jobs=1000")
    assert result.status == 0, result.log
    assert result.tasks() == [
        expected_task(real, asset_id, None, None) for asset_id, real in chosen
    ]


# ------------------------------------------------------------------------------------- the CSV


def test_a_second_code_ocean_id_in_the_csv_matches(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(
        record("two", external_links={"Code Ocean": ["first", "second"]}),
        record("v2", external_links=None, other_identifiers={"Code Ocean": ["third"]}),
        record("old", external_links=[{"Code Ocean": "fourth"}, {"Other": "x"}]),
        record("string", external_links={"Code Ocean": "fifth"}),
        record("none", external_links=[]),
    )
    (tmp_path / "data" / "data_asset_input.csv").write_text(
        "asset_id\nfifth\nfourth\nthird\nsecond\nunknown\n"
    )
    result = run("--use_data_asset_csv=1")
    assert result.status == 0, result.log
    assert [(t["asset_name"], t["asset_id"]) for t in result.tasks()] == [
        (["string"], ["fifth"]),
        (["old"], ["fourth"]),
        (["v2"], ["third"]),
        (["two"], ["second"]),
    ]
    assert "no record has this id: unknown" in result.log
    assert "4 records matched, 1 skipped (no record has this id: 1)" in result.error
    strict = run("--use_data_asset_csv=1", "--strict=1", "--overwrite=1")
    assert strict.status == 1
    assert "unknown" in strict.error


def test_a_record_is_one_asset_however_many_of_its_ids_are_given(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(
        record("two", external_links={"Code Ocean": ["first", "second"]}),
        record("shared-b", external_links={"Code Ocean": ["shared"]}),
        record("shared-a", external_links={"Code Ocean": ["shared"]}),
    )
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\nshared\nsecond\nfirst\n")
    result = run("--use_data_asset_csv=1")
    assert [(t["asset_name"], t["asset_id"]) for t in result.tasks()] == [
        (["shared-a"], ["shared"]),
        (["shared-b"], ["shared"]),
        (["two"], ["second"]),
    ]
    assert "first names an asset that another id has chosen: two" in result.log


@pytest.mark.parametrize(
    "table",
    [
        "asset_id\nco-b\nco-a\n",
        "\ufeffasset_id\r\nco-b\r\nco-a\r\n",
        " asset_id , subject\n co-b ,1\n\n , \nco-a,2\nco-b,3\n",
        "subject,asset_id\n1,co-b\n,\n2,co-a\n",
        'asset_id\n"co-b"\n"co-a"',
        "asset_id\nco-b,\nco-a,\n",
        "Asset_ID\nco-b\nco-a\n",
        "asset_id;note;\nco-b;one, two;\nco-a;;\n",
        '"note";"ASSET_ID"\n"x;y";"co-b"\n"";"co-a"\n',
        "note\tasset_id\nx\tco-b\ny, z\tco-a",
        '\n\nasset_id, note\nco-b, "a, b"\nco-a\n',
        "asset_id\rco-b\rco-a\r",
        '"","asset_id"\n"1","co-b"\n"2","co-a"\n',  # R's write.csv
        "asset_id,note\nco-b,Tåg\nco-a,\n".encode("latin-1"),
        "asset_id\tnote\r\nco-b\tTåg\r\nco-a\t\r\n".encode("utf-16"),  # Excel's Unicode text
        codecs.BOM_UTF16_BE + "asset_id\nco-b\nco-a\n".encode("utf-16-be"),
    ],
)
def test_a_csv_is_read_as_people_write_it(
    table: str | bytes, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"), record("c"))
    content = table if isinstance(table, bytes) else table.encode()
    (tmp_path / "data" / "data_asset_input.csv").write_bytes(content)
    result = run("--use_data_asset_csv", "1")
    assert result.status == 0, result.log
    assert [task["asset_id"] for task in result.tasks()] == [["co-b"], ["co-a"]]
    assert "Warning" not in result.log


def test_a_csv_one_folder_down_is_found_and_two_are_refused(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    data = tmp_path / "data"
    missing = run("--use_data_asset_csv=1")
    assert missing.status == 2
    assert "data_asset_input.csv" in missing.error
    (data / "deep" / "er").mkdir(parents=True)
    (data / "deep" / "er" / "data_asset_input.csv").write_text("asset_id\nco-b\n")
    assert run("--use_data_asset_csv=1").status == 2
    (data / "input_files").mkdir()
    (data / "input_files" / "data_asset_input.csv").write_text("asset_id\nco-a\n")
    assert run("--use_data_asset_csv=1").tasks()[0]["asset_id"] == ["co-a"]
    (data / "more").mkdir()
    (data / "more" / "data_asset_input.csv").write_text("asset_id\nco-b\n")
    two = run("--use_data_asset_csv=1", "--overwrite=1")
    assert two.status == 2
    assert str(data / "input_files") in two.error
    assert str(data / "more") in two.error
    (data / "data_asset_input.csv").write_text("asset_id\nco-b\n")
    assert run("--use_data_asset_csv=1", "--overwrite=1").tasks()[0]["asset_id"] == ["co-b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "data_asset_input.csv"),
        (b"id\nco-a\n", "asset_id"),
        (b"asset_id, asset_id\nco-a,co-b\n", "one column asset_id"),
        (b"asset_id\n\n \n", "no id"),
        (b"asset_id,asset_id\nco-a,co-b\n", "one column asset_id"),
        (b"Asset_ID;note;asset_id\nco-a;x;co-b\n", "one column asset_id"),
        (b"asset_id\nco-a,co-b,co-c\nco-d\n", "line 2 has more values"),
        (b"asset_id,note\nco-a,x\n\nco-b,x,co-c\n", "line 4 has more values"),
        (b'"asset_id"\n"1","co-a"\n', "line 2 has more values"),  # R's write.table
        (b'asset_id\n"co-a\n', "data_asset_input.csv"),
        (b'asset_id\nco-b\n"co-a"x\n', "line 3"),
        ("asset_id\nco-a\n".encode("utf-16-le"), "data_asset_input.csv"),  # no mark says so
    ],
)
def test_a_csv_that_cannot_be_read_is_bad_input(
    content: bytes, words: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "data" / "data_asset_input.csv").write_bytes(content)
    result = run("--use_data_asset_csv=1")
    assert result.status == 2, result.log
    assert words in result.error
    assert not result.output.exists()


def test_a_uuid_in_capitals_is_the_same_id(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    asset_id = str(uuid.uuid4())
    docdb.put(record("a", external_links={"Code Ocean": [asset_id]}), record("B"))
    rows = f"asset_id\n{asset_id.upper()}\nco-B\n{asset_id}\n"
    (tmp_path / "data" / "data_asset_input.csv").write_text(rows)
    result = run("--use_data_asset_csv=1")
    assert [task["asset_id"] for task in result.tasks()] == [[asset_id], ["co-B"]]
    assert "0 skipped" in result.error


# What writes a table, as its separators, quotes, encodings and line ends.
DIALECTS: list[dict[str, Any]] = [
    {"sep": ","}, {"sep": ";"}, {"sep": "\t"}, {"sep": ",", "quoting": csv.QUOTE_ALL},
    {"sep": ";", "quoting": csv.QUOTE_NONNUMERIC, "index": True}, {"sep": ",", "index": True},
    {"sep": "\t", "encoding": "utf-16"}, {"sep": ";", "encoding": "utf-8-sig"},
    {"sep": ",", "lineterminator": "\r\n"},
]  # fmt: skip


def test_any_table_that_pandas_writes_gives_its_ids(tmp_path: Path) -> None:
    import pandas as pd

    def check(dialect: dict[str, Any], column: str, rows: list[tuple[str, str]], at: int) -> None:
        names = ["note", "other"]
        names.insert(at, column)
        columns = [[note for _, note in rows], [note[::-1] for _, note in rows]]
        columns.insert(at, [asset_id for asset_id, _ in rows])
        table = pd.DataFrame(dict(zip(names, columns, strict=True)), dtype=str)
        path = tmp_path / "data_asset_input.csv"
        table.to_csv(path, **{"index": False, **dialect})
        expected = list(dict.fromkeys(asset_id.strip().lower() for asset_id, _ in rows))
        expected = [asset_id for asset_id in expected if asset_id]
        try:
            found = read_asset_list(tmp_path).values
        except BadInput as error:
            assert "no id in its column" in str(error)  # noqa: PT017
            found = []
        assert found == expected

    ids = st.uuids().map(str) | st.uuids().map(lambda one: str(one).upper()) | st.just("")
    notes = st.text("ab,;\t\"'\n äé€", max_size=6)
    fuzz(
        check,
        dialect=st.sampled_from(DIALECTS),
        column=st.sampled_from(["asset_id", "Asset_ID", "ASSET_ID", " asset_id "]),
        rows=st.lists(st.tuples(ids, notes), max_size=5),
        at=st.integers(0, 2),
    )


def test_twenty_thousand_ids_are_asked_for(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(*(record(f"{n:05}") for n in range(0, 20_000, 400)))
    rows = "".join(f"co-{n:05}\n" for n in range(20_000))
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\n" + rows)
    result = run("--use_data_asset_csv=1")
    assert result.status == 0, result.log
    assert len(result.tasks()) == 50
    assert "19,950 skipped" in result.error
    assert result.log.count("skipped, no record has this id: ") == 21
    assert {request.method for request in docdb.requests} == {"POST"}


# ---------------------------------------------------------------------------------- the database


def test_both_generations_of_the_database_are_asked(run: Run, docdb: DocDB) -> None:
    docdb.put(record("one"), version="v1")
    docdb.put(record("two"), version="v2")
    for flags, env, name in (
        ([], {}, "one"),
        (["--docdb_version=v2"], {}, "two"),
        ([], {"DOCDB_VERSION": "v2"}, "two"),
        (["--docdb_version="], {"DOCDB_VERSION": " "}, "one"),
        (["--docdb_version=v1"], {"DOCDB_VERSION": "v2"}, "one"),
    ):
        results_store = {"DOCDB_DATABASE": "analysis", "DOCDB_COLLECTION": "results"}
        result = run("--query={}", "--overwrite=1", *flags, env={**env, **results_store})
        assert [task["asset_name"] for task in result.tasks()] == [[name]], result.log
    assert {r.path for r in docdb.requests} == {
        "/v1/metadata_index/data_assets/aggregate",
        "/v2/metadata_index/data_assets/aggregate",
    }
    assert run("--query={}", "--overwrite=1", env={"DOCDB_VERSION": "v3"}).status == 2
    unused = run("--query={}", "--overwrite=1", "--docdb_version=v1", env={"DOCDB_VERSION": "v3"})
    assert unused.status == 0


def test_pages_go_by_key_and_lose_nothing(docdb: DocDB, monkeypatch: pytest.MonkeyPatch) -> None:
    docdb.put(*(record(f"{n:03}") for n in range(25)), record("odd", _id={"z": 1}))
    monkeypatch.setenv("DOCDB_HOST", docdb.host)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(docdb.ca_file))
    live = live_docdb.open_docdb("v1", 60)
    for size in (2, 5, 10, 25, 26, 27, 100):
        small = live_docdb.DocDB(live.aggregate, size)
        pages = list(small.find({}, ASSET_FIELDS))
        found = [repr(record["_id"]) for page in pages for record in page]
        assert sorted(found) == sorted([*(f"'id-{n:03}'" for n in range(25)), "{'z': 1}"])
        docdb.requests.clear()


WRONG_PAGES: dict[str, list[list[Any]]] = {  # the record ids on the pages that are answered
    "repeated": [["a", "b"], ["a", "b"]],
    "behind an earlier one": [["a", "c"], ["b", "d"]],
    "in no order": [["b", "a"]],
    "twice": [["a", "a"]],
    "no string among strings": [["a", "b"], ["c", 1]],
    "a string among no strings": [["b", 1], [], ["a"]],
    "no string twice": [[1, 2], [1, 2]],
}


@pytest.mark.parametrize("name", WRONG_PAGES)
def test_pages_that_do_not_go_on_end_the_run(name: str) -> None:
    answers = iter(WRONG_PAGES[name])
    database = live_docdb.DocDB(lambda _: [{"_id": id_} for id_ in next(answers, [])], 2)
    with pytest.raises(FailedRun, match="do not continue"):
        list(database.find({}, ["_id"]))


def test_a_record_with_ids_in_two_questions_comes_once(docdb: DocDB) -> None:
    docdb.put(record("two", external_links={"Code Ocean": ["first", "second"]}), record("one"))

    def aggregate(pipeline: list[Record]) -> list[Record]:
        return standins.aggregate(list(docdb.records["v1"]), pipeline)

    database = live_docdb.DocDB(aggregate)
    database.ids_at_once = 1
    ids = ["first", "co-one", "second"]
    pages = list(find_listed(database, AssetList(ids), ["_id"]))
    assert pages == [[{"_id": "id-two"}], [{"_id": "id-one"}], []]


def test_the_gateways_wish_to_wait_is_granted(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    docdb.faults.append((429, {"Retry-After": "1"}, b""))
    assert run("--query={}").status == 0
    first, second, _ = docdb.requests
    assert second.time - first.time >= 1
    assert LONGEST_PAUSE == 60
    docdb.faults.append((429, {"Retry-After": "20"}, b""))
    limited = run("--query={}", "--overwrite=1", constants={"LONGEST_PAUSE": 1})
    assert limited.status == 0
    assert "429 Too Many Requests: ''; retrying in 1 s" in limited.log


def test_only_the_fields_in_use_are_asked_for(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a", subject={"subject_id": "1"}, session={"epochs": ["x" * 1000]}))
    assert run("--query={}").status == 0
    for request in docdb.requests:
        stages = {name: value for stage in request.body for name, value in stage.items()}
        assert set(stages["$project"]) == {
            "_id", "name", "location", "external_links", "other_identifiers",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ((400, {}, b'{"message": "unknown operator: $foo"}'), 2, "unknown operator: $foo"),
        ((403, {}, b"<html>\nForbidden</html>"), 1, "403"),
        ((200, {}, b"[1]"), 1, "not a list of records"),
    ],
)
def test_an_answer_that_is_no_records_ends_the_run(
    fault: Any, status: int, words: str, run: Run, docdb: DocDB
) -> None:
    docdb.always = fault
    result = run("--query={}")
    assert result.status == status
    assert result.error.startswith("error: ")
    assert words in result.error
    assert docdb.host in result.error
    assert not result.output.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "nothing to dispatch: 0 records matched"),
        ('{"_id": "a"}\n{"_id": "b"\n', "line 3 column 1"),
        ('{"_id": "a"}\n[1]\n', "record 2"),
        ('[{"_id": "a"}, {"name": "b"}]', "record 2"),
        ('{"_id": "a"}\n{"_id": "a"}\n', "2 records have the _id"),
        ('{"_id": 7}', "record 1"),
        ('{"_id": "a", "b": ' + "[" * 200 + "]" * 200 + "}", "record 1 is nested"),
    ],
)
def test_a_snapshot_that_cannot_be_read_is_told(
    content: str, words: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "s.jsonl").write_text(content)
    result = run("--query={}", "--docdb_snapshot=s.jsonl")
    assert result.status == (2 if content else 1), result.log
    assert words in result.error
    missing = run("--query={}", "--docdb_snapshot=nowhere.jsonl")
    assert missing.status == 2
    assert "nowhere.jsonl" in missing.error


def test_a_snapshot_may_have_local_locations_and_the_network_may_not(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    folder = tmp_path / "snap shot"
    for name in ("relative", "absolute"):
        (folder / "assets" / name).mkdir(parents=True)
        (folder / "assets" / name / "a.nwb").touch()
    absolute = (folder / "assets" / "absolute").as_uri()
    records = [
        record("relative", location="assets/relative/"),
        record("url", location=absolute),
        record("localhost", location=absolute.replace("file:///", "file://localhost/")),
        record("plain", location=str(folder / "assets" / "absolute")),
        record("web", location="https://example.org/x"),
        record("number", location=7),
        record("missing", location=None),
        record("empty", location=""),
        record("bucket", location="s3://bucket"),
        record("host", location="file://elsewhere/x"),
        record("slashes", location="s3://bucket//x"),
    ]
    (folder / "s.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    flags = ("--query={}", "--file_extension=nwb", f"--docdb_snapshot={folder / 's.jsonl'}")
    result = run(*flags)
    assert result.status == 0, result.log
    assert [(t["s3_location"], t["file_location"]) for t in result.tasks()] == [
        ([url], [f"{url}/a.nwb"])
        for url in (absolute, (folder / "assets" / "relative").as_uri(), absolute)
    ]
    assert "8 skipped (location is not s3://bucket/prefix: 8)" in result.error
    docdb.put(*records)
    live = run("--query={}", "--file_extension=nwb", "--overwrite=1")
    assert live.status == 1
    assert "11 records matched, 11 skipped" in live.error
    for name in (
        "relative",
        "url",
        "localhost",
        "plain",
        "web",
        "number",
        "missing",
        "empty",
        "bucket",
        "slashes",
    ):
        assert re.search(f"skipped, .*: {name} ", live.log)


def test_odd_records_keep_their_place_or_are_named(run: Run, docdb: DocDB) -> None:
    docdb.put(
        record("same", _id="b"),
        record("same", _id="a", external_links={"Code Ocean": []}),
        record("line\nbreak", external_links=None),
        {"_id": "nameless", "location": f"s3://{BUCKET}/x/"},
        record("half \ud800", _id="half"),
        record("number", _id=12),
        record("nowhere\n\u202e", location="here\nthere"),
    )
    result = run("--query={}")
    assert result.status == 0, result.log
    assert [
        (t["asset_name"][0], t["docdb_record_id"][0], t["asset_id"][0]) for t in result.tasks()
    ] == [
        ("", "nameless", ""),
        ("line\nbreak", "id-line\nbreak", ""),
        ("same", "a", ""),
        ("same", "b", "co-same"),
    ]
    assert result.tasks()[0]["s3_location"] == [f"s3://{BUCKET}/x"]
    assert "record id is not a string: number" in result.log
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line) for line in result.log.splitlines())
    assert "a field is not a valid string: half \\ud800" in result.log


# ----------------------------------------------------------------------------- tasks and workers


@given(tasks=st.lists(st.integers(), min_size=1, max_size=300), max_jobs=st.integers(1, 400))
def test_dealing_gives_every_task_once_in_order_and_evenly(tasks: list[int], max_jobs: int) -> None:
    workers = deal_in_order(tasks, min(max_jobs, len(tasks)))
    assert [task for worker in workers for task in worker] == tasks
    assert len(workers) == min(max_jobs, len(tasks))
    lengths = [len(worker) for worker in workers]
    assert max(lengths) - min(lengths) <= 1


def test_tasks_are_dealt_in_contiguous_runs(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:02}") for n in range(11)))
    result = run("--query={}", "--num_parallel_workers=4")
    assert result.status == 0, result.log
    dealt = [sorted(task["asset_name"][0] for task in worker) for worker in result.workers()]
    assert [name for worker in dealt for name in worker] == [f"{n:02}" for n in range(11)]
    assert sorted(map(len, dealt)) == [2, 3, 3, 3]


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


GROUPING = """
GROUP_FIELDS = ("subject.subject_id",)


def group_assets(assets):
    groups = defaultdict(list)
    for asset in assets:
        groups[asset.record["subject"]["subject_id"]].append(asset)
    return [group for subject, group in groups.items() if subject != "left out"]
"""


def test_an_edited_group_assets_makes_one_task_per_group(
    run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    source = PROGRAM.read_text()
    start = source.index("GROUP_FIELDS: tuple")
    end = source.index("# ---", start)
    edited = tmp_path / "code" / "run_capsule.py"
    edited.parent.mkdir()
    edited.write_text(f"{source[:start]}{GROUPING.strip()}\n\n\n{source[end:]}")
    shutil.copytree(PROGRAM.with_name("dispatch"), edited.with_name("dispatch"))
    subjects = {"a": "1", "b": "2", "c": "1", "d": "1", "e": "left out", "f": "3"}
    docdb.put(*(record(name, subject={"subject_id": s}) for name, s in subjects.items()))
    s3.put(BUCKET, ["a/1.nwb", "a/2.nwb", "b/3.nwb", "b/4.nwb", "c/5.nwb", "d/6.txt", "f/7.txt"])
    result = run("--query={}", "--file_extension=nwb", "--split_files=1", program=edited)
    assert result.status == 0, result.log
    one, two = result.tasks()
    at = f"s3://{BUCKET}"
    assert one["s3_location"] == [f"{at}/a", f"{at}/c"]
    assert one["asset_id"] == ["co-a", "co-c"]
    assert one["asset_name"] == ["a", "c"]
    assert one["docdb_record_id"] == ["id-a", "id-c"]
    assert one["file_location"] == [f"{at}/a/1.nwb", f"{at}/a/2.nwb", f"{at}/c/5.nwb"]
    assert two["file_location"] == [f"{at}/b/3.nwb", f"{at}/b/4.nwb"]
    assert "--split_files has no effect" in result.log
    assert "left out by group_assets: e" in result.log
    assert "3 skipped" in result.error
    alone = ('--query={"name": "b"}', "--file_extension=nwb", "--overwrite=1")
    [one_asset] = run(*alone, program=edited).tasks()
    assert one_asset["file_location"] == two["file_location"]


# ------------------------------------------------------------------------- output and exit status


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
    assert sorted(path.name for path in fewer.output.iterdir()) == ["0"]


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
    assert sorted(path.name for path in output.iterdir()) == ["0", "1", "2"]


def test_a_failing_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [[a_task(0)] for _ in range(2)]
    write_workers(old, tmp_path / "out", overwrite=False)
    before = sorted(tmp_path.rglob("*"))
    rename = Path.rename
    for failing in range(7):
        calls = iter(range(100))

        def break_once(self: Path, target: Path, at: int = failing, calls: Any = calls) -> Path:
            if next(calls) == at:
                raise OSError("no space left")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", break_once)
        new = [[a_task(0)] for _ in range(2)]
        if failing < 6:
            with pytest.raises(OSError, match="no space"):
                write_workers(new, tmp_path / "out", overwrite=True)
            assert sorted(tmp_path.rglob("*")) == before
    assert sorted(tmp_path.rglob("*")) == before


NO_SUFFIX = (
    "--file_extension: must be the end of a name, such as .nwb, without any of / * ? [ ], not"
)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--query"),
        (["--query="], "--query"),
        (["--query={}", "--max_jobs=0"], "'0'"),
        (["--query={}", "--max_jobs=-3"], "'-3'"),
        (["--query={}", "--max_jobs=ten"], "'ten'"),
        (["--query={}", "--max_jobs", "1.5"], "'1.5'"),
        (["--query={}", "--split_files=2"], "'2'"),
        (["--query={}", "--docdb_version=3"], "'3'"),
        (["--query={}", "--max=3"], "--max"),
        (["--query={}", "stray"], "stray"),
        (["--query=query.jsn"], "there is no file 'query.jsn', here, in "),
        (["--query=[1]"], "list"),
        (['--query={"a": 1,, }'], "column"),
        (["--query={'a': 1,, }"], "column"),
        (["--query={'a': true}"], "line 1"),
        (['--query={"a": {"b": 1}'], "column"),
        (['--query={"a": NaN}'], "--query"),
        (["--query={'a': {1, 2}}"], "--query"),
        (['--query={"a": 1, "a": 2}'], "'a' appears twice"),
        (["--query={'a': [{'b': 1, 'b': 2}]}"], "'b' appears twice"),
        (['--query={"a": 1, "a": 2,}'], "'a' appears twice"),
        (["--query={1: 2}"], "key 1"),
        (['--query={"a": {"$in": ["b" "c"]}}'], "Expecting ',' delimiter: line 1 column 20"),
        (["--query={'a': {'$in': ['b'\n 'c']}}"], "a comma is missing between two strings"),
        (["--query={'a': {'$in': ['b' # one\r\n 'c']}}"], "a comma is missing between two"),
        (['--query={"a":' + '{"a":' * 120 + "1" + "}" * 121], "100 deep"),
        (['--query={"a":' + '{"a":' * 980 + "1" + "}" * 981], "--query"),
        (["--query={}", "--docdb_snapshot=" + "x" * 300], "xxx...'"),
        (["--use_data_asset_csv=1", "--input_directory=" + "x" * 300], "--input_directory"),
        (["--query={}", "--output_directory=/dev/null"], "/dev/null is not a folder"),
        (['--query={"a":' * 1 + '{"a":' * 5000], "--query"),
        (["--query=" + "x" * 20_000], "--query"),
        (["--query=."], "'.'"),
        (["--query={}", "--project_name=\udcff"], "UTF-8"),
        (["--query={}", "--subject_id=a,\udcff"], "UTF-8"),
        (["--query={}", "--group_by=\udcff"], "UTF-8"),
        (["--query={}", "--filter_latest=created"], "--filter_by"),
        (["--query={}", "--filter_by=created"], "--filter_latest"),
        (["--query={}", "--filter_latest=a,b", "--filter_by=c"], "one field"),
        (["--query={}", "--group_by=a..b"], "'a..b'"),
        (["--query={}", "--group_by=$a"], "'$a'"),
        (["--query={}", "--group_by=a.b,a__b"], "__"),
        (["--query={}", "--group_by=,"], "','"),
        (["--query={}", "--drop_null_groups=2"], "'2'"),
        (["--query={}", "--data_level=cooked"], "raw or derived"),
        (["--query={}", "--max_tasks=-1"], "'-1'"),
        (["--query={}", "--tasks_per_job=0"], "'0'"),
        (["--query={}", "--balance_by=weight"], "count or size"),
        (["--query={}", "--balance_by=size"], "--file_extension"),
        (["--query={}", "--file_extension=*.nwb"], f"{NO_SUFFIX} '*.nwb'"),
        (["--query={}", "--file_extension=a/b.nwb"], f"{NO_SUFFIX} 'a/b.nwb'"),
        (["--query={}", "--file_extension=.nw?"], f"{NO_SUFFIX} '.nw?'"),
        (["--query={}", "--file_extension=[ab].nwb"], f"{NO_SUFFIX} '[ab].nwb'"),
    ],
)
def test_bad_flags_are_told_in_one_line(flags: list[str], words: str, run: Run) -> None:
    result = run(*flags)
    assert result.status == 2, result.log
    assert result.error.startswith("error: ")
    assert words in result.error
    assert "Traceback" not in result.log
    assert result.stdout == ""
    assert not result.output.exists()


def test_blank_values_mean_the_default(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    flags = [f"{name}=" for name in run_capsule.make_parser()[1]]
    blank = [flag for flag in flags if "directory" not in flag and flag != "--query="]
    result = run(*blank, "--query={}", "--max_jobs", " 1 ", "--num_parallel_workers=")
    assert result.status == 0, result.log
    assert result.tasks()[0]["file_location"] is None


def test_a_query_of_20000_characters_is_no_path(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    query = {"name": {"$in": ["a", "x" * 20_000]}}
    assert run(f"--query={json.dumps(query)}").status == 0


def test_debug_shows_a_traceback_and_still_ends_with_the_error(run: Run) -> None:
    result = run("--query=nowhere.json", env={"LOG_LEVEL": "debug"})
    assert "Traceback" in result.log
    assert result.error.startswith("error: ")


def test_nothing_matched_is_a_failed_run(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    result = run('--query={"name": "b"}')
    assert result.status == 1
    assert result.error == "error: nothing to dispatch: 0 records matched, 0 skipped"
    assert not result.output.exists()


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


# --------------------------------------------------------------------------------- the query itself

strings = st.one_of(
    st.text(max_size=60),
    st.text("{}[]\"':,\\ntrueNa01.$-", max_size=40).map(lambda string: "{" + string),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    ).map(repr),
    st.sampled_from(["{" * 5000, '{"a":' * 2000, "{1:" + "-" * 5000 + "1}", "{1: 1j}", "{b'': 1}"]),
)


@given(string=strings)
def test_reading_a_query_raises_nothing_but_bad_input(string: str) -> None:
    try:
        query = inputs.read_query(string, ROOT / "data")
    except BadInput:
        return
    assert isinstance(query, dict)
    json.dumps(query, allow_nan=False).encode()


@given(
    query=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.integers() | st.text(st.characters(exclude_categories=["Cs"])) | st.none(),
    )
)
def test_a_query_reads_the_same_as_json_as_literal_and_in_quotes(query: Record) -> None:
    for string in (json.dumps(query), repr(query), f"'{json.dumps(query)}'", f'"{query!r}"'):
        assert inputs.read_query(string, ROOT / "data") == query


# ----------------------------------------------------------------------------------------- README


def test_the_example_in_the_readme_is_what_the_program_writes(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"<!-- example task -->\n```json\n(.*?)```", readme, re.DOTALL)
    assert shown
    task = json.loads(shown[1])
    [file] = task["file_location"]
    bucket, _, key = file.removeprefix("s3://").partition("/")
    s3.put(bucket, [key])
    docdb.put(
        {
            "_id": task["docdb_record_id"][0],
            "name": task["asset_name"][0],
            "location": task["s3_location"][0],
            "external_links": {"Code Ocean": task["asset_id"]},
            "subject": {"subject_id": "774659"},
        }
    )
    command = re.search(r"<!-- example command -->\n```bash\n(.*?)```", readme, re.DOTALL)
    assert command
    query = re.search("--query '(.*?)'", command[1])
    assert query
    result: Result = run(f"--query={query[1]}", "--file_extension=.nwb")
    assert result.status == 0, result.log
    [path] = result.output.glob("*/*.json")
    assert path.read_text() == textwrap.dedent(shown[1])
    assert {"s3_location", "asset_id", "asset_name", "file_location"} <= set(task)


def test_the_log_level_is_that_of_the_environment(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"), record("b", location="nowhere"))
    for level, words in (("WARNING", "WARNING skipped"), ("ERROR", ""), ("nonsense", "INFO disp")):
        result = run("--query={}", "--overwrite=1", env={"LOG_LEVEL": level})
        assert result.status == 0
        assert words in result.log
        assert ("INFO" in result.log) == (level == "nonsense")


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


@pytest.mark.parametrize("number", [999, 1_000, 1_001, 6_100])
def test_records_whose_ids_are_no_strings_are_counted(number: int, run: Run, docdb: DocDB) -> None:
    docdb.put(*({**record(f"{n}"), "_id": n} for n in range(number)), record("a"), record("b"))
    result = run("--query={}")
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [["a"], ["b"]]
    assert f"{number + 2:,} records matched, {number:,} skipped" in result.error
    del docdb.records["v1"][-2:]
    result = run("--query={}", "--overwrite=1")
    assert f"nothing to dispatch: {number:,} records matched, {number:,} skipped" in result.error


def test_pages_begin_small_and_take_few_requests(docdb: DocDB) -> None:
    docdb.put(*({"_id": f"{n:05}"} for n in range(12_000)))
    asked: list[int] = []

    def aggregate(pipeline: list[Record]) -> list[Record]:
        asked.append(pipeline[2]["$limit"])
        return standins.aggregate(list(docdb.records["v1"]), pipeline)

    pages = live_docdb.DocDB(aggregate).find({}, ["_id"])
    assert sum(map(len, pages)) == 12_000
    assert asked == [1_000, 5_000, 5_000, 5_000, 5_000]


@pytest.mark.parametrize("query", ['{"a": {"": 5}}', "{'': 5}", '{"": 5, "b": 1}'])
def test_a_key_that_a_shell_has_emptied_is_told(query: str, run: Run) -> None:
    result = run(f"--query={query}")
    assert result.status == 2
    assert "error: --query: a key is empty; between double quotes, a shell takes" in result.error


def test_an_empty_string_that_is_no_key_is_not_taken_for_one(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    for query in (
        '{"a": ["", ",", ""]}',
        '{"name": {"$ne": "{\\"\\":"}}',
        '{",": ""}',
        '{"a,": ""}',
    ):
        assert run(f"--query={query}", "--overwrite=1").status in (0, 1)
