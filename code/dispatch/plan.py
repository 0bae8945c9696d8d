"""The plan: what is dispatched and what is not, in a line, in a table, on a terminal.

Knows assets, files and tasks by what they are; not the page, which has a room of its own.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dispatch.assets import Asset, Entry, Skip, skips_in
from dispatch.listing import Files
from dispatch.messages import file_size, one_line, plural
from dispatch.tasks import Task
from dispatch.values import Record

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for the beginning of one
TASKS_ON_TERMINAL = 20
WIDEST_COLUMN = 60  # on a terminal, in characters


@dataclass(frozen=True)
class Plan:
    """What is dispatched, and what is not."""

    matched: int  # records
    entries: list[Entry]  # assets as they are grouped, and what is skipped
    files: Files | None
    workers: list[list[Task]]
    processed: list[Task]  # already, and left out
    left_out: int  # tasks, by --max_tasks

    @property
    def skips(self) -> list[Skip]:
        """What is skipped."""
        return skips_in(self.entries)

    @property
    def tasks(self) -> list[Task]:
        """The tasks of all workers."""
        return [task for _, task in numbered_tasks(self)]


def numbered_tasks(plan: Plan) -> Iterator[tuple[int, Task]]:
    """Yield each task, and before it the number of its worker."""
    for worker, tasks in enumerate(plan.workers):
        for task in tasks:
            yield worker, task


def assets_of(tasks: Sequence[Task]) -> list[Asset]:
    """Return the assets that some tasks hold, each once, in the order of the tasks."""
    assets: dict[str, Asset] = {}
    for task in tasks:
        for asset in task.assets:
            assets.setdefault(asset.record_id, asset)
    return list(assets.values())


# ------------------------------------------------------------------------------------- in a line


def summarise_records(matched: int, entries: list[Entry]) -> str:
    """Return the records matched and what was skipped, in words."""
    reasons = Counter(skip.reason for skip in skips_in(entries))
    why = ", ".join(f"{reason}: {number}" for reason, number in reasons.items())
    if why:
        why = f" ({why})"
    return f"{plural(matched, 'record')} matched, {reasons.total()} skipped{why}"


def summarise(plan: Plan, *, by_size: bool, tells_processed: bool) -> str:
    """Return what a plan comes to, in words."""
    files = "no files looked for"
    if plan.files is not None:
        files = plural(sum(map(len, plan.files.values())), "file")
    tasks = plural(len(plan.tasks), "task")
    others = []
    if tells_processed:
        others.append(f"{len(plan.processed)} processed already")
    if plan.left_out:
        others.append(f"{plan.left_out} more left out")
    if others:
        tasks += f" ({', '.join(others)})"
    workers = plural(len(plan.workers), "worker") + describe_heaviest(plan, by_size=by_size)
    return f"{summarise_records(plan.matched, plan.entries)}, {files}, {tasks}, {workers}"


def describe_heaviest(plan: Plan, *, by_size: bool) -> str:
    """Return how much more than the mean the heaviest worker has to do, "" if no more."""
    loads = []
    for tasks in plan.workers:
        loads.append(sum(task.size or 0 for task in tasks) if by_size else len(tasks))
    heaviest = max(loads, default=0)
    times = f"{heaviest * len(loads) / (sum(loads) or 1):.2f}"
    if times in ("0.00", "1.00"):
        return ""
    load = file_size(heaviest) if by_size else plural(heaviest, "task")
    return f", the heaviest with {load}, {times} times the mean"


# ------------------------------------------------------------------------------------ in a table


def write_table(plan: Plan, path: Path) -> None:
    """Write the plan as a table: the tasks of each worker, then those that have no worker."""
    rows = []
    for worker, task in numbered_tasks(plan):
        rows.append({"worker": worker, **task_cells(task), "processed": 0})
    for task in plan.processed:
        rows.append({"worker": "", **task_cells(task), "processed": 1})
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def task_cells(task: Task) -> Record:
    """Return what the CSV says of a task; what is not known is blank."""
    lists = task.to_record()
    cells: Record = {
        "task_id": task.id,
        "asset_names": cell(lists["asset_name"]),
        "asset_ids": cell(lists["asset_id"]),
        "record_ids": cell(lists["docdb_record_id"]),
        "number_of_files": "",
        "bytes": "",
        "first_file": "",
        "parameters": "",
        "result": task.result or "",
    }
    if task.files is not None:
        cells |= {"number_of_files": len(task.files), "bytes": task.size}
    if task.files:
        cells["first_file"] = cell(task.files[:1])
    if task.parameters is not None:
        cells["parameters"] = json.dumps(task.parameters)
    return cells


def cell(strings: list[str]) -> str:
    """Return strings as a cell of the CSV: a single plain one as it is, all else as a JSON list.

    A cell is a JSON list if and only if it begins with a bracket. Line breaks and the like are
    escapes there, so that every reader of CSV gets the same strings back. One that a spreadsheet
    would take for a formula gets an apostrophe before it, as spreadsheets write it themselves.
    """
    if len(strings) != 1 or not strings[0].isprintable() or strings[0].startswith(("[", "'")):
        return json.dumps(strings)
    [string] = strings
    return f"'{string}" if string.startswith(FORMULA) else string


# --------------------------------------------------------------------------------- on a terminal


def first_tasks(plan: Plan) -> str:
    """Return the first tasks as a table for a terminal, and the counts."""
    lines = terminal_table(plan)
    tasks = plan.tasks
    if len(tasks) > TASKS_ON_TERMINAL:
        lines.append(f"... and {len(tasks) - TASKS_ON_TERMINAL:,} more")
    files = sum(len(task.files or ()) for task in tasks)
    size = file_size(sum(task.size or 0 for task in tasks))
    processed = ""
    if plan.processed:
        processed = f" processed already {len(plan.processed):,},"
    lines.append(
        f"tasks {len(tasks):,},{processed} workers {len(plan.workers):,},"
        f" assets {len(assets_of(tasks)):,}, files {files:,} ({size}), records {plan.matched:,},"
        f" skipped {len(plan.skips):,}"
    )
    return "\n".join(lines)


def terminal_table(plan: Plan) -> list[str]:
    """Return the lines of a table of the first tasks."""
    rows = [("worker", "asset", "file", "size", "parameters")]
    for worker, task in islice(numbered_tasks(plan), TASKS_ON_TERMINAL):
        names = and_more(task.names)
        files = size = parameters = ""
        if task.files:
            files = and_more([url.rpartition("/")[2] for url in task.files])
            size = file_size(task.size or 0)
        if task.parameters:
            parameters = one_line(json.dumps(task.parameters))
        rows.append((str(worker), names, files, size, parameters))
    widths = []
    for column in zip(*rows, strict=True):
        widths.append(min(WIDEST_COLUMN, max(map(len, column))))
    lines = []
    for row in rows:
        cells = [string.ljust(width) for string, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def and_more(names: list[str]) -> str:
    """Return the first name, and how many more there are."""
    more = ""
    if len(names) > 1:
        more = f" and {len(names) - 1} more"
    return one_line(names[0]) + more
