"""The page of a dry run: what it shows, and what its script draws, counts and filters.

The template and the files of its script lie beside this file, in the folder html.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from base64 import b64encode
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from dispatch.assets.assets import Asset
from dispatch.given.values import Record, compact
from dispatch.plan.choices import choices_of, coded, session_date, subject_of
from dispatch.plan.plan import Plan, assets_of, group_cell, numbered_tasks
from dispatch.tasks.analysis_code import PIPELINE
from dispatch.tasks.output import count_workers
from dispatch.tasks.results import RESULTS_STORE
from dispatch.tasks.tasks import Task
from dispatch.terminal.messages import plural, shorten
from dispatch.terminal.secrets import SECRETS

PROGRAM = Path(__file__).parents[2] / "run_capsule.py"
PLAN_PAGE = Path(__file__).parent / "html" / "page.html.j2"
PLAN_SCRIPTS = ("data", "picture", "table", "choice", "lists")  # in their order in the page
TASKS_IN_PAGE = 50_000  # so that it opens at once; the CSV holds all
NAMES_IN_PAGE = 10_000  # of what is skipped for the same reason, or processed already


@dataclass(frozen=True)
class Request:
    """What was asked for, as far as the page speaks of it."""

    query: Record | None  # the filter; None: the assets come from a list of ids
    argv: tuple[str, ...] = ()  # the flags as they were given
    choosing_flags: tuple[str, ...] = ()  # those in place of which the page gives others
    limiting_flags: tuple[str, ...] = ()  # those that leave tasks out
    listed_as: Mapping[str, str] | None = None  # what a list calls assets, by their records' ids
    keeps_latest: bool = False
    input_folder: Path = Path("data")
    output: Path = Path("results")
    overwrite: bool = False


def write_page(plan: Plan, request: Request, path: Path) -> None:
    """Write the page."""
    # a lone surrogate, which JSON can spell, is no UTF-8
    path.write_bytes(render_page(plan, request).encode("utf-8", "backslashreplace"))


def render_page(plan: Plan, request: Request) -> str:
    """Return the page; the same plan gives the same page."""
    from jinja2 import Template

    template = Template(
        PLAN_PAGE.read_text(encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = script_of_page()
    query = None
    if request.query is not None:
        query = json.dumps(request.query, indent=2, ensure_ascii=False)
    known = page_data(plan, request)
    data = json.dumps(known, separators=(",", ":"))
    page: str = template.render(
        plan=plan,
        groups=list(known["tasks"]["groups"]),
        assets=assets_of(plan.tasks),
        query=query,
        command=command_of(request.argv, "dry_run"),
        portable=portable_command_of(request.argv, "dry_run"),
        warning=warning_of(request.output, request.overwrite),
        names_records=names_records(plan, request),
        input_folder=request.input_folder,
        data=data.replace("<", "\\u003c"),
        script=script,
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        names_in_page=NAMES_IN_PAGE,
        tasks_in_page=TASKS_IN_PAGE,
        dumps=partial(json.dumps, ensure_ascii=False),
    )
    return page


def script_of_page() -> str:
    """Return the script of the page, its files one after another."""
    texts = []
    for name in PLAN_SCRIPTS:
        path = PLAN_PAGE.with_name(f"{name}.js")
        texts.append(path.read_text(encoding="utf-8"))
    return "\n".join(texts)


def command_of(argv: Sequence[str], *left_out: str) -> str:
    """Return the command that these flags make, without some of them, wherever it is pasted."""
    words = flags_without(argv, *left_out)
    environment = []
    for name in (*RESULTS_STORE, "DOCDB_VERSION", "CODEOCEAN_DOMAIN", *PIPELINE):
        if os.environ.get(name) and name not in SECRETS:
            environment.append(f"{name}={os.environ[name]}")
    if environment:
        environment.insert(0, "env")
    command = shlex.join([*environment, sys.executable, str(PROGRAM), *words])
    return f"cd {shlex.quote(os.getcwd())} && {command}"


FOLDERS_AND_SAFETY = ("input_directory", "output_directory", "overwrite")  # are each machine's own


def portable_command_of(argv: Sequence[str], *left_out: str) -> str:
    """Return the command as it is run in a clone of this capsule on any machine.

    Files are those of that name there.
    """
    words = []
    for word in flags_without(argv, *left_out, *FOLDERS_AND_SAFETY):
        name, sign, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        if is_path_here(value):
            value = os.path.basename(value)
        words.append(f"{name}{sign}{value}")
    return shlex.join(["bash", "environment/run.sh", *words])


def is_path_here(value: str) -> bool:
    """Return whether the value of a flag is the path of a file on this machine."""
    return os.sep in value and not value.startswith("{") and os.path.isfile(value)


def flags_without(argv: Sequence[str], *left_out: str) -> list[str]:
    """Return these flags without some of them."""
    words = list(argv)
    for name in left_out:
        while f"--{name}" in words:
            start = words.index(f"--{name}")
            del words[start : start + 2]
        words = [word for word in words if not word.startswith(f"--{name}=")]
    return words


def warning_of(output: Path, overwrite: bool) -> str:
    """Return what the dispatch would do to worker folders that are there, in words."""
    workers = count_workers(output)
    if not workers:
        return ""
    there = f"{output} holds {plural(workers, 'worker folder')} of an earlier run"
    if overwrite:
        return f"{there}; this command replaces what is there."
    return f"{there}; add --overwrite 1 to replace what is there."


def names_records(plan: Plan, request: Request) -> bool:
    """Return whether only a filter that names the records gives exactly the assets chosen.

    Else an older asset could be the latest of those chosen, or a task that is left out be one of
    the first. Where a list of ids chose them, a shorter list does.
    """
    return request.query is not None and (request.keeps_latest or bool(plan.left_out))


# ------------------------------------------------------------------------- what the script is given


def page_data(plan: Plan, request: Request) -> Record:
    """Return what the script of the page draws, counts and filters, as columns.

    Where the page cannot hold all tasks, it knows the assets of those that it holds.
    """
    workers, tasks = [], []
    for worker, task in islice(numbered_tasks(plan), TASKS_IN_PAGE):
        workers.append(worker)
        tasks.append(task)
    assets = assets_of(tasks)
    query = record_ids = asset_ids = None
    if request.query is None:
        listed_as = request.listed_as or {}
        asset_ids = [listed_as.get(asset.record_id, asset.id) for asset in assets]
    else:
        query = compact(request.query)
    if names_records(plan, request):
        record_ids = list(map(attrgetter("record_id"), assets))
    replaced = list(request.choosing_flags)
    # the tasks chosen are the first ones of the assets chosen: the order is that of the whole plan
    limits = bool(plan.left_out) and len(tasks) == len(plan.tasks)
    if limits:
        replaced += request.limiting_flags
    return {
        "query": query,
        "command_without_query": command_of(request.argv, "dry_run", *replaced),
        "portable_without_query": portable_command_of(request.argv, "dry_run", *replaced),
        "skips": {
            "name": list(map(attrgetter("name"), plan.skips)),
            "reason": coded(list(map(attrgetter("reason"), plan.skips))),
        },
        "workers": len(plan.workers),
        "limits": limits,
        "list": "asset_id",
        "choices": choices_of(plan.names, assets),
        "assets": {
            "name": list(map(attrgetter("name"), assets)),
            "subject": coded(list(map(subject_of, assets))),
            "day": coded(list(map(session_date, assets))),
            "record_id": record_ids,
            "id": asset_ids,
        },
        "tasks": task_columns(workers, tasks, assets),
        "all_tasks": len(plan.tasks),
    }


def task_columns(workers: list[int], tasks: list[Task], assets: list[Asset]) -> Record:
    """Return what the script knows of tasks, a column for each thing."""
    places = {asset.record_id: place for place, asset in enumerate(assets)}
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    for task in tasks:
        columns["assets"].append([places[asset.record_id] for asset in task.assets])
        columns["first"].append(first_file(task))
        columns["files"].append(len(task.files or ()))
        columns["size"].append(task.size)
        columns["parameters"].append(parameters_of(task))
        columns["id"].append(task.id)
    return {
        "worker": workers,
        **columns,
        "parameters": coded(columns["parameters"]),
        "groups": group_columns(tasks),
    }


def group_columns(tasks: list[Task]) -> Record:
    """Return what the assets of each task share, by its name; "" where they share nothing."""
    groups = [task.shared_group() for task in tasks]
    names: dict[str, None] = {}
    for group in groups:
        names |= dict.fromkeys(group)
    columns = {}
    for name in names:
        cells = [group_cell(group[name]) if name in group else "" for group in groups]
        columns[name] = coded(cells)
    return columns


def first_file(task: Task) -> list[str] | None:
    """Return the URL of a task's first file, cut wherever it has the name of the first asset."""
    if not task.files:
        return None
    name = task.assets[0].name
    return task.files[0].split(name) if name else task.files[:1]


def parameters_of(task: Task) -> str:
    """Return the parameters of a task as JSON, not too long to be looked at."""
    if task.parameters is None:
        return ""
    return shorten(json.dumps(task.parameters, ensure_ascii=False), 300)
