"""The list of assets: tables as people write them, ids in any place, order and repetition."""

from __future__ import annotations

import codecs
import csv
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import standins
from conftest import Run, fuzz
from dispatch.assets.asset_list import AssetList, find_listed, read_asset_list
from dispatch.records import docdb as live_docdb
from dispatch.terminal.messages import BadInput
from standins import DocDB, record
from worlds import Record, expected_task, ids_of, world  # noqa: F401  (a fixture)


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


UUID = "0f2e4c6a-8b1d-4e3f-9a5c-7d6e8f0a1b2c"


@pytest.mark.parametrize(
    ("links", "ids", "expected", "words"),
    [
        pytest.param(
            {
                "two": {"external_links": {"Code Ocean": ["first", "second"]}},
                "v2": {"external_links": None, "other_identifiers": {"Code Ocean": ["third"]}},
                "old": {"external_links": [{"Code Ocean": "fourth"}, {"Other": "x"}]},
                "string": {"external_links": {"Code Ocean": "fifth"}},
                "none": {"external_links": []},
            },
            ["fifth", "fourth", "third", "second", "unknown"],
            [("string", "fifth"), ("old", "fourth"), ("v2", "third"), ("two", "second")],
            "4 records matched, 1 skipped (no record has this id: 1)",
            id="ids of all shapes, and a second one",
        ),
        pytest.param(
            {
                "two": {"external_links": {"Code Ocean": ["first", "second"]}},
                "shared-b": {"external_links": {"Code Ocean": ["shared"]}},
                "shared-a": {"external_links": {"Code Ocean": ["shared"]}},
            },
            ["shared", "second", "first"],
            [("shared-a", "shared"), ("shared-b", "shared"), ("two", "second")],
            "first names an asset that another id has chosen: two",
            id="one asset of several ids, and two of one",
        ),
        pytest.param(
            {"a": {"external_links": {"Code Ocean": [UUID]}}, "B": {}},
            [UUID.upper(), "co-B", UUID],
            [("a", UUID), ("B", "co-B")],
            "0 skipped",
            id="a UUID in capitals",
        ),
    ],
)
def test_ids_in_a_csv_choose_the_records_that_have_them(
    links: dict[str, Record], ids: list[str], expected: list[tuple[str, str]], words: str,
    run: Run, docdb: DocDB, tmp_path: Path,
) -> None:  # fmt: skip
    docdb.put(*(record(name, **held) for name, held in links.items()))
    (tmp_path / "data" / "data_asset_input.csv").write_text("\n".join(["asset_id", *ids]))
    result = run("--use_data_asset_csv=1")
    assert result.status == 0, result.log
    found = [(task["asset_name"], task["asset_id"]) for task in result.tasks()]
    assert found == [([name], [asset_id]) for name, asset_id in expected]
    assert words in result.log
    if "unknown" in ids:
        assert "no record has this id: unknown" in result.log
        strict = run("--use_data_asset_csv=1", "--strict=1", "--overwrite=1")
        assert strict.status == 1
        assert "unknown" in strict.error


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
        'asset_id,note\n"co-b","two\nlines"\nco-a,x\n',
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_csv_is_read_as_people_write_it(table: str | bytes, tmp_path: Path) -> None:
    content = table if isinstance(table, bytes) else table.encode()
    (tmp_path / "data_asset_input.csv").write_bytes(content)
    assert read_asset_list(tmp_path).values == ["co-b", "co-a"]


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
        (b"subject\nco-a\n", "asset_id"),
        (b"asset_id, asset_id\nco-a,co-b\n", "one column asset_id"),
        (b"asset_id\n\n \n", "no id"),
        (b"Asset_ID;note;asset_id\nco-a;x;co-b\n", "one column asset_id"),
        (b"asset_id\nco-a,co-b,co-c\nco-d\n", "line 2 has more values"),
        (b"asset_id,note\nco-a,x\n\nco-b,x,co-c\n", "line 4 has more values"),
        (b'"asset_id"\n"1","co-a"\n', "line 2 has more values"),  # R's write.table
        (b'asset_id\n"co-a\n', "data_asset_input.csv"),
        (b'asset_id\nco-b\n"co-a"x\n', "line 3"),
        ("asset_id\nco-a\n".encode("utf-16-le"), "data_asset_input.csv"),  # no mark says so
        (b'asset_id\n"co-b', "data_asset_input.csv"),
        (b"asset_id\n" + b'"' * 1_001, "data_asset_input.csv"),
    ],
)
def test_a_csv_that_cannot_be_read_is_bad_input(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "data_asset_input.csv").write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(words)):
        read_asset_list(tmp_path)


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
        0.025,
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


def test_a_record_with_ids_in_two_questions_comes_once(docdb: DocDB) -> None:
    docdb.put(record("two", external_links={"Code Ocean": ["first", "second"]}), record("one"))

    def aggregate(pipeline: list[Record]) -> list[Record]:
        return standins.aggregate(list(docdb.records["v1"]), pipeline)

    database = live_docdb.DocDB(aggregate)
    database.ids_at_once = 1
    ids = ["first", "co-one", "second"]
    pages = list(find_listed(database, AssetList(dict.fromkeys(ids, "id")), ["_id"]))
    assert pages == [[{"_id": "id-two"}], [{"_id": "id-one"}], []]
