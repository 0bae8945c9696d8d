"""What a terminal shows: a table that fits, a line of progress that makes way."""

from __future__ import annotations

import csv
import os
import pty
import re
import select
import signal
import string
import struct
import termios
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fcntl import ioctl
from pathlib import Path

import pytest

from conftest import NIGHT, Run, Start, give_parameters
from dispatch.terminal.progress import Progress
from faults import FLAGS, Held
from forks import ask, with_folders
from standins import BUCKET, S3, DocDB, record


def test_a_plan_names_the_groups(run: Run, docdb: DocDB, s3: S3, tmp_path: Path) -> None:
    for name, subject in (("a", "s1"), ("b", "s1"), ("c", "s2")):
        docdb.put(record(name, subject={"subject_id": subject, "sex": "F"}))
        s3.put(BUCKET, [f"{name}/x.nwb"])
    give_parameters(tmp_path, sets=[{"n": 1}, {"n": 2}])
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

    def read(self, is_over: Callable[[], bool]) -> str:
        """Return all that is written there until whoever writes has ended."""
        content = b""
        while True:
            if select.select([self.main], [], [], 0.2)[0]:
                content += os.read(self.main, 65_536)
            elif is_over():
                os.close(self.main)
                os.close(self.other)
                return content.decode()


@pytest.fixture
def shown(services: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs the program, one stream on a terminal, and returns its words."""

    def shown(stream: int, columns: int, *flags: str) -> str:
        terminal = Terminal(columns)
        argv = with_folders(flags, tmp_path, tmp_path / "results")
        request = [argv, {**services, "TERM": "xterm"}, str(tmp_path), {}]
        with open(os.devnull, "w") as nowhere, ThreadPoolExecutor() as beside:
            streams = [nowhere.fileno(), nowhere.fileno()]
            streams[stream - 1] = terminal.other
            answer = beside.submit(ask, os.environ["FORKS"], request, streams)
            words = terminal.read(answer.done)
        assert struct.unpack("!id", answer.result())[0] == 0, words
        return words

    return shown


@pytest.mark.parametrize("rate", ["9.5", "10", "1,500"])
def test_a_rate_has_a_decimal_below_ten(rate: str) -> None:
    progress = Progress()
    progress.assets = progress.listed = 3_000
    seconds = 3_000 / float(rate.replace(",", ""))
    assert progress.in_words(seconds).endswith(f", 0 files, {rate} assets/s")


@pytest.mark.parametrize("columns", [60, 160, *[80, 100] * NIGHT])
def test_the_table_fits_the_terminal(
    columns: int, docdb: DocDB, s3: S3, shown: Callable[..., str]
) -> None:
    long = "behavior_774659_2025-06-07_14-31-15_processed_2025-06-08_03-22-41"
    docdb.put(*(record(f"{long}_{n:03}", subject={"subject_id": f"{n}"}) for n in range(30)))
    s3.put(BUCKET, [f"{long}_{n:03}/{long}.nwb" for n in range(30)])
    table = shown(1, columns, *FLAGS, "--dry_run=1", "--group_by=subject.subject_id")
    rows = [line for line in table.splitlines() if re.match(r"\d+ ", line)]
    assert max(map(len, rows)) <= columns
    assert [row.split()[0] for row in rows] == [str(worker) for worker in range(20)]
    assert all("…" in row for row in rows) or columns == 160


def test_the_line_of_progress_is_cleared_before_anything_is_logged(
    docdb: DocDB, s3: S3, shown: Callable[..., str]
) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(100)), record("odd", location="nowhere"))
    s3.put(BUCKET, [f"{n:04}/x.nwb" for n in range(100)])
    s3.fault = lambda _: time.sleep(0.05)
    times = 0
    for line in shown(2, 100, *FLAGS).splitlines():
        stamp = re.search(r"\d\d:\d\d:\d\d (INFO|WARNING)", line)
        if stamp:
            times += 1
            before = line[: stamp.start()]
            assert not before.rpartition("\033[K")[2].strip(string.whitespace), repr(line)
    assert times > 3


def test_the_line_of_progress_is_cleared_before_the_last_line_on_ctrl_c(
    start: Start, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*(record(f"{n:04}") for n in range(300)))
    s3.put(BUCKET, [f"{n:04}/x.nwb" for n in range(300)])
    held = Held()
    s3.fault = lambda _: held
    terminal = Terminal(100)
    process = start(*FLAGS, stderr=terminal.other)
    terminal.wait_for("300 records, 0 of 300 assets listed")
    process.send_signal(signal.SIGINT)
    said = terminal.read(lambda: process.poll() is not None)
    held.over.set()
    assert process.returncode == 130
    assert said.endswith("\033[Kerror: stopped by SIGINT, nothing is dispatched\r\n")
