"""Moves of worker folders and plans: all or nothing, wherever they are interrupted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
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


def copies_before_moves(output: Path, do: Callable[[], None]) -> list[Path]:
    """Do something; return copies of a folder before each rename, as a kill there leaves it."""
    copies: list[Path] = []
    move = Path.rename

    def copy_and_move(self: Path, target: Path) -> Path:
        copies.append(output.with_name(f"{output.name}-{len(copies)}"))
        shutil.copytree(output, copies[-1])
        return move(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", copy_and_move)
        do()
    return copies


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
    output = tmp_path / "output"
    fill(output, old, "old")
    if has_kept:  # by an earlier dispatch
        fill(output, old, "newer")
    before = what_is_in(output)

    def dispatch(to: Path) -> None:
        write_workers(tasks, to, overwrite=True, write_plan=lambda path: note(path, "new"))

    killed = copies_before_moves(output, partial(dispatch, output))
    assert len(killed) > old + new + len(DRY_RUN) + len(KEPT)
    assert not copies_before_moves(output, partial(recover, output))
    for number, left in enumerate(killed):
        again = copies_before_moves(left, partial(recover, left))  # a kill of what cleans up
        recovered = again[number % 3] if number % 3 < len(again) else left
        recover(recovered)
        assert not list(recovered.glob(".dispatch-moving*"))
        assert what_is_in(recovered) == before
        dispatch(recovered)
        assert what_is_in(recovered) == what_is_in(output)
    after = what_is_in(output)
    expected = {f"{n}/{tasks[n][0].id}.json" for n in range(new)} | {PLAN, *KEPT}
    assert after.keys() == expected
    assert after[PLAN] == (b"plan of new" if new else before[PLAN])
    word = "newer" if has_kept else "old"
    assert after[KEPT[0]] == f"{DRY_RUN[0]} of {word}".encode()
    assert after[KEPT[2]] == f"{DRY_RUN[2]} of {word}".encode()


@pytest.mark.parametrize("name", [PLAN, *KEPT])
def test_a_folder_that_is_called_as_a_hidden_plan_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("mine")
    with pytest.raises(BadInput, match=re.escape(name)):
        write_workers([[a_task(0)]], tmp_path, overwrite=True)
    assert (tmp_path / name / "mine").read_text() == "mine"
