"""What only some dispatches need, a section for each; run_capsule.py imports it where a run does.

plan       what a dry run writes: a table for programs, a page for people, a few lines to read
CSV        the assets whose ids are listed, in place of a query
snapshot   a file of records, in place of the database
large      how an asset of many pages is split, so that its parts are listed side by side
latest     which assets --filter_latest leaves out
size       how tasks are shared out by the size of their files
code       what Code Ocean, or a file, says of the code that will run; what is processed already
hints      what nothing matches, and what is near to it; what to write in place of a slip
"""

from __future__ import annotations

import ast
import codecs
import csv
import difflib
import glob
import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tokenize
import warnings
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from heapq import heapreplace
from itertools import chain, combinations, islice, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from run_capsule import (
    COMMITTED,
    DEPTH,
    ID_FIELDS,
    IDS_PER_QUERY,
    MISSING,
    NAMES_IN_LOG,
    PIPELINE,
    PLAN_FILES,
    QUERY_FLAGS,
    RESULTS_STORE,
    SECRETS,
    Asset,
    BadInput,
    Database,
    Entry,
    FailedRun,
    Flag,
    Listing,
    Part,
    Plan,
    Record,
    Settings,
    Skip,
    Task,
    as_list,
    ask_patiently,
    begin,
    code_ocean_ids,
    compact,
    excerpt,
    field_list,
    file_size,
    find_input,
    first_of,
    is_deeper,
    is_file,
    is_null,
    is_worker,
    log,
    log_first,
    name_list,
    name_of,
    one_line,
    open_docdb,
    pasteable,
    plural,
    rank,
    read_file,
    read_object,
    shorten,
    staged,
    switch,
    unique_keys,
    value_at,
    values_in_fields,
)

if TYPE_CHECKING:
    from aind_data_schema.components.identifiers import Code
    from aind_data_schema.core.processing import DataProcess

T = TypeVar("T")

# ------------------------------------------------------------------------------------------ plan


def show_plan(plan: Plan, settings: Settings) -> None:
    """Write the plan into the output folder, and print its first tasks."""
    output = settings.output_directory
    with staged(output, overwrite=True) as staging:
        write(plan, settings, staging)
        COMMITTED.set()
        for name in PLAN_FILES:
            (staging / name).replace(output / name)
    table = first_tasks(plan)
    if settings.query is not None:
        table = f"filter: {pasteable(settings.query)}\n{table}"
    try:
        print(table, flush=True)
    except OSError:  # a pipe that is closed, a disk that is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write(plan: Plan, settings: Settings, folder: Path) -> None:
    """Write the plan as a table, dispatch_plan.csv, and as a page, dispatch_plan.html."""
    rows = list(plan_rows(plan))
    with open(folder / "dispatch_plan.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    # a lone surrogate, which JSON can spell, is no UTF-8
    page = render_plan(plan, settings).encode("utf-8", "backslashreplace")
    (folder / "dispatch_plan.html").write_bytes(page)


# ----------------------------------------------------------------------------------------- table


def plan_rows(plan: Plan) -> Iterator[Record]:
    """Yield the rows of the CSV: the tasks of each worker, then those that have no worker."""
    for worker, task in numbered_tasks(plan):
        yield {"worker": worker, **task_cells(task), "processed": 0}
    for task in plan.processed:
        yield {"worker": "", **task_cells(task), "processed": 1}


def numbered_tasks(plan: Plan) -> Iterator[tuple[int, Task]]:
    """Yield each task, and before it the number of its worker."""
    for worker, tasks in enumerate(plan.workers):
        for task in tasks:
            yield worker, task


def task_cells(task: Task) -> Record:
    """Return what the CSV says of a task; what is not known is blank."""
    return {
        "task_id": task.id,
        "asset_names": cell([asset.name for asset in task.assets]),
        "asset_ids": cell([asset.id for asset in task.assets]),
        "record_ids": cell([asset.record_id for asset in task.assets]),
        "number_of_files": "" if task.files is None else len(task.files),
        "bytes": "" if task.files is None else task.size,
        "first_file": cell(task.files[:1]) if task.files else "",
        "parameters": "" if task.parameters is None else json.dumps(task.parameters),
        "result": task.result or "",
    }


def cell(strings: list[str]) -> str:
    """Return strings as a cell of the CSV: a single plain one as it is, all else as a JSON list.

    A cell is a JSON list if and only if it begins with a bracket. Line breaks and the like are
    escapes there, so that every reader of CSV gets the same strings back.
    """
    if len(strings) == 1 and strings[0].isprintable() and not strings[0].startswith("["):
        return strings[0]
    return json.dumps(strings)


# ------------------------------------------------------------------------------------------ page

PLAN_PAGE = Path(__file__).with_name("dispatch_plan.html.j2")
PLAN_SCRIPT = Path(__file__).with_name("dispatch_plan.js")
TASKS_IN_PAGE = 50_000  # so that it opens at once; the CSV holds all
NAMES_IN_PAGE = 10_000  # of what is skipped for the same reason, or processed already


def render_plan(plan: Plan, settings: Settings) -> str:
    """Return the page; the same plan gives the same page."""
    from jinja2 import Template

    template = Template(
        PLAN_PAGE.read_text(encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = PLAN_SCRIPT.read_text(encoding="utf-8")
    query = settings.query
    page: str = template.render(
        plan=plan,
        assets=assets_of(plan.tasks),
        query=None if query is None else json.dumps(query, indent=2, ensure_ascii=False),
        command=command_of(settings.argv, "dry_run"),
        warning=warning_of(settings),
        names_records=names_records(plan, settings),
        data=json.dumps(page_data(plan, settings), separators=(",", ":")).replace("<", "\\u003c"),
        script=script,
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        names_in_page=NAMES_IN_PAGE,
        tasks_in_page=TASKS_IN_PAGE,
        dumps=partial(json.dumps, ensure_ascii=False),
    )
    return page


def assets_of(tasks: Sequence[Task]) -> list[Asset]:
    """Return the assets that some tasks hold, each once, in the order of the tasks."""
    assets: dict[str, Asset] = {}
    for task in tasks:
        for asset in task.assets:
            assets.setdefault(asset.record_id, asset)
    return list(assets.values())


def command_of(argv: Sequence[str], *left_out: str) -> str:
    """Return the command that these flags make, without some of them, wherever it is pasted."""
    words = list(argv)
    for name in left_out:
        while f"--{name}" in words:
            start = words.index(f"--{name}")
            del words[start : start + 2]
        words = [word for word in words if not word.startswith(f"--{name}=")]
    environment = []
    for name in (*RESULTS_STORE, "DOCDB_VERSION", "CODEOCEAN_DOMAIN", *PIPELINE):
        if os.environ.get(name) and name not in SECRETS:
            environment.append(f"{name}={os.environ[name]}")
    env = ["env", *environment] if environment else []
    program = [sys.executable, str(Path(__file__).with_name("run_capsule.py"))]
    return f"cd {shlex.quote(os.getcwd())} && {shlex.join([*env, *program, *words])}"


def warning_of(settings: Settings) -> str:
    """Return what the dispatch would do to worker folders that are there, in words."""
    output = settings.output_directory
    workers = sum(map(is_worker, output.glob("*")))
    if not workers:
        return ""
    there = f"{output} holds {plural(workers, 'worker folder')} of an earlier run"
    if settings.overwrite:
        return f"{there}; this command replaces what is there."
    return f"{there}; add --overwrite 1 to replace what is there."


def names_records(plan: Plan, settings: Settings) -> bool:
    """Return whether only a filter that names the records gives exactly the assets chosen.

    Else an older asset could be the latest of those chosen, or a task that is left out be one of
    the first.
    """
    return bool(settings.query is None or settings.filter_latest or plan.left_out)


CHOOSING_FLAGS = (*QUERY_FLAGS, "docdb_query", "use_data_asset_csv")


def page_data(plan: Plan, settings: Settings) -> Record:
    """Return what the script of the page draws, counts and filters, as columns.

    Where the page cannot hold all tasks, it knows the assets of those that it holds.
    """
    numbered = list(islice(numbered_tasks(plan), TASKS_IN_PAGE))
    tasks = [task for _, task in numbered]
    assets = assets_of(tasks)
    places = {asset.record_id: place for place, asset in enumerate(assets)}
    record_ids = [asset.record_id for asset in assets]
    return {
        "query": None if settings.query is None else compact(settings.query),
        "command_without_query": command_of(settings.argv, "dry_run", *CHOOSING_FLAGS),
        "choices": [
            {"name": name, "field": path, **coded(values_to_choose(name, path, assets))}
            for name, path in CHOOSE_BY[settings.docdb_version].items()
        ],
        "assets": {
            "name": [asset.name for asset in assets],
            "subject": coded([subject_of(asset) for asset in assets]),
            "day": coded([session_date(asset) for asset in assets]),
            "record_id": record_ids if names_records(plan, settings) else None,
        },
        "tasks": {
            "worker": [worker for worker, _ in numbered],
            "assets": [[places[asset.record_id] for asset in task.assets] for task in tasks],
            "first": [first_file(task) for task in tasks],
            "files": [len(task.files or ()) for task in tasks],
            "size": [task.size for task in tasks],
            "parameters": coded([parameters_of(task) for task in tasks]),
            "id": [task.id for task in tasks],
        },
        "all_tasks": len(plan.tasks),
    }


def coded(values: Sequence[Any]) -> Record:
    """Return a column as its different values, and which of them each row has."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"values": list(places), "rows": [places[value] for value in values]}


def values_to_choose(name: str, path: str, assets: list[Asset]) -> list[tuple[str, ...] | None]:
    """Return what the page offers to choose by, of each asset: None where there is nothing.

    Days are chosen, and compare with a whole time as with its day. Of other fields, values are
    chosen, and those that are not valid are left out.
    """
    column: list[tuple[str, ...] | None] = []
    for asset in assets:
        strings = strings_at(asset.record, path)
        if not strings:
            column.append(None)
        elif name == "date":
            column.append(tuple(string[:10] for string in strings))
        else:
            column.append(tuple(filter(is_valid, strings)))
    return column


def strings_at(record: Record, path: str) -> list[str]:
    """Return the strings that a filter compares with at a path of a record, each once.

    These are those that MongoDB reaches there: through the objects of a list on the path, and the
    elements of a list at its end, but no lists in lists.
    """
    values: list[Any] = [record]
    for name in path.split("."):
        inner = []
        for item in chain.from_iterable(map(as_list, values)):
            if isinstance(item, dict) and name in item:
                inner.append(item[name])
        values = inner
    items = chain.from_iterable(map(as_list, values))
    return list(dict.fromkeys(item for item in items if isinstance(item, str)))


def is_valid(string: str) -> bool:
    """Return whether a string can be sent; a lone surrogate, which JSON can spell, cannot."""
    try:
        string.encode()
    except UnicodeError:
        return False
    return True


SUBJECT_FIELD = "subject.subject_id"
DATE_FIELDS = ("session.session_start_time", "acquisition.acquisition_start_time")  # v1, v2
CHOOSE_BY = {  # what the page of a dry run offers to choose by, by the version of the database
    "v1": {
        "project": "data_description.project_name",
        "subject": SUBJECT_FIELD,
        "modality": "data_description.modality.abbreviation",
        "level": "data_description.data_level",
        "date": DATE_FIELDS[0],
    },
    "v2": {
        "project": "data_description.project_name",
        "subject": SUBJECT_FIELD,
        "modality": "data_description.modalities.abbreviation",
        "level": "data_description.data_level",
        "date": DATE_FIELDS[1],
    },
}


def fields_shown(version: str) -> set[str]:
    """Return the fields of a record that the page of a dry run needs."""
    return {SUBJECT_FIELD, *DATE_FIELDS, *CHOOSE_BY[version].values()}


def subject_of(asset: Asset) -> str | None:
    """Return the subject that an asset is of, None if its record does not tell."""
    subject = value_at(asset.record, SUBJECT_FIELD)
    return subject if isinstance(subject, str) and subject else None


def session_date(asset: Asset) -> str | None:
    """Return the day of an asset's session, by its record, else by its name; YYYY-MM-DD."""
    times = [value_at(asset.record, path) for path in DATE_FIELDS]
    for string in (*times, asset.name):
        if isinstance(string, str):
            match = re.search(r"(?:^|_)(\d{4}-\d\d-\d\d)", string)
            if match and instant(match[1]):
                return match[1]
    return None


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


# -------------------------------------------------------------------------------------- terminal

TASKS_ON_TERMINAL = 20


def first_tasks(plan: Plan) -> str:
    """Return the first tasks as a table for a terminal, and the counts."""
    lines = terminal_table(plan)
    tasks = plan.tasks
    if len(tasks) > TASKS_ON_TERMINAL:
        lines.append(f"... and {len(tasks) - TASKS_ON_TERMINAL:,} more")
    files = sum(len(task.files or ()) for task in tasks)
    size = file_size(sum(task.size for task in tasks))
    processed = f" processed already {len(plan.processed):,}," if plan.processed else ""
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
        names = and_more([asset.name for asset in task.assets])
        files = and_more([url.rpartition("/")[2] for url in task.files or ()])
        size = file_size(task.size) if task.files else ""
        parameters = one_line(json.dumps(task.parameters)) if task.parameters else ""
        rows.append((str(worker), names, files, size, parameters))
    widths = [min(60, max(map(len, column))) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [string.ljust(width) for string, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def and_more(names: list[str]) -> str:
    """Return the first name, and how many more there are."""
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return one_line(names[0]) + more


# ------------------------------------------------------------------------------------------- CSV


def read_asset_ids(folder: Path) -> list[str]:
    """Return the ids in the CSV of an input folder, each once, in their order; raise BadInput.

    UUIDs are in small letters.
    """
    path = find_input("data_asset_input.csv", folder)
    if not path:
        raise BadInput(f"there is no data_asset_input.csv in {folder}, nor one folder down")
    rows = read_rows(path, "asset_id") or [(0, [])]
    header = rows.pop(0)[1]
    columns = [name.casefold() for name in header]
    if columns.count("asset_id") != 1:
        raise BadInput(f"{path} must have one column asset_id; its columns are {header}")
    column = columns.index("asset_id")
    ids: dict[str, None] = {}
    for line, row in rows:
        if any(row[len(columns) :]):
            more = f"has more values than there are columns: {excerpt(str(row))}"
            raise BadInput(f"{path}, line {line} {more}")
        asset_id = row[column] if len(row) > column else ""
        if re.fullmatch("(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", asset_id):
            asset_id = asset_id.lower()
        if asset_id:
            ids[asset_id] = None
    if not ids:
        raise BadInput(f"{path} has no id in its column asset_id")
    log.info("%s: %s", path, plural(len(ids), "asset id"))
    return list(ids)


def read_rows(path: Path, column: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a table that are not blank, and the lines they end on; raise BadInput.

    Excel writes commas, semicolons or tabs, by the country and the format, and UTF-8 with a mark,
    UTF-16, or the country's own letters. The separator is the one that makes this column.
    """
    try:
        content = path.read_bytes()
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        string = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        string = content.decode("latin-1")  # an id in which that is wrong is named as unknown
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    csv.field_size_limit(len(string) + 1)
    header = next(filter(str.strip, io.StringIO(string, newline=None)), "")
    for separator in ",;\t,":  # if none fits, a comma
        names = next(csv.reader([header], delimiter=separator), [])
        if column in [name.strip().casefold() for name in names]:
            break
    lines = io.StringIO(string, newline=None)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        rows = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except csv.Error as error:
        raise BadInput(f"cannot read {path}, line {reader.line_num}: {error}") from None
    return [(line, row) for line, row in rows if any(row)]


def find_by_asset_id(
    database: Database, ids: list[str], fields: Sequence[str]
) -> Iterator[list[Record]]:
    """Yield the records with any of these Code Ocean ids, in pages, each record once."""
    seen = set()
    for start in range(0, len(ids), database.ids_at_once):
        wanted = {"$in": ids[start : start + database.ids_at_once]}
        query = {"$or": [{f"{links}.Code Ocean": wanted} for links in ID_FIELDS]}
        for page in database.find(query, fields):
            yield [record for record in page if repr(record.get("_id")) not in seen]
            seen |= {repr(record.get("_id")) for record in page}


def pick_by_id(ids: list[str], entries: list[Entry]) -> list[Entry]:
    """Return each entry with the first id that names it, by the order of ids; then unknown ids.

    A record is one asset, however many of its ids are asked for.
    """
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        for asset_id in dict.fromkeys(code_ocean_ids(entry.record)):
            numbers[asset_id].append(number)
    chosen: dict[int, Entry] = {}
    for asset_id in ids:
        for number in numbers.get(asset_id, ()):
            entry = entries[number]
            if number in chosen:
                name = name_of(entry.record)
                log.warning("%s names an asset that another id has chosen: %s", asset_id, name)
                continue
            chosen[number] = replace(entry, id=asset_id) if isinstance(entry, Asset) else entry
    unknown = [Skip("no record has this id", id_) for id_ in ids if id_ not in numbers]
    return [*chosen.values(), *unknown]


# -------------------------------------------------------------------------------------- snapshot


@dataclass(frozen=True)
class Snapshot:
    """Records of a file, which answer as the live database would."""

    records: list[Record]
    folder: Path  # of the file; locations may be relative to it
    ids_at_once: int = sys.maxsize

    def url_of(self, location: str) -> str:
        """Return a location as a URL, paths relative to the folder as file:// URLs."""
        if location.startswith("file://"):
            path = str(local_path(location.replace("://localhost/", ":///", 1)))
        elif "://" in location or location.startswith("/") or not location.strip():
            return location
        else:
            path = os.path.join(self.folder, location)
        return Path(os.path.abspath(path)).as_uri() if path.startswith("/") else location

    def count(self, query: Record) -> int:
        """Return how many records match."""
        return sum(map(predicate(query), self.records))

    def find(self, query: Record, fields: Sequence[str]) -> Iterator[list[Record]]:
        """Yield the fields of every record that matches, all on one page."""
        paths = [name.split(".") for name in fields]
        yield [project(record, paths) for record in filter(predicate(query), self.records)]


def open_snapshot(path: Path) -> Snapshot:
    """Return the records of a file: a JSON array, JSON lines, or one record; raise BadInput."""
    string, decoder, blank = read_file(path), json.JSONDecoder(), re.compile(r"\s*")
    records: list[Any] = []
    position = 0
    try:
        while (position := blank.match(string, position).end()) < len(string):  # type: ignore[union-attr]
            value, position = decoder.raw_decode(string, position)
            records += as_list(value)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is neither a JSON array nor JSON lines: {error}") from None
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or not isinstance(record.get("_id"), str):
            raise BadInput(f"{path}: record {number} is not a JSON object with a string as its _id")
        if is_deeper(record):
            raise BadInput(f"{path}: record {number} is nested more than {DEPTH} deep")
    for record_id, times in Counter(record["_id"] for record in records).items():
        if times > 1:
            raise BadInput(f"{path}: {times} records have the _id {record_id!r}")
    log.info("asking the snapshot %s: %s", path, plural(len(records), "record"))
    return Snapshot(records, path.absolute().parent)


def project(value: Any, paths: list[list[str]]) -> Any:
    """Return what lies at these paths as MongoDB does: of a list, what the objects in it have."""
    if isinstance(value, list):
        return [project(item, paths) for item in value if isinstance(item, dict | list)]
    kept = {}
    for name in {path[0]: None for path in paths if path[0] in value}:
        below = [path[1:] for path in paths if path[0] == name]
        if [] in below:
            kept[name] = value[name]
        elif isinstance(value[name], dict | list):
            kept[name] = project(value[name], below)
    return kept


def predicate(query: Record) -> Callable[[Record], bool]:
    """Return what tells whether a record matches a filter, as MongoDB would; raise BadInput."""
    from mgqpy import Query

    try:
        filter_ = translate(json.loads(compact(query)))  # as it would be sent: tuples are lists
        return Query(filter_).test  # type: ignore[no-any-return]
    except ValueError as error:
        raise BadInput(
            f"the query cannot be asked of a snapshot: {error}; ask the live database, without"
            " --docdb_snapshot"
        ) from None


COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin")
LEAST = {"string": "", "object": {}, "array": [], "bool": False}  # values of the types of JSON


def translate(value: Any, key: str = "$and") -> Any:
    """Return a filter, or what stands behind a key of it, in words that mean the same to mgqpy.

    Raise ValueError where there are none.
    """
    if isinstance(value, list):
        inner = key if key in ("$and", "$or", "$nor", "$all") else "$eq"
        return [translate(item, inner) for item in value]
    if not isinstance(value, dict):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} has more than 64 bits")
        return value
    is_expression = next(iter(value), "").startswith("$")
    if key in COMPARISONS or (not is_expression and (key == "$all" or not key.startswith("$"))):
        for name in value:
            if name.startswith("$"):  # an operator too deep, or extended JSON, such as $date
                raise ValueError(f"{name} is inside a value to compare with")
        return {name: translate(part, "$eq") for name, part in value.items()}
    query = {name: translate(part, name) for name, part in value.items()}
    if key in ("$and", "$or", "$nor"):
        query.pop("$comment", None)
    if query.get("$type") in (*LEAST,) and "$gte" not in query:
        query = {"$gte": LEAST[query.pop("$type")], **query}  # only one type is compared
    pattern, options = query.get("$regex"), query.get("$options", "")
    if isinstance(pattern, str) and isinstance(options, str):
        query |= {"$regex": python_regex(pattern, options), "$options": ""}
    return query


# The regular expressions that PCRE and Python read alike, their options apart: characters, groups,
# classes, repetition. Not \v, \B, \1, {,3}, x++, [[:alpha:]], (?>x), and the like.
REGEX = re.compile(
    r"""(?:\(\?([a-z]+)\))?
    ((?: [^\\\[({+] | (?<![*+?}])\+ | \\[AbdDsSwWfnrt -/:-@[-`{-~] | \{\d+(?:,\d*)?\}
    | \((?![?*]) | \(\?(?:[:=!]|<[=!]|P<[a-zA-Z_]\w*>)
    | \[(?!:.*:])\^?]?+(?:(?!--|&&|~~|\|\|)[^][\\] | \\[dDsSwWfnrt -/:-@[-`{-~])*]
    )*)""",
    re.VERBOSE | re.ASCII,
)


def python_regex(pattern: str, options: str) -> str:
    """Return a regular expression for Python that finds what MongoDB's finds; raise ValueError.

    There, words, digits and spaces are those of ASCII. Regardless of case, only letters of ASCII
    are taken; that PCRE counts U+017F as an s then, and U+212A as a k, is left aside.
    """
    parts = REGEX.fullmatch(pattern)
    flags = options.replace("u", "") + ((parts and parts[1]) or "")
    if not parts or set(flags) - {"i", "s"} or ("i" in flags and not pattern.isascii()):
        shown = f"$regex {excerpt(pattern)} with $options {options!r}"
        raise ValueError(f"{shown} may not mean the same to MongoDB and to Python")
    return f"(?a{flags}){parts[2]}"


def local_path(location: str) -> Path:
    """Return the path of a file:// URL."""
    return Path(unquote(location.removeprefix("file://"), errors="surrogateescape"))


def list_local(location: str, add_file: Callable[[str, int], str | None]) -> None:
    """Add what lies under a file:// URL, as if it were keys and sizes.

    `add_file` says of a folder, which ends in a slash, whether what lies in it does not matter.
    """

    def walk(folder: Path, base: str, above: frozenset[str]) -> None:
        real = os.path.realpath(folder)
        if real in above:  # a link that leads back up
            return
        for entry in os.scandir(folder):
            path, size = f"{base}{entry.name}", 0
            if entry.is_dir():
                if not add_file(f"{path}/", 0):
                    walk(Path(entry.path), f"{path}/", above | {real})
                continue
            with suppress(OSError):  # a link that leads nowhere
                size = entry.stat().st_size
            add_file(path, size)

    top = local_path(location)
    if top.is_dir():
        walk(top, "", frozenset())


# ----------------------------------------------------------------------------------------- large

KEYS_PER_FOLDER = 250  # on the average, for a request per folder to be worth while


async def split(listing: Listing, part: Part, keys: list[str]) -> list[Part] | None:
    """Add the files ahead of a page that need no listing; return the parts left to list.

    From the folder of the part down to the last of the page's keys, the subfolders ahead are
    asked for, level by level, and become parts; the last part goes on after the page. It ends,
    with None if that is at once, where a folder holds objects, or subfolders so small that a
    request for each would cost more than pages.
    """
    parts: list[Part] = []
    folder, last = part.folder, keys[-1]
    while True:
        inside = [key for key in keys if key.startswith(folder) and key != folder]
        below = [key[len(folder) :].partition("/") for key in inside]
        names = {name for name, _, _ in below}
        if len(below) < KEYS_PER_FOLDER * len(names) or not all(slash for _, slash, _ in below):
            break
        objects, subfolders = await list_level(listing, replace(part, folder=folder))
        for key, size in objects.items():
            if key > last:
                listing.add_file(part, key[part.top :], size)
        for subfolder in subfolders:
            if subfolder > last and not listing.add_file(part, subfolder[part.top :], 0):
                parts.append(replace(part, folder=subfolder, after=""))
        folder = next((path for path in subfolders if last.startswith(path)), "")
        if not folder or listing.add_file(part, folder[part.top :], 0):
            return parts
    if folder == part.folder:
        return None
    return [*parts, replace(part, folder=folder, after=last)]


async def list_level(listing: Listing, part: Part) -> tuple[dict[str, int], list[str]]:
    """Return the sizes of the objects that lie right in a folder, and its subfolders."""
    objects: dict[str, int] = {}
    subfolders: list[str] = []
    token = ""
    while True:
        page = await listing.fetch_page(part, delimiter="/", token=token)
        objects |= page.sizes
        subfolders += page.folders
        token = page.token
        if not token:
            return objects, subfolders


# ---------------------------------------------------------------------------------------- latest


def keep_latest(entries: list[Entry], settings: Settings) -> list[Entry]:
    """Return the entries, with a skip for each asset that --filter_latest leaves out.

    An asset stays if it is the latest one for any of the values that it has in --filter_by.
    """
    names = (*settings.filter_by, settings.filter_latest or "")
    rivals: defaultdict[Any, list[tuple[Any, str]]] = defaultdict(list)
    skips: dict[str, Entry] = {}  # by record id
    for asset in entries:
        if isinstance(asset, Skip):
            continue
        rows = values_in_fields(asset, names, settings, needed=len(settings.filter_by))
        if isinstance(rows, Skip):
            skips[asset.record_id] = rows
            continue
        reason = f"not the latest by {settings.filter_latest}"
        skips[asset.record_id] = Skip(reason, asset.label, asked=True)
        for *shared, value in rows:
            rivals[rank(shared)].append((value, asset.record_id))
    for candidates in rivals.values():
        skips.pop(latest(candidates), None)
    kept = []
    for entry in entries:
        kept.append(entry if isinstance(entry, Skip) else skips.get(entry.record_id, entry))
    return kept


def latest(candidates: list[tuple[Any, str]]) -> str:
    """Return the id that comes with the greatest value, of equal values the last id.

    Where all values are times, in the form of ISO 8601, they are compared as times, whatever zones
    they are in; else as the database compares values.
    """
    known = [pair for pair in candidates if not is_null(pair[0])] or candidates
    times = [instant(value) for value, _ in known]
    ranks = [rank(value) for value, _ in known] if None in times else times
    return max(zip(ranks, (record_id for _, record_id in known), strict=True))[1]


# ISO 8601 as programs write it: nanoseconds, 24:00:00 and leap seconds, small letters, spaces
TIME = re.compile(
    r"""(?P<date>\d{4}-\d\d-\d\d)
    ([Tt ](?P<hour>\d\d)(:?(?P<minute>\d\d)(:?(?P<second>\d\d)([.,](?P<fraction>\d+))?)?)?
    [ ]?([Zz]|(?P<sign>[+-])(?P<hours>\d\d)(:?(?P<minutes>\d\d))?)?)?""",
    re.ASCII | re.VERBOSE,
)


def instant(value: Any) -> tuple[datetime, str] | None:
    """Return the time that a string tells, in UTC if it names no zone; None if it tells none.

    It is the whole second, and the digits of its fraction, which may be more than a datetime holds.
    """
    parts = TIME.fullmatch(value) if isinstance(value, str) else None
    if not parts:
        return None
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    offset = timedelta(hours=int(parts["hours"] or 0), minutes=int(parts["minutes"] or 0))
    if hour * 3600 + minute * 60 + second > 86_400 or minute > 59 or second > 60:
        return None
    try:
        moment = datetime.fromisoformat(parts["date"])
        moment += timedelta(hours=hour, minutes=minute, seconds=second)
        utc = moment + offset if parts["sign"] == "-" else moment - offset
    except (ValueError, OverflowError):
        return None
    return utc, (parts["fraction"] or "").rstrip("0")


# ------------------------------------------------------------------------------------------ size


def deal_by_size(tasks: Sequence[Task], workers: int) -> list[list[Task]]:
    """Return the tasks in so many shares, each of the largest first given to the least loaded.

    No worker gets more than 4/3 of what the heaviest one has in the best of all shares (Graham,
    Bounds on multiprocessing timing anomalies, 1969). Within a share, tasks keep their order.
    """
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [(0, 0, worker) for worker in range(workers)]  # bytes, tasks: empty ones spread, too
    for number in sorted(range(len(tasks)), key=lambda number: -tasks[number].size):
        size, held, worker = loads[0]
        heapreplace(loads, (size + tasks[number].size, held + 1, worker))
        shares[worker].append(number)
    return [[tasks[number] for number in sorted(share)] for share in shares]


# ------------------------------------------------------------------------------------------ code

QUIET_GIT = {  # the library asks git for a commit; it must fail where it would ask a person
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1",  # bytes a second; with the next, a git that was given up ends
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


def begin_find_process(settings: Settings, fixed: Record) -> Future[DataProcess]:
    """Begin to look for what will run the tasks."""
    os.environ.update(QUIET_GIT)  # before there are threads that read it
    return begin(find_process, settings, fixed)


def find_process(settings: Settings, fixed: Record) -> DataProcess:
    """Return what will run the tasks; raise BadInput, FailedRun.

    The consumer's library, here and in the worker, adds a task and the fixed parameters to it to
    get the task's code.
    """
    from aind_data_schema.core.processing import DataProcess
    from analysis_pipeline_utils.metadata import get_codeocean_process_metadata

    warnings.filterwarnings("ignore", module="aind_data_schema")  # of names that MongoDB dislikes
    if isinstance(settings.analysis_code, Path):
        process = DataProcess.model_construct(code=read_code(settings.analysis_code), notes=None)
    else:
        domain = os.environ.get("CODEOCEAN_DOMAIN") or "codeocean.allenneuraldynamics.org"
        capsule = settings.analysis_capsule
        log.info("asking Code Ocean at %s for the capsule %s", domain, capsule)
        ask = partial(ask_code_ocean, get_codeocean_process_metadata, domain, capsule)
        process = ask_patiently(ask, f"Code Ocean at {domain}", settings.timeout)
    code = process.code
    names = " ".join(filter(None, (code.name, code.version or code.commit_hash, code.url)))
    log.info("every task says its code: %s, %s", names, plural(len(fixed), "fixed parameter"))
    if taken := fixed.keys() & {"process", "dispatch_inputs"}:
        names = first_of(sorted(taken))
        raise BadInput(f"fixed_parameters: the analysis library takes none called {names}")
    return process


def read_code(path: Path) -> Code:
    """Return the code that a file describes; raise BadInput."""
    from aind_data_schema.base import GenericModel
    from aind_data_schema.components.identifiers import Code
    from pydantic import ValidationError

    try:
        code = Code.model_validate(read_object(path))
    except ValidationError as error:
        first = error.errors()[0]
        fault = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        given = excerpt(str(first["input"]))
        raise BadInput(f"{path} is not a Code of aind-data-schema: {fault}, not {given}") from None
    if not code.version and not code.commit_hash:
        log.warning("%s has no version and no commit_hash, which tell results apart", path)
    code.parameters = code.parameters or GenericModel()  # which the library cannot do without
    return code


def ask_code_ocean(describe: Callable[..., DataProcess], domain: str, capsule: str) -> DataProcess:
    """Return what the consumer's library makes of a capsule of the running pipeline.

    Raise BadInput if no capsule, or several, are called so, HTTPError and ValueError as requests.
    """
    from codeocean import CodeOcean
    from codeocean.error import Error

    try:
        client = CodeOcean(f"https://{domain}", os.environ["CODEOCEAN_API_TOKEN"])
        computation = client.computations.get_computation(os.environ["CO_COMPUTATION_ID"])
        processes = computation.processes or []
        if capsule in [process.capsule_id for process in processes]:
            return describe(capsule_id=capsule)
        number = len([process for process in processes if capsule in process.name])
        if number != 1:
            fault = f"{number or 'no'} capsules of this pipeline are called {capsule!r}"
            names = ", ".join(f"{process.name} ({process.capsule_id})" for process in processes)
            raise BadInput(f"--analysis_capsule: {fault}; there are {names or 'none at all'}")
        return describe(capsule_name=capsule)
    except Error as error:
        raise error.http_err from None
    except FileNotFoundError as error:
        raise FailedRun(f"the capsule at Code Ocean has no version, and {error}") from None
    except subprocess.CalledProcessError as error:  # it repeats the address, with the token
        raise ValueError(f"git says {excerpt(error.stderr.strip(), 300)}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"an answer that is not as expected: {error!r}") from None


def set_apart_processed(tasks: list[Task], timeout: int) -> tuple[list[Task], list[Task]]:
    """Return the tasks that are left to do, and those with a result in the results store."""
    database, collection = (os.environ[name].strip() for name in RESULTS_STORE[1:])
    name = f"the results store {database}/{collection}"
    # v1, whatever the metadata's version is: there the consumer's library looks, and writes
    store = open_docdb("v1", timeout, name, database=database, collection=collection)
    names = [task.result for task in tasks if task.result]
    waiting = [names[n : n + IDS_PER_QUERY] for n in range(0, len(names), IDS_PER_QUERY)]
    results = set()
    while waiting:
        asked = waiting.pop()
        match = {"$match": {"name": {"$in": asked}}}
        records = store.aggregate([match, {"$project": {"_id": 0, "name": 1}}])
        if records is not None:
            results |= {str(record.get("name")) for record in records}
        elif len(asked) > 1:  # too much for one answer
            waiting += [asked[: len(asked) // 2], asked[len(asked) // 2 :]]
        else:
            raise FailedRun(f"the records of the results store called {asked[0]} are too large")
    processed = [task for task in tasks if task.result in results]
    log_first(logging.INFO, "processed already", [label_of(task) for task in processed])
    return [task for task in tasks if task.result not in results], processed


def label_of(task: Task) -> str:
    """Return what the log calls a task."""
    names = [first_of([asset.name for asset in task.assets]), first_of(task.files or [])]
    if task.parameters:
        names.append(shorten(compact(task.parameters)))
    return ", ".join(filter(None, [*names, f"its result is {task.result}"]))


# ----------------------------------------------------------------------------------------- hints


def explain(database: Database, query: Record) -> None:
    """Log why a filter matches nothing: what each condition matches alone, what is near it."""
    helpfully(log_matches, database, query)


HINT_SECONDS = 10  # for a question that only helps to understand


def helpfully(call: Callable[..., T], *values: Any) -> T | None:
    """Return what a call returns that only helps to understand; None if it fails or takes long."""
    try:
        return begin(call, *values).result(HINT_SECONDS)
    except Exception as error:
        log.debug("no hint: %s", error)
        return None


def log_matches(database: Database, query: Record) -> None:
    """Log what each condition of a filter matches alone, and what is near one that has nothing."""
    conditions = list(islice(conditions_of(query), NAMES_IN_LOG))
    for condition in conditions:
        count = database.count(condition)
        if count is None:
            continue
        if len(conditions) > 1:
            shown = shorten(pasteable(condition))
            log.warning("alone, %s matches %s", shown, plural(count, "record"))
        [(field, wanted)] = condition.items()
        if not count and not field.startswith("$"):
            for value in wanted_values(wanted)[:3] or [MISSING]:
                log_near_value(database, field, value)


def conditions_of(query: Record) -> Iterator[Record]:
    """Yield the conditions of a filter one by one, also those of $and and the branches of $or."""
    for name, value in query.items():
        if name in ("$and", "$or") and isinstance(value, list):
            for part in value:
                if isinstance(part, dict):
                    yield from conditions_of(part)
        else:
            yield {name: value}


def wanted_values(wanted: Any) -> list[Any]:
    """Return the strings and numbers that a condition asks for."""
    values = [wanted]
    if isinstance(wanted, dict):
        members = wanted.get("$in")
        values = members if isinstance(members, list) else [wanted.get("$eq")]
    return [value for value in values if isinstance(value, str | int | float)]


def log_near_values(database: Database, field: str, values: list[Any]) -> None:
    """Log what is near the first values that no record has."""
    for value in values[:3]:
        helpfully(log_near_value, database, field, value)


def log_near_value(database: Database, field: str, value: Any) -> None:
    """Log which values, or fields, are near to what no record has, if that helps."""
    hint = near_value(database, field, value)
    if hint:
        log.warning("%s", hint)


def near_value(database: Database, field: str, wanted: Any) -> str:
    """Return which values, or fields, are near to what no record has; "" if nothing helps."""
    counts: dict[str | int | float, int] = {}  # of records, by what they have there
    for value, count in values_of(database, field):
        if isinstance(value, str | int | float):
            counts[value] = count
    if not counts and not database.count({field: {"$exists": True}}):
        return f"no record has the field {field}{near_fields(database, field)}"
    if wanted is MISSING or not counts or wanted in counts:
        return ""
    for value, count in counts.items():  # a number for a string, or the other way round
        if type(value) is not type(wanted) and str(value) == str(wanted):
            kind = "strings" if isinstance(value, str) else "numbers"
            matches = f"{compact(value)} matches {plural(count, 'record')}"
            return f"the values of {field} are {kind}: {matches}"
    values_by_spelling = {str(value).lower(): value for value in reversed(counts)}
    spelling = str(wanted).lower()
    near = difflib.get_close_matches(spelling, values_by_spelling, 3)
    near = near or [longer for longer in values_by_spelling if spelling in longer][:3]
    values = [values_by_spelling[name] for name in near]
    shown = [f"{compact(value)} ({counts[value]})" for value in values]
    return f"no record has {field} {compact(wanted)}; {nearest(shown)}"


VALUES_IN_HINTS = 10_000  # of a field, among which near ones are looked for


def values_of(database: Database, field: str) -> Iterator[tuple[Any, int]]:
    """Yield the values of a field and how often each is there, the most frequent ones first."""
    if isinstance(database, Snapshot):
        counts: Counter[Any] = Counter()
        for record in database.records:
            counts.update(plain_values(record, field))
        yield from counts.most_common(VALUES_IN_HINTS)
        return
    stages: list[Record] = [
        {"$project": {"_id": 0, "value": f"${field}"}},
        {"$unwind": "$value"},
        {"$group": {"_id": "$value", "records": {"$sum": 1}}},
        {"$sort": {"records": -1, "_id": 1}},
        {"$limit": VALUES_IN_HINTS},
    ]
    for group in database.aggregate(stages) or ():
        yield group.get("_id"), group.get("records", 0)


def near_field(database: Database, field: str) -> str:
    """Return which fields are named like one that no record has, "" if that is not to be known."""
    return helpfully(near_fields, database, field) or ""


def near_fields(database: Database, field: str) -> str:
    """Return which fields of a sample of records are named like one that they do not have."""
    paths: dict[str, None] = {}
    for record in sample_of(database):
        paths |= dict.fromkeys(islice(paths_of(record), 5_000))
    paths_by_part: dict[str, str] = {}  # the shortest path that has these names in a row
    for path in sorted(paths, key=len):
        names = path.split(".")
        for start, end in combinations(range(len(names) + 1), 2):
            paths_by_part.setdefault(".".join(names[start:end]).lower(), path)
    near = difflib.get_close_matches(field.lower(), paths_by_part, 3)
    return f"; {nearest(list(dict.fromkeys(paths_by_part[part] for part in near)))}"


def sample_of(database: Database) -> list[Record]:
    """Return some records, whole."""
    if isinstance(database, Snapshot):
        return database.records[:200]
    for number in (20, 5, 1):  # some are large
        records = database.aggregate([{"$limit": number}])
        if records is not None:
            return records
    return []


def paths_of(value: Any, top: str = "") -> Iterator[str]:
    """Yield the dotted paths of all fields of a record."""
    for item in as_list(value):
        if isinstance(item, dict):
            for name, inner in item.items():
                yield f"{top}{name}"
                yield from paths_of(inner, f"{top}{name}.")


def nearest(names: list[str]) -> str:
    """Return what is near to what was asked for, in words."""
    return f"near it: {', '.join(names)}" if names else "nothing there is like it"


def near_file(name: str, folder: Path) -> str:
    """Return which file could be meant by one that is not there, "" if none could."""
    wanted = os.path.basename(name)
    folders = [os.curdir, glob.escape(str(folder))]
    depths = ["*", os.path.join("*", "*"), os.path.join("*", "*", "*")]
    patterns = [os.path.join(*pair) for pair in product(folders, depths)]
    try:
        paths = islice(chain.from_iterable(map(glob.iglob, patterns)), 20_000)
        paths_by_name = {os.path.basename(path): path for path in paths if is_file(path)}
    except (OSError, ValueError):
        return ""
    near = [wanted]
    if wanted not in paths_by_name:
        near = difflib.get_close_matches(wanted, paths_by_name, 1, 0.8)
    return f": did you mean {paths_by_name[near[0]]}?" if near else ""


def skip_values_without_record(
    database: Database, lists: dict[str, list[Any]], entries: Sequence[Entry]
) -> list[Skip]:
    """Return the values of each $in that no record has, and log what is near the first ones."""
    skips = []
    for name, values in lists.items():
        lacking = {rank(value): value for value in values}
        for entry in entries:
            for value in plain_values(entry.record, name):
                lacking.pop(rank(value), None)
        if lacking:
            log_near_values(database, name, list(lacking.values()))
        skips += [Skip(f"no record has this {name}", str(value)) for value in lacking.values()]
    return skips


def plain_values(record: Record, field: str) -> Iterator[Any]:
    """Yield the strings and numbers that a record has at a field, in lists of any depth, too."""
    waiting = [value_at(record, field)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, str | int | float):
            yield value


def check_fields(entries: list[Entry], database: Database, settings: Settings) -> None:
    """Raise BadInput for a field to filter or group by that no asset has."""
    records = [entry.record for entry in entries if isinstance(entry, Asset)]
    fields_by_flag = {
        "--filter_latest": [settings.filter_latest] if settings.filter_latest else [],
        "--filter_by": settings.filter_by,
        "--group_by": settings.group_by,
        "--unwind_list_fields": settings.unwind_list_fields,
    }
    for flag, names in fields_by_flag.items():
        for name in names:
            if records and not any(has_field(record, name.split(".")) for record in records):
                near = near_field(database, name)
                raise BadInput(f"{flag}: no record that matches has the field {name}{near}")


def has_field(value: Any, path: list[str]) -> bool:
    """Return whether anything, even null, is at a path."""
    if isinstance(value, list):
        return any(has_field(item, path) for item in value) or not path
    if not path:
        return True
    return isinstance(value, dict) and path[0] in value and has_field(value[path[0]], path[1:])


def read_literal(string: str) -> Any:
    """Return what a Python literal says; raise BadInput for keys that JSON could not keep.

    Two strings side by side, which Python would join, lack a comma.
    """
    with warnings.catch_warnings(action="ignore"):  # of "\d" in a regular expression
        tree = ast.parse(string, mode="eval")
    lines = io.StringIO(string.strip(), newline=None)
    try:
        tokens = [token.type for token in tokenize.generate_tokens(lines.readline)]
    except tokenize.TokenError as error:
        raise ValueError(str(error)) from None
    words = [kind for kind in tokens if kind not in (tokenize.NL, tokenize.COMMENT)]
    if (tokenize.STRING, tokenize.STRING) in pairwise(words):
        raise ValueError("a comma is missing between two strings")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            unique_keys([(ast.literal_eval(key), None) for key in node.keys if key])
    return ast.literal_eval(tree)


# What is pasted from programs, shells and text editors, and what is to be written in its place.
PASTED = (
    (r"\b(?:new )?(?:datetime\.|dt\.)?(?:datetime|date|Date|ISODate|Timestamp)\(",
     'the date as a string, such as "2025-03-04T09:12:33"'),
    (r"\b(?:ObjectId|UUID|uuid\.UUID)\(", "the id as a string, in quotes"),
    (r"\b(?:re\.compile|RegExp|Regex)\(|:\s*/", 'a regular expression as {"$regex": "..."}'),
    (r"\b(?:Number(?:Long|Int|Decimal)|Int64|Decimal128|Decimal)\(", "the number alone"),
    ("[\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb]", "straight quotes"),
    (r"[{,]\s*[A-Za-z_$][\w.$]*\s*:", 'names in quotes, such as {"name": ...}'),
    (r"\b(?:true|false|null)\b", "True, False and None between single quotes, or all as JSON"),
)  # fmt: skip


def advice_on_pasted(string: str) -> str:
    """Return what to write in place of what no filter can hold, "" if nothing such is there."""
    bare = re.sub(r"""("|')(?:(?!\1)[^\\\n]|\\.)*\1""", '""', string)  # without what is in quotes
    for pattern, instead in PASTED:
        if pasted := re.search(pattern, bare):
            shown = pasted[0].strip("{, ")
            shown += "...)" if shown.endswith("(") else ""
            return f"write {instead}, in place of {shown}; "
    return ""


def advice_on_words(words: Sequence[str], strays: Sequence[str], flags: Mapping[str, Flag]) -> str:
    """Return what is wrong with the words of a command, "" if each flag has one as its value.

    `strays` are those that belong to no flag.
    """
    starts = [at for at, word in enumerate(words) if re.match("--?[A-Za-z][^ ]*(=|$)", word)]
    for start, end in pairwise([*starts, len(words)]):
        name, sign, first = words[start].partition("=")
        values = [first] * bool(sign) + list(words[start + 1 : end])
        if name not in flags or len(values) == 1:
            continue
        convert = flags[name].convert
        if not values:
            example = "1" if convert is switch else flags[name].metavar
            return f"{name} needs a value: {name} {example}"
        advice, value = "quote the value", shlex.quote(shorten(" ".join(values)))
        if convert in (name_list, field_list):
            advice = "separate the values by commas"
            value = ",".join(re.findall(r"[^\s,'\[\]]+", value))
        return f"{advice}: {name} {value}; {excerpt(values[1])} belongs to no flag"
    if not strays:
        return ""
    name = strays[0].partition("=")[0].replace("-", "_")
    near = difflib.get_close_matches(f"--{name.strip('_')}", [*flags, "--help"], 1)
    hint = f", did you mean {near[0]}?" if near and strays[0].startswith("-") else ""
    return f"there is no flag {strays[0]!r}{hint}"
