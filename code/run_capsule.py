#!/usr/bin/env python3
"""Dispatch an analysis: ask which data assets match, find their files, deal them out to workers.

Read this file from top to bottom, in the order in which the data flows:

    settings   the flags become one Settings, and those that choose records one filter
    records    DocDB, or a snapshot of it, says which records match
    assets     a record becomes an Asset, or a Skip that says why it is none
    groups     older assets are skipped; group_assets, for you to edit, says what shares a task
    files      the objects and folders of each asset that have the suffix, from S3
    tasks      a group with its files becomes one task, or one task per file, per parameter set
    workers    tasks become JSON files in numbered folders, one folder per worker
    main       the steps in a row, the closing line, the exit status

Exit status: 0 dispatched, 2 the input is wrong, 1 the run failed, 130 and 143 a signal ended it.
What a step cannot do it raises as BadInput or FailedRun, and main alone turns that into one line
and a status. What only some runs need is in dispatch_plan.py: the plan of a dry run, the CSV,
snapshots, the code of the analysis, hints. Slow imports stand where they are used.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import glob
import hashlib
import hmac
import io
import json
import logging
import math
import os
import random
import re
import resource
import shutil
import signal
import ssl
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from itertools import chain, pairwise, product
from operator import attrgetter
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

if TYPE_CHECKING:
    from aind_data_schema.core.processing import DataProcess
    from aiohttp import ClientResponse, ClientSession
    from pydantic import BaseModel
    from requests.exceptions import HTTPError
    from tqdm import tqdm

    from dispatch_plan import Snapshot

VERSION = "1.0.0"
ROOT = Path(__file__).resolve().parent.parent  # in Code Ocean: /, so that this is /data, /results

log = logging.getLogger("dispatch")

Record = dict[str, Any]
T = TypeVar("T")


class BadInput(Exception):
    """What the user gave is wrong."""


class FailedRun(Exception):
    """The input is fine, but the run cannot be completed."""


# How the log and the errors word what they show.

NAMES_IN_LOG = 20
SECRETS = ("CODEOCEAN_API_TOKEN", "GIT_ACCESS_TOKEN")


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_of(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def shorten(string: str, length: int = 200) -> str:
    """Return the beginning of a string."""
    return string if len(string) <= length else f"{string[:length]}..."


def excerpt(string: str, length: int = 60) -> str:
    """Return the beginning of a string, quoted."""
    return repr(shorten(string, length))


def reason_of(fault: BaseException) -> str:
    """Return what an exception says, and where in the input the fault is."""
    if isinstance(fault, SyntaxError):
        return f"{fault.msg}: line {fault.lineno} column {fault.offset}"
    return str(fault).partition(": <")[0] or type(fault).__name__  # without an object's address


def without_secrets(string: str) -> str:
    """Return a string without tokens, and without the user and password of a URL in it."""
    for name in SECRETS:
        if secret := os.environ.get(name, "").strip():
            string = string.replace(secret, "...")
    return re.sub(r"(?<=://)[^/@\s]+@", "...@", string)


def one_line(string: str) -> str:
    """Return a string with everything that is not printed as itself written as an escape."""
    hidden = [c for c in string if not c.isprintable()]
    return string.translate({ord(c): c.encode("unicode_escape").decode() for c in hidden})


def log_first(level: int, prefix: str, names: Sequence[str]) -> None:
    """Log the first names, each on a line, and how many more there are."""
    more = [f"and {len(names) - NAMES_IN_LOG} more"] if len(names) > NAMES_IN_LOG else []
    for name in [*names[:NAMES_IN_LOG], *more]:
        log.log(level, "%s: %s", prefix, name)


# ---------------------------------------------------------------------------------- settings

# Converters of the values of flags. What they raise as ValueError follows the flag in the error.


def matching(pattern: str, what: str, convert: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """Return a converter of the values that match a pattern, which are `what` the flag must be."""

    def convert_match(value: str) -> Any:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {what}")
        return convert(value)

    return convert_match


switch = matching(
    "(?i)0|1|false|true|no|yes",
    "0 or 1, false or true, no or yes",
    lambda value: value.lower() in ("1", "true", "yes"),
)
whole = matching("[0-9]{1,9}", "a whole number from 0 to 999999999", int)
positive = matching("(?!0+$)[0-9]{1,9}", "a whole number from 1 to 999999999", int)
version = matching("v1|v2", "v1 or v2")
level = matching("raw|derived", "raw or derived")
measure = matching("count|size", "count or size")
suffix = matching(
    r"[^/*?\[\]]*",
    "the end of a name, such as .nwb, without any of / * ? [ ]",
    lambda value: f".{value}" if value[0].isalnum() and "." not in value else value,
)


def valid_string(value: str) -> str:
    """Convert a string that can be sent; what a terminal passes need not be valid."""
    try:
        value.encode()
    except UnicodeError:
        raise ValueError("must be valid UTF-8") from None
    return value


def name_list(value: str) -> tuple[str, ...]:
    """Convert names that are separated by commas, or a JSON list; repeated ones count once."""
    names = [part.strip().strip("\"'`") for part in value.split(",")]
    if value.startswith("["):
        try:
            items = read_value(value)
            if not isinstance(items, list) or not {type(item) for item in items} <= {str, int}:
                raise ValueError
            names = [str(item) for item in items]
        except (ValueError, BadInput):
            example = '["a", "b"], or the values alone: a,b'
            raise ValueError(f"must be a JSON list such as {example}") from None
    unique = tuple(dict.fromkeys(filter(None, (name.strip() for name in names))))
    if names and not unique:
        raise ValueError("must be one or more values, separated by commas")
    return tuple(map(valid_string, unique))


def field_list(value: str) -> tuple[str, ...]:
    """Convert names of fields of a record, separated by commas."""
    names = name_list(value)
    if not all(re.fullmatch(r"[^.$][^.]*(\.[^.$][^.]*)*", name) for name in names):
        raise ValueError("must be fields such as subject.subject_id, separated by commas")
    return names


def field_name(value: str) -> str:
    """Convert the name of a field of a record."""
    names = field_list(value)
    if len(names) != 1:
        raise ValueError("must be one field, such as created")
    return names[0]


def home_path(value: str) -> Path:
    """Convert a path; ~ and ~name at its start are home folders."""
    return Path(os.path.expanduser(value))


def input_folder(value: str) -> Path:
    """Convert the path of an existing folder."""
    folder = home_path(value)
    if not os.path.isdir(folder):
        raise ValueError("must be an existing folder")
    return folder


def flag(
    convert: Callable[[str], Any], shown: str, help_: str, default: Any = None, **more: str
) -> Any:
    """Declare a flag: what converts its value, how the help shows that, the help, the default.

    `also` is an alias, `heading` begins a group of flags.
    """
    meta = {"help": " ".join(help_.split()), "convert": convert, "metavar": shown, **more}
    return field(default=default, metadata=meta)


# fmt: off
@dataclass(frozen=True)
class Settings:
    """What one run is asked to do; the command line, app panel and README are made from it.

    After parse_settings, `query` is the filter that all flags make together, or None where the
    assets come from the CSV.
    """

    query: Record | None = flag(str, "FILTER", """Which records: a DocDB filter as a JSON object or
        Python dict, or the path of a JSON file (in the working folder, else in the input folder or
        one folder down).""", heading="Choose the assets", also="--docdb_query")
    project_name: str | None = flag(valid_string, "NAME", """Only assets of this project. This flag
        and the next three are combined by AND, with each other and with the query.""")
    subject_id: tuple[str, ...] = flag(name_list, "ID,ID", """Only assets of these subjects,
        separated by commas.""", ())
    modality: tuple[str, ...] = flag(name_list, "NAME,NAME", """Only assets with any of these
        modalities, by their abbreviations, such as ecephys.""", ())
    data_level: str | None = flag(level, "raw|derived", "Only raw, or only derived assets.")
    use_data_asset_csv: bool = flag(switch, "0|1", """1: the assets are those whose Code Ocean ids
        are listed in the column asset_id of data_asset_input.csv in the input folder; --query and
        the flags above are not used then.""", False)
    docdb_version: str = flag(version, "v1|v2", """Version of the metadata database. Blank:
        $DOCDB_VERSION, else v1.""")
    docdb_snapshot: Path | None = flag(str, "FILE", """A file of records (JSON array or JSON lines)
        to query instead of the live database; looked for like a query file.""")
    filter_latest: str | None = flag(field_name, "FIELD", """Of the assets that agree in all fields
        of --filter_by, only the one with the greatest value here, such as created.""")
    filter_by: tuple[str, ...] = flag(field_list, "FIELD,FIELD", """The fields for --filter_latest,
        such as subject.subject_id,session.session_start_time.""", ())
    group_by: tuple[str, ...] = flag(field_list, "FIELD,FIELD", """One task for all assets that
        agree in these fields, such as subject.subject_id.""", (), heading="Group the assets")
    unwind_list_fields: tuple[str, ...] = flag(field_list, "FIELD,FIELD", """An asset whose value
        here is a list counts once for each element, in --group_by, --filter_by and --filter_latest,
        such as data_description.modality.abbreviation.""", ())
    drop_null_groups: bool = flag(switch, "0|1", """1: skip assets that lack a field to group or
        filter by. 0: keep them as a group of their own.""", True)
    file_extension: str | None = flag(suffix, "SUFFIX", """How the names of the files to find end,
        such as nwb (for .nwb), .nwb.zarr or _probe.json; a folder with such a name is one file.
        Blank: none, a task names the asset alone.""", heading="Find the files")
    split_files: bool = flag(switch, "0|1", """1: one task per file. 0: one task per asset, with all
        of its files. Without a file extension, or for grouped assets, it has no effect.""", True)
    max_connections: int = flag(whole, "N", """Maximum number of requests to S3 at the same time.
        0: as many as help.""", 0)
    timeout: int = flag(positive, "SECONDS", """How long one attempt at a request to DocDB or S3 may
        take; then it is retried, a few times.""", 60)
    analysis_code: str | Path = flag(str, "auto|none|FILE", """What every task says of the code that
        will run it. auto: in a pipeline of Code Ocean, the capsule that --analysis_capsule names,
        with the fixed parameters; elsewhere nothing. none: nothing. FILE: the code in this file, a
        Code of aind-data-schema as JSON; looked for like a query file.""", "auto",
        heading="Say what will run")
    analysis_capsule: str = flag(valid_string, "NAME", """The capsule of the running pipeline that
        will run the tasks: its id, or a part of its name in the pipeline.""", "wrapper")
    skip_processed: bool = flag(switch, "0|1", """1: leave out the tasks whose result is in the
        results store already. Needs the code of the analysis, $DOCDB_HOST, $DOCDB_DATABASE and
        $DOCDB_COLLECTION.""", False)
    max_tasks: int = flag(whole, "N", "Only the first N tasks, to try an analysis. 0: all.", 0,
        heading="Share out the work", also="--max_number_of_tasks_dispatched")
    max_jobs: int = flag(positive, "N", "Maximum number of worker folders.", 50,
        also="--num_parallel_workers")
    tasks_per_job: int = flag(positive, "N", """Use fewer workers, so that each gets at least N
        tasks; with --balance_by size, on the average.""", 1)
    balance_by: str = flag(measure, "count|size", """What is shared out evenly. count: the tasks, in
        their order. size: the bytes of their files; needs --file_extension.""", "count")
    dry_run: bool = flag(switch, "0|1", """1: dispatch nothing, but show what would be: the first
        tasks on the terminal, all of them in dispatch_plan.csv and dispatch_plan.html in the output
        folder.""", False, heading="Folders and safety")
    input_directory: Path = flag(input_folder, "FOLDER", """Where the CSV, query, parameter and
        snapshot files are looked for.""", ROOT / "data")
    output_directory: Path = flag(home_path, "FOLDER", "Where the worker folders are written.",
        ROOT / "results")
    overwrite: bool = flag(switch, "0|1", "1: replace the worker folders of an earlier run.", False)
    strict: bool = flag(switch, "0|1", """1: fail when an asset or id would be skipped, instead of
        going on without it.""", False)
    argv: tuple[str, ...] = ()  # the flags as they were given
    # fmt: on

    @property
    def fields_in_use(self) -> tuple[str, ...]:
        """The fields of a record that the flags for filtering and grouping read."""
        names = (self.filter_latest, *self.filter_by, *self.group_by)
        return tuple(name for name in names if name)

    @property
    def no_code(self) -> str | None:
        """Why the tasks do not say which code will run them; None if they do."""
        if self.analysis_code == "auto":
            return not_set(PIPELINE)
        return "--analysis_code none" if self.analysis_code == "none" else None


QUERY_FLAGS = ("query", "project_name", "subject_id", "modality", "data_level")
PIPELINE = ("CO_PIPELINE_ID", "CO_COMPUTATION_ID", "CODEOCEAN_API_TOKEN")
RESULTS_STORE = ("DOCDB_HOST", "DOCDB_DATABASE", "DOCDB_COLLECTION")


def not_set(names: Sequence[str]) -> str | None:
    """Return which of these environment variables are missing, in words; None if none is."""
    missing = [f"${name}" for name in names if not os.environ.get(name, "").strip()]
    return f"{' and '.join(missing)} not set" if missing else None


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


class Flag(argparse.Action):
    """A flag with one value; a blank one, as app panels pass for an empty field, is no value.

    Given twice, lists are joined, and any other value must be the same.
    """

    def __init__(self, convert: Callable[[str], Any], **options: Any) -> None:
        super().__init__(**options)
        self.convert = convert

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Convert and keep the value."""
        string = without_quotes(values)
        try:
            value = self.convert(string) if string else ()
        except ValueError as error:
            raise argparse.ArgumentError(self, f"{error}, not {excerpt(values)}") from None
        if value == ():
            return
        given = f"{option_string} {excerpt(string)}"
        earlier, earlier_given = namespace.given.get(self.dest, (value, given))
        if isinstance(value, tuple):
            value = tuple(dict.fromkeys(earlier + value))
        elif value != earlier:
            raise argparse.ArgumentError(
                None, f"{earlier_given} and {given} do not agree: give one of them"
            )
        namespace.given[self.dest] = value, given
        setattr(namespace, self.dest, value)


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, Flag]]:
    """Return the parser of all flags, and the flags by their names."""
    parser = argparse.ArgumentParser(
        prog="run_capsule.py",
        description="Find the data assets that match, and their files, and write one JSON file per"
        " task into one folder per worker.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    about = f"aind-analysis-job-dispatch {VERSION}"
    parser.add_argument("--version", action="version", version=about)
    flags: dict[str, Flag] = {}
    for setting in fields(Settings):
        if not setting.metadata:
            continue
        meta, default = setting.metadata, setting.default
        if "heading" in meta:
            group = parser.add_argument_group(meta["heading"])
        shown = int(default) if isinstance(default, bool) else default
        names = [f"--{setting.name}", *meta.get("also", "").split()]
        action = group.add_argument(
            *names,
            **{"action": Flag, "convert": meta["convert"]},
            default=default,
            metavar=meta["metavar"],
            help=meta["help"] + ("" if default in (None, ()) else f" Default: {shown}."),
        )
        flags |= dict.fromkeys(names, action)
    return parser, flags


def parse_flags(words: Sequence[str]) -> dict[str, Any]:
    """Return the value of every flag; raise BadInput."""
    parser, flags = make_parser()
    strays: list[str] = []
    fault: Exception | None = None
    try:
        chosen, strays = parser.parse_known_args(words, argparse.Namespace(given={}))
    except argparse.ArgumentError as error:
        fault = error
    if fault or strays:
        from dispatch_plan import advice_on_words

        advice = advice_on_words(words, strays, flags)
        raise BadInput(f"{advice or fault} (--help lists the flags)")
    return {name: value for name, value in vars(chosen).items() if name != "given"}


def parse_settings(argv: Sequence[str] | None = None) -> Settings:
    """Return the settings that the flags and the environment ask for; raise BadInput."""
    words = sys.argv[1:] if argv is None else argv
    chosen = parse_flags(words)
    folder = chosen["input_directory"]
    if not chosen["docdb_version"]:
        name = os.environ.get("DOCDB_VERSION", "").strip() or "v1"
        try:
            chosen["docdb_version"] = version(name)
        except ValueError as error:
            raise BadInput(f"$DOCDB_VERSION {error}, not {name!r}") from None
    given = [name for name in QUERY_FLAGS if chosen[name]]
    if chosen["use_data_asset_csv"]:
        for name in given:
            log.warning("--%s is not used: --use_data_asset_csv 1 says which assets", name)
        chosen["query"] = None
    elif given:
        chosen["query"] = combine(chosen)
    else:
        choices = f"--{', --'.join(QUERY_FLAGS)}, or --use_data_asset_csv 1"
        raise BadInput(f"no assets chosen: give {choices}")
    if name := chosen["docdb_snapshot"]:
        chosen["docdb_snapshot"] = named_file("--docdb_snapshot", name, folder)
    if (name := chosen["analysis_code"]) not in ("auto", "none"):
        what = "--analysis_code must be auto, none or a file"
        chosen["analysis_code"] = named_file(what, name, folder)
    settings = Settings(**chosen, argv=tuple(words))
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Raise BadInput for flags that do not go together."""
    if bool(settings.filter_latest) != bool(settings.filter_by):
        raise BadInput("--filter_latest and --filter_by go together: give both, or neither")
    if settings.balance_by == "size" and not settings.file_extension:
        raise BadInput("--balance_by size needs --file_extension, which says whose bytes count")
    if len({name.replace(".", "__") for name in settings.group_by}) < len(settings.group_by):
        raise BadInput("--group_by: two fields are one in group_metadata, where . is written as __")
    if settings.skip_processed and (why := settings.no_code or not_set(RESULTS_STORE)):
        needed = "the code of the analysis and the place of the results store"
        raise BadInput(f"--skip_processed 1 needs {needed}: {why}")
    for path in settings.unwind_list_fields:
        if not any(f"{name}.".startswith(f"{path}.") for name in settings.fields_in_use):
            log.warning("--unwind_list_fields: nothing is grouped or filtered by %s", path)


def combine(chosen: dict[str, Any]) -> Record:
    """Return the filter that the flags ask for, all of their conditions; raise BadInput."""
    query = read_query(chosen["query"], chosen["input_directory"]) if chosen["query"] else {}
    modality = {"v1": "modality", "v2": "modalities"}[chosen["docdb_version"]]
    by_field = {
        "data_description.project_name": chosen["project_name"],
        "subject.subject_id": {"$in": list(chosen["subject_id"])},
        f"data_description.{modality}.abbreviation": {"$in": list(chosen["modality"])},
        "data_description.data_level": chosen["data_level"],
    }
    conditions = {name: one for name, one in by_field.items() if one not in (None, {"$in": []})}
    if query.keys() & conditions.keys():
        return {"$and": [query, conditions]}
    return {**query, **conditions}


def read_query(value: str, folder: Path) -> Record:
    """Return the filter that --query gives, itself or as the path of a file; raise BadInput."""
    looks_like_filter = re.search(r"""["'{}:]|^\[""", value)
    if value.startswith("{") or (looks_like_filter and not find_file(value, folder)):
        return parse_filter(value, "--query")
    path = named_file("--query", value, folder)
    return parse_filter(read_file(path), str(path))


def named_file(flag: str, name: str, folder: Path) -> Path:
    """Return the path of the file that a flag names; raise BadInput, with one that may be meant."""
    if path := find_file(name, folder):
        return path
    from dispatch_plan import near_file

    where = f"{excerpt(name)}, here, in {folder} or one folder down"
    raise BadInput(f"{flag}: there is no file {where}{near_file(name, folder)}")


def find_file(name: str, folder: Path) -> Path | None:
    """Return the path of a file that is named relative to the working folder, or an input file."""
    with suppress(ValueError):  # a string that can be no name, since NUL is in it, say
        name = os.path.expanduser(name)
    return Path(name) if is_file(name) else find_input(name, folder)


def find_input(name: str, folder: Path) -> Path | None:
    """Return an input file that lies in a folder or one folder down, where pipelines stage it."""
    path = os.path.join(folder, name)
    if is_file(path):
        return Path(path)
    if os.path.basename(name) != name:
        return None
    below = os.path.join(glob.escape(str(folder)), "*", glob.escape(name))
    paths = sorted(filter(is_file, glob.glob(below)))
    if len(paths) > 1:
        raise BadInput(f"which {name}? There are {' and '.join(paths)}")
    return Path(paths[0]) if paths else None


def is_file(path: str) -> bool:
    """Return whether there is a file, or a link to none; False for what can be no path at all."""
    return os.path.lexists(path) and not os.path.isdir(path)


def read_file(path: Path) -> str:
    """Return what a file says, in UTF-8 with or without a byte order mark; raise BadInput."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from None


def parse_filter(string: str, source: str) -> Record:
    """Return a filter from a JSON object or a Python dict literal; raise BadInput."""
    string = without_quotes(string)
    try:
        query = read_value(string)
    except ValueError as fault:
        from dispatch_plan import advice_on_pasted

        what = f"{advice_on_pasted(string)}it is neither a JSON object nor a Python dict"
        raise BadInput(f"{source}: {what}: {fault}: {excerpt(string)}") from None
    if not isinstance(query, dict):
        raise BadInput(f"{source} is a {type(query).__name__}, not an object: {excerpt(string)}")
    check_values(query, f"{source}: the filter")  # a dict literal can hold sets and bytes
    if re.search(r'[{,]"":', compact(query)):
        why = "between double quotes, a shell takes $gte and the like for variables of its own"
        raise BadInput(f"{source}: a key is empty; {why}: {excerpt(string)}")
    return query


def without_quotes(string: str) -> str:
    """Take off quotes around the whole, a slip that is common in pasting."""
    string = string.strip()
    while len(string) > 1 and string[0] == string[-1] and string[0] in "'\"`":
        inner = string[1:-1]
        if '\\"' in inner:  # "{\"name\": \"a\"}": those inside are escaped
            with suppress(ValueError):
                inner = json.loads(string)
        string = inner.strip()
    return string


def read_value(string: str) -> Any:
    """Return what JSON says, or a Python literal; raise ValueError, and BadInput for its keys.

    The fault is JSON's, or Python's if the first quote in the string is a single one.
    """
    try:
        return json.loads(string, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        json_fault = error
    from dispatch_plan import read_literal

    try:
        return read_literal(string)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as fault:
        quote = re.search("[\"']", string)
        is_python = quote and quote[0] == "'"
        raise ValueError(reason_of(fault if is_python else json_fault)) from None


def unique_keys(pairs: list[tuple[Any, Any]]) -> Record:
    """Return an object; raise BadInput for a key that is no string, or that appears twice."""
    for key, times in Counter(key for key, _ in pairs).items():
        if not isinstance(key, str):
            raise BadInput(f"the key {key!r} is not a string")
        if times > 1:
            raise BadInput(f"the key {key!r} appears twice in one object; a query can use $and")
    return dict(pairs)


DEPTH = 100  # of nesting, as in MongoDB


def check_values(values: Any, source: str) -> None:
    """Raise BadInput for values that cannot be sent as JSON."""
    if is_deeper(values):
        raise BadInput(f"{source} is nested more than {DEPTH} deep")
    try:
        compact(values).encode()  # which NaN, and halves of characters, are not
    except (TypeError, ValueError) as error:
        raise BadInput(f"{source} cannot be sent as JSON: {error}") from None


def is_deeper(value: Any, levels: int = DEPTH) -> bool:
    """Return whether lists and objects are nested more than so many levels deep."""
    if levels < 0:
        return True
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and any(is_deeper(item, levels - 1) for item in value)


def compact(value: Any) -> str:
    """Return JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def pasteable(query: Record) -> str:
    """Return a query as JSON that the log leaves as it is."""
    string = compact(query)
    return string if string.isprintable() else json.dumps(query)


# ----------------------------------------------------------------------------------- records

DOCDB_HOST = "api.allenneuraldynamics.org"
RECORDS_PER_PAGE = 5_000  # some 350 bytes each; the gateway refuses answers past 6 MB
FIRST_PAGE = 1_000  # so that listing can begin while further pages are asked for
IDS_PER_QUERY = 5_000  # up to 80 bytes each in all; the gateway takes requests up to 10 MB

# How long anything may take: an attempt at a request --timeout, and there are so many of them.
TRIES = 5  # of a question to DocDB, Code Ocean, or for AWS credentials
LONGEST_PAUSE = 60  # between them, which a service can ask for with Retry-After, in seconds


class DocDB:
    """The live database, or the results store, as what answers an aggregation pipeline."""

    ids_at_once = IDS_PER_QUERY

    def __init__(
        self,
        aggregate: Callable[[list[Record]], list[Record] | None],  # None: too much for one answer
        page: int = RECORDS_PER_PAGE,
    ) -> None:
        self.aggregate, self.page = aggregate, page

    def url_of(self, location: str) -> str:
        """Return a location as it is, "" if it is none on S3: nothing leads to a local path."""
        return location if location.startswith("s3://") else ""

    def count(self, query: Record) -> int | None:
        """Return how many records match, None if the database does not say."""
        answer = self.aggregate([{"$match": query}, {"$count": "records"}])
        number = answer[0].get("records") if answer else 0
        return number if answer is not None and isinstance(number, int) else None

    def find(self, query: Record, fields: Sequence[str]) -> Iterator[list[Record]]:
        """Yield the fields of every record that matches, in pages by record id.

        Each page begins after the last id of the one before: what changes in the database while
        it is read shifts no record out of sight. Ids that are no strings, which $gt passes over,
        come last.
        """
        page, asked = self.fetch_page(query, fields, min(self.page, FIRST_PAGE))
        if len(page) < asked:
            yield page
            return
        last: str | None = None
        bound: Record = {}
        while True:
            strings = [record for record in page if isinstance(record.get("_id"), str)]
            ids = [record["_id"] for record in strings]
            ordered = pairwise(ids if last is None else [last, *ids])
            if any(one >= other for one, other in ordered) or (bound and len(ids) < len(page)):
                raise FailedRun(f"DocDB's pages do not continue after record {last!r}: ask again")
            yield strings
            last = ids[-1] if ids else last
            if len(page) < asked:
                break
            bound = {"_id": {"$gte": ""} if last is None else {"$gt": last}}
            page, asked = self.fetch_page({"$and": [query, bound]}, fields, self.page)
        others: list[Any] = []
        while True:
            bounds = [{"_id": {"$not": {"$gte": ""}}}, {"_id": {"$nin": others}}]
            page, asked = self.fetch_page({"$and": [query, *bounds]}, fields, self.page)
            ids = [record.get("_id") for record in page]
            if any(isinstance(id_, str) or id_ in others for id_ in ids):
                raise FailedRun(f"DocDB's pages do not continue after record {last!r}: ask again")
            others += ids
            yield page
            if len(page) < asked:
                return

    def fetch_page(
        self, query: Record, fields: Sequence[str], size: int
    ) -> tuple[list[Record], int]:
        """Return the first records that match, and how many were asked for: less if too large."""
        shown = {"$project": dict.fromkeys(fields, 1)}
        while True:
            match, limit = {"$match": query}, {"$limit": size}
            page = self.aggregate([match, {"$sort": {"_id": 1}}, limit, shown])
            if page is not None:
                return page, size
            if size == 1:
                raise FailedRun("the query, or one of the records, is too large for DocDB")
            self.page = size = size // 2
            log.debug("answer too large: asking for %d records at a time", size)


def open_docdb(version: str, timeout: int, name: str = "DocDB", **place: str) -> DocDB:
    """Return a live database behind its REST interface; raise BadInput.

    Its place is the metadata's unless another is given. $DOCDB_DATABASE and $DOCDB_COLLECTION are
    the results store's: every step of a pipeline sees them.
    """
    import requests
    from aind_data_access_api.document_db import MetadataDbClient

    host = os.environ.get("DOCDB_HOST", "").strip() or DOCDB_HOST
    host = host.removeprefix("https://").rstrip("/")
    if not re.fullmatch(r"[\w.:\[\]-]+", host):
        raise BadInput("$DOCDB_HOST must be the name of a host, without path, user and password")
    session = requests.Session()
    # the client sets no timeout, and would wait for ever in a thread that was given up
    session.request = partial(session.request, timeout=timeout)  # type: ignore[method-assign]
    client = MetadataDbClient(host=host, version=version, session=session, **place)
    log.info("asking %s %s at %s", name, version, host)
    name = f"{name} at {host}"

    def ask(pipeline: list[Record]) -> list[Record] | None:
        try:
            answer = client.aggregate_docdb_records(pipeline)
        except requests.HTTPError as error:
            if error.response.status_code == 413:
                return None
            if error.response.status_code == 400:
                raise BadInput(f"{name} refuses the query: {status_of(error)}") from None
            raise
        if not isinstance(answer, list) or not all(isinstance(record, dict) for record in answer):
            raise ValueError(f"not a list of records, but {excerpt(str(answer), 300)}")
        return answer

    return DocDB(partial(ask_patiently, ask, name, timeout))


def ask_patiently(ask: Callable[..., T], name: str, timeout: int, *values: Any) -> T:
    """Return what a service answers; raise FailedRun where it does not.

    What may be transient is retried, after a pause that grows, or as long as the service asks for.
    """
    from requests.exceptions import HTTPError, Timeout
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    started = time.monotonic()
    for attempt in range(1, TRIES + 1):
        pause = backoff(attempt)
        try:
            # in a thread, which is given up: a socket's own timeout begins anew with every byte
            return begin(ask, *values).result(timeout)
        except HTTPError as error:
            fault = status_of(error)
            if error.response.status_code not in (429, 500, 502, 503, 504):
                raise FailedRun(f"{name} answers {fault}") from None
            if asked := error.response.headers.get("Retry-After"):
                with suppress(InvalidHeader):
                    pause = Retry().parse_retry_after(asked)
        except (TimeoutError, Timeout):
            fault = f"nothing within {timeout} s (--timeout)"
        except json.JSONDecodeError as error:
            fault = f"not JSON ({reason_of(error)}), but {excerpt(error.doc, 300)}"
        except (OSError, ValueError) as error:  # requests' own, and those for odd hosts and files
            # without the names of Python's classes around it
            cause = str(getattr(error.args[0], "reason", error.args[0]) if error.args else error)
            fault = cause.partition("): ")[2] or cause
            if "CERTIFICATE_VERIFY_FAILED" in fault:
                break
        fault = without_secrets(fault)
        if attempt < TRIES:
            pause = min(pause, LONGEST_PAUSE)
            log.warning("%s: %s; retrying in %.0f s", name, fault, pause)
            time.sleep(pause)
    tried = f"{plural(attempt, 'attempt')} in {time.monotonic() - started:.0f} s"
    raise FailedRun(f"no usable answer from {name} ({tried}): {without_secrets(fault)}")


def backoff(attempt: int) -> float:
    """Return the seconds to wait after so many attempts, a little different each time."""
    return float(random.uniform(0.5, 1) * 2 ** (attempt - 2))  # noqa: S311


def begin(call: Callable[..., T], *values: Any) -> Future[T]:
    """Begin a call in a thread of its own, and return what will hold what it returns."""
    return ThreadPoolExecutor(1).submit(call, *values)


def status_of(error: HTTPError) -> str:
    """Return the status of an answer, and the beginning of what it says."""
    response = error.response
    said = excerpt(without_secrets(response.text), 300)
    return f"{response.status_code} {response.reason}: {said}"


Database: TypeAlias = "DocDB | Snapshot"  # both answer a filter alike


# ------------------------------------------------------------------------------------ assets

ID_FIELDS = ("external_links", "other_identifiers")  # v1, v2; some v1 records have both
ASSET_FIELDS = ("_id", "name", "location", *ID_FIELDS)


@dataclass(frozen=True, slots=True)
class Asset:
    """A data asset, as its record describes it."""

    location: str  # s3://bucket/prefix, from a snapshot also a file:// URL; no slash at the end
    id: str  # the Code Ocean id, "" where there is none
    name: str
    record_id: str
    record: Record = field(repr=False)  # ASSET_FIELDS, GROUP_FIELDS, and those the flags name
    group: Record = field(default_factory=dict)  # values of the --group_by fields, . written as __

    @property
    def label(self) -> str:
        """What the log calls it."""
        return f"{self.name} (record {self.record_id})"


@dataclass(frozen=True, slots=True)
class Skip:
    """Something that no task will stand for, and why."""

    reason: str
    name: str
    asked: bool = False  # the user asked for it
    record: Record = field(default_factory=dict, repr=False)  # if that is why


# What flows from here to the tasks: every record that matches is an asset, or a skip that names it.
Entry = Asset | Skip


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
    if settings.query is None:
        from dispatch_plan import find_by_asset_id, pick_by_id, read_asset_ids

        ids = read_asset_ids(settings.input_directory)
        pages = find_by_asset_id(database, ids, fields_to_ask(settings))
    else:
        pages = database.find(settings.query, fields_to_ask(settings))
    entries: list[Entry] = []
    for page in pages:
        in_page = [read_asset(record, database) for record in page]
        if listing:
            listing.add(in_page)
        entries += in_page
        progress.records += len(page)
        progress.update()
    entries.sort(key=lambda entry: (name_of(entry.record), str(entry.record.get("_id"))))
    if settings.query is None:
        return pick_by_id(ids, entries)
    if entries and lists_in(settings.query):
        from dispatch_plan import skip_values_without_record

        entries += skip_values_without_record(database, lists_in(settings.query), entries)
    return entries


def fields_to_ask(settings: Settings) -> list[str]:
    """Return the fields of a record that are asked for, none of them inside another one."""
    wanted = {*ASSET_FIELDS, *GROUP_FIELDS, *settings.fields_in_use, *settings.unwind_list_fields}
    wanted |= lists_in(settings.query or {}).keys()
    if not settings.drop_null_groups:
        # of a list, a projection gives the objects alone; here the others count as lacking a field
        wanted |= {name.partition(".")[0] for name in settings.unwind_list_fields}
    if settings.dry_run:
        from dispatch_plan import fields_shown

        wanted |= fields_shown(settings.docdb_version)
    return sorted(name for name in wanted if not name.startswith(tuple(f"{w}." for w in wanted)))


def read_asset(record: Record, database: Database) -> Entry:
    """Return the asset that a record describes, or why there is none."""
    record_id, name, location = record.get("_id"), name_of(record), record.get("location")
    asset_id = next(code_ocean_ids(record), "")
    shown = f"{name} (record {record_id})"
    if not isinstance(record_id, str):
        return Skip("record id is not a string", shown, record=record)
    try:
        "".join((asset_id, name, record_id, str(location))).encode()
    except UnicodeError:
        return Skip("a field is not a valid string", shown, record=record)
    url = database.url_of(location).rstrip("/") if isinstance(location, str) else ""
    # s3fs, with which workers read, takes s3://bucket//x for s3://bucket/x
    if not re.match(r"s3://[\w.-]{1,255}/[^/]|file:///", url, re.ASCII):
        return Skip("location is not s3://bucket/prefix", f"{shown}: {location!r}", record=record)
    return Asset(url, asset_id, name, record_id, record)


def name_of(record: Record) -> str:
    """Return a record's name, or an empty string where it has none."""
    name = record.get("name")
    return name if isinstance(name, str) else ""


def code_ocean_ids(record: Record) -> Iterator[str]:
    """Yield the Code Ocean ids of a record, in all the shapes that records have them in."""
    for links in chain(*(as_list(record.get(name)) for name in ID_FIELDS)):
        if isinstance(links, dict):
            for asset_id in as_list(links.get("Code Ocean")):
                if isinstance(asset_id, str) and asset_id:
                    yield asset_id


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, anything else as a list of one."""
    return value if isinstance(value, list) else [value]


def lists_in(query: Record) -> dict[str, list[Any]]:
    """Return the strings and numbers of each $in on a plain field that all records must match."""
    lists: dict[str, list[Any]] = {}
    parts = [query, *as_list(query.get("$and", []))]
    for name, wanted in chain.from_iterable(one.items() for one in parts if isinstance(one, dict)):
        plain = re.fullmatch(r"[^$.\d][^.]*(\.[^$.\d][^.]*)*", name)
        if plain and isinstance(wanted, dict) and isinstance(wanted.get("$in"), list):
            lists[name] = [one for one in wanted["$in"] if isinstance(one, str | int | float)]
    return lists


# ------------------------------------------------------------------------------------ groups

MISSING = object()


def value_at(value: Any, path: str, missing: Any = MISSING) -> Any:
    """Return what lies at a dotted path as MongoDB's aggregation has it, `missing` if nothing does.

    Of a list, it is the list of what lies there in each of its objects.
    """
    names = path.split(".") if path else []
    for number, name in enumerate(names):
        if isinstance(value, list):
            rest = ".".join(names[number:])
            inner = (value_at(item, rest) for item in value if isinstance(item, dict))
            return [item for item in inner if item is not MISSING]
        if not isinstance(value, dict) or name not in value:
            return missing
        value = value[name]
    return value


def is_null(value: Any) -> bool:
    """Return whether a value is null, or NaN, for which JSON has no other word."""
    return bool(value is None or value != value)


def rank(value: Any) -> Any:
    """Return what compares, sorts and hashes as MongoDB orders values; NaN is null here."""
    if is_null(value):
        return (0,)
    if isinstance(value, dict):
        return 3, tuple((key, rank(value[key])) for key in sorted(value))
    if isinstance(value, list):
        return 4, tuple(map(rank, value))
    return {int: 1, float: 1, str: 2, bool: 5}[type(value)], value


def set_groups(entries: list[Entry], settings: Settings) -> list[Entry]:
    """Return each asset once for each of its values in --group_by, and a skip if it has none."""
    if not settings.group_by:
        return entries
    keys = [name.replace(".", "__") for name in settings.group_by]
    grouped: list[Entry] = []
    for entry in entries:
        if isinstance(entry, Skip):
            grouped.append(entry)
            continue
        rows = values_in_fields(entry, settings.group_by, settings)
        if isinstance(rows, Skip):
            grouped.append(rows)
            continue
        for row in rows:
            grouped.append(replace(entry, group=dict(zip(keys, row, strict=True))))
    return grouped


def values_in_fields(
    asset: Asset, names: Sequence[str], settings: Settings, needed: int | None = None
) -> list[list[Any]] | Skip:
    """Return what an asset has in these fields, or why it cannot be grouped or filtered by them.

    There is one list of values for each way to take one element of all lists that
    --unwind_list_fields leads to or through, as $unwind stages would; equal ones count once. Only
    the first `needed` fields must be there.
    """
    records = [asset.record]
    tops = {name.partition(".")[0] for name in names}
    for path in settings.unwind_list_fields:
        if path.partition(".")[0] in tops:
            records = [*chain.from_iterable(unwind(record, path.split(".")) for record in records)]
    rows: dict[Any, list[Any]] = {}
    for record in records:
        values = [value_at(record, name, missing=None) for name in names]
        rows.setdefault(rank(values), values)
    complete = [values for values in rows.values() if not any(map(is_null, values[:needed]))]
    if settings.drop_null_groups and not complete:
        columns = list(zip(names, zip(*rows.values(), strict=True), strict=True))[:needed]
        lacking = [name for name, column in columns if all(map(is_null, column))]
        lacking = lacking or [name for name, column in columns if any(map(is_null, column))]
        return Skip(f"no {' or '.join(lacking)}", asset.label)
    try:
        json.dumps(list(rows.values()), ensure_ascii=False).encode()
    except UnicodeError:
        return Skip(f"no valid string in {' or '.join(names)}", asset.label)
    return complete if settings.drop_null_groups else list(rows.values())


def unwind(value: Any, path: list[str]) -> Iterator[Any]:
    """Yield a value once for each element of the lists on a path, which the element replaces."""
    for item in as_list(value) or [None]:
        if path and isinstance(item, dict) and path[0] in item:
            for inner in unwind(item[path[0]], path[1:]):
                yield {**item, path[0]: inner}
        else:
            yield item




# ------------------------------------------------------------------------------------- files

SECONDS_PER_LINE = 10  # of the log, while nothing but progress is to be said
SECONDS_PER_FRAME = 0.1  # of the line on a terminal

Sizes = Counter[str]  # bytes by path below the asset; a folder's are 0 unless they are wanted
Files = dict[str, dict[str, int]]  # bytes by URL, by location of the asset


class Progress:
    """How far a run is: on a terminal a line that changes, else a line in the log now and then."""

    def __init__(self) -> None:
        self.records = self.assets = self.listed = self.files = 0
        self.complete = False  # all records are read, so that all assets are known
        self.started = self.shown = time.monotonic()
        self.on_terminal = sys.stderr.isatty()
        self.bar: tqdm[NoReturn] | None = None

    def update(self) -> None:
        """Say how far it is, unless that has just been said."""
        now = time.monotonic()
        if now - self.shown < (SECONDS_PER_FRAME if self.on_terminal else SECONDS_PER_LINE):
            return
        self.shown = now
        line = f"{self.records:,} records"
        if self.assets:
            rate = self.listed / (now - self.started)
            line += f", {self.listed:,} of {self.assets:,} assets listed, {self.files:,} files"
            line += f", {rate:,.{int(rate < 10)}f} assets/s"
            if self.complete and rate:
                line += f", {(self.assets - self.listed) / rate:,.0f} s left"
        if not self.on_terminal:
            log.info("%s", line)
            return
        from tqdm import tqdm

        self.bar = self.bar or tqdm(leave=False, bar_format="{desc} {bar:20}")
        self.bar.total, self.bar.n = self.assets or 1, self.listed
        self.bar.set_description_str(line)

    def close(self) -> None:
        """Take the line off the terminal."""
        if self.bar is not None:
            self.bar.close()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an asset that is listed by itself: the keys of a folder, or those after a key."""

    asset: Asset
    bucket: str
    top: int  # the length of what all keys of the asset begin with
    folder: str  # a prefix in the bucket that ends in a slash
    after: str = ""  # a key


FIRST_CONNECTIONS = 64  # that requests are made over, before it shows how many help
MOST_CONNECTIONS = 512  # half of them do at 50 ms a request, but not at 200 ms
OTHER_FILES = 64  # that the program, its other connections and git have open
PAGES_IN_A_ROW = 4  # of one part, before it is looked at whether it can be split
LAST_CHARACTER = "\U0010ffff"  # after all others in the order of keys
LIST_TRIES = 7  # of a request to S3
LONGEST_LIST_PAUSE = 3  # seconds
LONGEST_SLOW_DOWN = 300  # seconds that S3 may answer a request with SlowDown


class Listing:
    """The files of assets, listed side by side from the moment that they are added.

    One thread makes the requests, in coroutines (all that is `async`), the workers, that take parts
    of assets from a queue: assets in the order in which they come, then the parts into which one is
    split. As long as answers are quick, each lets one more worker begin.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings, self.progress = settings, progress
        self.sizes: dict[str, Sizes] = {}  # by location
        self.open_parts: Counter[str] = Counter()  # their number, by location
        self.failure: Exception | None = None
        self.queue: asyncio.Queue[Part] = asyncio.Queue()
        self.s3: asyncio.Task[S3] | None = None
        self.session: ClientSession
        self.workers: asyncio.TaskGroup
        self.begun = self.most = 0  # workers
        self.quickest = math.inf  # answer, in seconds
        self.buckets: dict[str, Bucket] = {}
        self.loop = asyncio.new_event_loop()
        self.work_of_all = self.loop.create_task(self.work_side_by_side())
        Thread(target=self.run).start()

    def run(self) -> None:
        """List until closed, or until there is a failure."""
        try:
            self.loop.run_until_complete(self.work_of_all)
        except asyncio.CancelledError:
            pass
        except Exception as failure:  # of several that come at once, the first
            self.failure = getattr(failure, "exceptions", [failure])[0]

    def close(self) -> None:
        """Give up what is under way."""
        self.loop.call_soon_threadsafe(self.work_of_all.cancel)

    def add(self, assets: Iterable[Entry]) -> None:
        """List assets, but for those whose location is listed already."""
        if self.failure:
            raise self.failure
        parts = []
        for asset in assets:
            if isinstance(asset, Asset) and asset.location not in self.sizes:
                self.sizes[asset.location] = Counter()
                bucket, _, prefix = asset.location.partition("://")[2].partition("/")
                parts.append(Part(asset, bucket, len(prefix) + 1, f"{prefix}/"))
        self.progress.assets += len(parts)
        self.loop.call_soon_threadsafe(self.start, parts)

    def start(self, parts: Iterable[Part]) -> None:
        """Queue parts."""
        for part in parts:
            self.open_parts[part.asset.location] += 1
            self.queue.put_nowait(part)

    def files(self) -> Files:
        """Wait for all assets; return their files, ordered; raise what listing one of them did."""
        self.progress.complete = True
        all_listed = asyncio.run_coroutine_threadsafe(self.queue.join(), self.loop)
        while not self.failure and not all_listed.done():
            self.progress.update()
            wait([all_listed], SECONDS_PER_FRAME)
        if self.failure:
            raise self.failure
        files: Files = {}
        for location, sizes in self.sizes.items():
            is_local = location.startswith("file:")
            files[location] = {}
            for path in sorted(sizes):
                end = quote(os.fsencode(path)) if is_local else path
                files[location][f"{location}/{end}"] = sizes[path]
        return files

    async def work_side_by_side(self) -> None:
        """List what is queued, over as many connections as there may be."""
        import aiohttp

        open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.settings.max_connections
        self.most = max(1, min(wanted or MOST_CONNECTIONS, open_files - OTHER_FILES))
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.most),
            timeout=aiohttp.ClientTimeout(total=self.settings.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        async with session as self.session, asyncio.TaskGroup() as self.workers:
            if not self.settings.docdb_snapshot:
                self.workers.create_task(self.open_s3())  # while DocDB answers
            for _ in range(wanted or FIRST_CONNECTIONS):
                self.begin_worker()

    def begin_worker(self) -> None:
        """Begin one more worker, unless there are as many as there may be."""
        if self.begun < self.most:
            self.begun += 1
            self.workers.create_task(self.work())

    async def work(self) -> None:
        """List one part after the other."""
        while True:
            part = await self.queue.get()
            location = part.asset.location
            try:
                if location.startswith("file:"):
                    from dispatch_plan import list_local

                    list_local(location, partial(self.add_file, part))
                else:
                    self.start(await self.list_part(part))
            except (FailedRun, ImportError):
                raise
            except Exception as error:
                asset = f"{location} of asset {part.asset.name}"
                raise FailedRun(f"cannot list {asset}: {error}{hint_on(error)}") from None
            self.open_parts[location] -= 1
            self.progress.listed += not self.open_parts[location]
            self.queue.task_done()

    async def list_part(self, part: Part) -> list[Part]:
        """Add the files of a part, page by page; return the parts that it leaves to be listed.

        When a page ends inside a folder that is one file or a Zarr store, the next request starts
        after it: a store of a million chunks costs one page, and there are never more requests
        than pages. A part that goes on for many pages is split, if there is a way to.
        """
        last = start = part.after
        token = ""
        pages = 0
        while True:
            page = await self.fetch_page(part, start=start, token=token, last=last)
            closed = None
            for last, size in page.sizes.items():
                closed = self.add_file(part, last[part.top :], size)
            if not page.token:
                return []
            pages += 1
            if pages >= PAGES_IN_A_ROW and page.sizes:
                from dispatch_plan import split

                parts = await split(self, part, list(page.sizes))
                if parts is not None:
                    return parts
            start, token = "", page.token
            if closed:
                folder_end = f"{last[: part.top]}{closed}/{LAST_CHARACTER}"
                start, token = max(last, folder_end), ""

    def add_file(self, part: Part, path: str, size: int) -> str | None:
        """Count an object to the file that it lies in; return the folder that is now done with.

        That is one which is a file, or a Zarr store, unless the bytes in it are wanted.
        """
        settings = self.settings
        file, closed = file_of(path, settings.file_extension or "")
        wanted = not closed or settings.dry_run or settings.balance_by == "size"
        if file:
            sizes = self.sizes[part.asset.location]
            self.progress.files += file not in sizes
            sizes[file] += size if wanted else 0
        return None if file and wanted else closed

    async def fetch_page(
        self, part: Part, *, start: str = "", token: str = "", delimiter: str = "", last: str = ""
    ) -> Page:
        """Return a page of what lies in the folder of a part, after the key `last`.

        What may be transient is retried after a pause that grows. Raise OSError where it is not,
        PermissionError where S3 refuses.
        """
        asked = {"prefix": part.folder, "start-after": start, "delimiter": delimiter}
        # url: there are keys that XML cannot spell
        asked |= {"list-type": "2", "encoding-type": "url", "continuation-token": token}
        given = [f"{name}={quote(asked[name])}" for name in asked if asked[name]]
        query = "&".join(given).replace("/", "%2F")  # quicker than to quote the slashes too
        first_asked = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            is_patient = time.monotonic() - first_asked < LONGEST_SLOW_DOWN
            try:
                return await self.try_page(part.bucket, query, last)
            except PermissionError:
                raise
            except OSError as error:
                fault = without_secrets(reason_of(error))
            slow_down = fault.startswith("SlowDown")
            if attempt >= LIST_TRIES and not (slow_down and is_patient):
                raise OSError(fault)
            step = min(attempt, LIST_TRIES)
            if slow_down:  # others are served: ask again soon, by no more workers than there are
                self.most, step = self.begun, step - 5
            pause = min(backoff(step), LONGEST_LIST_PAUSE)
            severity = logging.DEBUG if step <= 1 else logging.WARNING
            log.log(severity, "%s: %s; retrying in %.1f s", part.asset.location, fault, pause)
            await asyncio.sleep(pause)

    async def try_page(self, bucket: str, query: str, last: str) -> Page:
        """Return a page; a quick one lets one more worker begin, if there is work for it."""
        s3 = await self.open_s3()
        started = time.monotonic()
        try:
            page = read_page(await self.ask(s3, bucket, query), last)
        except TimeoutError:
            raise OSError(f"nothing within {self.settings.timeout} s (--timeout)") from None
        except (FailedRun, OSError):
            raise
        except Exception as error:  # of aiohttp, botocore and read_page
            raise OSError(reason_of(error)) from None
        seconds = time.monotonic() - started
        self.quickest = min(self.quickest, seconds)
        if seconds < 2 * self.quickest and not self.queue.empty():
            self.begin_worker()
        return page

    async def open_s3(self) -> S3:
        """Return S3 with credentials, region and endpoint, which are looked for once."""
        if not self.s3:
            self.s3 = self.workers.create_task(self.find_s3())
        return await self.s3

    async def find_s3(self) -> S3:
        """Return what open_s3 does."""
        longest = TRIES * self.settings.timeout  # AWS's tools retry on their own
        try:
            return await asyncio.wait_for(asyncio.to_thread(S3), longest)
        except TimeoutError:
            raise FailedRun(f"AWS: no credentials in {longest} s") from None

    async def ask(self, s3: S3, name: str, query: str) -> bytes:
        """Return what S3 answers to a request for a bucket, in the region where it says that is."""
        from yarl import URL

        for redirected in (False, True):
            bucket = self.buckets.get(name) or s3.bucket(name)
            self.buckets[name] = bucket
            url = f"{bucket.url}?{query}"
            async with self.session.get(
                URL(url, encoded=True),
                headers=await s3.sign(url, bucket.region, self.settings.timeout),
                proxy=bucket.proxy,
                ssl=s3.certificates,
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
            region = answer.headers.get("x-amz-bucket-region", bucket.region)
            if answer.status == 200 or region == bucket.region or redirected:
                break
            self.buckets[name] = s3.bucket(name, region)
        check_answer(answer, body, name)
        return body


def import_aiohttp() -> None:
    """Import aiohttp without the certificates of its own default, which no request here uses.

    It reads them twice, which takes half of its time. Call this while there is one thread.
    """
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore
    try:
        import aiohttp  # noqa: F401
    finally:
        del ssl.SSLContext.set_default_verify_paths


def check_answer(answer: ClientResponse, body: bytes, bucket: str) -> None:
    """Raise OSError for an error that S3 answers, PermissionError where a retry is no use."""
    if answer.status == 200:
        return
    content = body.decode("utf-8", "replace")
    code = re.search(r"<Code>(\w+)</Code>(?:.*<Message>([^<]*)</Message>)?", content, re.DOTALL)
    if code and code[1] == "NoSuchBucket":
        raise FailedRun(f"there is no S3 bucket {bucket!r}")
    fault = f"{code[1]}: {code[2]}" if code else f"{answer.status} {answer.reason}"
    transient = ("ExpiredToken", "RequestTimeout", "SlowDown")
    if answer.status >= 500 or answer.status in (408, 429) or (code and code[1] in transient):
        raise OSError(fault)
    raise PermissionError(fault)


def hint_on(error: Exception) -> str:
    """Return what to do about what S3 said, where that is known."""
    refused = "Access ?Denied|Forbidden|InvalidAccessKeyId|SignatureDoesNot|ExpiredToken"
    if re.search(refused, str(error)):
        return "; check the AWS credentials, and that they may list this bucket"
    return ""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of S3 that lists keys."""

    sizes: dict[str, int]  # bytes by key, in the order of the keys
    folders: list[str]  # with their slash; only where a level was asked for
    token: str  # what the next page is asked for with, "" if there is none


# An object as AWS words it, which an XML parser takes four times as long to read.
OBJECT = re.compile(
    rb"<Contents><Key>([^<&]+)</Key><LastModified>[^<]*</LastModified><ETag>[^<]*</ETag>"
    rb"(?:<Checksum\w+>[^<]*</Checksum\w+>)*<Size>(\d+)</Size>"
    rb"<StorageClass>\w+</StorageClass></Contents>"
)


def read_page(body: bytes, last: str) -> Page:
    """Return a page as S3 words it; raise ValueError for anything else, such as a proxy's page.

    Keys in no order, or not after `last`, are no page either: what lies between would be lost.
    """
    start, *objects = OBJECT.split(body)  # a key, a size, what follows, and again
    rest = start + b"".join(objects[2::3])
    if b"Contents" in rest:  # not all are worded so
        rest, objects = body, []
    try:
        root = ElementTree.fromstring(rest)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ValueError(f"what S3 answers is not a listing: {error}") from None
    space = root.tag.removesuffix("ListBucketResult")
    truncated = root.findtext(f"{space}IsTruncated")
    token = root.findtext(f"{space}NextContinuationToken") or ""
    if space == root.tag or truncated not in ("false", "true" if token else "false"):
        raise ValueError(f"what S3 answers is not a listing, but {excerpt(root.tag)}")
    decode = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
    sizes: dict[str, int] = {}
    for name, number in zip(objects[::3], objects[1::3], strict=True):
        sizes[decode(name.decode())] = int(number)
    for key, size in zip(root.iter(f"{space}Key"), root.iter(f"{space}Size"), strict=True):
        sizes[decode(key.text or "")] = int(size.text or "")
    prefixes = root.iterfind(f"{space}CommonPrefixes/{space}Prefix")
    folders = [decode(prefix.text or "") for prefix in prefixes]
    keys = list(sizes)
    if keys != sorted(keys) or (keys and keys[0] <= last):
        raise ValueError("what S3 answers is not in the order of the keys")
    return Page(sizes, folders, token if truncated == "true" else "")


@dataclass(frozen=True)
class Bucket:
    """Where an S3 bucket is asked."""

    url: str
    region: str
    proxy: str | None


ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY = hashlib.sha256(b"").hexdigest()  # of the body of a request


class S3:
    """S3 with the credentials, profile, region and endpoint that boto3 finds, as all AWS tools."""

    def __init__(self) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.httpsession import get_cert_path
        from botocore.session import Session

        try:
            core = Session()
            self.session = boto3.session.Session(botocore_session=core)
            self.credentials = self.session.get_credentials()
            if self.credentials:
                self.credentials.get_frozen_credentials()  # a role that cannot be assumed says so
            region = self.session.region_name or "us-west-2"  # a bucket elsewhere tells where
            self.client = self.session.client("s3", region)
            bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
            self.certificates = ssl.create_default_context(cafile=get_cert_path(bundle or True))
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            raise FailedRun(f"AWS: {without_secrets(str(error))}{hint_on(error)}") from error
        signed = "signed" if self.credentials else "unsigned: no AWS credentials"
        log.info("S3 requests are %s", signed)

    def bucket(self, name: str, region: str | None = None) -> Bucket:
        """Return a bucket in a region, by default in the one that the environment names."""
        from botocore.utils import get_environ_proxies

        client = self.session.client("s3", region) if region else self.client
        url = f"{client.meta.endpoint_url}/{name}"
        proxy = get_environ_proxies(url).get(url.partition(":")[0])
        return Bucket(url, client.meta.region_name, proxy)

    async def sign(self, url: str, region: str, timeout: int) -> dict[str, str]:
        """Return the headers with which S3 takes a request; credentials that end are renewed.

        Raise TimeoutError where that takes longer. This is AWS Signature Version 4 for a GET;
        botocore, with which a test compares it, takes ten times as long.
        """
        if not self.credentials:
            return {}
        get = self.credentials.get_frozen_credentials
        expire = getattr(self.credentials, "refresh_needed", bool)
        frozen = await asyncio.wait_for(asyncio.to_thread(get), timeout) if expire() else get()
        address, _, query = url.partition("?")
        host, _, path = address.partition("://")[2].partition("/")
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": host, "x-amz-content-sha256": EMPTY, "x-amz-date": moment}
        if frozen.token:
            headers["x-amz-security-token"] = frozen.token
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        names, query = ";".join(headers), "&".join(sorted(query.split("&")))
        request = f"GET\n/{path}\n{query}\n{lines}\n{names}\n{EMPTY}".encode()
        scope = f"{moment[:8]}/{region}/s3/aws4_request"
        string = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request).hexdigest()}"
        signer = signer_of(frozen.secret_key, scope).copy()
        signer.update(string.encode())
        credential = f"Credential={frozen.access_key}/{scope}"
        headers["Authorization"] = (
            f"{ALGORITHM} {credential}, SignedHeaders={names}, Signature={signer.hexdigest()}"
        )
        return headers


@cache
def signer_of(secret: str, scope: str) -> hmac.HMAC:
    """Return what signs the requests of one day and region, to be copied."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")


def file_of(path: str, extension: str) -> tuple[str | None, str | None]:
    """Return the file that a path below an asset belongs to, and the closed folder it lies in.

    A folder is closed, and nothing in it looked at, when its name has the extension, which makes
    it a file itself, or is a Zarr store's. Both are None where there is none.

    >>> file_of("ecephys/probeA.nwb/units/id/0", ".nwb")
    ('ecephys/probeA.nwb', 'ecephys/probeA.nwb')
    >>> file_of("ecephys/lfp.zarr/notes.nwb", ".nwb")
    (None, 'ecephys/lfp.zarr')
    >>> file_of("behavior/session.nwb", ".nwb")
    ('behavior/session.nwb', None)
    """
    if extension not in path and ".zarr/" not in path:  # as most are
        return None, None
    end = path.find("/")
    while end >= 0:
        folder = path[:end]
        if folder.endswith(extension):
            return folder, folder
        if folder.endswith(".zarr"):
            return None, folder
        end = path.find("/", end + 1)
    return path if path.endswith(extension) else None, None


# ------------------------------------------------------------------------------------- tasks

QUERY_LENGTH = 8_000  # the longest query that is copied into every task, in characters


def read_parameters(folder: Path) -> tuple[Record, list[Record]]:
    """Return the fixed parameters, and the sets with each of which every task is dispatched.

    They are those of analysis_parameters.json, and none if there is no such file. Raise BadInput.
    """
    path = find_input("analysis_parameters.json", folder)
    if not path:
        log.info("no analysis_parameters.json in %s or one folder down", folder)
        return {}, []
    content = read_object(path)
    known = ("fixed_parameters", "distributed_parameters")
    if unknown := content.keys() - set(known):
        raise BadInput(
            f"{path}: unknown key {first_of(sorted(unknown))}: there are {' and '.join(known)}"
        )
    fixed, sets = content.get("fixed_parameters", {}), content.get("distributed_parameters")
    if not isinstance(fixed, dict):
        raise BadInput(f"{path}: fixed_parameters must be an object")
    if sets is None:
        sets = []
    if not isinstance(sets, list) or not all(isinstance(one, dict) for one in sets):
        raise BadInput(f"{path}: distributed_parameters must be a list of objects")
    if sets:
        log.info("%s: every task is dispatched with %s", path, plural(len(sets), "parameter set"))
    return fixed, sets


def read_object(path: Path) -> Record:
    """Return the object that a JSON file holds; raise BadInput."""
    try:
        content = json.loads(read_file(path), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON: {reason_of(error)}") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path} is a {type(content).__name__}, not an object")
    for name, value in content.items():
        check_values(value, f"{path}: {name}")
    return content


@dataclass(slots=True, eq=False)
class Task:
    """A unit of work, which becomes one JSON file; what the last three hold is made from it."""

    assets: list[Asset]
    files: list[str] | None  # URLs; None: none were looked for
    size: int  # bytes of its files
    parameters: Record | None
    query: str | None  # that chose its assets
    id: str = ""
    content: bytes = field(default=b"", repr=False)
    result: str | None = None  # the name that its result will have in the results store

    def to_record(self) -> Record:
        """Return what its file says. All lists hold the same asset at the same position."""
        record: Record = {
            "s3_location": [asset.location for asset in self.assets],
            "asset_id": [asset.id for asset in self.assets],
            "asset_name": [asset.name for asset in self.assets],
            "docdb_record_id": [asset.record_id for asset in self.assets],
            "file_location": self.files,
        }
        if self.parameters is not None:
            record["distributed_parameters"] = self.parameters
        group, *others = [asset.group for asset in self.assets]
        for name, value in group.items():
            if all(rank(other[name]) == rank(value) for other in others):
                record.setdefault("group_metadata", {})[name] = value
        if self.query:
            record["query"] = self.query
        return record


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
    query = None if settings.query is None else compact(settings.query)
    if query and len(query) > QUERY_LENGTH:
        log.warning("the query is left out of the tasks: it has %d characters", len(query))
        query = None
    for group in groups:
        assets = list({asset.record_id: asset for asset in group}.values())
        parts: list[list[str] | None] = [None]
        sizes: dict[str, int] = {}
        if files is not None:
            assets = [asset for asset in assets if files[asset.location]]
            for asset in assets:  # two assets of a group can be at one location
                sizes |= files[asset.location]
            parts = [[url] for url in sizes] if split_files else [list(sizes)]
        if assets:
            for part, parameters in product(parts, sets or (None,)):
                size = sum(sizes[url] for url in part or ())
                yield Task(assets, part, size, parameters, query)


def render_tasks(
    tasks: Iterable[Task], process: DataProcess | None = None, fixed: Record | None = None
) -> list[Task]:
    """Return the tasks with id and JSON, equal ones once, and what runs them, if that is known.

    They are checked against the model that consumers read them with. The id is made from the
    content, so that the same input gives the same files and a pipeline's cache holds.
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
            record["analysis_code"] = update_analysis_process(process, model, **(fixed or {})).code
            task.result = processing_prefix(record["analysis_code"])
        # NaN in a record would be no JSON
        task.content = to_json(record, indent=4, inf_nan_mode="null") + b"\n"
        task.id = str(uuid.uuid5(uuid.NAMESPACE_OID, task.content.decode()))
        repeated += task.id in rendered
        rendered.setdefault(task.id, task)
    if repeated:
        log.info("%s not repeated, equal to another one", plural(repeated, "task"))
    return list(rendered.values())


@cache
def task_model() -> type[BaseModel]:
    """Return the model of a task; its package takes a moment to import."""
    from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel

    class DispatchModel(AnalysisDispatchModel):
        asset_id: list[str]  # which consumers of the model's first generation need

    return DispatchModel


# ----------------------------------------------------------------------------------- workers

STAGING = ".dispatch-staging-"
MOVING = ".dispatch-moving-"  # instead, while so many worker folders are moved into place
PLAN_FILES = ("dispatch_plan.csv", "dispatch_plan.html")  # of a dry run; a dispatch replaces them
STAGED: set[Path] = set()  # folders that a signal removes
COMMITTED = Event()  # from then on the run is as good as done, and no signal stops it


def deal(tasks: Sequence[Task], settings: Settings) -> list[list[Task]]:
    """Return the tasks of each worker, shared out by number or by size."""
    if not tasks:
        return []
    workers = min(settings.max_jobs, max(1, len(tasks) // settings.tasks_per_job))
    if settings.balance_by == "size":
        from dispatch_plan import deal_by_size

        return deal_by_size(tasks, workers)
    return deal_in_order(tasks, workers)


def deal_in_order(tasks: Sequence[T], workers: int) -> list[list[T]]:
    """Return the tasks in so many contiguous runs, whose lengths differ by one at most."""
    ends = [len(tasks) * number // workers for number in range(workers + 1)]
    return [list(tasks[start:end]) for start, end in pairwise(ends)]


def check_output(output: Path, overwrite: bool) -> None:
    """Raise BadInput unless worker folders, and nothing else, can be what the folder shows.

    Whatever a `*` matches in there starts a worker of the pipeline's next step.
    """
    flag = "--output_directory"
    there = next(path for path in (output, *output.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise BadInput(f"{flag}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FailedRun(f"{flag}: {there} cannot be written to")
    if there != output:
        return
    shown = sorted(path for path in output.iterdir() if not path.name.startswith("."))
    workers = [path for path in shown if is_worker(path)]
    plan = [path for path in shown if path.name in PLAN_FILES]
    plan = [path for path in plan if path.is_file() and not path.is_symlink()]
    if others := [path.name for path in shown if path not in (*workers, *plan)]:
        raise BadInput(
            f"{flag}: {output} holds {first_of(others)}, which no dispatch wrote and which would"
            " start a worker: move it away, or choose another folder"
        )
    if workers and not overwrite:
        raise BadInput(
            f"{flag}: {output} holds {plural(len(workers), 'worker folder')} of an earlier run:"
            " replace them with --overwrite 1, or choose another folder"
        )


def is_worker(path: Path) -> bool:
    """Return whether this is a folder that an earlier dispatch can have written."""
    if not re.fullmatch("0|[1-9][0-9]*", path.name) or not path.is_dir() or path.is_symlink():
        return False
    return all(re.fullmatch(r"[0-9a-f-]{36}\.json", entry.name) for entry in os.scandir(path))


def write_workers(workers: Sequence[Sequence[Task]], output: Path, overwrite: bool) -> None:
    """Write one folder of files per worker, all of them or none.

    They are written into a hidden folder and moved into place at the end, what an earlier run left
    out of their way before that.
    """
    with staged(output, overwrite) as staging:
        for name in ("old", "new", *(f"new/{number}" for number in range(len(workers)))):
            (staging / name).mkdir()
        for number, tasks in enumerate(workers):
            for task in tasks:  # buffered: an unbuffered write may be partial
                with open(f"{staging}/new/{number}/{task.id}.json", "xb") as file:
                    file.write(task.content)
        COMMITTED.set()
        moving = output / staging.name.replace(STAGING, f"{MOVING}{len(workers)}-")
        staging.rename(moving)
        try:
            for path in [path for path in output.iterdir() if not path.name.startswith(".")]:
                path.rename(moving / "old" / path.name)
            for number in range(len(workers)):
                (moving / "new" / str(number)).rename(output / str(number))
            moving.rename(staging)
        finally:
            roll_back(output)


@contextmanager
def staged(output: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a hidden folder in the output folder, which is this process's own and checked."""
    output.mkdir(parents=True, exist_ok=True)
    with lock(output):
        clean_up(output)
        check_output(output, overwrite)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=output))
        STAGED.add(staging)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def lock(output: Path) -> Iterator[None]:
    """Hold the folder for this process alone; raise BadInput while another one holds it."""
    descriptor = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BadInput(f"another dispatch is writing into {output}") from None
    except OSError as error:  # some network file systems lock no folders
        log.debug("no lock on %s: %s", output, error)
    try:
        yield
    finally:
        os.close(descriptor)


def clean_up(output: Path) -> None:
    """Remove what a run that was killed has left in the output folder."""
    if roll_back(output):
        log.warning("%s: rolled back an interrupted move of worker folders", output)
    for staging in output.glob(f"{STAGING}*"):
        log.warning("%s: removed, left by a run that was killed", staging)
        shutil.rmtree(staging, ignore_errors=True)


def roll_back(output: Path) -> bool:
    """Put back what a run has moved but not finished to move; return whether there is such a run.

    Every step can be repeated: a new worker folder that is missing from the staging folder is the
    one in the output folder, and old ones come back when the last new one is out of their way.
    """
    unfinished = [*output.glob(f"{MOVING}[0-9]*-*")]
    for moving in unfinished:
        workers, _, name = moving.name.removeprefix(MOVING).partition("-")
        for number in map(str, range(int(workers))):
            if not (moving / "new" / number).exists():
                (output / number).rename(moving / "new" / number)
        for path in (moving / "old").iterdir():
            path.rename(output / path.name)
        moving.rename(output / f"{STAGING}{name}")
    return bool(unfinished)


# -------------------------------------------------------------------------------------- main


@dataclass(frozen=True)
class Plan:
    """What is dispatched, and what is not."""

    matched: int  # records
    entries: list[Entry]  # assets as they are grouped, and what is skipped
    files: Files | None
    workers: list[list[Task]]
    processed: list[Task]  # already, and left out
    left_out: int  # tasks, by --max_tasks

    @property
    def skips(self) -> list[Skip]:
        """What is skipped."""
        return [entry for entry in self.entries if isinstance(entry, Skip)]

    @property
    def tasks(self) -> list[Task]:
        """The tasks of all workers."""
        return [*chain(*self.workers)]


def dispatch(settings: Settings) -> None:
    """Do what the settings ask for, from records to worker folders."""
    started = time.monotonic()
    output = settings.output_directory
    if any(output.glob(f"{MOVING}*")):
        with lock(output):
            clean_up(output)
    check_output(output, settings.overwrite or settings.dry_run)
    plan = make_plan(settings)
    done = "dispatched to" if plan.workers else "nothing new to dispatch to"
    try:
        if settings.dry_run:
            from dispatch_plan import show_plan

            show_plan(plan, settings)
            done = "dry run, nothing is dispatched, the plan is in"
        else:
            write_workers(plan.workers, output, settings.overwrite)
    except OSError as error:
        raise FailedRun(f"cannot write to {output}: {error}") from error
    seconds = time.monotonic() - started
    log.info("%s %s: %s, %.1f s", done, output, summarise(plan, settings), seconds)


def make_plan(settings: Settings) -> Plan:
    """Return what the settings ask for, from records to the tasks of each worker."""
    fixed, sets = read_parameters(settings.input_directory)
    files = question = None
    if settings.file_extension:
        import_aiohttp()
    if not settings.no_code:
        from dispatch_plan import begin_find_process  # what code will run the tasks

        question = begin_find_process(settings, fixed)  # while DocDB and S3 answer
    database = open_database(settings)
    progress = Progress()
    listing = Listing(settings, progress) if settings.file_extension else None
    try:
        entries = find_assets(settings, database, progress, listing)
        assets = [entry for entry in entries if isinstance(entry, Asset)]
        groups = group_assets(assets)
        if listing:
            listing.add(assets)
            begin(task_model)  # while S3 answers
            files = listing.files()
    finally:
        progress.close()
        if listing:
            listing.close()
    entries += skip_without_task(assets, groups, files, settings.file_extension)
    report_skipped(entries, settings.strict)
    process = question.result() if question else None
    if not process and fixed:  # the tasks are where a worker finds its parameters
        merged = "fixed_parameters are merged into distributed_parameters"
        log.info("the tasks do not say their code (%s): %s", settings.no_code, merged)
        sets = [{**fixed, **one} for one in sets or [{}]]
    tasks = render_tasks(make_tasks(groups, files, settings, sets), process, fixed)
    if not tasks:
        raise FailedRun(f"nothing to dispatch: {summarise_records(progress.records, entries)}")
    processed: list[Task] = []
    if settings.skip_processed:
        from dispatch_plan import set_apart_processed

        tasks, processed = set_apart_processed(tasks, settings.timeout)
    left_out = max(0, len(tasks) - settings.max_tasks) if settings.max_tasks else 0
    if left_out:
        log.warning("--max_tasks %d: %s left out", settings.max_tasks, plural(left_out, "task"))
    workers = deal(tasks[: len(tasks) - left_out], settings)
    return Plan(progress.records, entries, files, workers, processed, left_out)


def open_database(settings: Settings) -> Database:
    """Return what answers the filter."""
    if settings.query is not None:
        log.info("the filter: %s", pasteable(settings.query))
    if settings.docdb_snapshot:
        from dispatch_plan import open_snapshot

        return open_snapshot(settings.docdb_snapshot)
    return open_docdb(settings.docdb_version, settings.timeout)


def find_assets(
    settings: Settings, database: Database, progress: Progress, listing: Listing | None
) -> list[Entry]:
    """Return the assets with their groups, and what is skipped; their listing is begun."""
    narrowed = settings.filter_latest or settings.group_by  # not all that match are wanted
    entries = choose_assets(settings, database, progress, None if narrowed else listing)
    if settings.query and not progress.records:
        from dispatch_plan import explain

        explain(database, settings.query)
    if narrowed or settings.unwind_list_fields:
        from dispatch_plan import check_fields

        check_fields(entries, database, settings)
    if settings.filter_latest:
        from dispatch_plan import keep_latest

        entries = keep_latest(entries, settings)
    return set_groups(entries, settings)


def skip_without_task(
    assets: list[Asset], groups: list[list[Asset]], files: Files | None, extension: str | None
) -> list[Skip]:
    """Return a skip for each asset that no task will stand for."""
    grouped = {asset.record_id for asset in chain(*groups)}
    skips: dict[str, Skip] = {}
    for asset in assets:
        if asset.record_id not in grouped:
            skips[asset.record_id] = Skip("left out by group_assets", asset.label)
        elif files is not None and not files[asset.location]:
            where = f"{asset.name} ({asset.location})"
            skips[asset.record_id] = Skip(f"no {extension} file", where)
    return list(skips.values())


def report_skipped(entries: list[Entry], strict: bool) -> None:
    """Log what is skipped by name; raise FailedRun if nothing may be."""
    skips = [entry for entry in entries if isinstance(entry, Skip)]
    by_reason: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for skip in skips:
        by_reason[logging.INFO if skip.asked else logging.WARNING, skip.reason].append(skip.name)
    for (severity, reason), names in by_reason.items():
        log_first(severity, f"skipped, {reason}", names)
    faults = [skip for skip in skips if not skip.asked]
    if faults and strict:
        first = f"{faults[0].name}: {faults[0].reason}"
        raise FailedRun(f"--strict 1: {len(faults)} would be skipped, first {first}")


def summarise_records(matched: int, entries: list[Entry]) -> str:
    """Return the records matched and what was skipped, in words."""
    reasons = Counter(entry.reason for entry in entries if isinstance(entry, Skip))
    why = f" ({', '.join(f'{reason}: {n}' for reason, n in reasons.items())})" if reasons else ""
    return f"{plural(matched, 'record')} matched, {reasons.total()} skipped{why}"


def summarise(plan: Plan, settings: Settings) -> str:
    """Return what a plan comes to, in words."""
    files = "no files looked for"
    if plan.files is not None:
        files = plural(sum(map(len, plan.files.values())), "file")
    tasks = plural(len(plan.tasks), "task")
    others = [f"{len(plan.processed)} processed already"] if settings.skip_processed else []
    if plan.left_out:
        others.append(f"{plan.left_out} more left out")
    if others:
        tasks += f" ({', '.join(others)})"
    workers = plural(len(plan.workers), "worker") + describe_heaviest(plan, settings.balance_by)
    return f"{summarise_records(plan.matched, plan.entries)}, {files}, {tasks}, {workers}"


def describe_heaviest(plan: Plan, balance_by: str) -> str:
    """Return how much more than the mean the heaviest worker has to do, "" if no more."""
    loads = [len(tasks) for tasks in plan.workers]
    if balance_by == "size":
        loads = [sum(task.size for task in tasks) for tasks in plan.workers]
    heaviest = max(loads, default=0)
    times = f"{heaviest * len(loads) / (sum(loads) or 1):.2f}"
    if times in ("0.00", "1.00"):
        return ""
    load = file_size(heaviest) if balance_by == "size" else plural(heaviest, "task")
    return f", the heaviest with {load}, {times} times the mean"


def file_size(size: float) -> str:
    """Return a number of bytes with its unit."""
    from tqdm import tqdm

    return f"{tqdm.format_sizeof(size)}B"


class OneLineFormatter(logging.Formatter):
    """Writes every message on one line, whatever the names in it are made of."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        if record.name == log.name:
            return one_line(super().format(record))
        if record.exc_info:  # of the library that asks Code Ocean: its cause is enough
            record.msg = f"{record.getMessage()} ({record.exc_info[1]})"
            record.args, record.exc_info = (), None
        return one_line(without_secrets(super().format(record)))


def configure_log() -> None:
    """Log to standard error, this program from $LOG_LEVEL up, all else from WARNING up."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for name in ("asyncio", "urllib3"):  # our own say it already
        logging.getLogger(name).setLevel(logging.ERROR)
    name = os.environ.get("LOG_LEVEL", "").strip() or "INFO"
    threshold = logging.getLevelNamesMapping().get(name.upper())
    log.setLevel(threshold or logging.INFO)
    if not threshold:
        log.warning("$LOG_LEVEL is not a log level, INFO is used: %r", name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    if sys.stderr is None:  # closed by the caller
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where the terminal is not in UTF-8
    configure_log()
    gc.disable()  # hardly anything is garbage, and to look for it took a twentieth of the time
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stop)
    signal.signal(signal.SIGALRM, lambda *_: None)  # wakes a wait that a signal came just before
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
    try:
        dispatch(parse_settings(argv))
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # done: a signal may not change the status
        return 0
    except Exception as error:
        if log.isEnabledFor(logging.DEBUG):
            print(without_secrets(traceback.format_exc()), file=sys.stderr)
        fault = str(error)
        if isinstance(error, ModuleNotFoundError):
            fault = f"a Python package is missing ({error}): environment/run.sh installs it"
        elif not isinstance(error, BadInput | FailedRun):
            fault = f"{type(error).__name__}: {error} (LOG_LEVEL=DEBUG shows where)"
        logging.disable()  # what still ends in another thread says nothing after the last line
        print(f"error: {one_line(without_secrets(fault))}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1


def stop(number: int, _: object) -> None:
    """Handle a signal: end the run at once, unless it is as good as done.

    No exception is raised, since Python drops those that come up while it frees an object.
    """
    if not COMMITTED.is_set():
        for staging in STAGED:
            shutil.rmtree(staging, ignore_errors=True)
        line = f"error: stopped by {signal.Signals(number).name}, nothing is dispatched\n"
        os.write(sys.stderr.fileno(), line.encode())
        os._exit(128 + number)


if __name__ == "__main__":
    sys.modules["run_capsule"] = sys.modules[__name__]  # for dispatch_plan.py, which imports it
    status = main()
    with suppress(OSError, ValueError):  # closed by its reader
        sys.stdout.flush()
    os._exit(status)  # else threads and modules would take their time to end
