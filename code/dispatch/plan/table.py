"""The plan in a table, for spreadsheets: what a cell says, and how it reads back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from dispatch.given.values import Record
from dispatch.plan.plan import Plan, numbered_tasks
from dispatch.tasks.tasks import Task

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for the beginning of one


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
