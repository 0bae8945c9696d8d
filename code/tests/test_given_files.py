"""What is no input file or folder: pipes, devices, addresses; and files that are large or odd."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import chdir
from pathlib import Path

import pytest
from turns import in_turn

from conftest import NIGHT, PROGRAM, Run, Start, fails
from flags_helpers import refusal
from standins import DocDB, record

READ_BY = {
    "query.json": ["--query=query.json"],
    "analysis_parameters.json": ["--query={}"],
    "snapshot.json": ["--query={}", "--docdb_snapshot=snapshot.json"],
    "data_asset_input.csv": ["--use_data_asset_csv=1"],
    "code.json": ["--query={}", "--analysis_code=code.json"],
}
KINDS = ("socket", "/dev/zero", "/dev/tty")


@pytest.fixture
def ab(docdb: DocDB) -> None:
    docdb.put(record("a"), record("b"))


@pytest.mark.usefixtures("ab")
@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "fifo") for name in READ_BY), *in_turn(READ_BY, KINDS)]
)
def test_an_input_that_is_no_file_is_bad_input(
    name: str, kind: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "data" / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one, chdir(path.parent):  # its path may be short only
            one.bind(name)
    else:
        path.symlink_to(kind)
    fails(run(*READ_BY[name]), f"{name}: it is no file", status=2)


def test_an_input_file_that_is_too_large_is_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "query.json").write_text("{" + " " * 5_000 + "}")
    constants = {"LARGEST_INPUT": 5_000}
    fails(run("--query=query.json", constants=constants), "is larger than 5.00kB", status=2)


def test_a_working_folder_that_is_gone_is_told_or_does_not_matter(
    start: Start, tmp_path: Path
) -> None:
    shutil.copytree(PROGRAM.parents[1] / "data", tmp_path / "data", dirs_exist_ok=True)
    gone = f"mkdir -p {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; "
    snapshot = f"--docdb_snapshot={tmp_path}/data/metadata.jsonl"
    for flags, status in (
        (["--query={}", snapshot], 0),
        (["--query=nothing.json", snapshot], 2),
        (["--query={}", "--docdb_snapshot=metadata.jsonl", "--output_directory=out"], 1),
    ):
        process = start(*flags, prefix=gone)
        _, log = process.communicate(timeout=60)
        assert process.returncode == status, log
        assert "Traceback" not in log
        assert "shows where" not in log


# -------------------------------------------------------------------------------- other places

ADDRESSES = ("s3://bucket/jobs", "S3://b/j/", "file:///tmp/jobs", "gs://b/jobs", "https://x.org/j")


@pytest.mark.parametrize("flag", ["input_directory", "output_directory", "skip_dispatched"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_address_of_another_place_is_no_folder(flag: str, address: str) -> None:
    given = f"{address},other" if flag == "skip_dispatched" else address
    said = refusal("--query={}", f"--{flag}={given}")
    assert said.startswith(f"argument --{flag}: must be the path of a folder")
    assert "aws s3 cp --recursive" in said
    assert address in said


@pytest.mark.usefixtures("ab")
def test_an_output_folder_elsewhere_is_not_made_here(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = run("--query={}", "--output_directory=s3://bucket/jobs")
    assert result.status == 2, result.log
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("ab")
def test_folders_with_colons_and_of_home_are_folders(
    run: Run, services: dict[str, str], tmp_path: Path
) -> None:
    colon = tmp_path / "2025-03-01T10:00"
    assert run("--query={}", f"--output_directory={colon}", output=colon).status == 0
    home = Path(services["HOME"]) / "earlier"
    assert run("--query={}", "--max_tasks=1", "--output_directory=~/earlier", output=home).names()
    result = run("--query={}", "--skip_dispatched=~/earlier")
    assert [task["asset_name"] for task in result.tasks()] == [["b"]]
    none = run("--query={}", f'--skip_dispatched=["{colon}", "~/earlier"]', "--overwrite=1")
    assert none.status == 0, none.log
    assert none.names() == []


@pytest.mark.parametrize("flag", ["records", "analysis_code", "compare_with", "from_plan"])
def test_a_file_elsewhere_is_to_be_copied_first(flag: str) -> None:
    chosen = [] if flag == "from_plan" else ["--project_name=any"]
    said = refusal(*chosen, f"--{flag}=s3://bucket/folder/file.json")
    assert "there is no file 's3://bucket/folder/file.json'" in said
    assert "copy it to this machine first: aws s3 cp" in said
    assert "aws s3 cp --recursive for a folder" in said


# ------------------------------------------------------------------------------------------- odd


@pytest.mark.usefixtures("ab")
def test_a_csv_of_50_megabytes_is_read(run: Run, tmp_path: Path) -> None:
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


@pytest.mark.usefixtures("ab")
def test_an_odd_csv_is_read_or_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "data" / "data_asset_input.csv"
    path.write_bytes(b"\0" * 1_000)
    fails(run("--use_data_asset_csv=1"), "data_asset_input.csv", status=2)
    for rows in (b'"co-\na"', b"co-a\0", b"\0\0\0"):
        path.write_bytes(b"asset_id\n" + rows + b"\nco-b\n")
        result = run("--use_data_asset_csv=1", "--overwrite=1")
        assert result.status == 0, result.log
        assert "Traceback" not in result.log
        assert [task["asset_name"] for task in result.tasks()][-1] == ["b"]


DEEP = {
    "json": '{"a":' * 10_000,
    "and": '{"$and": [' * 10_000,
    "list": "[" * 100_000,
    "literal": "{1:" * 9_999,
    "closed": '{"a":' * 10_000 + "1" + "}" * 10_000,
}


@pytest.mark.parametrize("kind", DEEP)
def test_a_query_10000_deep_is_bad_input(kind: str, run: Run, tmp_path: Path) -> None:
    if kind != "closed":
        fails(run(f"--query={DEEP[kind]}"), "--query", status=2)
        return
    (tmp_path / "data" / "deep.json").write_text(DEEP[kind])
    fails(run("--query=deep.json"), "deep.json", status=2)
