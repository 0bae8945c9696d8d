"""The list of assets: ids, names and locations, from flags and tables as people write them."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import strategies as st

import standins
from chosen import WAYS, Ask, Record, ask, names, put_on_disk  # noqa: F401  (a fixture)
from conftest import PROGRAM, Run, fuzz, in_turn, refusal
from dispatch.assets.asset_list import AssetList, find_listed, list_of_assets, read_asset_list
from dispatch.records import docdb as live_docdb
from dispatch.terminal.messages import BadInput
from run_capsule import parse_settings
from standins import BUCKET, S3, DocDB, record
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
    ("table", "expected", "words"),
    [
        pytest.param(
            "asset_id\nfifth\nfourth\nthird\nsecond\nunknown\n",
            [("string", "fifth"), ("old", "fourth"), ("v2", "third"), ("two", "second")],
            ["no record has this id: unknown",
             "4 records matched, 1 skipped (no record has this id: 1)"],
            id="ids in all shapes, one of them the second of its record",
        ),
        pytest.param(
            "asset_id\nshared\nsecond\nfirst\n",
            [("shared-a", "shared"), ("shared-b", "shared"), ("two", "second")],
            ["first names an asset that another id has chosen: two"],
            id="two ids of one asset, and two assets of one id",
        ),
        pytest.param(
            f"asset_id\n{UUID.upper()}\nco-B\n{UUID}\n",
            [("a", UUID), ("B", "co-B")],
            ["0 skipped"],
            id="a UUID in capitals",
        ),
        pytest.param(
            "n;asset_name\n1;c\n2;nobody\n3;B\n",
            [("c", "co-c"), ("B", "co-B")],
            ["skipped, no record has this name: nobody"],
            id="names",
        ),
        pytest.param(
            "asset_name,asset_id,note\na,co-B,\nc,,\n,,x\n,co-d,\n",
            [("B", "co-B"), ("c", "co-c"), ("d", "co-d")],
            ["a row counts by its id, else by its name", "data_asset_input.csv, line 4",
             "1 skipped (no id or name in a row: 1)"],
            id="rows with ids, names or nothing",
        ),
        pytest.param(
            f"asset_id\nB\n{UUID}\n",
            [("B", "co-B"), ("a", UUID)],
            ["found by its name, though listed as an id: B"],
            id="a name in the column of ids",
        ),
        pytest.param(
            f"id,note\n{UUID},B\n",
            [("a", UUID)],
            ["the column id counts, as an asset id"],
            id="a column id",
        ),
        pytest.param(
            "code_ocean_asset_id\nco-B\n",
            [("B", "co-B")],
            ["the column code_ocean_asset_id counts, as an asset id"],
            id="a column that is not named as the table's own",
        ),
    ],
)  # fmt: skip
def test_a_csv_chooses_the_records_that_it_names_in_its_order(
    table: str, expected: list[tuple[str, str]], words: list[str], run: Run, docdb: DocDB,
    tmp_path: Path,
) -> None:  # fmt: skip
    docdb.put(
        record("two", external_links={"Code Ocean": ["first", "second"]}),
        record("v2", external_links=None, other_identifiers={"Code Ocean": ["third"]}),
        record("old", external_links=[{"Code Ocean": "fourth"}, {"Other": "x"}]),
        record("string", external_links={"Code Ocean": "fifth"}),
        record("none", external_links=[]),
        record("shared-b", external_links={"Code Ocean": ["shared"]}),
        record("shared-a", external_links={"Code Ocean": ["shared"]}),
        record("a", external_links={"Code Ocean": [UUID]}),
        *map(record, "Bcd"),
    )
    (tmp_path / "data" / "data_asset_input.csv").write_text(table)
    result = run("--use_data_asset_csv=1")
    assert result.status == 0, result.log
    found = [(task["asset_name"], task["asset_id"]) for task in result.tasks()]
    assert found == [([name], [asset_id]) for name, asset_id in expected]
    for said in words:
        assert said in result.log
    is_named_otherwise = not table.casefold().startswith(("asset_id", "n;asset_name", "asset_name"))
    assert ("counts, as an asset" in result.log) == is_named_otherwise
    if "1 skipped" in result.log:
        strict = run("--use_data_asset_csv=1", "--strict=1", "--overwrite=1")
        assert strict.status == 1
        assert re.search("unknown|nobody|line 4", strict.error)


@pytest.mark.parametrize("column", ["asset_name", "name", "Asset_Name"])
def test_a_column_of_names_is_a_list_of_assets_as_the_flag_is(column: str, tmp_path: Path) -> None:
    listed = ["c", "nobody", "a"]
    (tmp_path / "data_asset_input.csv").write_text(f"n;{column}\n1;c\n2;nobody\n3;a\n")
    assert read_asset_list(tmp_path).kinds == dict.fromkeys(listed, "name")
    by_flag = parse_settings(["--asset_name=c nobody a"]).asset_list
    assert by_flag
    assert by_flag.values == listed


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


def test_a_name_that_two_records_have_stands_for_both(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"), record("a", _id="other", location=f"s3://{BUCKET}/other"))
    result = run("--asset_name=a")
    assert [task["docdb_record_id"] for task in result.tasks()] == [["id-a"], ["other"]]


def test_thousands_of_names_are_asked_for_in_few_requests(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(3_000)))
    listed = "\n".join(f"{n:04}" for n in reversed(range(3_000)))
    result = run(f"--asset_name={listed}", "--max_tasks=3")
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
    log = run("--query=query.json", "--session_has=query.json", "--overwrite=1").log
    assert "the query is that of query.json, written " in log
    assert "the filter of --session_has is that of query.json, written " in log


def test_flags_without_assets_name_the_example(run: Run) -> None:
    result = run("--overwrite=1", program=PROGRAM)
    assert result.status == 2
    flags = "--records metadata.jsonl --query query.json --file_extension .nwb"
    assert f"the bundled example again: bash environment/run.sh {flags} --overwrite 1" in (
        result.error
    )
