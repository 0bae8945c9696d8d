"""The plan as a file of JSON lines: how it is written and read. Knows its format, no flag.

The format is described in code/docs/plan.md.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import NoneType
from typing import cast

from dispatch.given.values import Record
from dispatch.plan.plan import Plan, files_of, numbered_tasks
from dispatch.tasks.output import ABANDONED, DISPATCHED_PLAN, KEPT_AS
from dispatch.tasks.tasks import Task, read_task
from dispatch.terminal.messages import BadInput, excerpt, log

FORMAT = 1
PLAN = "dispatch_plan.jsonl"
ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True)
class Head:
    """What the first line of a plan says beside the counts."""

    program: str  # its version
    flags: tuple[str, ...]
    from_plan: Record | None = None  # what the tasks were taken from


# -------------------------------------------------------------------------------------- to write it


def write_plan(plan: Plan, head: Head, path: Path) -> None:
    """Write a plan, line by line."""
    with open(path, "w", encoding="ascii") as file:
        file.write(line_of(head_line(plan, head)))
        for skip in plan.skips:
            file.write(line_of({"kind": "skip", "reason": skip.reason, "name": skip.name}))
        for worker, task in numbered_tasks(plan):
            if ABANDONED.is_set():
                return
            file.write(line_of(task_line(worker, task)))


COMPACT = json.JSONEncoder(separators=(",", ":"))


def line_of(record: Record) -> str:
    """Return an object as a line, in ASCII: so half characters of odd names are kept, too."""
    return f"{COMPACT.encode(record)}\n"


def head_line(plan: Plan, head: Head) -> Record:
    """Return what the first line of a plan says."""
    tasks = plan.tasks
    files = None
    if any(task.files is not None for task in tasks):
        files = len(files_of(tasks))
    return {
        "kind": "plan",
        "format": FORMAT,
        "program": head.program,
        "made": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "flags": head.flags,
        "filter": plan.query,
        "from_plan": head.from_plan,
        "code": code_of(tasks),
        "counts": {
            "records": plan.matched,
            "skips": len(plan.skips),
            "tasks": len(tasks),
            "workers": len(plan.workers),
            "files": files,
            "processed": len(plan.processed),
            "dispatched": len(plan.dispatched),
            "left_out": plan.left_out,
        },
    }


def code_of(tasks: list[Task]) -> Record | None:
    """Return what all tasks say of their code, without its parameters; None if they say nothing."""
    if not tasks or not tasks[0].content:
        return None
    code: Record = json.loads(tasks[0].content).get("analysis_code") or {}
    code.pop("parameters", None)
    code.pop("input_data", None)
    return code or None


def task_line(worker: int, task: Task) -> Record:
    """Return what the line of a task says."""
    return {
        "kind": "task",
        "worker": worker,
        "id": task.id,
        "result": task.result,
        "bytes": task.size,
        "json": task.content.decode(),
        "sha256": sha256(task.content).hexdigest(),
    }


# --------------------------------------------------------------------------------------- to read it


def find_plan(path: Path) -> Path:
    """Return the file of a plan that is named, itself or by the output folder that holds it.

    Of a folder, it is that of the last dry run, else that of the last dispatch. One that a dispatch
    has hidden since is found by its former name. Raise BadInput.
    """
    if path.is_dir():
        for name in (PLAN, DISPATCHED_PLAN):
            if (path / name).is_file():
                log.info("the plan is that of %s", path / name)
                return path / name
        raise BadInput(f"there is no plan in the folder {path}")
    return kept_plan(path) or path


def kept_plan(path: Path) -> Path | None:
    """Return the file as which a dispatch has kept the plan of this name; None if none has."""
    kept = path.with_name(KEPT_AS.get(path.name, path.name))
    if path.name != PLAN or os.path.lexists(path) or not kept.is_file():
        return None
    log.info("the plan %s was kept by a dispatch, as %s", path, kept)
    return kept


def is_plan_file(path: Path) -> bool:
    """Return whether a file begins as a plan does, of whatever format."""
    if not path.is_file():  # a pipe that nobody writes into would be waited for
        return False
    try:
        with open(path, "rb") as file:
            return file.read(30).lstrip(b"\xef\xbb\xbf").startswith(b'{"kind":"plan"')
    except OSError:
        return False


def read_plan(path: Path) -> Iterator[Record]:
    """Yield what the lines of a plan say, checked; raise BadInput for what is no whole plan.

    The head comes first, then skips, then tasks. That a plan was cut is told when its end comes.
    """
    check = Check()
    try:
        if not path.is_file():
            raise BadInput(f"cannot read the plan {path}: there is no such file")
        with open(path, "rb") as file:
            for line in file:
                check.number += 1
                if line.strip():
                    yield check.line(line)
        check.end()
    except OSError as error:
        raise BadInput(f"cannot read the plan {path}: {error}") from None
    except ValueError as error:
        where = f", line {check.number}" if check.number else ""
        raise BadInput(f"the plan {path}{where}: {error}") from None


@dataclass(slots=True)
class Check:
    """What is known of a plan that is being read, and whether its next line fits."""

    number: int = 0  # of the line
    counts: Record = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)  # lines, by kind
    worker: int = -1  # of the last task
    ids: set[str] = field(default_factory=set)

    def line(self, line: bytes) -> Record:
        """Return what a line says; raise ValueError."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        kind = record.get("kind") if isinstance(record, dict) else None
        if not self.counts:
            if kind != "plan":
                raise ValueError(f"it is no plan, which is a file such as {PLAN}")
            check_head(record)
            self.counts = record["counts"]
        elif kind == "task":
            self.check_task(record)
        elif kind != "skip" or self.found["task"]:
            raise ValueError("it is not what a plan says there: it may have been cut or changed")
        elif not all(isinstance(record.get(name), str) for name in ("reason", "name")):
            raise ValueError("it does not say what is skipped, and why")
        self.found[kind] += 1
        return cast(Record, record)

    def check_task(self, line: Record) -> None:
        """Raise ValueError unless a task may come here, whole."""
        worker, task_id, content = line.get("worker"), line.get("id"), line.get("json")
        if type(worker) is not int or worker not in (max(self.worker, 0), self.worker + 1):
            raise ValueError(f"after worker {self.worker}, it names the worker {worker!r}")
        if not isinstance(task_id, str) or not re.fullmatch(ID, task_id) or task_id in self.ids:
            raise ValueError(f"the id {excerpt(repr(task_id))} is no UUID, or is there twice")
        if type(line.get("bytes", ...)) not in (int, NoneType):
            raise ValueError("the bytes of its files are no number")
        if type(line.get("result", ...)) not in (str, NoneType):
            raise ValueError("the name of its result is no string")
        if not isinstance(content, str):
            raise ValueError("it has no JSON of a task")
        if sha256(content.encode()).hexdigest() != line.get("sha256"):
            raise ValueError(f"the task {task_id} was changed: its bytes have another SHA-256")
        self.worker = worker
        self.ids.add(task_id)

    def end(self) -> None:
        """Raise ValueError if lines are missing, or too many."""
        if not self.counts:
            raise ValueError("it is empty")
        found = {"skips": self.found["skip"], "tasks": self.found["task"]}
        for name, number in {**found, "workers": self.worker + 1}.items():
            told = self.counts[name]
            if number != told:
                raise ValueError(f"it was cut or changed: it has {number:,} of {told:,} {name}")


def check_head(head: Record) -> None:
    """Raise ValueError unless this is the first line of a plan of this format."""
    if head.get("format") != FORMAT:
        raise ValueError(f"it is of format {head.get('format')!r}, this program reads {FORMAT}")
    counts = head.get("counts")
    if not isinstance(counts, dict):
        raise ValueError("it has no counts")
    for name in ("records", "skips", "tasks", "workers"):
        if type(counts.get(name)) is not int:
            raise ValueError(f"its counts have no number of {name}")
    if type(head.get("filter", ...)) not in (dict, NoneType) or not isinstance(
        head.get("made"), str
    ):
        raise ValueError("it does not say of which filter and time it is")


def task_of(line: Record, path: Path) -> Task:
    """Return the task of a line; raise BadInput if its JSON says none, or another one."""
    try:
        task = read_task(line["json"].encode())
        if task.id != line["id"]:
            raise ValueError(f"it was changed: what its JSON says is the task {task.id}")
    except ValueError as error:
        raise BadInput(f"the task {line['id']} of the plan {path}: {error}") from None
    task.result, task.size = line["result"], line["bytes"]
    return task
