"""Draw the plan of a dispatch, which a dry run writes: a table for programs, a page for people.

run_capsule.py makes the plan; nothing here is needed to dispatch. Behind the page come the hints:
what a filter that matches nothing could have meant, and a file that is not there.
"""

from __future__ import annotations

import difflib
import glob
import io
import json
import math
import os
import re
import shlex
import sys
import warnings
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain, combinations, islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import run_capsule
from run_capsule import (
    DATE_FIELDS,
    MISSING,
    NAMES_IN_LOG,
    PIPELINE,
    RESULTS_STORE,
    SECRETS,
    SUBJECT_FIELD,
    Asset,
    Database,
    Record,
    Settings,
    Snapshot,
    Task,
    as_list,
    begin,
    compact,
    log,
    pasteable,
    plain_values,
    plural,
    shorten,
    value_at,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a dispatch would do."""

    command: str  # that dispatches exactly this plan
    query: str | None  # the filter as JSON; None: the assets came from the CSV
    matched: int  # records
    skipped: list[tuple[str, str]]  # reason, name
    workers: list[list[Row]]
    assets: list[AssetRow]
    warning: str = ""  # what the command would do to what is there
    left_out: int = 0  # tasks, by --max_tasks
    processed: Sequence[Row] = ()  # tasks whose result is there already


PLAN_PAGE = Path(__file__).with_name("dispatch_plan.html.j2")
ROWS_ON_TERMINAL = 20
ROWS_IN_PAGE = 2_000  # so that it opens at once; the CSV holds all
SUBJECTS_IN_PICTURE = 200
PERIODS_IN_PICTURE = 53  # a year in weeks
CELL = 14  # of the picture of the assets, in points
# Stand-ins for colours of the page's style sheet, which are others in the dark.
PAINT = {f"#00000{n}": name for n, name in enumerate(("paper", "empty", "line", "ink"), 1)}
PAINT |= {f"#00000{n + 4}": f"shade{n}" for n in (1, 2, 3, 4)}
PAPER, EMPTY, LINE, INK, *SHADES = PAINT


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
    os.environ["MPLBACKEND"] = "agg"  # the user's may not be there, and none is used
    from jinja2 import Template
    from matplotlib import rc_context, rcdefaults

    text = PLAN_PAGE.read_text(encoding="utf-8")
    template = Template(text, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    with rc_context():
        rcdefaults()  # a matplotlibrc of the user's would change the pictures
        page: str = template.render(
            plan=plan,
            query=plan.query and json.dumps(json.loads(plan.query), indent=2, ensure_ascii=False),
            rows=[(worker, row) for worker, tasks in enumerate(plan.workers) for row in tasks],
            rows_in_page=ROWS_IN_PAGE,
            subjects_in_picture=SUBJECTS_IN_PICTURE,
            picture=draw_assets(plan.assets),
            draw_bars=draw_bars,
            dumps=partial(json.dumps, ensure_ascii=False),
            sha256=lambda text: b64encode(sha256(text.encode()).digest()).decode(),
        )
    return page


def draw_bars(loads: list[int], shown: Callable[[float], str], name: str) -> str:
    """Return a picture with one bar per worker and a line at their mean, as SVG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure((4.8, 2), layout="constrained")
    axes = figure.subplots()
    side = 0.4 if len(loads) <= 60 else 0.5  # half of a bar: thin ones have no gaps between them
    edges = [edge for worker in range(len(loads)) for edge in (worker - side, worker + side)]
    heights = [height for load in loads for height in (load, 0)][:-1]
    axes.stairs(heights, edges, fill=True, color=SHADES[1])
    axes.axhline(sum(loads) / len(loads), color=INK, linewidth=1, linestyle="--")
    axes.set(xlabel="worker", xlim=(-0.5, len(loads) - 0.5), ylim=(0, max(*loads, 1) * 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(lambda load, _: shown(load))
    axes.grid(axis="y", color=LINE)
    return svg(figure, name)


def draw_assets(assets: list[AssetRow]) -> Record | None:
    """Return a picture of the assets by subject and session date, as SVG, and what it counts."""
    import pandas as pd

    placed = [(asset.subject, asset.date) for asset in assets if asset.subject and asset.date]
    if not placed:
        return None
    subjects, days = zip(*placed, strict=True)
    for period in ("day", "week", "month", "year"):
        dates = pd.PeriodIndex(days, freq=period[0].upper())
        columns = pd.period_range(dates.min(), dates.max())
        if len(columns) <= PERIODS_IN_PICTURE:
            break
    else:  # one of the dates is mistaken
        columns = dates.unique().sort_values()
    rows = sorted({asset.subject for asset in assets if asset.subject})
    counts = pd.crosstab(pd.Index(subjects), dates)
    counts = counts.reindex(index=rows, columns=columns, fill_value=0)
    counts.columns = pd.Index([str(column)[:10] for column in columns])  # a week's Monday
    return {
        "svg": draw_counts(counts[:SUBJECTS_IN_PICTURE], counts.sum()),
        "period": period,
        "periods": dict(counts.sum()),
        "subjects": dict(counts.sum(axis=1)),
    }


def draw_counts(counts: DataFrame, sums: Series[int]) -> str:
    """Return a table of counts as SVG, with these sums as bars above it and the rows' beside it."""
    import numpy as np
    from matplotlib.figure import Figure

    names = [f"{name[:19]}…" if len(name) > 20 else name for name in map(one_line, counts.index)]
    (high, wide), values = counts.shape, counts.to_numpy()
    left, right, top, bottom = 1 + max(map(len, names)) / 2, 5, 6, 1  # in cells, as all of these
    width, height = left + wide + right, top + high + bottom
    figure = Figure((width * CELL / 72, height * CELL / 72))
    grid = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    bars = figure.add_axes((left / width, (bottom + high + 2) / height, wide / width, 3 / height))
    for number in np.unique(values[values > 0]):
        y, x = np.nonzero(values == number)
        shade = math.ceil(4 * number / max(4, values.max())) - 1
        grid.plot(x, y, "s", color=SHADES[shade], markersize=CELL, markeredgewidth=0)
        if number > 1:
            digits = f"$\\mathdefault{{{number}}}$"  # as a marker: a text for every cell is slow
            ink = PAPER if shade else INK
            grid.plot(x, y, marker=digits, color=ink, markersize=6, markeredgewidth=0, linestyle="")
    grid.hlines(np.arange(high + 1) - 0.5, -0.5, wide - 0.5, PAPER, zorder=2)
    grid.vlines(np.arange(wide + 1) - 0.5, -0.5, high - 0.5, PAPER, zorder=2)
    grid.axhspan(-0.5, high - 0.5, color=EMPTY, zorder=0)
    grid.set(xlim=(-0.5, wide - 0.5), ylim=(high - 0.5, -0.5))
    grid.xaxis.tick_top()
    grid.set_xticks(np.arange(0, wide, 6) - 0.5, counts.columns[::6], ha="left")
    grid.set_yticks(range(high), names, parse_math=False)  # a name with dollar signs is no formula
    for row, total in enumerate(counts.sum(axis=1)):
        grid.text(wide, row, f"{total:,}", va="center_baseline")
    bars.bar(range(wide), sums, color=SHADES[1])
    bars.set(xlim=grid.get_xlim(), xticks=[], yticks=[0, sums.max()])
    return svg(figure, "assets")


def one_line(text: str) -> str:
    """Return a text with everything that is not printed as itself written as an escape."""
    return text if text.isprintable() else ascii(text)[1:-1]


def svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG in the colours of the page, its ids unique and always the same."""
    from matplotlib import rc_context

    for axes in figure.axes:
        axes.set_axisbelow(True)
        axes.patch.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    file = io.StringIO()
    # Text stays text in the page's font: this one, which lacks some glyphs, only measures it.
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.sans-serif": ["DejaVu Sans"]}
    with rc_context(style), warnings.catch_warnings(action="ignore"):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", facecolor="none", metadata=nothing)
    text = re.sub('<g id="[^"]*"', "<g", file.getvalue().partition("<svg")[2])
    return "<svg" + re.sub("(?<=: )#00000[1-8]", lambda at: f"var(--{PAINT[at[0]]})", text)


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
        command=command_of(settings.argv),
        warning=warning_of(output, settings.overwrite),
        query=None if settings.query is None else compact(settings.query),
        matched=plan.matched,
        skipped=[(skip.reason, skip.name) for skip in plan.skips],
        processed=[row(task) for task in plan.processed],
        left_out=plan.left_out,
        workers=[[row(task) for task in tasks] for tasks in plan.workers],
        assets=[
            AssetRow(asset.name, subject_of(asset), session_date(asset)) for asset in held.values()
        ],
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


def subject_of(asset: Asset) -> str | None:
    """Return the subject that an asset is of, None if its record does not tell."""
    subject = value_at(asset.record, SUBJECT_FIELD)
    return subject if isinstance(subject, str) and subject else None


def session_date(asset: Asset) -> str | None:
    """Return the day of an asset's session, by its record, else by its name; YYYY-MM-DD."""
    for source in (*(value_at(asset.record, name) for name in DATE_FIELDS), asset.name):
        day = re.search(r"(?:^|_)(\d{4}-\d\d-\d\d)", source) if isinstance(source, str) else None
        if day and run_capsule.instant(day[1]):
            return day[1]
    return None


def command_of(argv: Sequence[str]) -> str:
    """Return the command that these flags make, without a dry run, wherever it is pasted."""
    words = list(argv)
    while "--dry_run" in words:
        start = words.index("--dry_run")
        del words[start : start + 2]
    words = [word for word in words if not word.startswith("--dry_run=")]
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
