"""The lock of an output folder, and what a killed run leaves there."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import time
from pathlib import Path

import pytest

from conftest import Result, Run, Start, a_task, fails, hooked, some
from dispatch.tasks.lock import lock
from dispatch.tasks.output import IN_MOVE, count_workers, staged, write_workers
from dispatch.terminal import signals
from dispatch.terminal.messages import BadInput
from standins import DocDB, record

# A file system that locks nothing, as NFS has it, and is slow.
NO_FLOCK = """
import errno, fcntl, os, time

def refuse(*_):
    raise OSError(errno.EBADF, "no locks here")

def slowly(*values, rename=os.rename, **more):
    time.sleep(0.02)
    rename(*values, **more)

fcntl.flock, os.rename = refuse, slowly
"""


@pytest.fixture
def no_flock(tmp_path: Path) -> dict[str, str | None]:
    """Return the environment of a run on such a file system."""
    return hooked(tmp_path, NO_FLOCK)


def refuse(*_: object) -> None:
    """Lock nothing."""
    raise OSError(errno.EBADF, "no locks here")


def test_two_dispatches_do_not_mix_where_nothing_can_be_locked(
    start: Start, run: Run, docdb: DocDB, no_flock: dict[str, str | None], tmp_path: Path
) -> None:
    docdb.put(*(record(f"{n:02}", one=1) for n in range(30)))
    docdb.put(*(record(f"other{n}", one=2) for n in range(5)))
    queries = [f"--query={{'one': {one}}}" for one in (1, 2)]
    wholes = [run(query, "--overwrite=1", output=tmp_path / "whole").files() for query in queries]
    for pair in some(range(6), 2):
        output = tmp_path / f"pair{pair}"
        output.mkdir()
        processes = []
        for query in queries:
            processes.append(start(query, "--overwrite=1", output=output, env=no_flock))
            time.sleep(0.1 * pair)
        logs = [process.communicate(timeout=60)[1] for process in processes]
        statuses = [process.returncode for process in processes]
        assert 0 in statuses, logs
        assert set(statuses) <= {0, 2}, logs
        files = Result(0, "", "", output).files()
        ended = [whole for whole, status in zip(wholes, statuses, strict=True) if status == 0]
        assert files in ended
        for status, log in zip(statuses, logs, strict=True):
            assert status == 0 or "another dispatch is writing into" in log
        assert {path.name for path in output.glob(".*")} <= {".dispatch_plan.jsonl"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_lock_that_was_left_is_told_of(
    number: signal.Signals, start: Start, docdb: DocDB, no_flock: dict[str, str | None],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    docdb.put(*(record(f"{n:03}") for n in range(50)))
    output = tmp_path / "results"
    process = start("--query={}", env=no_flock)
    while not list(output.glob(".dispatch-staging-*")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    process.communicate(timeout=60)
    held = output / ".dispatch-lock"
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert held.exists() == (number == signal.SIGKILL)
    if held.exists():
        told = rf"{held} was left by process {process.pid} on \S+, since \S+Z, which runs no more"
        with pytest.raises(BadInput, match=f"^{told}"):
            write_into(output)
        for content in ("", "elsewhere 1 2026-11-27T10:00:00Z\n", "\0" * 10_000_000, "a b c\n"):
            held.write_text(content)
            with pytest.raises(BadInput, match=re.escape(f"remove {held}")) as error, lock(output):
                pass
            assert len(str(error.value)) < 500
        held.unlink()
    write_into(output)
    assert not list(output.glob(".dispatch-*"))


def write_into(output: Path, dry: int = 0) -> None:
    """Write as a dispatch does, or as a dry run."""
    if dry:
        with staged(output, overwrite=True):
            return
    write_workers([[a_task(0)]], output, overwrite=True)
    assert count_workers(output) == 1


@pytest.mark.parametrize("dry", [0, 1])
@pytest.mark.parametrize("left", ["all", "new", "old", "nothing", "files", "links"])
def test_what_a_killed_run_has_left_is_cleaned_up_whatever_became_of_it(
    left: str, dry: int, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    moving = output / ".dispatch-moving-8-abcd1234"
    for part in ("old", "new"):
        if left in ("all", part):
            (moving / part / "3").mkdir(parents=True)
    moving.mkdir(parents=True, exist_ok=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    if left == "files":
        (moving / "new").write_text("")
        (moving / "old").write_text("")
    elif left == "links":
        (moving / "old").symlink_to(elsewhere)
        (moving / "new").symlink_to(elsewhere)
    if left == "all":
        (moving / "old" / "notes.txt").write_text("mine")
    write_into(output, dry)
    assert "rolled back an interrupted move of worker folders" in caplog.text
    assert (elsewhere / "mine.txt").read_text() == "mine"
    assert not list(output.glob(".*"))
    caplog.clear()
    write_into(output, dry)
    assert "WARNING" not in caplog.text


@pytest.mark.parametrize(
    "name",
    [".dispatch-moving-", ".dispatch-moving-x-y", ".dispatch-moving-99999999999999-a",
     f".dispatch-moving-{'9' * 200}-a", ".dispatch-moving-8-abcd1234", ".dispatch-staging-a"],
)  # fmt: skip
def test_what_is_not_ours_is_not_followed(
    name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    output, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    output.mkdir()
    (elsewhere / "new").mkdir(parents=True)
    (elsewhere / "mine.txt").write_text("mine")
    (output / name).symlink_to(elsewhere)
    for _ in range(2):
        write_into(output)
        assert "WARNING" not in caplog.text
        assert (elsewhere / "mine.txt").exists()
    (output / name).unlink()
    (output / name).mkdir()
    is_ours = IN_MOVE.fullmatch(name) or "staging" in name
    write_into(output)
    assert (output / name).exists() == (not is_ours)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all folders")
def test_an_output_folder_that_cannot_be_read_is_told(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    (tmp_path / "results").mkdir(mode=0o300)
    fails(run("--query={}"), "cannot be read")
    (tmp_path / "results").chmod(0o700)


def test_a_lock_by_a_file_that_is_given_back_is_no_longer_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # else a later signal would remove the lock that another dispatch has made by then
    monkeypatch.setattr(fcntl, "flock", refuse)
    before = list(signals.clean_ups)
    with lock(tmp_path):
        assert len(signals.clean_ups) == len(before) + 1
    assert signals.clean_ups == before
    (tmp_path / ".dispatch-lock").write_text("of another one")
    for clean_up in signals.clean_ups:
        clean_up()
    assert (tmp_path / ".dispatch-lock").exists()
