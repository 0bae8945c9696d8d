"""Records of JSON, tables and lists of locations answer as the database's; others are told."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, time
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pandas as pd
import pytest
from hypothesis import strategies as st

from chosen import names
from conftest import Run, fuzz, refusal, some
from dispatch.records import tables
from dispatch.records.record_files import read_records
from dispatch.terminal.messages import BadInput, log
from standins import BUCKET, S3, DocDB, record
from worlds import Record, world  # noqa: F401  (a fixture)


@pytest.mark.usefixtures("world")
def test_a_snapshot_answers_like_the_live_database(
    run: Run, docdb: DocDB, real_records: list[Record], tmp_path: Path
) -> None:
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(r) + "\n" for r in real_records))
    (tmp_path / "array.json").write_text(json.dumps(real_records, indent=1))
    assert read_records(tmp_path / "array.json") == real_records
    flags = ("--query={}", "--file_extension=.nwb")
    live = run(*flags)
    docdb.requests.clear()
    result = run(*flags, "--docdb_snapshot=lines.jsonl", output=tmp_path / "again")
    assert result.status == 0, result.log
    assert result.files() == live.files()
    assert docdb.requests == []


def test_a_snapshot_may_have_local_locations_and_the_network_may_not(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    folder = tmp_path / "snap shot"
    home = tmp_path / "home" / "mouse1_day1"
    for place in (folder / "assets" / "relative", folder / "assets" / "absolute", home):
        place.mkdir(parents=True)
        (place / "a.nwb").touch()
    absolute = (folder / "assets" / "absolute").as_uri()
    records = [
        record("relative", location="assets/relative/"),
        record("url", location=absolute),
        record("localhost", location=absolute.replace("file:///", "file://localhost/")),
        record("plain", location=str(folder / "assets" / "absolute")),
        record("at home", location="~/mouse1_day1"),
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
    relative = (folder / "assets" / "relative").as_uri()
    urls = [home.as_uri(), absolute, absolute, relative, absolute]
    assert [task["s3_location"] for task in result.tasks()] == [[url] for url in urls]
    assert [task["file_location"] for task in result.tasks()] == [[f"{u}/a.nwb"] for u in urls]
    assert "7 skipped (location is not s3://bucket/prefix: 7)" in result.error
    docdb.put(*records)
    live = run("--query={}", "--file_extension=nwb", "--overwrite=1")
    assert live.status == 1
    assert "12 records matched, 12 skipped" in live.error
    for each in records:
        if each["name"] != "host":
            assert re.search(f"skipped, .*: {each['name']} ", live.log)


COLUMNS = ["location", "_id", "name", "subject.subject_id", "subject.sex", "session_start", "a"]
CELLS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n,;\t\"'"), max_size=6
) | st.sampled_from(["007", "NA", "nan", "None", "1.0", "TRUE", "2025-03-01", "=1+1", "#N/A"])
DIALECTS: list[dict[str, Any]] = [
    {"sep": ","}, {"sep": ";"}, {"sep": "\t"}, {"sep": ",", "quoting": csv.QUOTE_ALL},
    {"sep": ",", "index": True}, {"sep": "\t", "encoding": "utf-16"},
    {"sep": ";", "encoding": "utf-8-sig"}, {"sep": ",", "lineterminator": "\r\n"},
]  # fmt: skip


def expected_record(row: dict[str, str]) -> dict[str, Any]:
    """Return the record that a row is, said another way."""
    record: dict[str, Any] = {}
    for column, cell in row.items():
        if not cell.strip():
            continue
        inner = record
        *tops, last = column.split(".")
        for top in tops:
            inner = inner.setdefault(top, {})
        inner[last] = cell.strip()
    record.setdefault("_id", record.get("location", "").rstrip("/"))
    if "location" in record:
        record.setdefault("name", record["location"].rstrip("/").split("/")[-1])
    return record


def table_of(rows: list[list[str]]) -> list[dict[str, str]]:
    """Return rows of cells as those of a table, with locations and ids of their own."""
    table = []
    for number, row in enumerate(rows):
        cells = dict(zip(COLUMNS[1:], row, strict=True))
        table.append({"location": f"s3://b/{number}", **cells, "_id": f"id {number}"})
    return table


def rows_of(cells: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    return st.lists(st.lists(cells, min_size=6, max_size=6), min_size=1, max_size=4)


def test_any_table_that_pandas_writes_is_read_back_as_strings(tmp_path: Path) -> None:
    def check(rows: list[list[str]], dialect: dict[str, Any], order: list[str]) -> None:
        table = table_of(rows)
        frame = pd.DataFrame(table, dtype=str)[order]
        path = tmp_path / ("t.tsv" if dialect["sep"] == "\t" else "t.csv")
        frame.to_csv(path, **{"index": False, **dialect})
        assert read_records(path) == list(map(expected_record, table))

    fuzz(check, rows=rows_of(CELLS), dialect=st.sampled_from(DIALECTS),
         order=st.permutations(COLUMNS))  # fmt: skip


# Some of a text of tables, of which hardly any is one.
PIECES = ["a", "b", '"', ",", "\n", " ", '""', "\r\n", '"a\n"', '"x, y"', ";", "\t", "\x1c"]


def test_any_text_is_read_as_python_itself_reads_it() -> None:
    def check(pieces: list[str]) -> None:
        string = "".join(pieces)
        lines = io.StringIO(string, newline=None)
        try:
            rows = list(csv.reader(lines, strict=True, skipinitialspace=True))
        except csv.Error:
            with pytest.raises(BadInput):
                tables.read_text(Path("t.csv"), string, ",")
            return
        expected = [tables.without_blank_end(list(map(str.strip, row))) for row in rows]
        found = tables.rows_of(tables.read_text(Path("t.csv"), string, ","), "line")
        assert [tables.without_blank_end(row.cells) for row in found] == list(
            filter(None, expected)
        )

    check(['"a\n"', ",", '"a\n"', ",", "b"])
    fuzz(check, 0.025, pieces=st.lists(st.sampled_from(PIECES)))


def test_any_excel_file_is_read_as_its_cells_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    # Excel keeps no control characters, and openpyxl takes = for a formula, # for an error
    cells = st.text(st.characters(codec="ascii", min_codepoint=32), max_size=6)
    cells = cells.filter(lambda cell: cell[:1] not in "=#" or not cell)

    def check(rows: list[list[str]]) -> None:
        table = table_of(rows)
        pd.DataFrame(table, dtype=str).to_excel(path, index=False)
        assert read_records(path) == list(map(expected_record, table))

    fuzz(check, rows=rows_of(cells))


def test_numbers_and_dates_of_excel_are_strings(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append([None])
    sheet.append(["location", "n", "f", "day", "at", "flag", "clock", "error"])
    sheet.append(["s3://b/x/", 643634, 0.5, datetime(2025, 3, 1), datetime(2025, 3, 1, 9, 12, 33),
                  True, time(9, 12), "#N/A"])  # fmt: skip
    sheet.append([None, None])
    sheet.append(["s3://b/y", 7.0, 1e3])
    book.create_sheet("other").append(["location"])
    book.save(tmp_path / "t.xlsx")
    assert read_records(tmp_path / "t.xlsx") == [
        {"_id": "s3://b/x", "name": "x", "location": "s3://b/x/", "n": "643634", "f": "0.5",
         "day": "2025-03-01", "at": "2025-03-01T09:12:33", "flag": "TRUE", "clock": "09:12:00"},
        {"_id": "s3://b/y", "name": "y", "location": "s3://b/y", "n": "7", "f": "1000"},
    ]  # fmt: skip


@pytest.fixture
def sessions(s3: S3) -> None:
    s3.put(BUCKET, [f"{name}/{name}.nwb" for name in ("m1_a", "m1_b", "m2_a")])


TABLE = """location,subject.subject_id,data_description.project_name,note
s3://{0}/m1_a,007,Two words,NA
s3://{0}/m1_b,007,Two words,
s3://{0}/m2_a,8,Other,"a, b"
"""


KINDS = ["jsonl", "csv", "tsv", "xlsx", "semicolons.csv", "txt", "json"]


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_answers_the_form_without_a_database(kind: str, run: Run, tmp_path: Path) -> None:
    rows = list(csv.DictReader(TABLE.format(BUCKET).splitlines()))
    records = list(map(expected_record, rows))
    frame = pd.DataFrame(rows, dtype=str)
    path = tmp_path / "data" / f"table.{kind}"
    if kind == "xlsx":
        frame.to_excel(path, index=False)
    elif kind.startswith("json"):
        lines = "\n".join(map(json.dumps, records))
        path.write_text(json.dumps(records, indent=2) if kind == "json" else lines)
    else:
        separator = {"csv": ",", "tsv": "\t", "txt": "\t"}.get(kind, ";")
        frame.to_csv(path, index=False, sep=separator)
    assert read_records(path) == records
    if kind not in some(KINDS, 1):  # whose records answer as those of any other
        return
    flags = (f"--records={path.name}", "--file_extension=nwb", "--overwrite=1")
    env: dict[str, str | None] = {"DOCDB_HOST": "localhost:1"}
    grouped = run(*flags, "--group_by=subject.subject_id", env=env)
    assert grouped.status == 0, grouped.log
    assert [task["asset_name"] for task in grouped.tasks()] == [["m1_a", "m1_b"], ["m2_a"]]
    assert names(run(*flags, "--subject_id=007", env=env)) == ["m1_a", "m1_b"]
    asked = ("--project_name=Two words", '--query={"note": {"$exists": false}}')
    assert names(run(*flags, *asked, env=env)) == ["m1_b"]
    listed = run(*flags, f"--asset=m2_a,s3://{BUCKET}/m1_a/", env=env)
    assert names(listed) == ["m2_a", "m1_a"]
    older = (f"--docdb_snapshot={path.name}", *flags[1:])
    as_before = run(*older, "--group_by=subject.subject_id", env=env)
    assert [task["asset_name"] for task in as_before.tasks()] == [["m1_a", "m1_b"], ["m2_a"]]


@pytest.mark.usefixtures("sessions")
def test_one_location_a_line_is_enough(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data" / "here").mkdir()
    (tmp_path / "data" / "here" / "x.nwb").touch()
    (tmp_path / "home" / "there").mkdir(parents=True)
    (tmp_path / "home" / "there" / "y.nwb").touch()
    lines = [f"s3://{BUCKET}/m1_a", f"s3://{BUCKET}/m2_a/", "./here", "~/there",
             str(tmp_path / "data" / "here"), f"s3://{BUCKET}/m1_a/"]  # fmt: skip
    content = "\n".join(lines) + "\n\n"
    files = dict.fromkeys(["list.txt", "list.csv", "list"], content)
    files |= {"list.json": json.dumps(lines), "table.csv": f"location\n{content}"}
    caplog.set_level("INFO", log.name)
    expected = None
    for name, written in files.items():
        (tmp_path / "data" / name).write_text(written)
        records = read_records(tmp_path / "data" / name)
        expected = expected or records
        assert records == expected
    assert caplog.text.count("1 record that repeats another counts once") == len(files)
    result = run("--records=list", "--file_extension=nwb")
    assert result.status == 0, result.log
    assert names(result) == ["here", "here", "m1_a", "m2_a", "there"]
    assert "1 record that repeats another counts once" in result.log
    assert result.tasks()[2]["docdb_record_id"] == [f"s3://{BUCKET}/m1_a"]


def test_a_metadata_file_of_schema_2_is_a_record(tmp_path: Path) -> None:
    place = "s3://b/behavior_1"
    metadata = {"name": "behavior_1_2025-03-04_01-02-03", "location": place, "x": {"y": [1]}}
    (tmp_path / "metadata.nd.json").write_text(json.dumps(metadata, indent=3))
    assert read_records(tmp_path / "metadata.nd.json") == [{"_id": place, **metadata}]


def test_a_record_is_named_after_its_location_as_its_folder_is_called(tmp_path: Path) -> None:
    places = ["s3://b/a%20b/", "file:///p/a%20b"]
    (tmp_path / "list.txt").write_text("\n".join(places))
    found = [record["name"] for record in read_records(tmp_path / "list.txt")]
    assert found == ["a%20b", "a b"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", '{"_id": "a"}\n{"_id": "b"\n', "line 3 column 1"),
        ("t.jsonl", '{"_id": "a"}\n[1]\n', "record 2"),
        ("t.jsonl", '[{"_id": "a"}, {"name": "b"}]', "record 2"),
        ("t.jsonl", '{"_id": "a"}\n{"_id": "a"}\n', "2 records have the _id"),
        ("t.jsonl", '{"_id": 7}', "record 1"),
        ("t.jsonl", '{"_id": "a", "b": ' + "[" * 200 + "]" * 200 + "}", "record 1 is nested"),
        ("t.csv", "location,a,a\ns3://b/x,1,2\n", "2 columns are called 'a'"),
        ("t.csv", "location,a\ns3://b/x,1,2\n", "line 2 has more values"),
        ("t.csv", 'location,a\ns3://b/x,"1\n",2\n', "line 2 has more values"),
        ("t.csv", "location,a,a.b\ns3://b/x,1,2\n", "line 2 has a value at 'a.b' and one around"),
        ("t.csv", "location,a.b,a\ns3://b/x,1,2\n", "line 2 has a value at 'a' and one around"),
        ("t.csv", "location,a..b\ns3://b/x,1\n", "the column 'a..b' is no field"),
        ("t.csv", "location,$a\ns3://b/x,1\n", "the column '$a' is no field"),
        ("t.csv", "location,a\ns3://b/x,1\n,2\n", "line 3 has neither an _id nor a location"),
        ("t.csv", "name,a\nx,1\n", "line 2 has neither an _id nor a location"),
        ("t.csv", "location,a\ns3://b/x,1\ns3://b/x,2\n", "2 records have the location 's3://b/x'"),
        ("t.csv", "location,_id\ns3://b/x,1\ns3://b/x,1\n", "2 records have the _id '1'"),
        ("t.csv", 'location,a\ns3://b/x,"1"2\n', "line 2: "),
        ("t.csv", "s3://b/x,1\ns3://b/y,2\n", "its first line must name the columns"),
        ("t.dat", "what is this\n", "nor a table (.csv, .tsv, .xlsx), or one location a line"),
        ("t.xlsx", "location\ns3://b/x\n", "is no Excel file"),
        ("t.xls", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save it as .xlsx"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_records_is_told(
    name: str, content: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInput, match=re.escape(words)):
        read_records(tmp_path / name)


def test_a_run_without_records_writes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.dat").write_text("")
    (tmp_path / "what.dat").write_text("what is this\n")
    for name, status, words in (
        ("empty.dat", 1, "nothing to dispatch: 0 records matched"),
        ("what.dat", 2, "what.dat is neither a JSON array nor JSON lines, nor"),
        ("nowhere.dat", 2, "nowhere.dat"),
    ):
        result = run(f"--records={name}")
        assert result.status == status, result.log
        assert words in result.error
        assert not result.output.exists()


def test_an_excel_file_by_another_name_and_a_folder_are_told(tmp_path: Path) -> None:
    pd.DataFrame({"location": ["s3://b/x"]}).to_excel(tmp_path / "t.xlsx", index=False)
    for name in ("t.csv", "t.json", "data_asset_input.csv"):
        (tmp_path / name).write_bytes((tmp_path / "t.xlsx").read_bytes())
        with pytest.raises(BadInput, match=f"is an Excel file: call it {Path(name).stem}.xlsx"):
            read_records(tmp_path / name)
    folder = f"--input_directory={tmp_path}"
    assert "is an Excel file" in refusal("--use_data_asset_csv=1", folder)
    (tmp_path / "folder").mkdir()
    for place in ("folder", str(tmp_path)):
        said = refusal(f"--records={place}", folder)
        assert f"--records: '{place[:50]}" in said
        assert "is a folder, not a file" in said


def test_a_table_of_which_each_line_ends_within_a_cell_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('"location\n","a\n",b\n"s3://b/x\n","1\n",2\n')
    assert read_records(path) == [
        {"_id": "s3://b/x", "name": "x", "location": "s3://b/x", "a": "1", "b": "2"}
    ]


def test_a_short_row_of_a_wide_table_ends_in_blanks(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"location{',a' * 39}\ns3://b/x{',1' * 29}\n")
    [row] = tables.read_table(path, ("location",)).rows
    assert row.cells == ["s3://b/x", *["1"] * 29, *[""] * 10]


@pytest.mark.parametrize("content", ["PK,location\n1,/data/a\n", "number,location\n1,/data/xl/a\n"])
def test_a_text_that_has_words_of_an_excel_file_is_a_text(content: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(content)
    assert tables.read_table(path, ("location",)).columns == content.split("\n")[0].split(",")


def test_a_broken_excel_file_is_told(tmp_path: Path) -> None:
    pd.DataFrame({"location": ["s3://b/x"]}).to_excel(tmp_path / "t.xlsx", index=False)
    whole = (tmp_path / "t.xlsx").read_bytes()

    def check(start: int, length: int) -> None:
        start = start % len(whole)
        broken = whole[:start] + b"x" * length + whole[start + length :]
        (tmp_path / "broken.xlsx").write_bytes(broken[: len(whole) - length])
        try:
            assert len(read_records(tmp_path / "broken.xlsx")) <= 1
        except BadInput as error:
            assert "broken.xlsx" in str(error)  # noqa: PT017

    fuzz(check, 0.025, start=st.integers(0, 100_000), length=st.integers(0, 500))


def test_what_needs_no_table_does_not_import_pandas(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"_id": "a", "location": "s3://b/x"}\n')
    result = run("--records=r.jsonl", real=True, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert result.status == 0, result.log
    assert "mgqpy" in result.log
    assert "pandas" not in result.log
