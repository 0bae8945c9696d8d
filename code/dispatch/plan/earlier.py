"""Earlier dispatches: which tasks they have, and how those of now differ. Knows folders and plans.

What is the same task is decided by what it says (tasks/work.py), whatever its file is called.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dispatch.given.inputs import at_home
from dispatch.plan.comparison import Comparison
from dispatch.plan.file import PLAN, find_plan, is_plan_file, read_plan, task_of
from dispatch.tasks.output import DISPATCHED_PLAN, NUMBER, count_workers
from dispatch.tasks.results import label_of, set_apart
from dispatch.tasks.tasks import Task, read_task
from dispatch.terminal.messages import BadInput, first_of, log, log_first, plural

DEPTH = 3  # folders below one that is named, such as runs/2026-11/29/0
UUID_FILE = re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json")


def set_apart_dispatched(
    tasks: list[Task], names: Sequence[str], replaced: Path | None
) -> tuple[list[Task], list[Task]]:
    """Return the tasks that are left to do, and those that earlier dispatches have.

    `names` are output folders, folders of such, plans, or patterns of these; `replaced` is an
    output folder whose tasks are about to be replaced. Raise BadInput.
    """
    if not names:
        return tasks, []
    ids: set[str] = set()
    for name in names:
        for path in paths_named(name):
            ids |= {task.id for task in earlier_tasks(path)}
            if replaced and replaced.resolve() == path.resolve() and count_workers(replaced):
                text = (
                    "%s is replaced: what it has now is left out this time, and comes again later"
                )
                log.warning(text, replaced)
    new, dispatched = set_apart(tasks, lambda task: task.id in ids)
    found = f"{len(dispatched):,} of {plural(len(tasks), 'task')}"
    log.info("dispatched already, in %s: %s", first_of([*names]), found)
    return new, dispatched


def paths_named(name: str) -> list[Path]:
    """Return the folders and plans that a name, or a pattern, stands for; raise BadInput.

    What is named itself must be there, and have tasks; a pattern may match nothing yet.
    """
    option, plain = "--skip_dispatched", at_home(name)
    if os.path.isdir(plain):
        return [Path(plain)]
    if os.path.isfile(plain):
        return [Path(plain)]
    if not glob.has_magic(plain):
        raise BadInput(f"{option}: {name} is not a folder, nor the file of a plan")
    paths, others = [], []
    for path in map(Path, sorted(glob.glob(plain))):
        if path.is_dir() or is_plan_file(path):
            paths.append(path)
        else:
            others.append(str(path))
    if others:
        log.info("%s: %s: no folder and no plan, so not counted", option, first_of(others))
    if not paths:
        log.info("%s: nothing matches %s yet", option, name)
    return paths


def earlier_tasks(path: Path) -> Iterator[Task]:
    """Yield the tasks of earlier dispatches in a folder, or those of a plan; raise BadInput."""
    if not path.is_dir():
        yield from tasks_of_plan(path)
        return
    has_tasks = False
    for task in tasks_below(path, DEPTH, is_top=True):
        has_tasks = True
        yield task
    if not has_tasks:
        log.warning("%s: there is no task of a dispatch", path)


def tasks_of_plan(path: Path) -> Iterator[Task]:
    """Yield the tasks of a plan; raise BadInput."""
    for line in read_plan(path):
        if line["kind"] == "task":
            yield task_of(line, path)


def tasks_below(folder: Path, depth: int, *, is_top: bool = False) -> Iterator[Task]:
    """Yield the tasks of all worker folders in a folder, or of itself, if it is one.

    An output folder whose worker folders are gone has its hidden plan.
    """
    has_tasks = False
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(f"cannot read {folder}: {error}") from None
    visible = [path for path in entries if not path.name.startswith(".")]
    for task in read_tasks(folder, visible, is_top=is_top):
        has_tasks = True
        yield task
    if depth:
        for path in visible:
            if path.is_dir():
                for task in tasks_below(path, depth - 1):
                    has_tasks = True
                    yield task
    if not has_tasks and (folder / DISPATCHED_PLAN).is_file():
        yield from tasks_of_plan(folder / DISPATCHED_PLAN)


def read_tasks(folder: Path, paths: Sequence[Path], *, is_top: bool) -> Iterator[Task]:
    """Yield the tasks that lie in a worker folder: one with a number, or one that is named itself.

    In the former every JSON file should be a task, and what is none is told.
    """
    is_numbered = bool(re.fullmatch(NUMBER, folder.name))
    strays = []
    for path in paths:
        is_json = is_numbered and path.name.endswith(".json")
        if not is_json and not (is_top and UUID_FILE.fullmatch(path.name)):
            continue
        if not path.is_file():
            continue
        try:
            yield read_task(path.read_bytes())
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error}") from None
        except ValueError as error:
            strays.append(f"{path}: {error}")
    log_first(logging.WARNING, "not a task of a dispatch", strays)


# ---------------------------------------------------------------------------------- to compare with


def compare(
    tasks: list[Task], path: Path | None, left_out: Mapping[str, list[Task]]
) -> Comparison | None:
    """Return how tasks differ from those of a plan or an earlier dispatch, and name those gone.

    Of a folder, the worker folders count, else the plan in it. `left_out` are the tasks that are
    not among these, by why. None if there is nothing to compare with. Raise BadInput.
    """
    if not path:
        return None
    ids = {task.id for task in tasks}
    known: dict[str, tuple[str, Task]] = {}
    for reason, others in left_out.items():
        for task in others:
            known[task.id] = f"gone, {reason}", task
    earlier: set[str] = set()
    gone: list[Task] = []
    labels: dict[str, list[str]] = {}
    for task in tasks_to_compare(path):
        if task.id not in ids and task.id not in earlier:
            reason, same = known.get(task.id, ("gone", task))
            gone.append(same)  # which is not held twice
            labels.setdefault(reason, []).append(label_of(same))
        earlier.add(task.id)
    comparison = Comparison(str(path), frozenset(ids - earlier), gone, len(ids & earlier))
    for reason, names in labels.items():
        log_first(logging.INFO, reason, names)
    log.info("compared with %s: %s", path, comparison.in_words)
    return comparison


def tasks_to_compare(path: Path) -> Iterator[Task]:
    """Yield the tasks of a plan, or of a folder's worker folders, else of its plan."""
    has_tasks = False
    if path.is_dir():
        for task in tasks_below(path, DEPTH, is_top=True):
            has_tasks = True
            yield task
        if not has_tasks and not (path / PLAN).is_file():
            log.warning("%s: there are no worker folders and no plan to compare with", path)
            return
    if not has_tasks:
        yield from tasks_of_plan(find_plan(path))


def tell_difference(tasks: list[Task], output: Path) -> None:
    """Tell whether tasks that are to be dispatched are those of the dry run in the folder."""
    path = output / PLAN
    if not path.is_file():
        return
    planned: set[str] = set()
    try:
        for line in read_plan(path):
            if line["kind"] == "task":
                planned.add(line["id"])
    except BadInput as error:
        log.warning("what is dispatched cannot be compared with the dry run: %s", error)
        return
    ids = {task.id for task in tasks}
    more, fewer = len(ids - planned), len(planned - ids)
    if not more and not fewer:
        log.info("these are the tasks of the plan %s", path)
    else:
        text = "these are not the tasks of the plan %s: %s that it does not have, %s of it missing"
        log.warning(text, path, plural(more, "task"), plural(fewer, "task"))
