"""What a run has staged is gone when a signal ends it, whatever it was at."""

from __future__ import annotations

import signal
from itertools import cycle, product
from pathlib import Path

import pytest

from conftest import NIGHT, Result, Start, fails
from faults import many  # noqa: F401  (a fixture)
from standins import DocDB, record

# Sends a signal right after a call has made something.
AFTER = """
import fcntl, os, re, tempfile

def refuse(*_):
    raise OSError(9, "no locks here")

def signal_after(module, name, pattern):
    real = getattr(module, name)
    def call(*values, **more):
        made = real(*values, **more)
        if re.search(pattern, str(values[0] if values else made)):
            setattr(module, name, real)
            os.kill(os.getpid(), {number})
        return made
    setattr(module, name, call)

{what}
"""
MADE = {
    "staging": 'signal_after(tempfile, "mkdtemp", "dispatch-staging")',
    "lock": 'fcntl.flock = refuse; signal_after(os, "open", "dispatch-lock$")',
    "unlocked": 'fcntl.flock = refuse; signal_after(os, "unlink", "dispatch-lock$")',
}


SIGNALS = (signal.SIGTERM, signal.SIGINT)
BY_DAY = zip(cycle(SIGNALS), MADE, strict=False)


@pytest.mark.parametrize(("number", "made"), product(SIGNALS, MADE) if NIGHT else BY_DAY)
def test_a_signal_right_after_something_is_made_leaves_nothing_of_it(
    number: signal.Signals, made: str, start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    (tmp_path / "hook").mkdir()
    hook = AFTER.format(number=int(number), what=MADE[made])
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    output = tmp_path / "results"
    process = start("--query={}", output=output, env={"PYTHONPATH": str(tmp_path / "hook")})
    _, log = process.communicate(timeout=100)
    if made == "unlocked":  # all is in place
        assert process.returncode == 0, log
        assert [path.name for path in output.glob("[!.]*")] == ["0"]
        assert not [*output.glob(".dispatch-*")]
        return
    fails(Result(process.returncode, log, "", output), number.name, status=128 + number)
    assert list(output.iterdir()) == []


# Sends a signal while threads write, on a disk on which to make or to remove something takes long.
SLOW = """
import os, re, sys, threading, time

def slow(name, seconds):
    real = getattr(os, name)
    def call(path, *values, **more):
        if "dispatch-staging" in str(path) or more.get("dir_fd") is not None:
            time.sleep(seconds)
        return real(path, *values, **more)
    setattr(os, name, call)

slow("mkdir", 0.004)
slow("rmdir", 0.0005)
slow("open", 0.0005)

def signal_once(event, values):
    if event == "os.mkdir" and re.search("/new/300$", str(values[0])):
        assert threading.current_thread() is not threading.main_thread()
        os.kill(os.getpid(), 15)

sys.addaudithook(signal_once)
"""


@pytest.mark.usefixtures("many")
def test_what_threads_write_while_a_signal_ends_the_run_is_removed(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SLOW)
    for turn in range(3 if NIGHT else 1):
        output = tmp_path / f"results{turn}"
        env = {"PYTHONPATH": str(tmp_path / "hook")}
        process = start("--query={}", "--max_jobs=1000", output=output, env=env)
        _, log = process.communicate(timeout=100)
        fails(Result(process.returncode, log, "", output), "SIGTERM", status=143)
        assert list(output.iterdir()) == []


def test_where_no_file_may_hold_anything_the_last_line_says_so(
    start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    for flags in ([], ["--dry_run=1"]):
        output = tmp_path / "results"
        process = start("--query={}", *flags, output=output, prefix="ulimit -f 0; exec ")
        _, log = process.communicate(timeout=100)
        fails(Result(process.returncode, log, "", output), "cannot write to", "File too large")
        assert list(output.iterdir()) == []
