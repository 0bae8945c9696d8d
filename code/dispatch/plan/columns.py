"""What the script of the page is given, as columns, and what no filter could choose of it."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import chain, islice
from operator import attrgetter

from dispatch.assets.assets import Asset, Skip
from dispatch.given.values import Record, compact
from dispatch.plan.choices import (
    choice_by_comparison,
    choices_of,
    coded,
    each_once,
    is_unwound,
    session_date,
    subject_of,
)
from dispatch.plan.commands import (
    Request,
    command_of,
    exact_command_of,
    exact_portable_command,
    portable_command_of,
)
from dispatch.plan.plan import Plan, assets_of, numbered_tasks
from dispatch.plan.table import group_cell
from dispatch.tasks.tasks import MOST_WORKERS, Task
from dispatch.terminal.messages import shorten

TASKS_IN_PAGE = 50_000  # so that it opens at once; the CSV holds all
LONGEST_PARAMETERS = 300  # characters of them, to be looked at
NO_TASK_HERE = -1  # in place of the place of an asset

# Why no filter chooses what is chosen, but for all of the plan.
UNWOUND = "Here an asset can be in several groups, and a filter chooses whole assets."
CUT_BY_SIZE = "--max_tasks cuts the list, whose tasks --balance_by size puts into another order."
TAKEN = "The tasks are those of a plan, which no filter chooses."
NOT_ALL_NAMED = "The command would have to name all records, of which this page does not hold all."


def page_data(plan: Plan, request: Request) -> Record:
    """Return what the script of the page draws, counts and filters, as columns.

    Where the page cannot hold all tasks, it knows the assets of those that it holds.
    """
    workers, tasks = [], []
    for worker, task in islice(numbered_tasks(plan), TASKS_IN_PAGE):
        workers.append(worker)
        tasks.append(task)
    assets = assets_of(sorted(tasks, key=attrgetter("place")))
    holds_all = len(tasks) == len(plan.tasks)
    replaced = list(request.choosing_flags)
    # the tasks chosen are the first ones of the assets chosen: the order is that of the whole plan
    limits = bool(plan.left_out) and holds_all
    if limits:
        replaced += request.limiting_flags
    choices = choices_of(plan.names, assets, plan.skips, tasks, request)
    if plan.comparison:
        choices.insert(0, choice_by_comparison(plan.comparison, tasks, plan.skips))
    return {
        "query": None if request.query is None else compact(request.query),
        "command_without_query": command_of(request.argv, "dry_run", *replaced),
        "portable_without_query": portable_command_of(request.argv, "dry_run", *replaced),
        "exact_command": exact_command_of(request),
        "exact_portable": exact_portable_command(),
        "no_filter": why_no_filter(plan, request, holds_all=holds_all),
        "takes_plan": request.takes_plan,
        "limits": limits,
        "also_named": also_named(plan, assets, request),
        "sharing": sharing_of(plan, request),
        "choices": choices,
        "skips": {
            "name": list(map(attrgetter("name"), plan.skips)),
            "reason": coded(list(map(attrgetter("reason"), plan.skips))),
        },
        "assets": asset_columns(assets, plan, request),
        "tasks": task_columns(workers, tasks, assets),
        "all_tasks": len(plan.tasks),
    }


def names_records(plan: Plan, request: Request) -> bool:
    """Return whether only a filter that names the records gives exactly the assets chosen.

    Else an older asset could be the latest of those chosen, or a task that is left out be one of
    the first. Where a list of ids chose them, a shorter list does.
    """
    return request.query is not None and (request.keeps_latest or bool(plan.left_out))


def why_no_filter(plan: Plan, request: Request, *, holds_all: bool) -> str:
    """Return why no filter, and no list, gives what is chosen of this plan; "" if one does."""
    if request.takes_plan:
        return TAKEN
    if any(is_unwound(path, request) for path in request.group_by):
        return UNWOUND
    is_list = request.query is None
    if is_list and plan.left_out and request.by_size:
        return CUT_BY_SIZE
    if not holds_all and (is_list or names_records(plan, request)):
        return NOT_ALL_NAMED
    return ""


def also_named(plan: Plan, assets: list[Asset], request: Request) -> list[tuple[str, list[int]]]:
    """Return the values of a list that name several records, with the places of their assets.

    A record that a shorter list could let in counts, too: of an asset that is not the latest of
    its like, or whose tasks are left out.
    """
    if not request.asset_list:
        return []
    places = {asset.record_id: place for place, asset in enumerate(assets)}
    named: defaultdict[str, set[tuple[int, str]]] = defaultdict(set)
    for entry in plan.entries:
        record_id = str(entry.record.get("_id"))
        if isinstance(entry, Asset):
            record_id = entry.record_id
        place = places.get(record_id, NO_TASK_HERE)
        if place == NO_TASK_HERE and not could_come_in(entry, plan):
            continue
        for value in request.asset_list.named_by(entry):
            if value in request.asset_list.kinds:
                named[value].add((place, record_id))
    several = []
    for value, found in named.items():
        if len(found) > 1:
            several.append((value, [place for place, _ in sorted(found)]))
    return several


def could_come_in(entry: Asset | Skip, plan: Plan) -> bool:
    """Return whether something that has no task could have one, if less was asked for."""
    if isinstance(entry, Skip):
        return entry.asked and bool(entry.record)
    return plan.files is None or bool(plan.files.get(entry.location))


def sharing_of(plan: Plan, request: Request) -> Record:
    """Return how the script deals tasks, and the flags that make the program do so."""
    says_code = bool(plan.tasks) and all(task.result for task in plan.tasks)
    return {
        "most": request.max_jobs,
        "each": request.tasks_per_job,
        "by_size": request.by_size,
        "says_code": says_code,
        "most_workers": MOST_WORKERS,
        "flags": " ".join(request.sharing_flags(says_code=says_code)),
    }


# --------------------------------------------------------------------------------- assets and tasks


def asset_columns(assets: list[Asset], plan: Plan, request: Request) -> Record:
    """Return what the script knows of assets, a column for each thing."""
    record_ids = listed = None
    if names_records(plan, request):
        record_ids = [asset.record_id for asset in assets]
    if request.query is None:
        listed_as = request.asset_list.names_of(assets) if request.asset_list else {}
        listed = [listed_as.get(asset.record_id, asset.id) for asset in assets]
    return {
        "name": [asset.name for asset in assets],
        "subject": coded([subject_of(asset) for asset in assets]),
        "day": coded([session_date(asset) for asset in assets]),
        "location": [cut_at(asset.name, asset.location) for asset in assets],
        "record_id": record_ids,
        "id": listed,
    }


def task_columns(workers: list[int], tasks: list[Task], assets: list[Asset]) -> Record:
    """Return what the script knows of tasks, a column for each thing."""
    places = {asset.record_id: place for place, asset in enumerate(assets)}
    held = []
    for task in tasks:
        held.append([places[asset.record_id] for asset in task.assets])
    return {
        "worker": workers,
        "place": [task.place for task in tasks],
        "assets": held,
        "first": [first_file(task) for task in tasks],
        "files": [len(task.files or ()) for task in tasks],
        "size": [task.size or 0 for task in tasks],
        "parameters": coded([parameters_of(task) for task in tasks]),
        "id": [task.id for task in tasks],
        "groups": group_columns(tasks),
    }


def group_columns(tasks: list[Task]) -> Record:
    """Return what the assets of each task share, by its name; "" where they share nothing."""
    groups = [task.shared_group() for task in tasks]
    columns = {}
    for name in each_once(chain(*groups)):
        cells = [group_cell(group[name]) if name in group else "" for group in groups]
        columns[name] = coded(cells)
    return columns


def cut_at(name: str, string: str) -> list[str]:
    """Return a string cut wherever it has this name, which the page has already."""
    return string.split(name) if name else [string]


def first_file(task: Task) -> list[str] | None:
    """Return the path of a task's first file below its first asset, cut at the asset's name.

    What does not lie below it is a whole URL.
    """
    if not task.files:
        return None
    first = task.assets[0]
    return cut_at(first.name, task.files[0].removeprefix(f"{first.location}/"))


def parameters_of(task: Task) -> str:
    """Return the parameters of a task as JSON, not too long to be looked at."""
    if task.parameters is None:
        return ""
    return shorten(json.dumps(task.parameters, ensure_ascii=False), LONGEST_PARAMETERS)
