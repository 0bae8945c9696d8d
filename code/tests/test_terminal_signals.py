"""A signal at any moment, whoever reads: at once, in one line, all of the output or none."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from itertools import product
from pathlib import Path
from subprocess import PIPE

import pytest

from conftest import NIGHT, PROGRAM, Result, Run, Start, fails, hooked, in_turn
from faults import FLAGS, NAMES, Held, completes, is_listing, world  # noqa: F401  (a fixture)
from forks import with_folders
from standins import S3, DocDB, record

# Moments of a run that writes many tasks: what is about to be done to a path, as Python tells it to
# an audit hook.
MOMENTS = {
    "staging": ("os.mkdir", r"/\.dispatch-staging-[^/]*/old$"),
    "a worker folder": ("os.mkdir", "/new/25$"),
    "a task": ("open", "/new/25/[^/]*json$"),
    "all written": ("os.rename", r"/\.dispatch-staging-[^/]*$"),
    "none moved": ("os.rename", "/new/0$"),
    "half moved": ("os.rename", "/new/25$"),
    "all moved": ("os.rename", r"/\.dispatch-moving-[^/]*$"),
    "clearing up": ("shutil.rmtree", r"/\.dispatch-staging-[^/]*$"),
}

PLAN = ".dispatch_plan.jsonl"
MOVING = ("none moved", "half moved", "all moved")
DONE = ("all written", *MOVING, "clearing up")

# Makes runs one after the other, each as a process of its own that signals itself at its moment.
# All that a run imports is there already.
STRIKER = """
import json, os, re, runpy, signal, sys
import aind_data_access_api.document_db
import run_capsule

def strike(event, values):
    global moment
    if moment and event == moment[0] and re.search(moment[1], str(values[0])):
        number, moment = moment[2], None
        os.kill(os.getpid(), number)

for line in sys.stdin:
    argv, environment, log, moment = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.clear()
        os.environ.update(environment)
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.argv = argv
        sys.addaudithook(strike)
        signal.alarm(60)  # ends what does not end
        runpy.run_path(argv[0], run_name="__main__")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def striker() -> Iterator[subprocess.Popen[str]]:
    """Start the process that makes runs."""
    command = [sys.executable, "-c", STRIKER]
    with subprocess.Popen(
        command, cwd=PROGRAM.parent, stdin=PIPE, stdout=PIPE, text=True
    ) as process:
        yield process


WHOLE: dict[str, bytes] = {}  # what a run with many records writes, each time


@pytest.fixture
def all_of_many(docdb: DocDB, run: Run, tmp_path: Path) -> dict[str, bytes]:
    """Put many records behind DocDB; return what a run writes, of at least 50 workers."""
    docdb.put(*(record(f"{n:04}") for n in range(100)))
    if not WHOLE:
        WHOLE.update(run("--query={}", output=tmp_path / "whole").files())
    return WHOLE


Struck = Callable[..., Result]


@pytest.fixture
def struck(striker: subprocess.Popen[str], services: dict[str, str], tmp_path: Path) -> Struck:
    """Return a function that runs the program, which gets a signal at a moment."""
    output, log = tmp_path / "struck", tmp_path / "log"

    def struck(moment: str, number: signal.Signals, *flags: str) -> Result:
        assert striker.stdin
        assert striker.stdout
        argv = [str(PROGRAM), *with_folders(["--query={}", *flags], tmp_path, output)]
        request = [argv, services, str(log), [*MOMENTS[moment], number]]
        print(json.dumps(request), file=striker.stdin, flush=True)
        return Result(int(striker.stdout.readline()), log.read_text(), "", output)

    return struck


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_leaves_all_or_nothing(
    moment: str, struck: Struck, run: Run, all_of_many: dict[str, bytes]
) -> None:
    killed = struck(moment, signal.SIGKILL)
    output = killed.output
    assert killed.status == -signal.SIGKILL, killed.log
    # the moves are no single step: a hidden folder tells that they are under way
    assert any(output.glob(".dispatch-moving-*")) == (moment in MOVING)
    there = {str(path.relative_to(output)) for path in output.glob("[0-9]*/*")}
    if moment == "half moved":
        assert there < all_of_many.keys()
    else:
        assert there == (all_of_many.keys() if moment in ("all moved", "clearing up") else set())
    again = run("--query={}", "--overwrite=1", output=output)
    assert again.status == 0, again.log
    assert again.files() == all_of_many
    assert {path.name for path in output.iterdir()} == {PLAN, *map(str, range(50))}


@pytest.mark.usefixtures("all_of_many")
@pytest.mark.parametrize("moment", MOVING if NIGHT else ["half moved"])
def test_a_kill_before_all_folders_are_replaced_leaves_the_old_ones(
    moment: str, struck: Struck, run: Run, tmp_path: Path
) -> None:
    first = run("--query={'name': {'$lt': '0003'}}", output=tmp_path / "struck")
    assert first.names() == ["0", "1", "2"]
    before = first.files()
    killed = struck(moment, signal.SIGKILL, "--overwrite=1")
    assert killed.status == -signal.SIGKILL, killed.log
    refused = run("--query={}", output=tmp_path / "struck")
    assert refused.status == 2
    assert refused.files() == before
    assert {path.name for path in refused.output.iterdir()} == {PLAN, "0", "1", "2"}


@pytest.mark.parametrize(("moment", "number"), in_turn(MOMENTS, [signal.SIGTERM, signal.SIGINT]))
def test_a_signal_at_any_moment_ends_the_run_at_once(
    moment: str, number: signal.Signals, struck: Struck, all_of_many: dict[str, bytes]
) -> None:
    result = struck(moment, number)
    if moment in DONE:
        completes(result, all_of_many)
        assert {path.name for path in result.output.iterdir()} == {PLAN, *map(str, range(50))}
    else:
        fails(result, f"stopped by {number.name}", status=128 + number)
        assert not any(result.output.glob(".*"))


def ended(
    process: subprocess.Popen[str], held: Held, by: Callable[[], None], output: Path
) -> Result:
    """Return how a run ends by what is done to it while a request is in hand."""
    try:
        assert held.asked.wait(60)
        by()
        _, log = process.communicate(timeout=40)  # less than --timeout, at which a wait ends
    finally:
        held.over.set()
        process.kill()
    return Result(process.returncode, log, "", output)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("service", "number"), in_turn(
    ["first page", "last page", "listing"], [signal.SIGTERM, signal.SIGINT]
))  # fmt: skip
def test_a_signal_ends_a_run_that_waits_for_a_service(
    service: str, number: signal.Signals, start: Start, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    held = Held()
    if service == "listing":
        s3.fault = lambda request: held if is_listing(request) else None
    else:  # the last one is empty
        docdb.faults.extend([held] if service == "first page" else [None, held])
    process = start(*FLAGS, "--timeout=300")
    result = ended(process, held, partial(process.send_signal, number), tmp_path / "results")
    fails(result, f"stopped by {number.name}", status=128 + number)


# What a signal does that comes just before the first thread waits: another thread takes it.
TAKEN = """
import pathlib, signal, threading, time

def take():
    while not pathlib.Path({!r}).exists():
        time.sleep(0.01)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=take, daemon=True).start()
"""


def test_a_signal_that_does_not_wake_the_first_thread_is_noticed(
    start: Start, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.always = held = Held()
    env = hooked(tmp_path, TAKEN.format(str(tmp_path / "go")))
    process = start("--query={}", env=env)
    result = ended(process, held, (tmp_path / "go").touch, tmp_path / "results")
    fails(result, "SIGTERM", status=143)


# ------------------------------------------------------------------------------------------ streams

HOOK = """
import os, sys

def signal_once(event, values):
    global done
    if event == "import" and values[0] == {value!r} and not done:
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
    env = hooked(tmp_path, HOOK.format(value=module, number=int(number)))
    process = start("--query={}", env=env)
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
    whole = sorted([".dispatch_plan.jsonl", *map(str, range(len(NAMES)))])
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


def test_no_signal_changes_the_status_of_a_run_that_has_ended() -> None:
    code = """
import os, signal
from dispatch.terminal import signals
signals.listen()
signals.ignore()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
    os.kill(os.getpid(), number)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROGRAM.parent, timeout=60)
    assert ended.returncode == 0
