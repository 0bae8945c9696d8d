"""A signal at any moment: at once, in one line, all of the output or none."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from turns import in_turn

from conftest import NIGHT, Result, Run, Start, fails
from faults import FLAGS, all_of_many, answer, completes, is_listing, many, world  # noqa: F401  (a fixture)
from standins import S3, DocDB

# Moments of a run that writes many tasks: a request to DocDB, by its number, which is in hand, or
# something that is about to be done to a path, as Python tells it to an audit hook.
MOMENTS: dict[str, int | tuple[str, str]] = {
    "first page": 1,
    "second page": 2,
    "third page": 3,
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


HOOK = """
import os, re, sys

name, pattern, number = {!r}

def signal_once(event, values):
    if event == name and pattern and re.search(pattern, str(values[0])):
        globals()["pattern"] = None
        os.kill(os.getpid(), number)

sys.addaudithook(signal_once)
"""


Struck = Callable[..., Result]


@pytest.fixture
def struck(start: Start, docdb: DocDB, tmp_path: Path) -> Struck:
    """Return a function that runs the program as a process that gets a signal at a moment."""
    output = tmp_path / "struck"
    in_hand, over = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        in_hand.set()
        over.wait(120)  # rather than answer

    def struck(moment: str, number: signal.Signals, *flags: str) -> Result:
        what = MOMENTS[moment]
        env = {}
        if isinstance(what, int):
            docdb.faults.extend([*[None] * (what - 1), hold])
        else:
            (tmp_path / "hook").mkdir()
            (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK.format((*what, int(number))))
            env = {"PYTHONPATH": str(tmp_path / "hook")}
        process = start("--query={}", "--timeout=300", *flags, output=output, env=env)
        try:
            if isinstance(what, int):
                assert in_hand.wait(60)
                process.send_signal(number)
            _, log = process.communicate(timeout=40)  # while the request is in hand
        finally:
            over.set()
            process.kill()
        return Result(process.returncode, log, "", output)

    return struck


# By day, one page is as good as another one, behind which nothing is written yet.
@pytest.mark.parametrize("moment", list(MOMENTS) if NIGHT else list(MOMENTS)[2:])
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


@pytest.mark.usefixtures("many")
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


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("service", "number"), [("docdb", signal.SIGTERM), ("s3", signal.SIGINT)])
def test_a_signal_ends_a_run_that_waits_for_a_service(
    service: str, number: signal.Signals, start: Start, docdb: DocDB, s3: S3,
    tmp_path: Path,
) -> None:  # fmt: skip
    waits = threading.Event()
    over = threading.Event()

    def wait_first(_: Any) -> None:
        waits.set()
        over.wait(120)

    def wait(environ: Any, start_response: Any) -> Any:
        wait_first(environ)
        return answer(503, "SlowDown")(environ, start_response)

    if service == "docdb":
        docdb.always = wait_first
    else:
        s3.fault = lambda request: wait if is_listing(request) else None
    output = tmp_path / "results"
    process = start(*FLAGS, "--timeout=300")
    try:
        assert waits.wait(60)
        process.send_signal(number)
        _, log = process.communicate(timeout=40)  # while the service does not answer
    finally:
        over.set()
        process.kill()
    fails(Result(process.returncode, log, "", output), number.name, status=128 + number)


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
    waits, over = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        waits.set()
        over.wait(120)

    docdb.always = hold
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(TAKEN.format(str(tmp_path / "go")))
    process = start("--query={}", env={"PYTHONPATH": str(tmp_path / "hook")})
    try:
        assert waits.wait(60)
        (tmp_path / "go").touch()
        _, log = process.communicate(timeout=40)  # less than --timeout, at which the wait ends
    finally:
        over.set()
        process.kill()
    fails(Result(process.returncode, log, "", tmp_path / "results"), "SIGTERM", status=143)
