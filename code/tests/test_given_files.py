"""What is no input file: pipes, folders, devices, files without end."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import chdir
from pathlib import Path

import pytest

from conftest import PROGRAM, Run, Start, fails
from standins import DocDB, record


@pytest.mark.parametrize("name", ["query.json", "analysis_parameters.json", "snapshot.json",
                                  "data_asset_input.csv", "code.json"])  # fmt: skip
@pytest.mark.parametrize("kind", ["fifo", "socket", "/dev/zero", "/dev/tty"])
def test_an_input_that_is_no_file_is_bad_input(
    name: str, kind: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    path = tmp_path / "data" / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one, chdir(path.parent):  # its path may be short only
            one.bind(name)
    else:
        path.symlink_to(kind)
    flags = {
        "query.json": ["--query=query.json"],
        "analysis_parameters.json": ["--query={}"],
        "snapshot.json": ["--query={}", "--docdb_snapshot=snapshot.json"],
        "data_asset_input.csv": ["--use_data_asset_csv=1"],
        "code.json": ["--query={}", "--analysis_code=code.json"],
    }
    fails(run(*flags[name]), f"{name}: it is no file", status=2)


def test_an_input_file_that_is_too_large_is_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "query.json").write_text("{" + " " * 5_000 + "}")
    constants = {"LARGEST_INPUT": 5_000}
    fails(run("--query=query.json", constants=constants), "is larger than 5.00kB", status=2)


def test_a_working_folder_that_is_gone_is_told_or_does_not_matter(
    start: Start, tmp_path: Path
) -> None:
    shutil.copytree(PROGRAM.parents[1] / "data", tmp_path / "data", dirs_exist_ok=True)
    for flags, status in (
        (["--query={}", f"--docdb_snapshot={tmp_path}/data/metadata.jsonl"], 0),
        (["--query=nothing.json", f"--docdb_snapshot={tmp_path}/data/metadata.jsonl"], 2),
        (["--query={}", "--docdb_snapshot=metadata.jsonl", "--output_directory=out"], 1),
    ):
        gone = f"mkdir -p {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; "
        process = start(*flags, prefix=gone)
        _, log = process.communicate(timeout=60)
        assert process.returncode == status, log
        assert "Traceback" not in log
        assert "shows where" not in log
