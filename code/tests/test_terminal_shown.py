"""What a terminal shows: a table that fits, a line of progress that makes way."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import select
import signal
import string
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from conftest import NIGHT, PROGRAM, Run, Start
from standins import BUCKET, S3, DocDB, record


def test_a_plan_names_the_groups(run: Run, docdb: DocDB, s3: S3, tmp_path: Path) -> None:
    for name, subject in (("a", "s1"), ("b", "s1"), ("c", "s2")):
        docdb.put(record(name, subject={"subject_id": subject, "sex": "F"}))
        s3.put(BUCKET, [f"{name}/x.nwb"])
    sets = {"distributed_parameters": [{"n": 1}, {"n": 2}]}
    (tmp_path / "data" / "analysis_parameters.json").write_text(json.dumps(sets))
    plan = run("--query={}", "--file_extension=nwb", "--dry_run=1",
               "--group_by=subject.subject_id,subject.sex")  # fmt: skip
    _, header, *rows, counts = plan.stdout.splitlines()
    assert header.split() == ["worker", "group", "asset", "file", "size", "parameters"]
    assert [row.split()[1:3] for row in rows] == [["s1,", "F"]] * 2 + [["s2,", "F"]] * 2
    assert "files 3 (" in counts
    assert "3 files, 4 tasks" in plan.error
    with open(plan.output / "dispatch_plan.csv", newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["group_metadata.subject__subject_id"] for cell in cells] == [
        "s1", "s1", "s2", "s2"]  # fmt: skip


class Terminal:
    """A terminal of some width, and what was written on it."""

    def __init__(self, columns: int) -> None:
        self.main, self.other = pty.openpty()
        ioctl(self.other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def wait_for(self, words: str) -> str:
        """Return what is written there until these words are."""
        content = b""
        while words.encode() not in content:
            assert select.select([self.main], [], [], 60)[0], content
            content += os.read(self.main, 65_536)
        return content.decode()

    def read(self, process: Any) -> str:
        """Return all that a process writes there until it ends."""
        content = b""
        while True:
            if select.select([self.main], [], [], 0.2)[0]:
                content += os.read(self.main, 65_536)
            elif process.poll() is not None:
                os.close(self.main)
                os.close(self.other)
                return content.decode()


@pytest.mark.parametrize("columns", [60, 160, *[80, 100] * NIGHT])
def test_the_table_fits_the_terminal(
    columns: int, docdb: DocDB, s3: S3, services: dict[str, str], tmp_path: Path
) -> None:
    long = "behavior_774659_2025-06-07_14-31-15_processed_2025-06-08_03-22-41"
    docdb.put(*(record(f"{long}_{n:03}", subject={"subject_id": f"{n}"}) for n in range(30)))
    s3.put(BUCKET, [f"{long}_{n:03}/{long}.nwb" for n in range(30)])
    terminal = Terminal(columns)
    flags = ["--query={}", "--file_extension=nwb", "--dry_run=1", "--max_jobs=30",
             f"--output_directory={tmp_path / 'out'}", "--group_by=subject.subject_id"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *flags],
        env={**services, "TERM": "xterm"},
        stdout=terminal.other,
        stderr=subprocess.DEVNULL,
    )
    lines = terminal.read(process).splitlines()
    rows = [line for line in lines if re.match(r"\d+ ", line)]
    assert process.returncode == 0
    assert max(map(len, rows)) <= columns
    assert [row.split()[0] for row in rows] == [str(worker) for worker in range(20)]
    assert all("…" in row for row in rows) or columns == 160


def test_the_line_of_progress_is_cleared_before_anything_is_logged(
    start: Start, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(100)), record("odd", location="nowhere"))
    s3.put(BUCKET, [f"{n:04}/x.nwb" for n in range(100)])
    s3.fault = lambda _: time.sleep(0.05)
    terminal = Terminal(100)
    process = start("--query={}", "--file_extension=nwb", stderr=terminal.other)
    said = terminal.read(process)
    assert process.returncode == 0
    times = 0
    for line in said.splitlines():
        stamp = re.search(r"\d\d:\d\d:\d\d (INFO|WARNING)", line)
        if stamp:
            times += 1
            shown = line[: stamp.start()]
            assert not shown.rpartition("\033[K")[2].strip(string.whitespace), repr(line)
    assert times > 3


def test_the_line_of_progress_is_cleared_before_the_last_line_on_ctrl_c(
    start: Start, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(300)))
    s3.put(BUCKET, [f"{n:04}/x.nwb" for n in range(300)])
    is_over = Event()

    def hold(_: Any) -> None:
        is_over.wait(60)

    s3.fault = hold
    terminal = Terminal(100)
    process = start("--query={}", "--file_extension=nwb", stderr=terminal.other)
    said = terminal.wait_for("300 records, 0 of 300 assets listed")
    process.send_signal(signal.SIGINT)
    said += terminal.read(process)
    is_over.set()
    assert process.returncode == 130
    last = said.rstrip().split("\n")[-1]
    assert "records" in last.partition("error: ")[0]  # which is told of, and taken off
    assert "\033[Kerror: stopped by SIGINT, nothing is dispatched" in last
