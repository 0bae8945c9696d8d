"""The plan: what is dispatched and what is not, in a line, in a table, on a terminal."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch.assets.assets import Asset, Entry, Skip, skips_in
from dispatch.files.listing import Files
from dispatch.given.values import Record
from dispatch.plan.comparison import Comparison
from dispatch.records.schema import NAMES, Vocabulary
from dispatch.tasks.tasks import Task
from dispatch.terminal.messages import file_size, one_line, plural

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for the beginning of one
TASKS_ON_TERMINAL = 20
WIDEST_COLUMN = 60  # on a terminal, in characters
NARROWEST_COLUMN = 8


@dataclass(frozen=True)
class Found:
    """All tasks that there are, before any is left out, and where they come from."""

    tasks: list[Task]
    entries: list[Entry]  # assets as they are grouped, and what is skipped
    matched: int  # records
    files: Files | None  # None: none were looked for, or the tasks are those of a plan
    no_code: str | None  # why the tasks do not say their code; None if they do
    query: Record | None  # the filter that was asked; None: the assets come from a list
    names: Vocabulary = field(default_factory=lambda: NAMES)  # as the records have them
    taken_from: str = ""  # the plan that the tasks were taken from, in words
    origin: Record | None = None  # the same as the next plan says it
    workers: dict[str, int] = field(default_factory=dict)  # that it gave each task, by its id


@dataclass(frozen=True)
class Plan:
    """What is dispatched, and what is not."""

    matched: int  # records
    entries: list[Entry]  # assets as they are grouped, and what is skipped
    files: Files | None
    workers: list[list[Task]]
    processed: list[Task]  # already, and left out
    left_out: int  # tasks, by --max_tasks
    dispatched: list[Task] = field(default_factory=list)  # already, and left out
    query: Record | None = None  # the filter that was asked; None: the assets come from a list
    names: Vocabulary = field(default_factory=lambda: NAMES)  # as the records have them
    taken_from: str = ""  # the plan that the tasks were taken from, in words
    comparison: Comparison | None = None  # with an earlier plan or dispatch

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


def files_of(tasks: Sequence[Task]) -> set[str]:
    """Return the URLs of all files that some tasks hold."""
    files: set[str] = set()
    for task in tasks:
        files |= set(task.files or ())
    return files


# ------------------------------------------------------------------------------------- in a line


def summarise_records(matched: int, entries: list[Entry]) -> str:
    """Return the records matched and what was skipped, in words."""
    reasons = Counter(skip.reason for skip in skips_in(entries))
    why = ", ".join(f"{reason}: {number:,}" for reason, number in reasons.items())
    if why:
        why = f" ({why})"
    return f"{plural(matched, 'record')} matched, {reasons.total():,} skipped{why}"


def summarise(
    plan: Plan, *, by_size: bool, tells_processed: bool, tells_dispatched: bool = False
) -> str:
    """Return what a plan comes to, in words."""
    files = "no files looked for"
    if plan.files is not None:
        files = plural(sum(map(len, plan.files.values())), "file")
    elif plan.taken_from and not plan.tasks:
        files = plural(0, "file")
    elif any(task.files is not None for task in plan.tasks):
        files = plural(len(files_of(plan.tasks)), "file")
    tasks = plural(len(plan.tasks), "task")
    others = []
    if tells_dispatched:
        others.append(f"{len(plan.dispatched):,} dispatched already")
    if tells_processed:
        others.append(f"{len(plan.processed):,} processed already")
    if plan.left_out:
        others.append(f"{plan.left_out:,} more left out")
    if others:
        tasks += f" ({', '.join(others)})"
    workers = plural(len(plan.workers), "worker") + describe_heaviest(plan, by_size=by_size)
    begin = plan.taken_from or summarise_records(plan.matched, plan.entries)
    summary = f"{begin}, {files}, {tasks}, {workers}"
    if plan.comparison:
        summary += f", {plan.comparison.in_words}"
    return summary


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
        rows.append({"worker": worker, **task_cells(task), "processed": 0, "dispatched": 0})
    for task in plan.processed:
        rows.append({"worker": "", **task_cells(task), "processed": 1, "dispatched": 0})
    for task in plan.dispatched:
        rows.append({"worker": "", **task_cells(task), "processed": 0, "dispatched": 1})
    if plan.comparison:
        for task in plan.comparison.mark(rows):
            rows.append({"worker": "", **task_cells(task), "compared": "gone"})
    names: dict[str, None] = {}
    for row in rows:  # those of gone tasks can have other groups
        names |= dict.fromkeys(row)
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def task_cells(task: Task) -> Record:
    """Return what the CSV says of a task; what is not known is blank."""
    lists = task.to_record()
    cells: Record = {"task_id": task.id}
    for name, value in task.shared_group().items():
        cells[f"group_metadata.{name}"] = group_cell(value)
    cells |= {
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


def group_cell(value: Any) -> str:
    """Return what the assets of a group share, as a cell of the CSV."""
    return cell([value]) if isinstance(value, str) else json.dumps(value)


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


def first_tasks(plan: Plan, width: int | None = None) -> str:
    """Return the first tasks as a table for a terminal of this width, and the counts."""
    lines = terminal_table(plan, width)
    tasks = plan.tasks
    if len(tasks) > TASKS_ON_TERMINAL:
        lines.append(f"... and {len(tasks) - TASKS_ON_TERMINAL:,} more")
    files, size = files_of(tasks), file_size(bytes_of(plan))
    others = ""
    if plan.dispatched:
        others += f" dispatched already {len(plan.dispatched):,},"
    if plan.processed:
        others += f" processed already {len(plan.processed):,},"
    lines.append(
        f"tasks {len(tasks):,},{others} workers {len(plan.workers):,},"
        f" assets {len(assets_of(tasks)):,}, files {len(files):,} ({size}),"
        f" records {plan.matched:,}, skipped {len(plan.skips):,}"
    )
    return "\n".join(lines)


def bytes_of(plan: Plan) -> int:
    """Return the bytes of all files of the tasks, each once.

    Where the tasks were taken from a plan, that knows those of a task together.
    """
    sizes: dict[str, int | None] = {}
    for found in (plan.files or {}).values():
        sizes |= found
    if sizes:
        return sum(sizes.get(url) or 0 for url in files_of(plan.tasks))
    by_files: dict[tuple[str, ...], int] = {}
    for task in plan.tasks:
        by_files[tuple(task.files or ())] = task.size or 0
    return sum(by_files.values())


def tasks_to_show(plan: Plan) -> list[tuple[int, Task]]:
    """Return the tasks to show, and their workers: of each worker the first, then the next."""
    places = []
    for worker, tasks in enumerate(plan.workers[:TASKS_ON_TERMINAL]):
        for number in range(min(len(tasks), TASKS_ON_TERMINAL)):
            places.append((number, worker))
    shown = []
    for number, worker in sorted(sorted(places)[:TASKS_ON_TERMINAL], key=by_worker):
        shown.append((worker, plan.workers[worker][number]))
    return shown


def by_worker(place: tuple[int, int]) -> tuple[int, int]:
    """Return what sorts a task, by its number and its worker, behind those of earlier workers."""
    return place[1], place[0]


def terminal_table(plan: Plan, width: int | None) -> list[str]:
    """Return the lines of a table of the first tasks, in this width if there is one."""
    rows = [("worker", "group", "asset", "file", "size", "parameters")]
    for worker, task in tasks_to_show(plan):
        group = ", ".join(map(group_cell, task.shared_group().values()))
        files = size = parameters = ""
        if task.files:
            files = and_more([url.rpartition("/")[2] for url in task.files])
            size = file_size(task.size or 0)
        if task.parameters:
            parameters = one_line(json.dumps(task.parameters))
        names = and_more(task.names)
        rows.append((str(worker), one_line(group), names, files, size, parameters))
    columns = []
    for column in zip(*rows, strict=True):
        if any(column[1:]) or column[0] != "group":
            columns.append(column)
    widths = widths_of(columns, width)
    lines = []
    for row in zip(*columns, strict=True):
        cells = []
        for string, wide in zip(row, widths, strict=True):
            cells.append(middle_cut(string, wide).ljust(wide))
        lines.append("  ".join(cells).rstrip())
    return lines


def widths_of(columns: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Return how wide columns are; the widest give way until all fit."""
    widths = [min(WIDEST_COLUMN, max(map(len, column))) for column in columns]
    if width:
        while sum(widths) + 2 * len(widths) - 2 > width and max(widths) > NARROWEST_COLUMN:
            widths[widths.index(max(widths))] -= 1
    return widths


def middle_cut(string: str, width: int) -> str:
    """Return a string that fits a width, without its middle if need be."""
    if len(string) <= width:
        return string
    end = (width - 1) // 2
    return f"{string[: width - 1 - end]}…{string[len(string) - end :]}"


def and_more(names: list[str]) -> str:
    """Return the first name, and how many more there are."""
    more = ""
    if len(names) > 1:
        more = f" and {len(names) - 1:,} more"
    return one_line(names[0]) + more
