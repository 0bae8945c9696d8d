"""Results: which tasks have one already, and which would have one name.

What a result is called, the consumers' own library says, as each task holds it.
"""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence

from dispatch.assets.assets import Asset
from dispatch.given.values import compact
from dispatch.records.docdb import DocDB, open_docdb
from dispatch.tasks.analysis_code import not_set
from dispatch.tasks.tasks import Task
from dispatch.terminal.messages import (
    BadInput,
    FailedRun,
    first_of,
    log,
    log_first,
    plural,
    shorten,
)

RESULTS_STORE = ("DOCDB_HOST", "DOCDB_DATABASE", "DOCDB_COLLECTION")
FORMER_LIMIT = "--max_number_of_tasks_dispatched"
CODE = "processing.data_processes.code"  # what a record of the store says of it


def limit_leaves_out(words: Sequence[str], no_code: str | None) -> bool:
    """Return whether a limit alone leaves out tasks with a result; else tell how that is done.

    Under its former name a limit counts what is left to do, as in the dispatchers that had it.
    Where no results store is known, there is nothing to leave out or to tell.
    """
    if not_set(RESULTS_STORE):
        return False
    if not no_code and any(word.partition("=")[0] == FORMER_LIMIT for word in words):
        log.info("%s: tasks with a result are left out first (--skip_processed 1)", FORMER_LIMIT)
        return True
    needed = ""
    if no_code:
        needed = f", which needs the code of the analysis: {no_code}"
    log.info(
        "a limit counts tasks with a result, too: --skip_processed 1 leaves them out%s", needed
    )
    return False


def set_apart_processed(tasks: list[Task], timeout: int) -> tuple[list[Task], list[Task]]:
    """Return the tasks that are left to do, and those with a result in the results store."""
    if not all(task.result for task in tasks):
        raise BadInput("--skip_processed 1: the tasks do not say the code of the analysis")
    database = os.environ["DOCDB_DATABASE"].strip()
    collection = os.environ["DOCDB_COLLECTION"].strip()
    name = f"the results store {database}/{collection}"
    # v1, whatever the metadata's version is: there the consumer's library looks, and writes
    store = open_docdb("v1", timeout, name, database=database, collection=collection)
    results = store.known_names([task.result for task in tasks if task.result])
    new, processed = set_apart(tasks, lambda task: task.result in results)
    log_first(logging.INFO, "processed already", [label_of(task) for task in processed])
    if tasks and not processed:
        warn_of_other_names(store, tasks)
    return new, processed


def set_apart(tasks: list[Task], is_done: Callable[[Task], bool]) -> tuple[list[Task], list[Task]]:
    """Return the tasks that are left to do, and those that are done, in their order."""
    new: list[Task] = []
    done: list[Task] = []
    for task in tasks:
        if is_done(task):
            done.append(task)
        else:
            new.append(task)
    return new, done


def warn_of_other_names(store: DocDB, tasks: list[Task]) -> None:
    """Warn if the results store has results of the same code, but none of those looked for."""
    code = json.loads(tasks[0].content)["analysis_code"]
    query = {f"{CODE}.url": code["url"], f"{CODE}.version": code.get("version")}
    number = store.count(query)
    if number:
        log.warning(
            "none of %s has a result, though the results store holds %s of this code and version:"
            " workers with another aind-data-schema give them other names",
            plural(len(tasks), "task"),
            plural(number, "result"),
        )


def name_twins(tasks: list[Task], strict: bool) -> None:
    """Name tasks whose results will have one name, and records that describe one location.

    Raise FailedRun for the former if nothing may go wrong: the second of them ends in an error,
    after its whole analysis.
    """
    by_result: defaultdict[str, list[str]] = defaultdict(list)
    first: dict[str, Asset] = {}  # by location; nearly all have one record
    records: defaultdict[str, dict[str, str]] = defaultdict(dict)  # of the others
    for task in tasks:
        if task.result:
            by_result[task.result].append(label_of(task))
            continue
        for asset in task.assets:
            other = first.setdefault(asset.location, asset)
            if other.record_id != asset.record_id:
                records[asset.location] |= {
                    other.record_id: other.label,
                    asset.record_id: asset.label,
                }
    twins = [labels for labels in by_result.values() if len(labels) > 1]
    for labels in twins:
        text = "%s have one result name, so that all but the first will fail: %s"
        log.warning(text, plural(len(labels), "task"), first_of(labels))
    for location, labels_by_id in records.items():
        labels = [*labels_by_id.values()]
        number = plural(len(labels), "record")
        log.warning("%s describe %s: %s", number, location, first_of(labels))
    if twins and strict:
        raise FailedRun(f"--strict 1: {len(twins)} result names stand for several tasks")


def label_of(task: Task) -> str:
    """Return what the log calls a task."""
    parts = [first_of(task.names), first_of(task.files or [])]
    if task.parameters:
        parts.append(shorten(compact(task.parameters)))
    if task.result:
        parts.append(f"its result is {task.result}")
    return ", ".join(filter(None, parts))
