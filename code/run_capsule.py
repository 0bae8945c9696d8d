#!/usr/bin/env python3
"""Dispatch an analysis: ask which data assets match, find their files, deal them out to workers.

Read this file from top to bottom: what you may edit, and then the order in which the data flows.

    flags      become one Settings, and those that choose records one filter
    records    DocDB, or a file of records, says which ones match
    assets     each record becomes an Asset, or a Skip that says why it is none; group_assets,
               for you to edit, says which of them share a task
    files      the objects and folders of each asset that have the suffix, from S3
    tasks      a group with its files becomes one task, or one task per file, per parameter set
    workers    tasks are dealt out, one numbered folder per worker
    plan       all of that in a row, or the tasks of an earlier plan; what is left out of them
    main       the plan is shown, or written as JSON files; the closing line, the exit status

Exit status: 0 dispatched, 2 the input is wrong, 1 the run failed, 130 and 143 a signal ended it.
What a step cannot do it raises as BadInput or FailedRun, and main alone turns that into one line
and a status. What the steps stand on is in the folder dispatch, a room for each concern.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - all else is written in its words
    what = f"Python 3.11 or newer is needed, and this is {sys.version.split()[0]}"
    print(f"error: {what}: bash environment/run.sh finds one, or PYTHON names it", file=sys.stderr)
    sys.exit(2)
try:
    from dispatch.terminal import signals
except ImportError:
    sys.exit("error: the folder dispatch must lie beside run_capsule.py, and Python look there")
if __name__ == "__main__":
    signals.listen()  # before the other imports, which take 80 ms

import argparse
import gc
import io
import logging
import os
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from itertools import chain, product
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.assets.asset_list import find_listed, list_of_assets, pick_listed
from dispatch.assets.assets import (
    ASSET_FIELDS,
    Asset,
    Chosen,
    Entry,
    Skip,
    assets_in,
    name_of,
    read_asset,
    skips_in,
)
from dispatch.assets.choosing import check_fields, skip_values_without_record
from dispatch.assets.grouping import keep_latest, set_groups
from dispatch.assets.hints import explain, name_endings, warn_of_bounds
from dispatch.assets.sessions import begin_asking, keep_by_session, lacks_nothing
from dispatch.assets.untold import name_untold
from dispatch.files.concurrency import Concurrency
from dispatch.files.listing import Files, Listing
from dispatch.files.selection import Selection
from dispatch.files.skips import no_files_in_words, report_skipped, skip_without_task
from dispatch.given.filters import combine, lists_in
from dispatch.given.flags import (
    Flag,
    build_parser,
    one_given,
    parse_words,
    version_of_environment,
)
from dispatch.given.inputs import hint_on_example, named_file, read_parameters, read_query
from dispatch.given.values import Record, day_after, first_day, pasteable, rank
from dispatch.plan.choices import fields_shown
from dispatch.plan.commands import Request
from dispatch.plan.earlier import compare, set_apart_dispatched, tell_difference
from dispatch.plan.file import Head, write_plan
from dispatch.plan.on_terminal import show_first_tasks
from dispatch.plan.page import write_page
from dispatch.plan.plan import Found, Plan, summarise, summarise_records
from dispatch.plan.table import write_table
from dispatch.plan.taken import ids_named, plan_named, take_tasks
from dispatch.records.docdb import open_docdb
from dispatch.records.named import Named
from dispatch.records.schema import NAMES, SESSION_NAME, name_at
from dispatch.records.snapshot import open_snapshot
from dispatch.records.vocabulary import in_full
from dispatch.settings import (
    CHOOSING_FLAGS,
    EPILOG,
    LIMITING_FLAGS,
    LIST_FLAGS,
    QUERY_FLAGS,
    ROOT,
    Settings,
    refuse_settled,
)
from dispatch.stores.closed import FileNames
from dispatch.stores.kinds import make_stores, network_schemes
from dispatch.tasks.analysis_code import (
    MERGED,
    Panel,
    begin_find_process,
    check_parameters,
    not_set,
)
from dispatch.tasks.output import (
    check_output,
    move_plan,
    recover,
    staged,
    write_workers,
    writing_to,
)
from dispatch.tasks.results import (
    RESULTS_STORE,
    limit_leaves_out,
    name_twins,
    set_apart_processed,
)
from dispatch.tasks.sharing import Sharing, share_out
from dispatch.tasks.tasks import (
    Task,
    query_to_copy,
    render_tasks,
    size_of,
    task_model,
)
from dispatch.terminal.messages import (
    BadInput,
    FailedRun,
    configure_log,
    echo,
    end_log,
    log,
    one_line,
    plural,
)
from dispatch.terminal.process import as_it_was
from dispatch.terminal.progress import Progress
from dispatch.terminal.secrets import without_secrets
from dispatch.terminal.waiting import begin, result_of

if TYPE_CHECKING:
    from aind_data_schema.core.processing import DataProcess

VERSION = "1.0.0"
FEW_COLLECTIONS = (1_000_000, 20, 100)  # of garbage, of which there is little: else a third more

# -------------------------------------------------------------------------------- what you may edit

# Edit here to analyse several assets in one task, where --group_by does not say it. GROUP_FIELDS
# names the fields that your grouping reads, by names that all records answer to or by paths (dots
# reach inside), group_assets returns the assets in groups: one task per group. For one task per
# subject and day:
#
#     GROUP_FIELDS = ("subject_id", "session_day")
#
#
#     def group_assets(assets: list[Asset]) -> list[list[Asset]]:
#         """Return the assets of each subject and day."""
#         groups = defaultdict(list)
#         for asset in assets:
#             groups[asset.value("subject_id"), asset.value("session_day")].append(asset)
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


# -------------------------------------------------------------------------------------------- flags


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
    chosen["compare_with"] = plan_named("--compare_with", chosen["compare_with"], folder)
    if chosen["from_plan"] or chosen["task_id"]:
        return settings_with_plan(chosen, words)
    chosen["docdb_version"] = chosen["docdb_version"] or version_of_environment()
    given_list = one_given(LIST_FLAGS, chosen, "say which assets")
    given = [name for name in QUERY_FLAGS if chosen[name]]
    if given_list:
        for name in given:
            log.warning("--%s is not used: %s says which assets", name, given_list)
    elif not (given or chosen["records"]):
        choices = f"--{', --'.join((*QUERY_FLAGS, *LIST_FLAGS))}"
        raise BadInput(f"no assets chosen: give one of {choices}{hint_on_example(ROOT)}")
    records, code = chosen["records"], chosen["analysis_code"]
    if records:
        chosen["records"] = named_file("--records", records, folder)
    if code not in ("auto", "none"):
        what = "--analysis_code must be auto, none or a file"
        chosen["analysis_code"] = named_file(what, code, folder)
    settings = Settings(**chosen, argv=tuple(words))
    if given_list:
        settings = replace(settings, asset_list=list_of_assets(settings.asset, folder))
    else:
        own = read_query(settings.query, folder) if settings.query else {}
        whole = combine([own, *settings.choices])
        settings = replace(settings, own_filter=own, whole_filter=whole)
    filters: dict[str, Record] = {}
    for flag, value in settings.session_flags.items():
        filters[flag] = read_query(value, folder, flag)
    for one in (settings.whole_filter or {}, *filters.values()):
        in_full(one, NAMES)  # else an error comes late
    settings = replace(settings, session_filters=filters)
    check_settings(settings)
    return settings


def settings_with_plan(chosen: dict[str, Any], words: Sequence[str]) -> Settings:
    """Return the settings of a run whose tasks are those of a plan; raise BadInput."""
    if not chosen["from_plan"]:
        raise BadInput("--task_id needs --from_plan, which says of which plan the tasks are")
    refuse_settled(chosen, words)
    folder, why = chosen["input_directory"], not_set(RESULTS_STORE)
    chosen["from_plan"] = plan_named("--from_plan", chosen["from_plan"], folder)
    chosen["task_id"] = ids_named(chosen["task_id"], folder)
    if chosen["skip_processed"] and why:
        raise BadInput(f"--skip_processed 1 needs the place of the results store: {why}")
    return Settings(**chosen, argv=tuple(words))


def check_settings(settings: Settings) -> None:
    """Raise BadInput for flags that do not go together."""
    if bool(settings.filter_latest) != bool(settings.filter_by):
        raise BadInput("--filter_latest and --filter_by go together: give both, or neither")
    if settings.balance_by == "size" and not settings.file_extension:
        raise BadInput("--balance_by size needs --file_extension, which says whose bytes count")
    first, last = settings.session_from, settings.session_to
    if first and last and first_day(first) >= day_after(last):
        raise BadInput(f"--session_from {first} is after --session_to {last}: exchange them")
    for name in ("include", "exclude", "sidecar", "min_size"):
        if getattr(settings, name) and not settings.file_extension:
            raise BadInput(f"--{name} needs --file_extension, which says what files to find")
    both = set(settings.sidecar) & set(settings.file_extension)
    if both:
        raise BadInput(f"--sidecar: {min(both)} is the --file_extension, and not what lies beside")
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


# ------------------------------------------------------------------------------------------ records


def open_database(settings: Settings) -> Named:
    """Return what answers the filter."""
    if settings.records:
        snapshot = open_snapshot(settings.records)
        return Named(snapshot, snapshot.fields())
    return Named(open_docdb(settings.docdb_version, settings.timeout))


def ask_in_full(settings: Settings, database: Named) -> Settings:
    """Return the settings with the filter as MongoDB is asked; log it."""
    named = settings.whole_filter
    if named is None:
        return settings
    whole = database.in_full(named)
    log.info("the filter: %s", pasteable(whole))
    if whole != named:
        log.info("it asks in the shapes of all records what was given: %s", pasteable(named))
    return replace(settings, asked_filter=whole)


def fields_to_ask(settings: Settings) -> list[str]:
    """Return the fields that records are asked for, by their names and paths."""
    wanted = {*ASSET_FIELDS, *GROUP_FIELDS, *settings.unwind_list_fields, *settings.fields_in_use}
    for path in settings.fields_in_use:
        name = name_at(path)  # which tells where other records hold it
        if name:
            wanted.add(name.name)
    for condition in (settings.own_filter, *settings.choices):
        wanted |= lists_in(condition).keys()
    if settings.session_filters:
        wanted.add(SESSION_NAME.name)
    if not settings.drop_null_groups:
        # of a list, a projection gives the objects alone; here the others count as lacking a field
        wanted |= {name.partition(".")[0] for name in settings.unwind_list_fields}
    if settings.dry_run:
        wanted |= fields_shown()
    return sorted(wanted)


# ------------------------------------------------------------------------------------------- assets


def choose_assets(
    settings: Settings, database: Named, progress: Progress, listing: Listing | None = None
) -> Chosen:
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
    for page in pages:  # of which each record is one entry
        in_page = [read_asset(record, database.folder, database.names) for record in page]
        if listing:
            listing.add(in_page)
        entries += in_page
        progress.records = len(entries)
        progress.update()
    matched = len(entries)
    entries.sort(key=lambda entry: (name_of(entry.record), str(entry.record.get("_id"))))
    if asset_list:
        return Chosen(matched, pick_listed(asset_list, entries))
    if entries:
        conditions = [settings.own_filter, *settings.choices]
        entries += skip_values_without_record(database, conditions, entries)
    return Chosen(matched, entries)


def find_assets(
    settings: Settings, database: Named, progress: Progress, listing: Listing | None
) -> Chosen:
    """Return the assets with their groups, and what is skipped; their listing is begun."""
    sessions = settings.session_filters
    narrowed = sessions or settings.filter_latest or settings.group_by  # not all that match count
    questions = {flag: begin_asking(database, one) for flag, one in sessions.items()}
    chosen = choose_assets(settings, database, progress, None if narrowed else listing)
    help_to_choose(settings, database, chosen.matched)
    entries = chosen.entries
    for flag, question in questions.items():
        entries = keep_by_session(entries, database, flag, sessions[flag], question)
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
    return replace(chosen, entries=entries)


def help_to_choose(settings: Settings, database: Named, matched: int) -> None:
    """Log what the filter leaves out without a word, and why nothing matches."""
    if settings.whole_filter is None:
        return
    own, choices = settings.own_filter, settings.choices
    warn_of_bounds(database, own, settings.strict)
    name_untold(database, own, choices)
    if settings.whole_filter and not matched:
        explain(database, [own, *choices])


# -------------------------------------------------------------------------------------------- files


def options_of_stores(settings: Settings) -> dict[str, Any]:
    """Return what the flags say of how stores are asked."""
    return {
        "timeout": settings.timeout,
        "no_sign_request": settings.no_sign_request,
        "keys_in_order": settings.keys_in_order,
    }


def open_listing(settings: Settings, progress: Progress) -> Listing | None:
    """Return what lists the files of assets side by side; None where none are looked for."""
    if not settings.file_extension:
        return None
    return Listing(
        make_stores(**options_of_stores(settings)),
        FileNames(settings.file_extension, settings.sidecar),
        progress,
        selection=Selection(settings.include, settings.exclude, settings.min_size),
        weigh=settings.dry_run or settings.balance_by == "size",
        concurrency=Concurrency(settings.max_connections),
        ready=[] if settings.records else network_schemes(),  # while DocDB answers
    )


# -------------------------------------------------------------------------------------------- tasks


def make_tasks(
    groups: list[list[Asset]],
    files: Files | None,
    settings: Settings,
    sets: list[Record],
    together: Mapping[str, list[list[str]]] | None = None,
) -> Iterator[Task]:
    """Yield the tasks: one for each group, or where no assets are grouped one for each file.

    `files` is None where none were looked for; an asset without any is left out. Of files that have
    others beside them, those `together` share a task. Every task comes once per set of parameters,
    if there are any.
    """
    split_files = settings.split_files
    if settings.group_by or GROUP_FIELDS or any(len(group) > 1 for group in groups):
        if split_files and files is not None:
            log.info("assets are grouped: one task per group, so --split_files has no effect")
        split_files = False
    query = query_to_copy(settings.asked_filter)
    for group in groups:
        assets = list({asset.record_id: asset for asset in group}.values())
        sizes: dict[str, int | None] = {}
        parts: list[list[str] | None] = [None]
        if files is not None:
            assets = [asset for asset in assets if files[asset.location]]
            for asset in assets:  # two assets of a group can be at one location
                sizes |= files[asset.location]
            parts = [list(sizes)]
            if split_files and together:
                parts = list(chain.from_iterable(together[asset.location] for asset in assets))
            elif split_files:
                parts = [[url] for url in sizes]
        if assets:
            for part, parameters in product(parts, sets or (None,)):
                yield Task(assets, part, size_of(part or [], sizes), parameters, query)


# ------------------------------------------------------------------------------------------ workers


def deal(tasks: Sequence[Task], found: Found, settings: Settings) -> list[list[Task]]:
    """Return the tasks of each worker, as a plan has dealt them, or shared out as is asked for."""
    before = {} if settings.is_dealt_anew else found.workers
    most, each, by_size = settings.max_jobs, settings.tasks_per_job, settings.balance_by == "size"
    return share_out(tasks, Sharing(most, each, by_size, found.no_code, before))


# --------------------------------------------------------------------------------------------- plan


def find_tasks(settings: Settings) -> Found:
    """Return the tasks that the settings ask for, from records on."""
    fixed, sets = read_parameters(settings.input_directory)
    question = ask_for_code(settings, fixed, sets)  # while DocDB and S3 answer
    database = open_database(settings)
    settings = ask_in_full(settings, database)
    progress = Progress()
    listing = open_listing(settings, progress)
    files = None
    try:
        chosen = find_assets(settings, database, progress, listing)
        entries = chosen.entries
        groups = group_assets(assets_in(entries))
        if listing:
            listing.add(entries)
            begin(task_model)  # while S3 answers
            files = listing.files()
            listing.selection.report(settings.file_extension)
    finally:
        progress.close()
        if listing:
            listing.close()
    together, skips = (listing.together, listing.skips) if listing else ({}, {})
    entries += skip_assets(assets_in(entries), groups, files, settings, skips)
    report_skipped(skips_in(entries), settings.strict)
    process = result_of(question) if question else None
    if not process and fixed:  # the tasks are where a worker finds its parameters
        log.info("the tasks do not say their code (%s): %s", settings.no_code, MERGED)
        sets = [{**fixed, **one} for one in sets or [{}]]
    tasks = render_tasks(make_tasks(groups, files, settings, sets, together), process, fixed)
    if not tasks and not lacks_nothing(entries):
        raise FailedRun(f"nothing to dispatch: {summarise_records(chosen.matched, entries)}")
    no_code, query = settings.no_code, settings.asked_filter
    return Found(tasks, entries, chosen.matched, files, no_code, query, database.names)


def make_plan(found: Found, settings: Settings) -> Plan:
    """Return what is left out of the tasks that there are, and who gets the others."""
    name_twins(found.tasks, settings.strict)
    replaced = settings.output_directory if not settings.dry_run else None
    tasks, dispatched = set_apart_dispatched(found.tasks, settings.skip_dispatched, replaced)
    processed: list[Task] = []
    skips = settings.skip_processed
    if settings.max_tasks and not skips:
        skips = limit_leaves_out(settings.argv, found.no_code)
    if skips and tasks:
        tasks, processed = set_apart_processed(tasks, settings.timeout)
    limit = settings.max_tasks or len(tasks)
    chosen, over = tasks[:limit], tasks[limit:]
    if over:
        log.warning("--max_tasks %d: %s left out", limit, plural(len(over), "task"))
    workers = deal(chosen, found, settings)
    left_out = {"processed": processed, "dispatched": dispatched, "over the limit": over}
    comparison = compare(chosen, settings.compare_with, left_out)
    return Plan(
        matched=found.matched,
        entries=found.entries,
        files=found.files,
        workers=workers,
        processed=processed,
        left_out=len(over),
        dispatched=dispatched,
        query=found.query,
        names=found.names,
        taken_from=found.taken_from,
        comparison=comparison,
    )


def skip_assets(
    assets: list[Asset],
    groups: list[list[Asset]],
    files: Files | None,
    settings: Settings,
    skips: Mapping[str, list[Skip]],
) -> list[Skip]:
    """Return the skips of files, and one for each other asset that no task will stand for.

    Those of files come by their locations. Where no file is found, a hint tells what names end in.
    """
    if assets and files is not None and not any(files.values()):
        name_endings(partial(make_stores, **options_of_stores(settings)), assets)
    has_patterns = bool(settings.include or settings.exclude)
    no_files = no_files_in_words(settings.file_extension, has_patterns, settings.min_size)
    without_task = skip_without_task(assets, groups, files, no_files, skips)
    return [*chain.from_iterable(skips.values()), *without_task]


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


def show_plan(plan: Plan, head: Head, settings: Settings) -> None:
    """Write the plan of a dry run into the output folder, and print its first tasks."""
    output = settings.output_directory
    request = Request(
        query=plan.query,
        argv=settings.argv,
        choosing_flags=CHOOSING_FLAGS,
        limiting_flags=LIMITING_FLAGS,
        asset_list=settings.asset_list,
        keeps_latest=bool(settings.filter_latest),
        max_jobs=settings.max_jobs,
        tasks_per_job=settings.tasks_per_job,
        by_size=settings.balance_by == "size",
        group_by=settings.group_by,
        unwound=settings.unwind_list_fields,
        input_folder=settings.input_directory,
        output=output,
        overwrite=settings.overwrite,
    )
    with staged(output, overwrite=True) as staging:
        write_table(plan, staging / "dispatch_plan.csv")
        write_page(plan, request, staging / "dispatch_plan.html")
        write_plan(plan, head, staging / "dispatch_plan.jsonl")
        move_plan(staging, output)
    show_first_tasks(plan)


# --------------------------------------------------------------------------------------------- main


def dispatch(settings: Settings) -> None:
    """Do what the settings ask for, from records to worker folders."""
    started = time.monotonic()
    output = settings.output_directory
    with writing_to(output):
        recover(output)
        check_output(output, settings.overwrite or settings.dry_run)
    if settings.from_plan:
        found = take_tasks(settings.from_plan, settings.task_id, settings.strict)
    else:
        found = find_tasks(settings)
    plan = make_plan(found, settings)
    head = Head(VERSION, settings.argv, found.origin)
    done = "dispatched to" if plan.workers else "nothing new to dispatch to"
    summary = summarise(
        plan,
        by_size=settings.balance_by == "size",
        tells_processed=settings.skip_processed or bool(plan.processed),
        tells_dispatched=bool(settings.skip_dispatched),
    )
    with writing_to(output):
        if settings.dry_run:
            show_plan(plan, head, settings)
            done = "dry run, nothing is dispatched, the plan is in"
        else:
            tell_difference(plan.tasks, output)
            write = partial(write_plan, plan, head)
            write_workers(plan.workers, output, settings.overwrite, write)
    log.info("%s %s: %s, %.1f s", done, output, summary, time.monotonic() - started)


def run(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    configure_log()
    try:
        dispatch(parse_settings(argv))
        return 0
    except Exception as error:
        fault = str(error)
        if isinstance(error, ModuleNotFoundError):
            fault = f"a Python package is missing ({error}): bash environment/run.sh installs it"
        elif not isinstance(error, BadInput | FailedRun):
            fault = f"{type(error).__name__}: {error} (LOG_LEVEL=DEBUG shows where)"
        with suppress(OSError, ValueError):  # closed by its reader
            if log.isEnabledFor(logging.DEBUG):
                print(*map(echo, traceback.format_exc().splitlines()), sep="\n", file=sys.stderr)
            end_log()
            print(f"error: {one_line(without_secrets(fault))}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program in a process that goes on, and stays as it was; return the exit status."""
    with as_it_was():
        return run(argv)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where the terminal is not in UTF-8
    gc.freeze()
    gc.set_threshold(*FEW_COLLECTIONS)
    status = run()
    signals.ignore()  # done: none may change the status
    with suppress(OSError, ValueError):  # closed by its reader
        sys.stdout.flush()
    # else modules take 46 ms to be taken apart, and threads that were given up hold the process
    os._exit(status)
