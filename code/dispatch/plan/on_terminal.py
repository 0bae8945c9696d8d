"""The first tasks of a plan on a terminal: a table that fits it, and the counts."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence

from dispatch.given.values import pasteable
from dispatch.plan.plan import Plan, assets_of, files_of
from dispatch.plan.table import group_cell
from dispatch.tasks.tasks import Task
from dispatch.terminal.messages import file_size, one_line

TASKS_ON_TERMINAL = 20
WIDEST_COLUMN = 60  # characters
NARROWEST_COLUMN = 8


def show_first_tasks(plan: Plan) -> None:
    """Print the filter and the first tasks to standard output, whether or not anybody reads it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    table = first_tasks(plan, width)
    if plan.query is not None:
        table = f"filter: {pasteable(plan.query)}\n{table}"
    try:
        print(table, flush=True)
    except OSError:  # a pipe that is closed, a disk that is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def first_tasks(plan: Plan, width: int | None) -> str:
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
