"""What a run has staged is gone when a signal ends it, whatever it was at."""

from __future__ import annotations

import signal
from itertools import cycle, product
from pathlib import Path

import pytest

from conftest import NIGHT, Run, fails
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
BY_DAY = list(zip(cycle(SIGNALS), MADE, strict=False))


@pytest.mark.parametrize(("number", "made"), product(SIGNALS, MADE) if NIGHT else BY_DAY)
def test_a_signal_right_after_something_is_made_leaves_nothing_of_it(
    number: signal.Signals, made: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    (tmp_path / "hook").mkdir()
    hook = AFTER.format(number=int(number), what=MADE[made])
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    result = run("--query={}", env={"PYTHONPATH": str(tmp_path / "hook")})
    if made == "unlocked":  # all is in place
        assert result.status == 0, result.log
        assert result.names() == ["0"]
        assert not [*result.output.glob(".dispatch-*")]
        return
    fails(result, number.name, status=128 + number)
    assert list(result.output.iterdir()) == []


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
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(SLOW)
    env = {"PYTHONPATH": str(tmp_path / "hook")}
    for _ in range(3 if NIGHT else 1):
        result = run("--query={}", "--max_jobs=1000", env=env)
        fails(result, "SIGTERM", status=143)
        assert list(result.output.iterdir()) == []


def test_where_no_file_may_hold_anything_the_last_line_says_so(run: Run, docdb: DocDB) -> None:
    docdb.put(record("a"))
    for dry in (0, 1):
        result = run("--query={}", f"--dry_run={dry}", prefix="ulimit -f 0; exec ")
        fails(result, "cannot write to", "File too large")
        assert list(result.output.iterdir()) == []
