"""Assets by their names; what names end in, and which query file was read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from turns import in_turn

from chosen import WAYS, Ask, Record, ask, names, put_on_disk  # noqa: F401  (a fixture)
from conftest import PROGRAM, Run
from dispatch.assets.asset_list import read_asset_list
from standins import BUCKET, S3, DocDB, record


@pytest.fixture
def abc(docdb: DocDB) -> None:
    docdb.put(*map(record, "abc"))


@pytest.mark.usefixtures("abc")
def test_assets_are_listed_by_their_names(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for column in ("asset_name", "name", "Asset_Name"):
        table = f"n;{column}\n1;c\n2;nobody\n3;a\n"
        (data / "data_asset_input.csv").write_text(table)
        assert read_asset_list(data).kinds == dict.fromkeys(["c", "nobody", "a"], "name")
    result = run("--use_data_asset_csv=1")
    assert names(result) == ["c", "a"]
    assert "skipped, no record has this name: nobody" in result.log
    assert "asset_id" not in result.log
    flag = run("--asset_name=c nobody a", output=tmp_path / "by_flag")
    assert flag.files() == result.files()
    assert run("--use_data_asset_csv=1", "--strict=1", "--overwrite=1").status == 1


@pytest.mark.usefixtures("abc")
def test_a_row_counts_by_its_id_else_by_its_name(run: Run, tmp_path: Path) -> None:
    table = "asset_name,asset_id,note\na,co-b,\nc,,\n,,x\n,co-a,\n"
    (tmp_path / "data" / "data_asset_input.csv").write_text(table)
    result = run("--use_data_asset_csv=1")
    assert names(result) == ["b", "c", "a"]
    assert "a row counts by its id, else by its name" in result.log
    assert "1 skipped (no id or name in a row: 1)" in result.error
    assert "data_asset_input.csv, line 4" in result.log
    strict = run("--use_data_asset_csv=1", "--strict=1", "--overwrite=1")
    assert strict.status == 1
    assert "line 4" in strict.error


def test_a_name_that_two_records_have_stands_for_both(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"), record("a", _id="other", location=f"s3://{BUCKET}/other"))
    result = run("--asset_name=a")
    assert [task["docdb_record_id"] for task in result.tasks()] == [["id-a"], ["other"]]


def test_thousands_of_names_are_asked_for_in_few_requests(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(3_000)))
    names = "\n".join(f"{n:04}" for n in reversed(range(3_000)))
    result = run(f"--asset_name={names}", "--max_tasks=3")
    assert result.status == 0, result.log
    assert "3,000 records matched" in result.error
    assert [task["asset_name"] for task in result.tasks()] == [["2999"], ["2998"], ["2997"]]
    assert len(docdb.requests) < 20


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


@pytest.mark.parametrize(
    ("query", "said", "ask"),
    in_turn([
        ({"name": "*77465*"}, '{"$regex":"77465"}'),
        ({"name": "behavior_77465%"}, '{"$regex":"^behavior_77465"}'),
        ({"name": "%77465"}, '{"$regex":"77465"}'),
        ({"data_description.modality": "behavior"},
         'data_description.modality.abbreviation "behavior" matches 2 records'),
    ], WAYS),
    indirect=["ask"],
)  # fmt: skip
def test_a_filter_that_is_slightly_off_is_put_right(query: Record, said: str, ask: Ask) -> None:
    modality = {"modality": [{"abbreviation": "behavior", "name": "Behavior"}]}
    records = [record(f"behavior_77465{n}", data_description=modality) for n in range(2)]
    result = ask(records, f"--query={json.dumps(query)}")
    assert result.status == 1
    assert said in result.log


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


def test_flags_without_assets_name_the_example(run: Run) -> None:
    result = run("--overwrite=1", program=PROGRAM)
    assert result.status == 2
    flags = "--records metadata.jsonl --query query.json --file_extension .nwb"
    assert f"the bundled example again: bash environment/run.sh {flags} --overwrite 1" in (
        result.error
    )
