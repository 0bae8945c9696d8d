"""Signals and streams: whoever reads, or does not."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from conftest import NIGHT, Start
from standins import DocDB, record
from surroundings import NAMES, Held, world  # noqa: F401  (a fixture)

HOOK = """
import os, sys

def signal_once(event, values):
    global done
    if event == {event!r} and values[0] == {value!r} and not done:
        done = True
        os.kill(os.getpid(), {number})

done = False
sys.addaudithook(signal_once)
"""


@pytest.mark.parametrize(("module", "number"), [
    ("argparse", signal.SIGTERM), ("argparse", signal.SIGINT),
    ("dispatch.tasks.analysis_code", signal.SIGTERM), ("dispatch.given.values", signal.SIGINT),
])  # fmt: skip
def test_a_signal_ends_the_run_in_its_first_moments(
    module: str, number: signal.Signals, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "hook").mkdir()
    hook = HOOK.format(event="import", value=module, number=int(number))
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    process = start("--query={}", env={"PYTHONPATH": str(tmp_path / "hook")})
    _, log = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not (tmp_path / "results").exists()
    assert log == f"error: stopped by {number.name}, nothing is dispatched\n"


def fill(pipe: int) -> None:
    """Write into a pipe what it takes."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x")
    os.set_blocking(pipe, True)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def holds_much(pipe: int) -> bool:
    """Tell whether more than half of what a pipe takes waits there to be read."""
    [size] = struct.unpack("i", ioctl(pipe, termios.FIONREAD, bytes(4)))
    return bool(size > 65_536 / 2)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("stream", "number"), [("gone", signal.SIGINT), ("full", signal.SIGTERM)])
def test_a_signal_ends_the_run_whoever_reads_its_words(
    stream: str, number: signal.Signals, start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.always = held = Held()
    read, write = os.pipe()
    process = start("--query={}", "--timeout=300", stderr=write)
    try:
        assert held.asked.wait(60)
        if stream == "full":
            fill(write)
        os.close(write)
        if stream != "full":
            os.close(read)  # as `tee` that was stopped by the same Ctrl-C
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert time.monotonic() - begun < 2
    finally:
        held.over.set()
        process.kill()
    assert not list((tmp_path / "results").glob("*"))


def test_a_signal_ends_a_dry_run_whose_table_nobody_reads(
    start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*map(record, NAMES))
    long = json.dumps({"name": {"$in": [*NAMES, *(f"{n:0500}" for n in range(400))]}})
    (tmp_path / "long.json").write_text(long)
    process = start("--query=long.json", "--dry_run=1", stderr=subprocess.DEVNULL)
    try:
        assert process.stdout
        wait_until(partial(holds_much, process.stdout.fileno()))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()


@pytest.mark.usefixtures("world")
def test_a_signal_after_the_dispatch_does_not_wait_for_a_reader(
    start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    whole = [".dispatch_plan.jsonl", *map(str, range(8))]
    read, write = os.pipe()
    docdb.after = lambda: fill(write)  # so that what is said from then on has no room
    process = start("--query={}", stderr=write)
    try:
        wait_until(lambda: sorted(os.listdir(tmp_path / "results")) == whole)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0  # all is dispatched
    finally:
        process.kill()
        os.close(write)
        os.close(read)


CLOSED = ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "2>/dev/full"]
STATUSES = {"": 0, "--dry_run=1": 0, "--max_jobs=x": 2, "--help": 0}  # by a flag
# By day, each flag where what it has to say is said, and each way without a flag or with one.
BY_DAY = [
    *(("1>&-", "--dry_run=1"), ("1>&-", "--help"), ("2>&-", ""), ("2>&-", "--max_jobs=x")),
    *(("1>&- 2>&-", "--dry_run=1"), ("0<&- 1>&- 2>&-", "")),
    *(("2>/dev/full", ""), ("2>/dev/full", "--max_jobs=x")),
]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("closed", "flag"), list(product(CLOSED, STATUSES)) if NIGHT else BY_DAY)
def test_closed_streams_do_not_change_the_status(
    closed: str, flag: str, start: Start, tmp_path: Path
) -> None:
    process = start("--query={}", *filter(None, [flag]), prefix=f"exec {closed}; exec ")
    _, log = process.communicate(timeout=60)
    assert process.returncode == STATUSES[flag], log
    assert "Traceback" not in log
    for path in (tmp_path / "results").rglob("*.json"):
        assert json.loads(path.read_text())["asset_name"]  # and not what was said
