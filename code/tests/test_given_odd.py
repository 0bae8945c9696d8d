"""Odd input: large, deep or garbled files are read or refused, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import NIGHT, Run, fails
from standins import DocDB, record


def test_a_csv_of_50_megabytes_is_read(run: Run, docdb: DocDB, tmp_path: Path) -> None:
    docdb.put(record("a"), record("b"))
    number = 50_000 if NIGHT else 5_000  # of a megabyte each 1,000
    lines = [f"x{n:06},{'y' * 1_000}" for n in range(number)]
    lines[17], lines[number - 7] = "co-b,", "co-a,"
    path = tmp_path / "data" / "data_asset_input.csv"
    path.write_text("asset_id,comment\n" + "\n".join(lines))
    assert path.stat().st_size > 1_000 * number
    result = run("--use_data_asset_csv=1")
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [["b"], ["a"]]
    assert f"no record has this id: {number - 2:,}" in result.error


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'asset_id\n"co-\na"\nco-b\n', 0),
        (b"asset_id\nco-a\0\nco-b\n", 0),
        (b"asset_id\n\0\0\0\nco-b\n", 0),
        (b"\0" * 1_000, 2),
    ],
)
def test_an_odd_csv_is_read_or_refused(
    content: bytes, status: int, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"), record("b"))
    (tmp_path / "data" / "data_asset_input.csv").write_bytes(content)
    result = run("--use_data_asset_csv=1")
    assert result.status == status, result.log
    assert "Traceback" not in result.log
    if status:
        fails(result, "data_asset_input.csv", status=2)
    else:
        assert [task["asset_name"] for task in result.tasks()][-1] == ["b"]


DEEP = ['{"a":' * 10_000, '{"$and": [' * 10_000, "[" * 100_000, "{1:" * 9_999]


@pytest.mark.parametrize("string", DEEP, ids=["json", "and", "list", "literal"])
def test_a_query_10000_deep_is_bad_input(string: str, run: Run, tmp_path: Path) -> None:
    fails(run(f"--query={string}"), "--query", status=2)
    closed = '{"a":' * 10_000 + "1" + "}" * 10_000
    (tmp_path / "data" / "deep.json").write_text(closed)
    fails(run("--query=deep.json"), "deep.json", status=2)
