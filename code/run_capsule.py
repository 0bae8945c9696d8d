#!/usr/bin/env python3
"""Dispatch an analysis: ask which data assets match, find their files, deal them out to workers.

Read this file from top to bottom, in the order in which the data flows:

    settings   the flags become one Settings, and those that choose records one filter
    assets     DocDB, or a snapshot of it, says which records match; each becomes an Asset, or a
               Skip that says why it is none; group_assets, for you to edit, says what shares a task
    files      the objects and folders of each asset that have the suffix, from S3
    tasks      a group with its files becomes one task, or one task per file, per parameter set
    workers    tasks become JSON files in numbered folders, one folder per worker
    main       the steps in a row, the closing line, the exit status

Exit status: 0 dispatched, 2 the input is wrong, 1 the run failed, 130 and 143 a signal ended it.
What a step cannot do it raises as BadInput or FailedRun, and main alone turns that into one line
and a status. What the steps stand on is in the folder dispatch, a room for each concern.
"""

from __future__ import annotations

import sys

try:
    from dispatch import signals
except ImportError:
    sys.exit("error: the folder dispatch must lie beside run_capsule.py, and Python look there")
if __name__ == "__main__":
    signals.listen()  # before the other imports, which take 80 ms

import argparse
import gc
import io
import logging
import os
import shutil
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.analysis_code import (
    MERGED,
    PIPELINE,
    SHARED_FOLDERS,
    Panel,
    begin_find_process,
    check_parameters,
    not_set,
)
from dispatch.asset_csv import AssetList, find_listed, list_of_assets, pick_listed
from dispatch.assets import (
    ASSET_FIELDS,
    Asset,
    Entry,
    Skip,
    assets_in,
    name_of,
    read_asset,
    skips_in,
)
from dispatch.concurrency import Concurrency
from dispatch.docdb import Database, open_docdb
from dispatch.filters import combine, lists_in
from dispatch.flags import (
    Flag,
    build_parser,
    flag,
    parse_words,
    to_date,
    to_field,
    to_fields,
    to_input_folder,
    to_level,
    to_measure,
    to_names,
    to_number,
    to_path,
    to_positive,
    to_string,
    to_suffix,
    to_switch,
    to_version,
)
from dispatch.grouping import keep_latest, set_groups
from dispatch.hints import (
    check_fields,
    explain,
    name_endings,
    name_untold,
    skip_choices_without_record,
    skip_values_without_record,
    warn_of_bounds,
)
from dispatch.inputs import hint_on_example, named_file, read_parameters, read_query
from dispatch.listing import Files, Listing
from dispatch.local_files import LocalFiles
from dispatch.locations import Store
from dispatch.messages import (
    BadInput,
    FailedRun,
    configure_log,
    echo,
    log,
    one_line,
    plural,
    without_secrets,
)
from dispatch.output import (
    check_output,
    move_plan,
    recover,
    staged,
    write_workers,
    writing_to,
)
from dispatch.plan import Plan, first_tasks, summarise, summarise_records, write_table
from dispatch.plan_page import Request, fields_shown, write_page
from dispatch.progress import Progress
from dispatch.results import (
    RESULTS_STORE,
    name_twins,
    set_apart_dispatched,
    set_apart_processed,
)
from dispatch.retry import begin, result_of
from dispatch.s3 import S3
from dispatch.schema import DATE, LEVEL, MODALITY, PROJECT, SUBJECT, Choice, Days, beside
from dispatch.selection import Selection
from dispatch.skips import report_skipped, skip_without_task
from dispatch.snapshot import open_snapshot
from dispatch.tasks import (
    Task,
    deal_by_size,
    deal_in_lots,
    deal_in_order,
    number_of_workers,
    query_to_copy,
    render_tasks,
    size_of,
    task_model,
)
from dispatch.values import Record, pasteable, rank

if TYPE_CHECKING:
    from aind_data_schema.core.processing import DataProcess

VERSION = "1.0.0"
FEW_COLLECTIONS = (1_000_000, 20, 100)  # of garbage, of which there is little: else a third more
ROOT = Path(__file__).resolve().parent.parent  # in Code Ocean: /, so that this is /data, /results

# ---------------------------------------------------------------------------------- settings


# fmt: off
@dataclass(frozen=True)
class Settings:
    """What one run is asked to do; the command line, app panel and README are made from it."""

    query: str | None = flag(str, "FILTER", """Which records: a DocDB filter as a JSON object or
        Python dict, or the path of a JSON file (in the working folder, else in the input folder or
        one folder down).""", heading="Choose the assets", also="--docdb_query")
    project_name: str | None = flag(to_string, "NAME", """Only assets of this project. This flag and
        the next five are combined by AND, with each other and with the query.""")
    subject_id: tuple[str, ...] = flag(to_names, "ID,ID", """Only assets of these subjects,
        separated by commas or blanks.""", ())
    modality: tuple[str, ...] = flag(to_names, "NAME,NAME", """Only assets with any of these
        modalities, by their abbreviations, such as ecephys.""", ())
    data_level: str | None = flag(to_level, "raw|derived", "Only raw, or only derived assets.")
    session_from: str | None = flag(to_date, "DATE", """Only sessions of this day or later:
        2025-03-01, 2025-03 or 2025.""")
    session_to: str | None = flag(to_date, "DATE", "Only sessions up to the end of this day, month "
        "or year.")
    use_data_asset_csv: bool = flag(to_switch, "0|1", """1: the assets are those that
        data_asset_input.csv in the input folder lists, by Code Ocean ids in a column asset_id, else
        by names in a column asset_name; --query and the flags above are not used then.""", False)
    asset_id: tuple[str, ...] = flag(to_names, "ID,ID", """Only the assets with these Code Ocean
        ids, in this order, as from the CSV, without one.""", ())
    asset_name: tuple[str, ...] = flag(to_names, "NAME,NAME", """Only the assets with these names,
        in this order.""", ())
    docdb_version: str = flag(to_version, "v1|v2", """Version of the metadata database. Blank:
        $DOCDB_VERSION, else v1.""")
    docdb_snapshot: Path | None = flag(str, "FILE", """A file of records (JSON array or JSON lines)
        to query instead of the live database; looked for like a query file.""")
    filter_latest: str | None = flag(to_field, "FIELD", """Of the assets that agree in all fields of
        --filter_by, only the one with the greatest value here, such as created.""")
    filter_by: tuple[str, ...] = flag(to_fields, "FIELD,FIELD", """The fields for --filter_latest,
        such as subject.subject_id,session.session_start_time.""", ())
    group_by: tuple[str, ...] = flag(to_fields, "FIELD,FIELD", """One task for all assets that agree
        in these fields, such as subject.subject_id.""", (), heading="Group the assets")
    unwind_list_fields: tuple[str, ...] = flag(to_fields, "FIELD,FIELD", """An asset whose value
        here is a list counts once for each element, in --group_by, --filter_by and --filter_latest,
        such as data_description.modality.abbreviation.""", ())
    drop_null_groups: bool = flag(to_switch, "0|1", """1: skip assets that lack a field to group or
        filter by. 0: keep them as a group of their own.""", True)
    file_extension: str | None = flag(to_suffix, "SUFFIX", """How the names of the files to find
        end, such as nwb (for .nwb), .nwb.zarr or _probe.json; a folder with such a name is one
        file. Blank: none, a task names the asset alone.""", heading="Find the files")
    include: tuple[str, ...] = flag(to_names, "PATTERN,PATTERN", """Only files whose path below the
        asset matches any of these, in which * stands for any letters, slashes too.""", ())
    exclude: tuple[str, ...] = flag(to_names, "PATTERN,PATTERN", """No files whose path below the
        asset matches any of these.""", ())
    split_files: bool = flag(to_switch, "0|1", """1: one task per file. 0: one task per asset, with
        all of its files. Without a file extension, or for grouped assets, it has no effect.""",
        True)
    max_connections: int = flag(to_number, "N", """Maximum number of requests to S3 at the same
        time. 0: as many as help.""", 0)
    no_sign_request: bool = flag(to_switch, "0|1", """1: ask S3 without credentials, as anyone may
        ask public buckets.""", False)
    timeout: int = flag(to_positive, "SECONDS", """How long one attempt at a request to DocDB or S3
        may take; then it is retried, a few times.""", 60)
    analysis_code: str | Path = flag(str, "auto|none|FILE", """What every task says of the code that
        will run it. auto: in a pipeline of Code Ocean, the capsule that --analysis_capsule names,
        with the fixed parameters; elsewhere nothing. none: nothing. FILE: the code in this file, a
        Code of aind-data-schema as JSON; looked for like a query file.""", "auto",
        heading="Say what will run")
    analysis_capsule: str = flag(to_string, "NAME", """The capsule of the running pipeline that will
        run the tasks: its id, or a part of its name in the pipeline.""", "wrapper")
    skip_processed: bool = flag(to_switch, "0|1", """1: leave out the tasks whose result is in the
        results store already. Needs the code of the analysis, $DOCDB_HOST, $DOCDB_DATABASE and
        $DOCDB_COLLECTION.""", False)
    skip_dispatched: tuple[str, ...] = flag(to_names, "FOLDER,FOLDER", """Leave out the tasks that
        are in the worker folders of earlier dispatches, in these output folders.""", ())
    max_tasks: int = flag(to_number, "N", "Only the first N tasks, to try an analysis. 0: all.", 0,
        heading="Share out the work", also="--max_number_of_tasks_dispatched")
    max_jobs: int | None = flag(to_positive, "N", """Maximum number of worker folders. Blank: as
        many as --tasks_per_job takes; without that too, one for each task that says its code, else
        50.""", also="--num_parallel_workers")
    tasks_per_job: int | None = flag(to_positive, "N", """N tasks in each worker folder; with
        --max_jobs at least N, and with --balance_by size N on the average.""")
    balance_by: str = flag(to_measure, "count|size", """What is shared out evenly. count: the tasks,
        in their order. size: the bytes of their files; needs --file_extension.""", "count")
    dry_run: bool = flag(to_switch, "0|1", """1: dispatch nothing, but show what would be: the first
        tasks on the terminal, all of them in dispatch_plan.csv and dispatch_plan.html in the output
        folder.""", False, heading="Folders and safety")
    input_directory: Path = flag(to_input_folder, "FOLDER", """Where the CSV, query, parameter and
        snapshot files are looked for.""", ROOT / "data")
    output_directory: Path = flag(to_path, "FOLDER", "Where the worker folders are written.", ROOT /
        "results")
    overwrite: bool = flag(to_switch, "0|1", "1: replace the worker folders of an earlier run.",
        False)
    strict: bool = flag(to_switch, "0|1", """1: fail when an asset or id would be skipped, instead
        of going on without it.""", False)
    # fmt: on

    # What is no flag itself:
    own_filter: Record = field(default_factory=dict)  # of --query
    whole_filter: Record | None = None  # of all flags that choose records; None: a list does
    asset_list: AssetList | None = None
    argv: tuple[str, ...] = ()  # the flags as they were given

    @property
    def choices(self) -> list[Choice]:
        """What the flags of the form ask for."""
        choices = []
        if self.project_name:
            choices.append(Choice(PROJECT, (self.project_name,)))
        if self.subject_id:
            choices.append(Choice(SUBJECT, self.subject_id))
        if self.modality:
            choices.append(Choice(MODALITY, self.modality))
        if self.data_level:
            choices.append(Choice(LEVEL, (self.data_level,)))
        if self.session_from or self.session_to:
            choices.append(Days(DATE, (), self.session_from, self.session_to))
        return choices

    @property
    def fields_in_use(self) -> tuple[str, ...]:
        """The fields of a record that the flags for filtering and grouping read."""
        latest = (self.filter_latest,) if self.filter_latest else ()
        return (*latest, *self.filter_by, *self.group_by)

    @property
    def no_code(self) -> str | None:
        """Why the tasks do not say which code will run them; None if they do."""
        if self.analysis_code == "auto":
            return not_set(PIPELINE)
        return "--analysis_code none" if self.analysis_code == "none" else None


QUERY_FLAGS = ("query", "project_name", "subject_id", "modality", "data_level", "session_from",
               "session_to")  # fmt: skip
LIST_FLAGS = ("use_data_asset_csv", "asset_id", "asset_name")
LIMITING_FLAGS = ("max_tasks", "max_number_of_tasks_dispatched")
CHOOSING_FLAGS = (*QUERY_FLAGS, "docdb_query", *LIST_FLAGS)


EPILOG = """\
examples:
  every .nwb file of a subject's assets, one task per file, for at most 50 workers:
    run_capsule.py --query '{"subject.subject_id": "774659"}' --file_extension .nwb

  the latest sorting of each session of a project, one task per subject, only looked at:
    run_capsule.py --project_name "Dynamic Routing" --data_level derived --group_by \\
      subject.subject_id --filter_latest created --filter_by session.session_start_time --dry_run 1

  the assets listed in data_asset_input.csv, shared out among 20 workers by the size of their files:
    run_capsule.py --use_data_asset_csv 1 --file_extension .zarr --max_jobs 20 --balance_by size

A blank value (--flag=) means the default. 0 and 1 may be written false and true, or no and yes; a
list is a,b or ["a", "b"], and joined where it is given twice. Environment: AWS_* as for every AWS
tool, DOCDB_HOST, DOCDB_VERSION, LOG_LEVEL; for --skip_processed DOCDB_DATABASE, DOCDB_COLLECTION;
in a pipeline of Code Ocean CO_PIPELINE_ID, CO_COMPUTATION_ID, CODEOCEAN_API_TOKEN,
CODEOCEAN_DOMAIN."""


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, Flag]]:
    """Return the parser of all flags, and the flags by their names."""
    return build_parser(
        fields(Settings),
        version=f"aind-analysis-job-dispatch {VERSION}",
        prog="run_capsule.py",
        description="Find the data assets that match, and their files, and write one JSON file per"
        " task into one folder per worker.",
        epilog=EPILOG,
    )


def parse_flags(words: Sequence[str]) -> dict[str, Any]:
    """Return the value of every flag; raise BadInput."""
    return parse_words(*make_parser(), words)


def parse_settings(argv: Sequence[str] | None = None) -> Settings:
    """Return the settings that the flags and the environment ask for; raise BadInput."""
    words = sys.argv[1:] if argv is None else argv
    chosen = parse_flags(words)
    folder = chosen["input_directory"]
    if not chosen["docdb_version"]:
        version = os.environ.get("DOCDB_VERSION", "").strip() or "v1"
        try:
            chosen["docdb_version"] = to_version(version)
        except ValueError as error:
            raise BadInput(f"$DOCDB_VERSION {error}, not {version!r}") from None
    given_list = name_list_flag(chosen)
    given = [name for name in QUERY_FLAGS if chosen[name]]
    if given_list:
        for name in given:
            log.warning("--%s is not used: %s says which assets", name, given_list)
    elif not given:
        choices = f"--{', --'.join((*QUERY_FLAGS, *LIST_FLAGS))}"
        raise BadInput(f"no assets chosen: give one of {choices}{hint_on_example(ROOT)}")
    snapshot, code = chosen["docdb_snapshot"], chosen["analysis_code"]
    if snapshot:
        chosen["docdb_snapshot"] = named_file("--docdb_snapshot", snapshot, folder)
    if code not in ("auto", "none"):
        what = "--analysis_code must be auto, none or a file"
        chosen["analysis_code"] = named_file(what, code, folder)
    settings = Settings(**chosen, argv=tuple(words))
    if given_list:
        names, ids = settings.asset_name, settings.asset_id
        settings = replace(settings, asset_list=list_of_assets(names, ids, folder))
    else:
        own = read_query(settings.query, folder) if settings.query else {}
        conditions = [own, *(choice.condition for choice in settings.choices)]
        settings = replace(settings, own_filter=own, whole_filter=combine(conditions))
    check_settings(settings)
    return settings


def name_list_flag(chosen: dict[str, Any]) -> str:
    """Return the flag that gives a list of assets, "" if none does; raise BadInput for two."""
    given = [f"--{name}" for name in LIST_FLAGS if chosen[name]]
    if len(given) > 1:
        raise BadInput(f"{' and '.join(given)} each say which assets: give one of them")
    return "".join(given)


def check_settings(settings: Settings) -> None:
    """Raise BadInput for flags that do not go together."""
    if bool(settings.filter_latest) != bool(settings.filter_by):
        raise BadInput("--filter_latest and --filter_by go together: give both, or neither")
    if settings.balance_by == "size" and not settings.file_extension:
        raise BadInput("--balance_by size needs --file_extension, which says whose bytes count")
    if (settings.include or settings.exclude) and not settings.file_extension:
        raise BadInput("--include and --exclude need --file_extension, whose files they sort")
    keys = {name.replace(".", "__") for name in settings.group_by}
    if len(keys) < len(settings.group_by):
        raise BadInput("--group_by: two fields are one in group_metadata, where . is written as __")
    why = settings.no_code or not_set(RESULTS_STORE)
    if settings.skip_processed and why:
        needed = "the code of the analysis and the place of the results store"
        raise BadInput(f"--skip_processed 1 needs {needed}: {why}")
    for path in settings.unwind_list_fields:
        if not any(f"{name}.".startswith(f"{path}.") for name in settings.fields_in_use):
            log.warning("--unwind_list_fields: nothing is grouped or filtered by %s", path)


# ------------------------------------------------------------------------------------ assets

# Edit here to analyse several assets in one task, where --group_by does not say it. GROUP_FIELDS
# names the fields of the record that your grouping reads (dots reach inside), group_assets returns
# the assets in groups: one task per group. For one task per subject and day:
#
#     GROUP_FIELDS = ("subject.subject_id", "session.session_start_time")
#
#
#     def group_assets(assets: list[Asset]) -> list[list[Asset]]:
#         """Return the assets of each subject and day."""
#         groups = defaultdict(list)
#         for asset in assets:
#             subject = asset.record.get("subject") or {}
#             session = asset.record.get("session") or {}
#             day = str(session.get("session_start_time"))[:10]
#             groups[subject.get("subject_id"), day].append(asset)
#         return list(groups.values())

GROUP_FIELDS: tuple[str, ...] = ()


def group_assets(assets: list[Asset]) -> list[list[Asset]]:
    """Return the assets in groups: those that agree in the fields of --group_by, else each alone.

    Groups are ordered by their values, the assets of each by name.
    """
    if not any(asset.group for asset in assets):
        return [[asset] for asset in assets]
    groups: defaultdict[Any, list[Asset]] = defaultdict(list)
    for asset in assets:
        groups[rank(list(asset.group.values()))].append(asset)
    return [sorted(groups[key], key=attrgetter("name", "record_id")) for key in sorted(groups)]


def choose_assets(
    settings: Settings, database: Database, progress: Progress, listing: Listing | None = None
) -> list[Entry]:
    """Return the assets that the settings ask for, and what is skipped.

    From the CSV, assets come in its order, with the ids it gives. From a query, they are ordered
    by name, then record id, with the first of their ids. Their listing begins as they come.
    """
    asset_list, fields = settings.asset_list, fields_to_ask(settings)
    if asset_list:
        pages = find_listed(database, asset_list, fields)
    else:
        pages = database.find(settings.whole_filter or {}, fields)
    entries: list[Entry] = []
    for page in pages:
        in_page = [read_asset(record, database.folder) for record in page]
        if listing:
            listing.add(in_page)
        entries += in_page
        progress.records += len(page)
        progress.update()
    entries.sort(key=lambda entry: (name_of(entry.record), str(entry.record.get("_id"))))
    if asset_list:
        return pick_listed(asset_list, entries)
    if entries:
        lists = lists_in(settings.own_filter)
        several = [choice for choice in settings.choices if len(choice.values) > 1]
        entries += [
            *skip_values_without_record(database, lists, entries),
            *skip_choices_without_record(database, several, entries),
        ]
    return entries


def fields_to_ask(settings: Settings) -> list[str]:
    """Return the fields of a record that are asked for, none of them inside another one."""
    wanted = {*ASSET_FIELDS, *GROUP_FIELDS, *settings.unwind_list_fields}
    wanted |= beside(settings.fields_in_use) | lists_in(settings.own_filter).keys()
    for choice in settings.choices:
        if len(choice.values) > 1:
            wanted |= set(choice.facet.paths)
    if not settings.drop_null_groups:
        # of a list, a projection gives the objects alone; here the others count as lacking a field
        wanted |= {name.partition(".")[0] for name in settings.unwind_list_fields}
    if settings.dry_run:
        wanted |= fields_shown()
    tops = tuple(f"{name}." for name in wanted)
    return sorted(name for name in wanted if not name.startswith(tops))


def open_database(settings: Settings) -> Database:
    """Return what answers the filter."""
    if settings.whole_filter is not None:
        log.info("the filter: %s", pasteable(settings.whole_filter))
    if settings.docdb_snapshot:
        return open_snapshot(settings.docdb_snapshot)
    return open_docdb(settings.docdb_version, settings.timeout)


def find_assets(
    settings: Settings, database: Database, progress: Progress, listing: Listing | None
) -> list[Entry]:
    """Return the assets with their groups, and what is skipped; their listing is begun."""
    narrowed = settings.filter_latest or settings.group_by  # not all that match are wanted
    entries = choose_assets(settings, database, progress, None if narrowed else listing)
    if settings.whole_filter is not None:
        own, choices = settings.own_filter, settings.choices
        warn_of_bounds(database, own, settings.strict)
        name_untold(database, own, choices)
        if settings.whole_filter and not progress.records:
            explain(database, own, choices)
    unwound, drop_null = settings.unwind_list_fields, settings.drop_null_groups
    fields_by_flag = {
        "--filter_latest": [settings.filter_latest] if settings.filter_latest else [],
        "--filter_by": settings.filter_by,
        "--group_by": settings.group_by,
        "--unwind_list_fields": unwound,
    }
    check_fields(entries, database, fields_by_flag, drop_null)
    if settings.filter_latest:
        latest, by = settings.filter_latest, settings.filter_by
        entries = keep_latest(entries, by, latest, unwound, drop_null)
    if settings.group_by:
        entries = set_groups(entries, settings.group_by, unwound, drop_null)
    return entries


# ------------------------------------------------------------------------------------- files


def make_stores(settings: Settings) -> dict[str, Store]:
    """Return the stores of files, by the schemes of their locations."""
    return {"s3": S3(settings.timeout, settings.no_sign_request), "file": LocalFiles()}


def open_listing(settings: Settings, progress: Progress) -> Listing | None:
    """Return what lists the files of assets side by side; None where none are looked for."""
    if not settings.file_extension:
        return None
    return Listing(
        make_stores(settings),
        settings.file_extension,
        progress,
        selection=Selection(settings.include, settings.exclude),
        weigh=settings.dry_run or settings.balance_by == "size",
        concurrency=Concurrency(settings.max_connections),
        ready=[] if settings.docdb_snapshot else ["s3"],  # while DocDB answers
    )


# ------------------------------------------------------------------------------------- tasks


def make_tasks(
    groups: list[list[Asset]], files: Files | None, settings: Settings, sets: list[Record]
) -> Iterator[Task]:
    """Yield the tasks: one for each group, or where no assets are grouped one for each file.

    `files` is None where none were looked for; an asset without any is left out. Every task comes
    once per set of parameters, if there are any.
    """
    split_files = settings.split_files
    if settings.group_by or GROUP_FIELDS or any(len(group) > 1 for group in groups):
        if split_files and files is not None:
            log.info("assets are grouped: one task per group, so --split_files has no effect")
        split_files = False
    query = query_to_copy(settings.whole_filter)
    for group in groups:
        assets = list({asset.record_id: asset for asset in group}.values())
        sizes: dict[str, int | None] = {}
        parts: list[list[str] | None] = [None]
        if files is not None:
            assets = [asset for asset in assets if files[asset.location]]
            for asset in assets:  # two assets of a group can be at one location
                sizes |= files[asset.location]
            parts = [list(sizes)]
            if split_files:
                parts = [[url] for url in sizes]
        if assets:
            for part, parameters in product(parts, sets or (None,)):
                yield Task(assets, part, size_of(part or [], sizes), parameters, query)


# ----------------------------------------------------------------------------------- workers


def deal(tasks: Sequence[Task], settings: Settings) -> list[list[Task]]:
    """Return the tasks of each worker, shared out by number or by size."""
    if not tasks:
        return []
    most, each = settings.max_jobs, settings.tasks_per_job
    number = number_of_workers(len(tasks), most, each, says_code=not settings.no_code)
    if settings.balance_by == "size":
        workers = deal_by_size(tasks, number)
    elif each and not most:
        workers = deal_in_lots(tasks, each)
    else:
        workers = deal_in_order(tasks, number)
    if not settings.no_code and any(len(tasks) > 1 for tasks in workers):
        log.warning("%s", SHARED_FOLDERS)
    return workers


def show_plan(plan: Plan, settings: Settings) -> None:
    """Write the plan of a dry run into the output folder, and print its first tasks."""
    output = settings.output_directory
    request = Request(
        query=settings.whole_filter,
        argv=settings.argv,
        choosing_flags=CHOOSING_FLAGS,
        limiting_flags=LIMITING_FLAGS,
        lists_names=bool(settings.asset_list and settings.asset_list.by_name),
        keeps_latest=bool(settings.filter_latest),
        input_folder=settings.input_directory,
        output=output,
        overwrite=settings.overwrite,
    )
    with staged(output, overwrite=True) as staging:
        write_table(plan, staging / "dispatch_plan.csv")
        write_page(plan, request, staging / "dispatch_plan.html")
        move_plan(staging, output)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    table = first_tasks(plan, width)
    if settings.whole_filter is not None:
        table = f"filter: {pasteable(settings.whole_filter)}\n{table}"
    try:
        print(table, flush=True)
    except OSError:  # a pipe that is closed, a disk that is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# -------------------------------------------------------------------------------------- main


def dispatch(settings: Settings) -> None:
    """Do what the settings ask for, from records to worker folders."""
    started = time.monotonic()
    output = settings.output_directory
    with writing_to(output):
        recover(output)
        check_output(output, settings.overwrite or settings.dry_run)
    plan = make_plan(settings)
    done = "dispatched to" if plan.workers else "nothing new to dispatch to"
    summary = summarise(
        plan,
        by_size=settings.balance_by == "size",
        tells_processed=settings.skip_processed,
        tells_dispatched=bool(settings.skip_dispatched),
    )
    with writing_to(output):
        if settings.dry_run:
            show_plan(plan, settings)
            done = "dry run, nothing is dispatched, the plan is in"
        else:
            write_workers(plan.workers, output, settings.overwrite)
    log.info("%s %s: %s, %.1f s", done, output, summary, time.monotonic() - started)


def make_plan(settings: Settings) -> Plan:
    """Return what the settings ask for, from records to the tasks of each worker."""
    fixed, sets = read_parameters(settings.input_directory)
    question = ask_for_code(settings, fixed, sets)  # while DocDB and S3 answer
    database = open_database(settings)
    progress = Progress()
    listing = open_listing(settings, progress)
    files = None
    try:
        entries = find_assets(settings, database, progress, listing)
        groups = group_assets(assets_in(entries))
        if listing:
            listing.add(entries)
            begin(task_model)  # while S3 answers
            files = listing.files()
            listing.selection.report(listing.extension)
    finally:
        progress.close()
        if listing:
            listing.close()
    entries += skip_assets(assets_in(entries), groups, files, settings)
    report_skipped(skips_in(entries), settings.strict)
    process = result_of(question) if question else None
    if not process and fixed:  # the tasks are where a worker finds its parameters
        log.info("the tasks do not say their code (%s): %s", settings.no_code, MERGED)
        sets = [{**fixed, **one} for one in sets or [{}]]
    tasks = render_tasks(make_tasks(groups, files, settings, sets), process, fixed)
    name_twins(tasks, settings.strict)
    if not tasks:
        raise FailedRun(f"nothing to dispatch: {summarise_records(progress.records, entries)}")
    tasks, dispatched = set_apart_dispatched(tasks, settings.skip_dispatched)
    processed: list[Task] = []
    if settings.skip_processed and tasks:
        tasks, processed = set_apart_processed(tasks, settings.timeout)
    left_out = 0
    if settings.max_tasks and len(tasks) > settings.max_tasks:
        left_out = len(tasks) - settings.max_tasks
        log.warning("--max_tasks %d: %s left out", settings.max_tasks, plural(left_out, "task"))
    workers = deal(tasks[: len(tasks) - left_out], settings)
    return Plan(progress.records, entries, files, workers, processed, left_out, dispatched)


def skip_assets(
    assets: list[Asset], groups: list[list[Asset]], files: Files | None, settings: Settings
) -> list[Skip]:
    """Return a skip for each asset that no task will stand for; hint on files, if there is none."""
    if assets and files is not None and not any(files.values()):
        name_endings(partial(make_stores, settings), assets)
    no_files = f"no {settings.file_extension} file"
    if settings.include or settings.exclude:
        no_files += " that --include and --exclude leave"
    return skip_without_task(assets, groups, files, no_files)


def ask_for_code(
    settings: Settings, fixed: Record, sets: list[Record]
) -> Future[DataProcess] | None:
    """Begin to ask what code will run the tasks; None where they do not say that."""
    if settings.no_code:
        return None
    check_parameters(fixed, sets)
    file = settings.analysis_code if isinstance(settings.analysis_code, Path) else None
    panel = Panel(fixed, sets, is_to_be_known=settings.skip_processed)
    return begin_find_process(file, settings.analysis_capsule, panel, settings.timeout)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    signals.listen()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where the terminal is not in UTF-8
    configure_log()
    gc.freeze()
    gc.set_threshold(*FEW_COLLECTIONS)
    try:
        dispatch(parse_settings(argv))
        signals.ignore()  # done: none may change the status
        return 0
    except Exception as error:
        fault = str(error)
        if isinstance(error, ModuleNotFoundError):
            fault = f"a Python package is missing ({error}): environment/run.sh installs it"
        elif not isinstance(error, BadInput | FailedRun):
            fault = f"{type(error).__name__}: {error} (LOG_LEVEL=DEBUG shows where)"
        with suppress(OSError, ValueError):  # closed by its reader
            if log.isEnabledFor(logging.DEBUG):
                print(*map(echo, traceback.format_exc().splitlines()), sep="\n", file=sys.stderr)
            logging.disable()  # what still ends in another thread says nothing after the last line
            print(f"error: {one_line(without_secrets(fault))}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1


if __name__ == "__main__":
    status = main()
    with suppress(OSError, ValueError):  # closed by its reader
        sys.stdout.flush()
    # else modules take 46 ms to be taken apart, and threads that were given up hold the process
    os._exit(status)
