"""Tasks: what one says, its name and JSON, and how many are shared out.

What a task says is checked against the model with which consumers read it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from heapq import heapreplace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from dispatch.assets.assets import Asset
from dispatch.given.values import Record, compact, rank
from dispatch.tasks.work import id_of_work
from dispatch.terminal.messages import log, plural

if TYPE_CHECKING:
    from aind_data_schema.core.processing import DataProcess
    from pydantic import BaseModel

T = TypeVar("T")

NOT_KNOWN: Record = {}  # what the record of an asset said, once it is in a task
QUERY_LENGTH = 8_000  # the longest query that is copied into every task, in characters


@dataclass(slots=True, eq=False)
class Task:
    """A unit of work, which becomes one JSON file; what the last three hold is made from it."""

    assets: list[Asset]
    files: list[str] | None  # URLs; None: none were looked for
    size: int | None  # bytes of its files; None where they are not known
    parameters: Record | None
    query: str | None  # that chose its assets
    id: str = ""
    content: bytes = field(default=b"", repr=False)
    result: str | None = None  # the name that its result will have in the results store
    place: int = 0  # among all tasks, in the order in which they were made

    @property
    def names(self) -> list[str]:
        """The names of its assets."""
        return [asset.name for asset in self.assets]

    def to_record(self) -> Record:
        """Return what its file says. All lists hold the same asset at the same position."""
        record: Record = {"s3_location": [], "asset_id": [], "asset_name": []}
        record["docdb_record_id"] = []
        for asset in self.assets:
            record["s3_location"].append(asset.location)
            record["asset_id"].append(asset.id)
            record["asset_name"].append(asset.name)
            record["docdb_record_id"].append(asset.record_id)
        record["file_location"] = self.files
        if self.parameters is not None:
            record["distributed_parameters"] = self.parameters
        shared = self.shared_group()
        if shared:
            record["group_metadata"] = shared
        if self.query:
            record["query"] = self.query
        return record

    def shared_group(self) -> Record:
        """Return the values of the --group_by fields in which all of its assets agree."""
        shared: Record = {}
        first, *others = self.assets
        for name, value in first.group.items():
            if all(rank(other.group[name]) == rank(value) for other in others):
                shared[name] = value
        return shared


def read_task(content: bytes) -> Task:
    """Return the task that a JSON file says, named by its work; raise ValueError if it says none.

    Of its code it keeps what the JSON says. What its assets' records said is not known.
    """
    try:
        record = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(record, dict) or not says_task(record):
        raise ValueError("it is not the JSON of a task")
    locations, names = record["s3_location"], record["asset_name"]
    record_ids = record["docdb_record_id"]
    ids = record.get("asset_id") or [""] * len(locations)
    group = record.get("group_metadata") or {}
    assets = []
    for location, asset_id, name, record_id in zip(locations, ids, names, record_ids, strict=True):
        assets.append(Asset(location, asset_id, name, record_id, NOT_KNOWN, group))
    query = record.get("query")
    return Task(
        assets,
        record.get("file_location"),
        None,
        record.get("distributed_parameters"),
        query and sys.intern(query),  # as a rule, all tasks have the same
        id_of_work(record),
        content,
    )


def says_task(record: Record) -> bool:
    """Return whether an object has the parts of a task, each of its kind."""
    lists: list[Any] = []
    for name in ("s3_location", "asset_name", "docdb_record_id"):
        lists.append(record.get(name))
    if record.get("asset_id") is not None:
        lists.append(record["asset_id"])
    if not all(map(is_list_of_strings, lists)) or len(set(map(len, lists))) != 1 or not lists[0]:
        return False
    files = record.get("file_location")
    if not (files is None or is_list_of_strings(files)):
        return False
    for name in ("distributed_parameters", "group_metadata", "analysis_code"):
        if not isinstance(record.get(name), dict | None):
            return False
    return isinstance(record.get("query"), str | None)


def is_list_of_strings(value: Any) -> bool:
    """Return whether a value is a list of strings alone."""
    return isinstance(value, list) and set(map(type, value)) <= {str}


def query_to_copy(query: Record | None) -> str | None:
    """Return the filter as every task tells it; None if there is none, or it is too long."""
    if query is None:
        return None
    string = compact(query)
    if len(string) > QUERY_LENGTH:
        log.warning(
            "the query is left out of the tasks: it has %s", plural(len(string), "character")
        )
        return None
    return string


def size_of(part: list[str], sizes: dict[str, int | None]) -> int | None:
    """Return the bytes of some files; None where one of them is not known."""
    total = 0
    for url in part:
        size = sizes[url]
        if size is None:
            return None
        total += size
    return total


def render_tasks(
    tasks: Iterable[Task], process: DataProcess | None = None, fixed: Record | None = None
) -> list[Task]:
    """Return the tasks with id and JSON, equal ones once, and what runs them, if that is known.

    They are checked against the model that consumers read them with.
    """
    from pydantic_core import to_json

    if process:
        from analysis_pipeline_utils.metadata import processing_prefix, update_analysis_process

    validate = task_model().model_validate
    rendered: dict[str, Task] = {}
    repeated = 0
    for task in tasks:
        record = task.to_record()
        model = validate(record)
        if process:
            code = update_analysis_process(process, model, **(fixed or {})).code
            task.result = processing_prefix(code)
            record["analysis_code"] = as_all_workers_read(code.model_dump())
        # NaN in a record would be no JSON
        task.content = to_json(record, indent=4, inf_nan_mode="null") + b"\n"
        task.id = id_of_work(record)
        task.place = len(rendered)
        repeated += task.id in rendered
        rendered.setdefault(task.id, task)
    if repeated:
        log.info("%s not repeated, equal to another one", plural(repeated, "task"))
    return list(rendered.values())


def as_all_workers_read(code: Record) -> Record:
    """Return what a code says without what only some of the workers know.

    With aind-data-schema up to 2.7.1, they refuse any field that is new to them: one that is null,
    and the name of a data asset. A later one makes that from the URL, here as in the worker.
    """
    from aind_data_schema.components.identifiers import DataAsset

    told: Record = without_nulls(code)
    for data in told.get("input_data", []):
        for asset in data.get("assets", [data]):  # of data that are combined, or one alone
            name = asset.get("name")
            if name and asset.get("url") and name == DataAsset(url=asset["url"]).name:
                del asset["name"]
    return told


def without_nulls(value: Any) -> Any:
    """Return what a code says without what it says nothing of; its parameters stay as they are."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, part in value.items():
        if name == "parameters":
            kept[name] = part
        elif part is not None:
            kept[name] = without_nulls(part)
    return kept


@cache
def task_model() -> type[BaseModel]:
    """Return the model of a task; its package takes a moment to import."""
    from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel

    class DispatchModel(AnalysisDispatchModel):
        asset_id: list[str]  # which consumers of the model's first generation need

    return DispatchModel


# -------------------------------------------------------------------------------------- sharing out


MOST_WORKERS = 50  # where nothing says how many
MANY_WORKERS = 2_000  # twice what an array of Slurm takes, a fifth of what it holds, by default


def number_of_workers(tasks: int, most: int | None, each: int | None, *, says_code: bool) -> int:
    """Return how many workers share so many tasks: `most` at most, with `each` at least.

    Where neither is given, a task that says its code has a folder of its own: the library that
    reads it uploads all of the folder's results after each task.
    """
    if most and each:
        return min(most, max(1, tasks // each))
    if each:
        return -(-tasks // each)
    if not most:
        most = tasks if says_code else MOST_WORKERS
    return min(most, tasks)


def hint_on_many(workers: int, *, says_code: bool) -> None:
    """Say how to have fewer worker folders, if there are more than most engines like."""
    if workers < MANY_WORKERS:
        return
    way = "--max_jobs 1000 makes fewer, with several tasks in each"
    if says_code:  # the library that reads them wants each in a folder of its own
        way = (
            "--max_tasks 1000 dispatches some of the tasks, and --skip_dispatched later the others"
        )
    log.info("%s are many for an engine and a file system: %s", plural(workers, "folder"), way)


def deal_as_before(tasks: Sequence[Task], workers: Mapping[str, int]) -> list[list[Task]]:
    """Return the tasks as a plan has dealt them, which has given each its worker, by its id.

    Workers of which all tasks are left out leave no gap.
    """
    dealt = []
    for _, share in groupby(tasks, lambda task: workers[task.id]):
        dealt.append(list(share))
    return dealt


def deal_in_lots(tasks: Sequence[T], each: int) -> list[list[T]]:
    """Return the tasks in lots of so many, the last one with what remains."""
    lots = []
    for start in range(0, len(tasks), each):
        lots.append(list(tasks[start : start + each]))
    return lots


def deal_in_order(tasks: Sequence[T], workers: int) -> list[list[T]]:
    """Return the tasks in so many contiguous runs, whose lengths differ by one at most."""
    ends = [len(tasks) * number // workers for number in range(workers + 1)]
    runs = []
    for start, end in pairwise(ends):
        runs.append(list(tasks[start:end]))
    return runs


def deal_by_size(tasks: Sequence[Task], workers: int) -> list[list[Task]]:
    """Return the tasks in so many shares, each of the largest first given to the least loaded.

    No worker gets more than 4/3 of what the heaviest one has in the best of all shares (Graham,
    Bounds on multiprocessing timing anomalies, 1969). Within a share, tasks keep their order.
    """
    sizes = [task.size or 0 for task in tasks]
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [(0, 0, worker) for worker in range(workers)]  # bytes, tasks: empty ones spread, too
    for number in sorted(range(len(tasks)), key=sizes.__getitem__, reverse=True):
        size, held, worker = loads[0]
        heapreplace(loads, (size + sizes[number], held + 1, worker))
        shares[worker].append(number)
    dealt = []
    for share in shares:
        dealt.append([tasks[number] for number in sorted(share)])
    return dealt
