"""Moves of worker folders and plans: all or nothing, wherever they are interrupted."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from conftest import NIGHT, a_task
from dispatch.tasks.output import recover, write_workers
from dispatch.terminal.messages import BadInput

DRY_RUN = ("dispatch_plan.csv", "dispatch_plan.html", "dispatch_plan.jsonl")
KEPT = (".dispatch_plan.csv", ".dispatch_plan.html", ".dispatch_plan.dry_run.jsonl")
PLAN = ".dispatch_plan.jsonl"
MOST = 4 if NIGHT else 2  # worker folders


def what_is_in(output: Path) -> dict[str, bytes]:
    """Return all files of an output folder, hidden or not, but for what a run has staged."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and not re.match(r"\.dispatch-", str(path.relative_to(output)))
    }


def killed_at(rename: int, do: Callable[[], None]) -> bool:
    """Do something in another process that is killed at a rename; return whether it was."""
    process = os.fork()
    if not process:
        gc.disable()  # which would touch, and so copy, all memory of the tests
        calls, move = count(), Path.rename

        def die(self: Path, target: Path) -> Path:
            if next(calls) == rename:
                os._exit(9)
            return move(self, target)

        Path.rename = die  # type: ignore[assignment,method-assign]
        status = 1
        try:
            do()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, 9)
    return status == 9


def fill(output: Path, workers: int, word: str) -> None:
    """Dispatch into a folder, then put the files of a dry run there."""
    tasks = [[a_task(0)] for _ in range(workers)]
    write_workers(tasks, output, overwrite=True, write_plan=lambda path: note(path, word))
    for name in DRY_RUN:
        (output / name).write_text(f"{name} of {word}")


def note(path: Path, word: str) -> None:
    path.write_text(f"plan of {word}")


@pytest.mark.parametrize(("old", "new"), [(MOST, 1), (1, MOST), (1, 0), (0, 1)])
@pytest.mark.parametrize("has_kept", [False, True])
def test_a_kill_at_any_move_leaves_what_was_there(
    old: int, new: int, has_kept: bool, tmp_path: Path
) -> None:
    tasks = [[a_task(0)] for _ in range(new)]
    for rename in count():
        output = tmp_path / str(rename)
        fill(output, old, "old")
        if has_kept:  # by an earlier dispatch
            fill(output, old, "newer")
        before = what_is_in(output)

        def dispatch(output: Path = output) -> None:
            write_workers(tasks, output, overwrite=True, write_plan=lambda path: note(path, "new"))

        is_killed = killed_at(rename, dispatch)
        is_killed_again = killed_at(rename % 3, partial(recover, output))
        recover(output)
        assert not list(output.glob(".dispatch-moving*"))
        if is_killed:
            assert what_is_in(output) == before
            dispatch()
        else:
            assert not is_killed_again
        after = what_is_in(output)
        expected = {f"{n}/{tasks[n][0].id}.json" for n in range(new)} | set(KEPT)
        if new or old or has_kept:
            assert after[PLAN] == (b"plan of new" if new else before[PLAN])
            expected.add(PLAN)
        assert after.keys() == expected
        word = "newer" if has_kept else "old"
        assert after[KEPT[0]] == f"{DRY_RUN[0]} of {word}".encode()
        assert after[KEPT[2]] == f"{DRY_RUN[2]} of {word}".encode()
        if not is_killed:
            break
    assert rename > old + new + len(DRY_RUN) + len(KEPT)


@pytest.mark.parametrize("name", [PLAN, *KEPT])
def test_a_folder_that_is_called_as_a_hidden_plan_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("mine")
    with pytest.raises(BadInput, match=re.escape(name)):
        write_workers([[a_task(0)]], tmp_path, overwrite=True)
    assert (tmp_path / name / "mine").read_text() == "mine"
