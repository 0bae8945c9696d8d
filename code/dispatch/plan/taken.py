"""Tasks taken from a plan, all or some, to be dispatched as they are. Knows plans and ids."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from pathlib import Path

from dispatch.assets.assets import Entry, Skip
from dispatch.files.skips import report_skipped
from dispatch.given.inputs import at_home, find_file, named_file, named_path
from dispatch.given.lists import UUID, to_names
from dispatch.given.values import Record
from dispatch.plan.file import find_plan, kept_plan, read_plan, task_of
from dispatch.plan.plan import Found
from dispatch.records.tables import Table, read_table
from dispatch.tasks.tasks import Task
from dispatch.terminal.messages import BadInput, FailedRun, log, plural

COLUMN = "task_id"
NOT_USED = "group_assets, analysis_parameters.json and --analysis_code"


def plan_named(option: str, name: str | None, folder: Path) -> Path | None:
    """Return the path of the plan, or of the folder, that a flag names, if any; raise BadInput."""
    if not name:
        return None
    kept = kept_plan(Path(at_home(name)))
    return kept or named_path(option, name, folder)


def take_tasks(path: Path, ids: Sequence[str], strict: bool) -> Found:
    """Return the tasks of a plan, or those of these ids, in the order of the plan.

    Ids that it does not have are told. Raise BadInput for what is no whole plan, and FailedRun if
    there is none of these tasks, or one too few if nothing may be skipped.
    """
    path = find_plan(path)
    wanted = set(ids)
    head: Record = {}
    skips: list[Entry] = []
    tasks: list[Task] = []
    workers: dict[str, int] = {}
    for line in read_plan(path):
        if line["kind"] == "plan":
            head = line
        elif line["kind"] == "skip":
            skips.append(Skip(line["reason"], line["name"]))
        elif not ids or line["id"] in wanted:
            task = task_of(line, path)
            tasks.append(task)
            workers[task.id] = line["worker"]
    name_unknown(ids, workers, strict)
    if ids and not tasks:
        raise FailedRun(f"nothing to dispatch: the plan {path} has no task with any of these ids")
    log.info("the tasks are those of the plan %s, so %s are not used", path, NOT_USED)
    made, counts = head["made"], head["counts"]
    which = f"{len(tasks):,} of " if len(tasks) != counts["tasks"] else ""
    taken_from = f"{which}{plural(counts['tasks'], 'task')} of the plan of {made}"
    origin = {"file": str(path), "made": made, "flags": head.get("flags")}
    no_code = None if all(task.result for task in tasks) else "the plan does not say it"
    return Found(
        tasks,
        skips,
        counts["records"],
        files=None,
        no_code=no_code,
        query=head["filter"],
        taken_from=taken_from,
        origin=origin,
        workers=workers,
    )


def name_unknown(ids: Sequence[str], known: Container[str], strict: bool) -> None:
    """Tell which ids are none of those known; raise FailedRun if nothing may be skipped."""
    unknown = []
    for task_id in ids:
        if task_id not in known:
            unknown.append(Skip("no task of the plan has this id", task_id))
    report_skipped(unknown, strict)


def ids_named(values: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Return the ids that are given, themselves or in files, each once; raise BadInput."""
    ids: dict[str, None] = {}
    for value in values:
        names = [value] if re.fullmatch(UUID, value) else ids_of_text(value, folder)
        ids |= dict.fromkeys(map(spelt_as_ids_are, names))
    return tuple(ids)


def ids_of_text(text: str, folder: Path) -> list[str]:
    """Return the ids in a file that is named, or in a list of which not all are ids."""
    path = find_file(text, folder)
    if path:
        return ids_in_file(path)
    names = to_names(text)
    if not any(re.fullmatch(UUID, name) for name in names):
        named_file(f"--{COLUMN}: it is no id, and", text, folder)
    return list(names)


def spelt_as_ids_are(task_id: str) -> str:
    """Return an id with small letters, if it is one."""
    return task_id.lower() if re.fullmatch(UUID, task_id) else task_id


def ids_in_file(path: Path) -> list[str]:
    """Return the ids that a file lists, one a line or in its column task_id; raise BadInput.

    Rows of a plan's table that have no worker are not among the tasks that it dispatches.
    """
    table = read_table(path, (COLUMN,))
    header = [name.casefold() for name in table.columns]
    if header.count(COLUMN) > 1:
        raise BadInput(f"{path} has several columns {COLUMN}")
    if COLUMN not in header and len(header) > 1:
        raise BadInput(f"{path} must have a column {COLUMN}, or one id a line")
    ids = ids_in_column(table, header)
    if not ids:
        raise BadInput(f"{path} has no id of a task")
    return ids


def ids_in_column(table: Table, header: list[str]) -> list[str]:
    """Return the ids in the column of a table, less those of rows that say they have no worker.

    A table of one column without a name has an id as its first row, too.
    """
    ids = []
    column, worker, without_worker = 0, None, 0
    if COLUMN in header:
        column = header.index(COLUMN)
    else:
        ids += header
    if "worker" in header:
        worker = header.index("worker")
    for row in table.rows:
        if worker is not None and not row.cells[worker]:
            without_worker += 1
        elif row.cells[column]:
            ids.append(row.cells[column])
    if without_worker:
        log.info("%s without a worker, not counted", plural(without_worker, "row"))
    return ids
