"""Records of a file answer as the database does; what is no such file is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import Run
from dispatch.records.record_files import read_records
from standins import DocDB, record
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


def test_a_snapshot_that_is_not_there_is_bad_input(run: Run) -> None:
    missing = run("--query={}", "--docdb_snapshot=nowhere.jsonl")
    assert missing.status == 2
    assert "nowhere.jsonl" in missing.error


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
