"""Draw the plan of a dispatch, which a dry run writes: a table for programs, a page for people.

run_capsule.py makes the plan; nothing here is needed to dispatch. Behind the page come the hints:
what a filter that matches nothing could have meant, and a file that is not there.
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
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import chain, combinations, islice, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import run_capsule
from run_capsule import (
    DEPTH,
    ID_FIELDS,
    IDS_PER_QUERY,
    MISSING,
    NAMES_IN_LOG,
    PIPELINE,
    QUERY_FLAGS,
    RESULTS_STORE,
    SECRETS,
    Asset,
    BadInput,
    Database,
    Entry,
    FailedRun,
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
    find_input,
    first_of,
    is_deeper,
    is_null,
    log,
    log_first,
    name_of,
    open_docdb,
    pasteable,
    plural,
    rank,
    read_file,
    read_object,
    shorten,
    unique_keys,
    value_at,
    values_in_fields,
)

if TYPE_CHECKING:
    from aind_data_schema.components.identifiers import Code
    from aind_data_schema.core.processing import DataProcess

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """A task, as the plan shows it."""

    id: str
    assets: list[str]  # names; the next two hold the same asset at the same position
    asset_ids: list[str]
    record_ids: list[str]
    files: list[str] | None  # None: none were looked for
    size: int  # bytes of its files
    parameters: Record | None
    result: str | None = None  # the name of its result in the results store, where it is known


@dataclass(frozen=True, slots=True)
class AssetRow:
    """An asset that some task holds."""

    name: str
    subject: str | None
    date: str | None  # of its session, YYYY-MM-DD
    record_id: str
    record: Record  # the fields to choose by


@dataclass(frozen=True, slots=True)
class Plan:
    """What a dispatch would do."""

    command: str  # that dispatches exactly this plan
    command_without_query: str  # the same, less what chooses its records
    query: str | None  # the filter as JSON; None: the assets came from the CSV
    matched: int  # records
    skipped: list[tuple[str, str]]  # reason, name
    workers: list[list[Row]]
    assets: list[AssetRow]
    choose_by: Mapping[str, str]  # fields of a record, by what they hold
    warning: str = ""  # what the command would do to what is there
    left_out: int = 0  # tasks, by --max_tasks
    processed: Sequence[Row] = ()  # tasks whose result is there already
    names_records: bool = False  # only a filter that names the records gives the assets chosen


PLAN_PAGE = Path(__file__).with_name("dispatch_plan.html.j2")
PLAN_SCRIPT = Path(__file__).with_name("dispatch_plan.js")
ROWS_ON_TERMINAL = 20
TASKS_IN_PAGE = 50_000  # so that it opens at once; the CSV holds all
NAMES_IN_PAGE = 10_000  # of what is skipped for the same reason, or processed already


def write(plan: Plan, folder: Path) -> None:
    """Write the plan as a table, dispatch_plan.csv, and as a page, dispatch_plan.html."""
    import pandas as pd

    pd.DataFrame(plan_rows(plan)).to_csv(folder / "dispatch_plan.csv", index=False)
    # a lone surrogate, which JSON can spell, is no UTF-8
    page = render_plan(plan).encode("utf-8", "backslashreplace")
    (folder / "dispatch_plan.html").write_bytes(page)


def first_tasks(plan: Plan) -> str:
    """Return the first tasks as a table for a terminal, and the counts."""
    from tqdm import tqdm

    def first(values: list[str]) -> str:
        more = f" and {len(values) - 1} more" if len(values) > 1 else ""
        return one_line(values[0]) + more if values else ""

    rows = [(number, row) for number, tasks in enumerate(plan.workers) for row in tasks]
    table = [("worker", "asset", "file", "size", "parameters")]
    for number, row in rows[:ROWS_ON_TERMINAL]:
        name = first([url.rpartition("/")[2] for url in row.files or ()])
        size = f"{tqdm.format_sizeof(row.size)}B" if row.files else ""
        parameters = one_line(json.dumps(row.parameters)) if row.parameters else ""
        table.append((str(number), first(row.assets), name, size, parameters))
    widths = [min(60, max(map(len, column))) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    if len(rows) > ROWS_ON_TERMINAL:
        lines.append(f"... and {len(rows) - ROWS_ON_TERMINAL:,} more")
    size = tqdm.format_sizeof(sum(row.size for _, row in rows))
    files = sum(len(row.files or ()) for _, row in rows)
    processed = f" processed already {len(plan.processed):,}," if plan.processed else ""
    lines.append(
        f"tasks {len(rows):,},{processed} workers {len(plan.workers):,},"
        f" assets {len(plan.assets):,}, files {files:,} ({size}B), records {plan.matched:,},"
        f" skipped {len(plan.skipped):,}"
    )
    return "\n".join(lines)


def plan_rows(plan: Plan) -> Iterator[Record]:
    """Yield the rows of the CSV; what is not known is blank, as the worker of a processed task."""
    for worker, rows in [*enumerate(plan.workers), ("", plan.processed)]:
        for row in rows:
            yield {
                "worker": worker,
                "task_id": row.id,
                "asset_names": cell(row.assets),
                "asset_ids": cell(row.asset_ids),
                "record_ids": cell(row.record_ids),
                "number_of_files": "" if row.files is None else len(row.files),
                "bytes": "" if row.files is None else row.size,
                "first_file": cell(row.files[:1]) if row.files else "",
                "parameters": "" if row.parameters is None else json.dumps(row.parameters),
                "result": row.result or "",
                "processed": int(worker == ""),
            }


def cell(values: list[str]) -> str:
    """Return texts as a cell of the CSV: one plain text as it is, all else as a JSON list.

    A cell is a JSON list if and only if it begins with a bracket. Line breaks and the like are
    escapes there, so that every reader of CSV gets the same text back.
    """
    plain = len(values) == 1 and values[0].isprintable() and not values[0].startswith("[")
    return values[0] if plain else json.dumps(values)


def render_plan(plan: Plan) -> str:
    """Return the page; the same plan gives the same page."""
    from jinja2 import Template

    template = Template(
        PLAN_PAGE.read_text(encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = PLAN_SCRIPT.read_text(encoding="utf-8")
    page: str = template.render(
        plan=plan,
        query=plan.query and json.dumps(json.loads(plan.query), indent=2, ensure_ascii=False),
        rows=[row for rows in plan.workers for row in rows],
        data=json.dumps(page_data(plan), separators=(",", ":")).replace("<", "\\u003c"),
        script=script,
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        names_in_page=NAMES_IN_PAGE,
        tasks_in_page=TASKS_IN_PAGE,
        dumps=partial(json.dumps, ensure_ascii=False),
    )
    return page


def page_data(plan: Plan) -> Record:
    """Return what the script of the page draws, counts and filters, as columns.

    Where the page cannot hold all tasks, it knows the assets of those that it holds.
    """
    rows = [(worker, row) for worker, rows in enumerate(plan.workers) for row in rows]
    rows = rows[:TASKS_IN_PAGE]
    held = {record_id for _, row in rows for record_id in row.record_ids}
    assets = [asset for asset in plan.assets if asset.record_id in held]
    places = {asset.record_id: place for place, asset in enumerate(assets)}
    choices = []
    for name, path in plan.choose_by.items():
        values = [strings_at(asset.record, path) for asset in assets]
        if name == "date":  # days are chosen, and compare with a whole time as with its day
            values = [days and tuple(day[:10] for day in days) for days in values]
        choices.append({"name": name, "field": path, **coded(values)})
    return {
        "query": plan.query,
        "command_without_query": plan.command_without_query,
        "choices": choices,
        "assets": {
            "name": [asset.name for asset in assets],
            "subject": coded([asset.subject for asset in assets]),
            "day": coded([asset.date for asset in assets]),
            "record_id": [asset.record_id for asset in assets] if plan.names_records else None,
        },
        "tasks": {
            "worker": [worker for worker, _ in rows],
            "assets": [[places[record_id] for record_id in row.record_ids] for _, row in rows],
            "first": [first_file(row) for _, row in rows],
            "files": [len(row.files or ()) for _, row in rows],
            "size": [row.size for _, row in rows],
            "parameters": coded([parameters_of(row) for _, row in rows]),
            "id": [row.id for _, row in rows],
        },
        "all_tasks": sum(map(len, plan.workers)),
    }


def strings_at(record: Record, path: str) -> tuple[str, ...] | None:
    """Return the strings that a filter can ask for at a path of a record, None if none is there.

    These are those that MongoDB reaches there: through the objects of a list on the path, and the
    elements of a list at its end, but no lists in lists. One that is not valid is left out.
    """
    values: list[Any] = [record]
    for name in path.split("."):
        inner = []
        for item in chain.from_iterable(map(as_list, values)):
            if isinstance(item, dict) and name in item:
                inner.append(item[name])
        values = inner
    items = chain.from_iterable(map(as_list, values))
    strings = [item for item in items if isinstance(item, str)]
    if not strings:
        return None
    return tuple(dict.fromkeys(filter(is_valid, strings)))


def is_valid(string: str) -> bool:
    """Return whether a string can be sent; a lone surrogate, which JSON can spell, cannot."""
    try:
        string.encode()
    except UnicodeError:
        return False
    return True


def coded(values: Sequence[Any]) -> Record:
    """Return a column as its different values, and which of them each row has."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"values": list(places), "rows": [places[value] for value in values]}


def first_file(row: Row) -> list[str] | None:
    """Return the URL of a task's first file, cut wherever it has the name of the first asset."""
    if not row.files:
        return None
    name = row.assets[0] if row.assets else ""
    return row.files[0].split(name) if name else [row.files[0]]


def parameters_of(row: Row) -> str:
    """Return the parameters of a task as JSON, not too long to be looked at."""
    if row.parameters is None:
        return ""
    return shorten(json.dumps(row.parameters, ensure_ascii=False), 300)


def one_line(text: str) -> str:
    """Return a text with everything that is not printed as itself written as an escape."""
    return text if text.isprintable() else ascii(text)[1:-1]


# ------------------------------------------------------------------------------- the run's own plan


def show_plan(plan: run_capsule.Plan, settings: Settings) -> None:
    """Write the plan into the output folder, and print its first tasks."""
    output = settings.output_directory

    def row(task: Task) -> Row:
        assets = task.assets
        return Row(
            task.id,
            [asset.name for asset in assets],
            [asset.id for asset in assets],
            [asset.record_id for asset in assets],
            task.files,
            task.size,
            task.parameters,
            task.result,
        )

    held = {asset.record_id: asset for task in plan.tasks for asset in task.assets}
    page = Plan(
        command=command_of(settings.argv, "dry_run"),
        command_without_query=command_of(settings.argv, "dry_run", *CHOOSING_FLAGS),
        warning=warning_of(output, settings.overwrite),
        query=None if settings.query is None else compact(settings.query),
        matched=plan.matched,
        skipped=[(skip.reason, skip.name) for skip in plan.skips],
        processed=[row(task) for task in plan.processed],
        left_out=plan.left_out,
        workers=[[row(task) for task in tasks] for tasks in plan.workers],
        assets=[
            AssetRow(
                asset.name, subject_of(asset), session_date(asset), asset.record_id, asset.record
            )
            for asset in held.values()
        ],
        choose_by=CHOOSE_BY[settings.docdb_version],
        # else an older asset could be the latest of those chosen, or a task that is left out be
        # one of the first
        names_records=bool(settings.query is None or settings.filter_latest or plan.left_out),
    )
    with run_capsule.staged(output, overwrite=True) as staging:
        write(page, staging)
        run_capsule.COMMITTED.set()
        for name in run_capsule.PLAN_FILES:
            (staging / name).replace(output / name)
    shown = f"filter: {pasteable(settings.query)}\n" if settings.query is not None else ""
    try:
        print(shown + first_tasks(page), flush=True)
    except OSError:  # a pipe that is closed, a disk that is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warning_of(output: Path, overwrite: bool) -> str:
    """Return what the dispatch would do to worker folders that are there, in words."""
    workers = sum(map(run_capsule.is_worker, output.glob("*")))
    there = f"{output} holds {plural(workers, 'worker folder')} of an earlier run"
    if not workers:
        return ""
    if overwrite:
        return f"{there}; this command replaces what is there."
    return f"{there}; add --overwrite 1 to replace what is there."


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
    for source in (*(value_at(asset.record, name) for name in DATE_FIELDS), asset.name):
        day = re.search(r"(?:^|_)(\d{4}-\d\d-\d\d)", source) if isinstance(source, str) else None
        if day and instant(day[1]):
            return day[1]
    return None


CHOOSING_FLAGS = (*QUERY_FLAGS, "docdb_query", "use_data_asset_csv")


def command_of(argv: Sequence[str], *left_out: str) -> str:
    """Return the command that these flags make, without some of them, wherever it is pasted."""
    words = list(argv)
    for name in left_out:
        while f"--{name}" in words:
            start = words.index(f"--{name}")
            del words[start : start + 2]
        words = [word for word in words if not word.startswith(f"--{name}=")]
    used = (*RESULTS_STORE, "DOCDB_VERSION", "CODEOCEAN_DOMAIN", *PIPELINE)
    shown = [name for name in used if os.environ.get(name) and name not in SECRETS]
    environment = [f"{name}={os.environ[name]}" for name in shown]
    env = ["env", *environment] if environment else []
    program = [sys.executable, str(Path(__file__).with_name("run_capsule.py"))]
    return f"cd {shlex.quote(os.getcwd())} && {shlex.join([*env, *program, *words])}"


# --------------------------------------------------------------------------------------- hints

VALUES_IN_HINTS = 10_000  # of a field, among which near ones are looked for
HINT_SECONDS = 10  # for a question that only helps to understand


def helpfully(call: Callable[..., T], *values: Any) -> T | None:
    """Return what a call returns that only helps to understand; None if it fails or takes long."""
    try:
        return begin(call, *values).result(HINT_SECONDS)
    except Exception as error:
        log.debug("no hint: %s", error)
        return None


def explain(database: Database, query: Record) -> None:
    """Log why a filter matches nothing: what each condition matches alone, what is near it."""
    helpfully(log_matches, database, query)


def log_matches(database: Database, query: Record) -> None:
    """Log what each condition of a filter matches alone, and what is near one that has nothing."""
    conditions = list(islice(conditions_of(query), NAMES_IN_LOG))
    for condition in conditions:
        number = database.count(condition)
        if number is None:
            continue
        if len(conditions) > 1:
            shown = shorten(pasteable(condition))
            log.warning("alone, %s matches %s", shown, plural(number, "record"))
        [(name, wanted)] = condition.items()
        if not number and not name.startswith("$"):
            for value in wanted_values(wanted)[:3] or [MISSING]:
                log_near_value(database, name, value)


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
    if isinstance(wanted, dict):
        members = wanted.get("$in")
        values = members if isinstance(members, list) else [wanted.get("$eq")]
    else:
        values = [wanted]
    return [value for value in values if isinstance(value, str | int | float)]


def log_near_values(database: Database, name: str, values: list[Any]) -> None:
    """Log what is near the first values that no record has."""
    for value in values[:3]:
        helpfully(log_near_value, database, name, value)


def log_near_value(database: Database, name: str, value: Any) -> None:
    """Log which values, or fields, are near to what no record has, if that helps."""
    hint = near_value(database, name, value)
    if hint:
        log.warning("%s", hint)


def near_value(database: Database, name: str, value: Any) -> str:
    """Return which values, or fields, are near to what no record has; "" if nothing helps."""
    records = {one: n for one, n in values_of(database, name) if isinstance(one, str | int | float)}
    if not records and not database.count({name: {"$exists": True}}):
        return f"no record has the field {name}{near_fields(database, name)}"
    if value is MISSING or not records or value in records:
        return ""
    for other, number in records.items():  # a number for a string, or the other way round
        if type(other) is not type(value) and str(other) == str(value):
            kind = "strings" if isinstance(other, str) else "numbers"
            matches = f"{compact(other)} matches {plural(number, 'record')}"
            return f"the values of {name} are {kind}: {matches}"
    spelled = {str(one).lower(): one for one in reversed(records)}
    near = difflib.get_close_matches(str(value).lower(), spelled, 3)
    near = near or [word for word in spelled if str(value).lower() in word][:3]
    shown = [f"{compact(spelled[word])} ({records[spelled[word]]})" for word in near]
    return f"no record has {name} {compact(value)}; {nearest(shown)}"


def values_of(database: Database, name: str) -> Iterator[tuple[Any, int]]:
    """Yield the values of a field and how often each is there, the most frequent ones first."""
    if isinstance(database, Snapshot):
        records = database.records
        values = Counter(value for record in records for value in plain_values(record, name))
        yield from values.most_common(VALUES_IN_HINTS)
        return
    stages: list[Record] = [
        {"$project": {"_id": 0, "value": f"${name}"}},
        {"$unwind": "$value"},
        {"$group": {"_id": "$value", "records": {"$sum": 1}}},
        {"$sort": {"records": -1, "_id": 1}},
        {"$limit": VALUES_IN_HINTS},
    ]
    for group in database.aggregate(stages) or ():
        yield group.get("_id"), group.get("records", 0)


def near_field(database: Database, name: str) -> str:
    """Return which fields are named like one that no record has, "" if that is not to be known."""
    return helpfully(near_fields, database, name) or ""


def near_fields(database: Database, name: str) -> str:
    """Return which fields of a sample of records are named like one that they do not have."""
    paths: dict[str, None] = {}
    for record in sample_of(database):
        paths |= dict.fromkeys(islice(paths_of(record), 5_000))
    parts: dict[str, str] = {}  # a path by each run of its names, the shortest path first
    for path in sorted(paths, key=len):
        names = path.split(".")
        for start, end in combinations(range(len(names) + 1), 2):
            parts.setdefault(".".join(names[start:end]).lower(), path)
    near = difflib.get_close_matches(name.lower(), parts, 3)
    return f"; {nearest(list(dict.fromkeys(parts[part] for part in near)))}"


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
    places = [os.curdir, glob.escape(str(folder))]
    depths = ["*", os.path.join("*", "*"), os.path.join("*", "*", "*")]
    try:
        paths = chain(*(glob.iglob(os.path.join(*pair)) for pair in product(places, depths)))
        first = filter(run_capsule.is_file, islice(paths, 20_000))
        files = {os.path.basename(path): path for path in first}
    except (OSError, ValueError):
        return ""
    near = [wanted] if wanted in files else difflib.get_close_matches(wanted, files, 1, 0.8)
    return f": did you mean {files[near[0]]}?" if near else ""


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


def advice_on_words(
    words: Sequence[str], strays: Sequence[str], flags: Mapping[str, run_capsule.Flag]
) -> str:
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
            example = "1" if convert is run_capsule.switch else flags[name].metavar
            return f"{name} needs a value: {name} {example}"
        advice, value = "quote the value", shlex.quote(shorten(" ".join(values)))
        if convert in (run_capsule.name_list, run_capsule.field_list):
            advice = "separate the values by commas"
            value = ",".join(re.findall(r"[^\s,'\[\]]+", value))
        return f"{advice}: {name} {value}; {excerpt(values[1])} belongs to no flag"
    if not strays:
        return ""
    name = strays[0].partition("=")[0].replace("-", "_")
    near = difflib.get_close_matches(f"--{name.strip('_')}", [*flags, "--help"], 1)
    hint = f", did you mean {near[0]}?" if near and strays[0].startswith("-") else ""
    return f"there is no flag {strays[0]!r}{hint}"


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
            raise BadInput(f"{path}: record {number} is no JSON object with a string as its _id")
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
                raise ValueError(f"{name} stands inside a value to compare with")
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
        raise ValueError(f"{shown} may mean something else there than here")
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


# -------------------------------------------------------------------------------------- code


QUIET_GIT = {  # the library asks git for a commit; it must fail where it would ask a person
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1",  # bytes a second; with the next, a git that was given up ends
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


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
        raise BadInput(f"{path} is no Code of aind-data-schema: {fault}, not {given}") from None
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


def find_processed(tasks: list[Task], timeout: int) -> list[Task]:
    """Return the tasks whose result is in the results store already."""
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
    return processed


def label_of(task: Task) -> str:
    """Return what the log calls a task."""
    names = [first_of([asset.name for asset in task.assets]), first_of(task.files or [])]
    if task.parameters:
        names.append(shorten(compact(task.parameters)))
    return ", ".join(filter(None, [*names, f"its result is {task.result}"]))


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
                log.warning("%s is an asset that is chosen already: %s", asset_id, name)
                continue
            chosen[number] = replace(entry, id=asset_id) if isinstance(entry, Asset) else entry
    unknown = [Skip("no record has this id", id_) for id_ in ids if id_ not in numbers]
    return [*chosen.values(), *unknown]


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
