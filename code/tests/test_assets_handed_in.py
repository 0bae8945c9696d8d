"""Assets handed in by one flag: ids, names, locations, and files of them, mixed."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from chosen import names
from conftest import Run
from dispatch.assets.asset_list import list_of_assets
from flags_helpers import refusal
from standins import BUCKET, DocDB, record

ID = str(uuid.UUID(int=7))
DEEP = f"s3://{BUCKET}/deep/c"


@pytest.fixture
def assets(docdb: DocDB) -> None:
    docdb.put(
        record("a", external_links={"Code Ocean": ["first", ID]}),
        record("b"),
        record("c", location=f"s3://{BUCKET}/deep/c/"),
        record("csv", location=f"s3://{BUCKET}/deep/table.csv"),
        record("d"),
    )


def asked(run: Run, *flags: str, **more: Any) -> list[tuple[str, str]]:
    """Return the names and ids of the assets in the tasks."""
    result = run(*flags, "--overwrite=1", **more)
    assert result.status == 0, result.log
    return [(task["asset_name"][0], task["asset_id"][0]) for task in result.tasks()]


@pytest.mark.usefixtures("assets")
def test_ids_names_and_locations_may_be_mixed(run: Run) -> None:
    expected = [("c", "co-c"), ("a", ID), ("b", "co-b")]
    assert asked(run, f"--asset={DEEP},{ID.upper()},b") == expected
    assert asked(run, f"--asset_id={DEEP}/", f"--asset_name={ID}", "--asset=b") == expected
    assert asked(run, f'--asset=["{DEEP}/", "{ID}", "b"]') == expected
    assert asked(run, f"--asset=s3://{BUCKET}/deep/table.csv") == [("csv", "co-csv")]
    result = run("--asset=b,nobody,s3://b/none", "--overwrite=1")
    assert "no record has this id, name or location: nobody" in result.log
    assert "no record has this id, name or location: s3://b/none" in result.log
    assert run("--asset=b,nobody", "--strict=1", "--overwrite=1").status == 1
    assert "each say which assets" in refusal("--asset=b", "--use_data_asset_csv=1")


@pytest.mark.parametrize(
    ("name", "content", "values"),
    [
        ("names.txt", f"b\n{ID}\n\n{DEEP}/\n", ["b", ID, DEEP]),
        ("my names.txt", f"b, {ID}\r\n{DEEP}", ["b", ID, DEEP]),
        ("names.csv", f"asset_id\nb\n{ID}\n{DEEP}\n", ["b", ID, DEEP]),
        ("names.tsv", f"asset_name\tasset_id\nb\t\na\t{ID}\nc\t\n", ["b", ID, "c"]),
        ("names.csv", f"note;code_ocean_asset_id;name\nx;;b\ny;{ID};a\n;;c\n", ["b", ID, "c"]),
        # where there is a better column, the id is not one
        ("names.csv", f"note,location,id\nx,,co-b\ny,,{ID}\n,{DEEP},9\n", [DEEP]),
        ("names.txt", f"asset id\tnote\nco-b\tx\n{ID}\ty\nco-c\tz\n", ["co-b", ID, "co-c"]),
    ],
)
def test_a_file_of_assets_is_read(
    name: str, content: str, values: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert list_of_assets([name], tmp_path).values == values
    assert list_of_assets(["d", name, values[0]], tmp_path).values == ["d", *values]


@pytest.mark.usefixtures("assets")
def test_a_list_may_be_an_excel_file(run: Run, tmp_path: Path) -> None:
    frame = pd.DataFrame({"asset_name": ["b", "a"], "asset_id": [None, ID]})
    frame.to_excel(tmp_path / "data" / "names.xlsx", index=False)
    frame.to_excel(tmp_path / "data" / "data_asset_input.xlsx", index=False)
    mixed = asked(run, "--asset=d", "--asset=names.xlsx", "--asset=b")
    assert mixed == [("d", "co-d"), ("b", "co-b"), ("a", ID)]
    assert asked(run, "--use_data_asset_csv=1") == [("b", "co-b"), ("a", ID)]
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\nco-b\n")
    both = run("--use_data_asset_csv=1", "--overwrite=1")
    assert both.status == 2
    assert "which list of assets?" in both.error


@pytest.mark.usefixtures("assets")
def test_a_word_without_such_an_ending_is_no_file(run: Run, tmp_path: Path) -> None:
    for name in ("b", "d"):  # as Code Ocean has inputs lie
        (tmp_path / "data" / name).mkdir()
    (tmp_path / "b").write_text("asset_id\nco-a\n")
    assert asked(run, "--asset=b,d") == [("b", "co-b"), ("d", "co-d")]
    assert "--asset: there is no file 'nowhere.csv'" in refusal("--asset=nowhere.csv")


@pytest.mark.usefixtures("assets")
def test_a_name_in_the_column_of_ids_is_found_and_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "data_asset_input.csv").write_text(f"asset_id\nb\n{ID}\n")
    result = run("--use_data_asset_csv=1")
    assert names(result) == ["b", "a"]
    assert "found by its name, though listed as an id: b" in result.log
    (tmp_path / "data" / "data_asset_input.csv").write_text(f"id,note\n{ID},b\n")
    other = run("--use_data_asset_csv=1", "--overwrite=1")
    assert names(other) == ["a"]
    assert "the column id counts, as an asset id" in other.log


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--use_data_asset_csv=my.csv"], "a list of assets in a file is --asset my.csv"),
        (["--query=s3://bucket/x"], "is a location: --asset s3://bucket/x"),
        (["--project_name=One", "--project_name=Two"],
         '--query \'{"project_name":{"$in":["One","Two"]}}\''),
        (["--asset=t.csv"], "must have one column asset_id, or one asset_name"),
        (["--asset=empty.txt"], "lists no asset"),
        (["--asset=t.xlsx"], "is no Excel file"),
        (["--query=query.py"], "is a program"),
    ],
)  # fmt: skip
def test_what_is_meant_otherwise_is_told(flags: list[str], words: str, tmp_path: Path) -> None:
    for name in ("t.csv", "t.xlsx"):
        (tmp_path / name).write_text("subject\n1\n")
    (tmp_path / "empty.txt").write_text("\n")
    assert words in refusal(*flags, f"--input_directory={tmp_path}")


def test_the_page_of_a_list_names_each_asset_as_the_list_does(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"), record("b", external_links={}))
    result = run("--asset=co-a,b", "--dry_run=1")
    assert result.status == 0, result.log
    page = (result.output / "dispatch_plan.html").read_text()
    assert '"co-a","b"' in page.replace(" ", "")
