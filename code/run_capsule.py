#!/usr/bin/env python3
"""Dispatch an analysis: ask which data assets match, find their files, deal them out to workers.

Read this file from top to bottom, in the order in which the data flows:

    settings   the flags become one Settings
    records    DocDB, or a snapshot of it, says which records match
    assets     a record becomes an Asset; group_assets, for you to edit, says what shares a task
    groups     older assets leave, the others get the values that they are grouped by
    files      the objects and folders of each asset that have the extension, from S3
    code       meanwhile, Code Ocean says which code will run the tasks, if that is to be known
    tasks      a group with its files becomes one task, or one task per file, per parameter set
    workers    tasks become JSON files in numbered folders, one folder per worker
    plan       or, in a dry run, a table and a page to look at (dispatch_plan.py draws it)
    main       the steps in a row, the closing line, the exit status

Exit status: 0 dispatched, 2 the input is wrong, 1 the run failed, 130 and 143 a signal ended it.
What a step cannot do it raises as BadInput or FailedRun, and main alone turns that into one line
and a status. Packages that are slow to import are imported where they are used.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import codecs
import csv
import difflib
import fcntl
import glob
import io
import json
import logging
import os
import random
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import tokenize
import traceback
import uuid
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, partial
from heapq import heapreplace
from itertools import chain, combinations, islice, pairwise, product
from operator import attrgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote, unquote, unquote_plus, urlencode
from xml.etree import ElementTree

if TYPE_CHECKING:
    from aind_data_schema.components.identifiers import Code
    from aind_data_schema.core.processing import DataProcess
    from aiohttp import ClientSession
    from pydantic import BaseModel
    from requests.exceptions import HTTPError
    from tqdm import tqdm

    import dispatch_plan

VERSION = "1.0.0"
ROOT = Path(__file__).resolve().parent.parent  # in Code Ocean: /, so that this is /data, /results
DOCDB_HOST = "api.allenneuraldynamics.org"
RECORDS_PER_PAGE = 5_000  # some 350 bytes each; the gateway refuses answers past 6 MB
FIRST_PAGE = 1_000  # so that listing can begin while further pages are asked for
IDS_PER_QUERY = 5_000  # up to 80 bytes each in all; the gateway takes requests up to 10 MB
PAGES_IN_A_ROW = 4  # of one part, before it is looked at whether it can be split
KEYS_PER_FOLDER = 250  # on the average, for a request per folder to be worth while
QUERY_LENGTH = 8_000  # the longest query that is copied into every task, in characters
NAMES_IN_LOG = 20
SECONDS_PER_LINE = 10  # of the log, while nothing but progress is to be said
SECONDS_PER_FRAME = 0.1  # of the line on a terminal
TRIES = 5  # of a request to DocDB, or a question to Code Ocean
LIST_TRIES = 7  # of a request to S3, which is asked to slow down more often
LONGEST_LIST_PAUSE = 3  # seconds
LONGEST_PAUSE = 60  # that DocDB can ask for with Retry-After, in seconds
LAST_CHARACTER = "\U0010ffff"  # behind all others in the order of keys
DEPTH = 100  # of nesting, as in MongoDB
VALUES_IN_HINTS = 10_000  # of a field, among which near ones are looked for
HINT_SECONDS = 10  # for a question that only helps to understand
PIPELINE = ("CO_PIPELINE_ID", "CO_COMPUTATION_ID", "CODEOCEAN_API_TOKEN")
RESULTS_STORE = ("DOCDB_HOST", "DOCDB_DATABASE", "DOCDB_COLLECTION")
SECRETS = ("CODEOCEAN_API_TOKEN", "GIT_ACCESS_TOKEN")

log = logging.getLogger("dispatch")

Record = dict[str, Any]
T = TypeVar("T")


class BadInput(Exception):
    """What the user gave is wrong."""


class FailedRun(Exception):
    """The input is fine, but the run cannot be completed."""


# ---------------------------------------------------------------------------------- settings


def switch(text: str) -> bool:
    """Convert the value of a flag that is off or on, as people and app panels write it."""
    if text.lower() not in ("0", "1", "false", "true", "no", "yes"):
        raise ValueError("must be 0 or 1, false or true, no or yes")
    return text.lower() in ("1", "true", "yes")


def at_least(least: int) -> Callable[[str], int]:
    """Return a converter of whole numbers from so many."""

    def convert(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
            raise ValueError(f"must be a whole number from {least} to 999999999")
        return int(text)

    return convert


positive = at_least(1)
whole = at_least(0)


def valid_text(text: str) -> str:
    """Convert text that can be sent; what a terminal passes need not be valid."""
    try:
        text.encode()
    except UnicodeError:
        raise ValueError("must be valid UTF-8") from None
    return text


def name_list(text: str) -> tuple[str, ...]:
    """Convert values that are separated by commas, or a JSON list; repeated ones count once."""
    if text.startswith("["):
        values = read_list(text)
    else:
        values = [part.strip().strip("\"'`") for part in text.split(",")]
    found = tuple(dict.fromkeys(name for value in values if (name := value.strip())))
    if values and not found:
        raise ValueError("must be one or more values, separated by commas")
    return tuple(map(valid_text, found))


def read_list(text: str) -> list[str]:
    """Return the values of a JSON list, or of a Python one; whole numbers as their digits."""
    with suppress(ValueError, BadInput):
        values = read_value(text)
        if isinstance(values, list) and {type(value) for value in values} <= {str, int}:
            return [str(value) for value in values]
    raise ValueError('must be a JSON list such as ["a", "b"], or the values alone: a,b')


def field_list(text: str) -> tuple[str, ...]:
    """Convert names of fields of a record, separated by commas."""
    found = name_list(text)
    if not all(re.fullmatch(r"[^.$][^.]*(\.[^.$][^.]*)*", name) for name in found):
        raise ValueError("must be fields such as subject.subject_id, separated by commas")
    return found


def key_of(field: str) -> str:
    """Return the key of a field in group_metadata."""
    return field.replace(".", "__")


def field_name(text: str) -> str:
    """Convert the name of a field of a record."""
    found = field_list(text)
    if len(found) != 1:
        raise ValueError("must be one field, such as created")
    return found[0]


def suffix(text: str) -> str:
    """Convert the end of a name; a word without a dot gets one."""
    if re.search(r"[/*?\[\]]", text):
        raise ValueError("must be the end of a name, such as .nwb, without any of / * ? [ ]")
    return f".{text}" if text[0].isalnum() and "." not in text else text


def home_path(text: str) -> Path:
    """Convert a path; ~ and ~name at its start are home folders."""
    return Path(os.path.expanduser(text))


def input_folder(text: str) -> Path:
    """Convert the path of a folder that is there."""
    folder = home_path(text)
    if not os.path.isdir(folder):
        raise ValueError("must be a folder that is there")
    return folder


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a converter that takes these values alone."""

    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return text

    return convert


version = one_of("v1", "v2")
level = one_of("raw", "derived")
measure = one_of("count", "size")


# The command line, the app panel and the README are made from this table. Its headings are theirs.
# fmt: off
FLAGS: dict[str, list[tuple[str, Callable[[str], Any], Any, str, str]]] = {
    # flag and aliases, how the value is converted, default, what the help calls the value, help
    "Choose the assets": [
        ("--query --docdb_query", str, None, "FILTER",
         "Which records: a DocDB filter as a JSON object or Python dict, or the path of a JSON file"
         " (in the working folder, else in the input folder or one folder down)."),
        ("--project_name", valid_text, None, "NAME",
         "Only assets of this project. This and the next three are combined by AND, with each other"
         " and with the query."),
        ("--subject_id", name_list, None, "ID,ID",
         "Only assets of these subjects, separated by commas."),
        ("--modality", name_list, None, "NAME,NAME",
         "Only assets with any of these modalities, by their abbreviations, such as ecephys."),
        ("--data_level", level, None, "raw|derived",
         "Only raw, or only derived assets."),
        ("--use_data_asset_csv", switch, 0, "0|1",
         "1: the assets are those whose Code Ocean ids are listed in the column asset_id of"
         " data_asset_input.csv in the input folder; --query and the flags above are not used"
         " then."),
        ("--docdb_version", version, None, "v1|v2",
         "Generation of the metadata database. Blank: $DOCDB_VERSION, else v1."),
        ("--docdb_snapshot", str, None, "FILE",
         "A file of records (JSON array or JSON lines) to query instead of the live database;"
         " looked for like a query file."),
        ("--filter_latest", field_name, None, "FIELD",
         "Of the assets that agree in all fields of --filter_by, only the one with the greatest"
         " value here, such as created."),
        ("--filter_by", field_list, None, "FIELD,FIELD",
         "The fields for --filter_latest, such as subject.subject_id,session.session_start_time."),
    ],
    "Group the assets": [
        ("--group_by", field_list, None, "FIELD,FIELD",
         "One task for all assets that agree in these fields, such as subject.subject_id."),
        ("--unwind_list_fields", field_list, None, "FIELD,FIELD",
         "An asset whose value here is a list counts once for each element, in --group_by,"
         " --filter_by and --filter_latest, such as data_description.modality.abbreviation."),
        ("--drop_null_groups", switch, 1, "0|1",
         "1: skip assets that lack a field to group or filter by. 0: keep them as a group of their"
         " own."),
    ],
    "Find the files": [
        ("--file_extension", suffix, None, "SUFFIX",
         "How the names of the files to find end, such as nwb (for .nwb), .nwb.zarr or _probe.json;"
         " a folder with such a name is one file. Blank: none, a task names the asset alone."),
        ("--split_files", switch, 1, "0|1",
         "1: one task per file. 0: one task per asset, all its files in it. Without a file"
         " extension, or for grouped assets, it has no effect."),
        ("--max_connections", positive, 64, "N",
         "The most requests to S3 at the same time."),
        ("--timeout", positive, 60, "SECONDS",
         "How long one attempt at a request to DocDB or S3 may take; then it is tried again, a few"
         " times."),
    ],
    "Say what will run": [
        ("--analysis_code", str, "auto", "auto|none|FILE",
         "What every task says of the code that will run it. auto: in a pipeline of Code Ocean, the"
         " capsule that --analysis_capsule names, with the fixed parameters; elsewhere nothing."
         " none: nothing. FILE: the code in this file, a Code of aind-data-schema as JSON; looked"
         " for like a query file."),
        ("--analysis_capsule", valid_text, "wrapper", "NAME",
         "The capsule of the running pipeline that will run the tasks: its id, or a part of its"
         " name in the pipeline."),
        ("--skip_processed", switch, 0, "0|1",
         "1: leave out the tasks whose result is in the results store already. Needs the code of"
         " the analysis, $DOCDB_HOST, $DOCDB_DATABASE and $DOCDB_COLLECTION."),
    ],
    "Share out the work": [
        ("--max_tasks --max_number_of_tasks_dispatched", whole, 0, "N",
         "Only the first N tasks, to try an analysis. 0: all."),
        ("--max_jobs --num_parallel_workers", positive, 50, "N",
         "The most worker folders."),
        ("--tasks_per_job", positive, 1, "N",
         "So few workers that each gets at least N tasks; with --balance_by size, on the average."),
        ("--balance_by", measure, "count", "count|size",
         "What is shared out evenly. count: the tasks, in their order. size: the bytes of their"
         " files; needs --file_extension."),
    ],
    "Folders and safety": [
        ("--dry_run", switch, 0, "0|1",
         "1: dispatch nothing, but show what would be: the first tasks on the terminal, all of them"
         " in dispatch_plan.csv and dispatch_plan.html in the output folder."),
        ("--input_directory", input_folder, ROOT / "data", "FOLDER",
         "Where the CSV, query, parameter and snapshot files are looked for."),
        ("--output_directory", home_path, ROOT / "results", "FOLDER",
         "Where the worker folders are written."),
        ("--overwrite", switch, 0, "0|1",
         "1: replace the worker folders of an earlier run."),
        ("--strict", switch, 0, "0|1",
         "1: fail when an asset or id would be skipped, instead of going on without it."),
    ],
}
# fmt: on


@dataclass(frozen=True)
class Settings:
    """What one run is asked to do: the flags, with those that choose records made one filter."""

    query: Record | None  # None: the assets come from the CSV
    use_data_asset_csv: bool
    docdb_version: str
    docdb_snapshot: Path | None
    filter_latest: str | None
    filter_by: tuple[str, ...]
    group_by: tuple[str, ...]
    unwind_list_fields: tuple[str, ...]
    drop_null_groups: bool
    file_extension: str | None
    split_files: bool
    max_connections: int
    timeout: int  # seconds
    analysis_code: str | Path  # auto, none, or the file
    analysis_capsule: str
    skip_processed: bool
    max_tasks: int  # 0: all
    max_jobs: int
    tasks_per_job: int
    balance_by: str
    input_directory: Path
    output_directory: Path
    overwrite: bool
    strict: bool
    dry_run: bool
    command: str  # that dispatches, whether this is a dry run or not

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

    @property
    def weigh(self) -> bool:
        """Whether the bytes in folders that match are wanted."""
        return self.balance_by == "size" or self.dry_run


def not_set(names: Sequence[str]) -> str | None:
    """Return which of these environment variables are missing, in words; None if none is."""
    missing = [f"${name}" for name in names if not os.environ.get(name, "").strip()]
    return f"{' and '.join(missing)} not set" if missing else None


class Flag(argparse.Action):
    """A flag with one value; a blank one, as app panels pass for an empty field, is no value.

    Given twice, lists are joined, and any other value must be the same.
    """

    def __init__(self, convert: Callable[[str], Any], **options: Any) -> None:
        super().__init__(**options)
        self.convert = convert

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Convert and keep the value."""
        text = without_quotes(values)
        try:
            value = self.convert(text) if text else ()
        except ValueError as error:
            raise argparse.ArgumentError(self, f"{error}, not {excerpt(values)}") from None
        if value == ():
            return
        given = f"{option_string} {excerpt(text)}"
        earlier, earlier_given = parser.given.get(self.dest, (value, given))
        if isinstance(value, tuple):
            value = tuple(dict.fromkeys(earlier + value))
        elif value != earlier:
            parser.error(f"{earlier_given} and {given} do not agree: give one of them")
        parser.given[self.dest] = value, given
        setattr(namespace, self.dest, value)


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


class Parser(argparse.ArgumentParser):
    """The parser of all flags; what is wrong with them is BadInput."""

    def __init__(self) -> None:
        super().__init__(
            prog="run_capsule.py",
            description="Find the data assets that match, and their files, and write one JSON file"
            " per task into one folder per worker.",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--version", action="version", version=f"aind-analysis-job-dispatch {VERSION}"
        )
        for heading, flags in FLAGS.items():
            group = self.add_argument_group(heading)
            for names, convert, default, metavar, text in flags:
                if default is not None:
                    text += " Default: %(default)s."
                group.add_argument(
                    *names.split(),
                    **{"action": Flag, "convert": convert, "default": default},
                    metavar=metavar,
                    help=text,
                )

    def parse(self, argv: Sequence[str] | None) -> dict[str, Any]:
        """Return the value of every flag; raise BadInput, for an unknown one with the nearest."""
        words = sys.argv[1:] if argv is None else argv
        self.check_words(words)
        self.given: dict[str, tuple[Any, str]] = {}  # value, and how it was given, by flag
        chosen, unknown = self.parse_known_args(words)
        for text in unknown:
            name = text.partition("=")[0].replace("-", "_")
            near = difflib.get_close_matches(f"--{name.strip('_')}", self._option_string_actions, 1)
            hint = f", did you mean {near[0]}?" if near and text.startswith("-") else ""
            self.error(f"there is no flag {text!r}{hint}")
        return vars(chosen)

    def check_words(self, words: Sequence[str]) -> None:
        """Raise BadInput for a flag that has no value, or one of several words."""
        starts = [at for at, word in enumerate(words) if self._parse_optional(word)]
        for start, end in pairwise([*starts, len(words)]):
            name, sign, first = words[start].partition("=")
            values = [first] * bool(sign) + list(words[start + 1 : end])
            flag = self._option_string_actions.get(name)
            if not isinstance(flag, Flag) or len(values) == 1:
                continue
            if not values:
                example = "1" if flag.convert is switch else flag.metavar
                self.error(f"{name} needs a value: {name} {example}")
            advice, value = "quote the value", shlex.quote(shorten(" ".join(values)))
            if flag.convert in (name_list, field_list):
                advice = "separate the values by commas"
                value = ",".join(re.findall(r"[^\s,'\[\]]+", value))
            self.error(f"{advice}: {name} {value}; {excerpt(values[1])} belongs to no flag")

    def error(self, message: str) -> NoReturn:
        """Raise BadInput."""
        raise BadInput(f"{message} (--help lists the flags)")


def parse_settings(argv: Sequence[str] | None = None) -> Settings:
    """Return the settings that the flags and the environment ask for; raise BadInput."""
    chosen = Parser().parse(argv)
    snapshot, folder = chosen["docdb_snapshot"], chosen["input_directory"]
    if not chosen["docdb_version"]:
        name = os.environ.get("DOCDB_VERSION", "").strip() or "v1"
        try:
            chosen["docdb_version"] = version(name)
        except ValueError as error:
            raise BadInput(f"$DOCDB_VERSION {error}, not {name!r}") from None
    given = [name for name in QUERY_FLAGS if chosen[name]]
    query = None
    if chosen["use_data_asset_csv"]:
        for name in given:
            log.warning("--%s is not used: --use_data_asset_csv 1 says which assets", name)
    elif given:
        query = combine(chosen)
    else:
        raise BadInput(
            f"no assets chosen: give --{', --'.join(QUERY_FLAGS)}, or --use_data_asset_csv 1"
        )
    chosen["docdb_snapshot"] = snapshot and find_file(snapshot, folder)
    if snapshot and not chosen["docdb_snapshot"]:
        raise no_file("--docdb_snapshot", snapshot, folder)
    if (code := chosen["analysis_code"]) not in ("auto", "none"):
        chosen["analysis_code"] = find_file(code, folder)
        if not chosen["analysis_code"]:
            raise no_file("--analysis_code must be auto, none or a file", code, folder)
    if bool(chosen["filter_latest"]) != bool(chosen["filter_by"]):
        raise BadInput("--filter_latest and --filter_by go together: give both, or neither")
    if chosen["balance_by"] == "size" and not chosen["file_extension"]:
        raise BadInput("--balance_by size needs --file_extension, which says whose bytes count")
    for name in ("filter_by", "group_by", "unwind_list_fields"):
        chosen[name] = chosen[name] or ()
    if len(set(map(key_of, chosen["group_by"]))) < len(chosen["group_by"]):
        raise BadInput("--group_by: two fields are one in group_metadata, where . is written as __")
    others = {name: value for name, value in chosen.items() if name not in QUERY_FLAGS}
    settings = Settings(query=query, command=command_of(argv), **others)
    if settings.skip_processed and (why := settings.no_code or not_set(RESULTS_STORE)):
        raise BadInput(
            "--skip_processed 1 needs the code of the analysis and the place of the results store:"
            f" {why}"
        )
    for path in settings.unwind_list_fields:
        if not any(is_in(name, path) for name in settings.fields_in_use):
            log.warning("--unwind_list_fields: nothing is grouped or filtered by %s", path)
    return settings


def command_of(argv: Sequence[str] | None) -> str:
    """Return the command that these flags make, without a dry run, wherever it is pasted."""
    words = list(sys.argv[1:] if argv is None else argv)
    while "--dry_run" in words:
        start = words.index("--dry_run")
        del words[start : start + 2]
    words = [word for word in words if not word.startswith("--dry_run=")]
    used = (*RESULTS_STORE, "DOCDB_VERSION", "CODEOCEAN_DOMAIN", *PIPELINE)
    shown = [name for name in used if os.environ.get(name) and name not in SECRETS]
    environment = [f"{name}={os.environ[name]}" for name in shown]
    env = ["env", *environment] if environment else []
    program = [sys.executable, str(Path(__file__).resolve())]
    return f"cd {shlex.quote(os.getcwd())} && {shlex.join([*env, *program, *words])}"


QUERY_FLAGS = ("query", "project_name", "subject_id", "modality", "data_level")


def combine(chosen: dict[str, Any]) -> Record:
    """Return the filter that the flags ask for, all of their conditions; raise BadInput."""
    modality = {"v1": "modality", "v2": "modalities"}[chosen["docdb_version"]]
    subjects, modalities = chosen["subject_id"], chosen["modality"]
    conditions = {
        "data_description.project_name": chosen["project_name"],
        "subject.subject_id": subjects and {"$in": list(subjects)},
        f"data_description.{modality}.abbreviation": modalities and {"$in": list(modalities)},
        "data_description.data_level": chosen["data_level"],
    }
    conditions = {name: value for name, value in conditions.items() if value}
    query = read_query(chosen["query"], chosen["input_directory"]) if chosen["query"] else {}
    if query.keys() & conditions.keys():
        return {"$and": [query, conditions]}
    return {**query, **conditions}


def find_file(name: str, folder: Path) -> Path | None:
    """Return the path of a file that is named relative to the working folder, or an input file."""
    with suppress(ValueError):  # a text that can be no name, since NUL is in it, say
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
    found = sorted(filter(is_file, glob.glob(below)))
    if len(found) > 1:
        raise BadInput(f"which {name}? There are {' and '.join(found)}")
    return Path(found[0]) if found else None


def is_file(path: str) -> bool:
    """Return whether there is a file, or a link that leads to none, which reading it tells."""
    # os.path answers False where Path raises: a text too long for a name, say
    return os.path.lexists(path) and not os.path.isdir(path)


def read_text(path: Path) -> str:
    """Return a file's text, in UTF-8 with or without a byte order mark; raise BadInput."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from None


def read_query(text: str, folder: Path) -> Record:
    """Return the filter that --query gives, as text or as the path of a file; raise BadInput."""
    if text.startswith("{"):
        return parse_filter(text, "--query")
    if path := find_file(text, folder):
        return parse_filter(read_text(path), str(path))
    if not re.search(r"""["'{}:]|^\[""", text):
        raise no_file("--query", text, folder)
    return parse_filter(text, "--query")


def no_file(flag: str, name: str, folder: Path) -> BadInput:
    """Return an error for a file that is not there, with those that could be meant."""
    wanted = os.path.basename(name)
    places = [os.curdir, glob.escape(str(folder))]
    depths = ["*", os.path.join("*", "*"), os.path.join("*", "*", "*")]
    try:
        paths = chain(*(glob.iglob(os.path.join(*pair)) for pair in product(places, depths)))
        there = {os.path.basename(path): path for path in islice(paths, 20_000) if is_file(path)}
    except (OSError, ValueError):
        there = {}
    near = [wanted] if wanted in there else difflib.get_close_matches(wanted, there, 1, 0.8)
    meant = f": did you mean {there[near[0]]}?" if near else ""
    shown = excerpt(name)
    return BadInput(
        f"{flag}: there is no file {shown}, here, in {folder} or one folder down{meant}"
    )


def without_quotes(text: str) -> str:
    """Take off quotes around the whole, a slip that is common in pasting."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"`":
        inner = text[1:-1]
        if '\\"' in inner:  # "{\"name\": \"a\"}": those inside are escaped
            with suppress(ValueError):
                inner = json.loads(text)
        text = inner.strip()
    return text


def parse_filter(text: str, source: str) -> Record:
    """Return a filter from a JSON object or a Python dict literal; raise BadInput."""
    text = without_quotes(text)
    try:
        found = read_value(text)
    except ValueError as fault:
        raise BadInput(
            f"{source}: {advice_on(text)}it is neither a JSON object nor a Python dict: {fault}:"
            f" {excerpt(text)}"
        ) from None
    if not isinstance(found, dict):
        raise BadInput(f"{source} is a {type(found).__name__}, not an object: {excerpt(text)}")
    if is_deeper(found):
        raise BadInput(f"{source} is nested more than {DEPTH} deep: {excerpt(text)}")
    try:
        compact(found).encode()  # a dict literal can hold sets, bytes or lone surrogates
    except (TypeError, ValueError) as error:
        raise BadInput(f"{source} cannot be sent as JSON: {error}") from None
    return found


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


def advice_on(text: str) -> str:
    """Return what to write in place of what no filter can hold, "" if nothing such is there."""
    bare = re.sub(r"""("|')(?:(?!\1)[^\\\n]|\\.)*\1""", '""', text)  # without what is in quotes
    for pattern, instead in PASTED:
        if found := re.search(pattern, bare):
            shown = found[0].strip("{, ")
            shown += "...)" if shown.endswith("(") else ""
            return f"write {instead}, in place of {shown}; "
    return ""


SYNTAX_FAULTS = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, TokenError)


def read_value(text: str) -> Any:
    """Return what JSON says, or a Python literal; raise ValueError, and BadInput for its keys.

    Where neither reads it, the fault that is told is JSON's, or Python's if the first quote in the
    text is a single one.
    """
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as json_fault:
        try:
            return read_literal(text)
        except SYNTAX_FAULTS as python_fault:
            quote = re.search("[\"']", text)
            fault = python_fault if quote and quote[0] == "'" else json_fault
            raise ValueError(describe(fault)) from None


def read_literal(text: str) -> Any:
    """Return what a Python literal says; raise BadInput for keys that JSON could not keep.

    Two strings side by side, which Python would join, lack a comma.
    """
    with warnings.catch_warnings(action="ignore"):  # of "\d" in a regular expression
        tree = ast.parse(text, mode="eval")
    tokens = tokenize.generate_tokens(io.StringIO(text.strip(), newline=None).readline)
    layout = (tokenize.NL, tokenize.COMMENT)
    kinds = [token.type for token in tokens if token.type not in layout]
    if (tokenize.STRING, tokenize.STRING) in pairwise(kinds):
        raise ValueError("a comma is missing between two strings")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            unique_keys([(ast.literal_eval(key), None) for key in node.keys if key])
    return ast.literal_eval(tree)


def unique_keys(pairs: list[tuple[Any, Any]]) -> Record:
    """Return an object; raise BadInput for a key that is no text, or twice there and once lost."""
    for key, times in Counter(key for key, _ in pairs).items():
        if not isinstance(key, str):
            raise BadInput(f"the key {key!r} is not a text")
        if times > 1:
            raise BadInput(f"the key {key!r} stands twice in one object; a query can use $and")
    return dict(pairs)


def is_deeper(value: Any, levels: int = DEPTH) -> bool:
    """Return whether lists and objects are nested more than so many levels deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(is_deeper(item, levels - 1) for item in inner)


def compact(value: Any) -> str:
    """Return JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def pasteable(query: Record) -> str:
    """Return a query as JSON that the log leaves as it is."""
    text = compact(query)
    return text if text.isprintable() else json.dumps(query)


def shorten(text: str, length: int = 200) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= length else f"{text[:length]}..."


def excerpt(text: str, length: int = 60) -> str:
    """Return the beginning of a text, quoted."""
    return repr(shorten(text, length))


def describe(fault: BaseException) -> str:
    """Return what is wrong with a text, and where."""
    if isinstance(fault, SyntaxError):
        return f"{fault.msg}: line {fault.lineno} column {fault.offset}"
    return str(fault).partition(": <")[0] or type(fault).__name__  # without an object's address


# ----------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class Gateway:
    """The live database."""

    aggregate: Callable[[list[Record]], list[Record] | None]  # None: too much for one answer
    page: int = RECORDS_PER_PAGE
    ids_at_once: int = IDS_PER_QUERY
    folder: None = None  # no location may be a local path

    def find(self, query: Record, fields: Sequence[str]) -> Iterator[list[Record]]:
        """Yield the fields of every record that matches, in pages."""
        return fetch_records(self, query, fields)

    def count(self, query: Record) -> int | None:
        """Return how many records match, None if the database does not say."""
        answer = self.aggregate([{"$match": query}, {"$count": "records"}])
        found = answer[0].get("records") if answer else 0
        return found if answer is not None and isinstance(found, int) else None

    def values(self, field: str) -> Iterator[tuple[Any, int]]:
        """Yield the values of a field and how often each is there, the most frequent ones first."""
        stages: list[Record] = [
            {"$project": {"_id": 0, "value": f"${field}"}},
            {"$unwind": "$value"},
            {"$group": {"_id": "$value", "records": {"$sum": 1}}},
            {"$sort": {"records": -1, "_id": 1}},
            {"$limit": VALUES_IN_HINTS},
        ]
        for found in self.aggregate(stages) or ():
            yield found.get("_id"), found.get("records", 0)

    def sample(self) -> list[Record]:
        """Return some records, whole."""
        for number in (20, 5, 1):  # some are large
            answer = self.aggregate([{"$limit": number}])
            if answer is not None:
                return answer
        return []


@dataclass(frozen=True)
class Snapshot:
    """Records of a file, which answer as the live database would."""

    records: list[Record]
    folder: Path  # of the file; locations may be relative to it
    ids_at_once: int = sys.maxsize

    def find(self, query: Record, fields: Sequence[str]) -> Iterator[list[Record]]:
        """Yield the fields of every record that matches, all on one page."""
        paths = [name.split(".") for name in fields]
        yield [project(record, paths) for record in filter(predicate(query), self.records)]

    def count(self, query: Record) -> int:
        """Return how many records match."""
        return sum(map(predicate(query), self.records))

    def values(self, field: str) -> Iterator[tuple[Any, int]]:
        """Yield the values of a field and how often each is there, the most frequent ones first."""
        found = Counter(value for record in self.records for value in leaves(record, field))
        yield from found.most_common(VALUES_IN_HINTS)

    def sample(self) -> list[Record]:
        """Return some records, whole."""
        return self.records[:200]


Database = Gateway | Snapshot


def open_gateway(version: str, timeout: int, name: str = "DocDB", **place: str) -> Gateway:
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
    # the client sets no timeout, and would wait for ever
    session.request = partial(session.request, timeout=timeout + 1)  # type: ignore[method-assign]
    client = MetadataDbClient(host=host, version=version, session=session, **place)
    log.info("asking %s %s at %s", name, version, host)
    name = f"{name} at {host}"

    def ask(pipeline: list[Record]) -> list[Record] | None:
        try:
            return records_in(client.aggregate_docdb_records(pipeline))
        except requests.HTTPError as error:
            if error.response.status_code == 413:
                return None
            if error.response.status_code == 400:
                raise BadInput(f"{name} refuses the query: {describe_answer(error)}") from None
            raise

    return Gateway(partial(ask_patiently, ask, name, timeout))


def ask_patiently(ask: Callable[..., T], name: str, timeout: int, *values: Any) -> T:
    """Return what a service answers.

    What may pass is tried again, after a pause that grows, or as long as the service asks for.
    Raise FailedRun where it does not answer.
    """
    from requests.exceptions import HTTPError
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    started = time.monotonic()
    for attempt in range(1, TRIES + 1):
        pause = backoff(attempt)
        try:
            return within(timeout, ask, *values)
        except HTTPError as error:
            fault = describe_answer(error)
            if error.response.status_code not in (429, 500, 502, 503, 504):
                raise FailedRun(f"{name} answers {fault}") from None
            if asked := error.response.headers.get("Retry-After"):
                with suppress(InvalidHeader):
                    pause = Retry().parse_retry_after(asked)
        except TimeoutError:
            fault = f"nothing within {timeout} s (--timeout)"
        except (OSError, ValueError) as error:  # requests' own, and those for odd hosts and files
            fault = describe_request(error)
            if "CERTIFICATE_VERIFY_FAILED" in fault:
                break
        if attempt < TRIES:
            pause = min(pause, LONGEST_PAUSE)
            log.warning("%s: %s; trying again in %.0f s", name, fault, pause)
            time.sleep(pause)
    tried = f"{count(attempt, 'attempt')} in {time.monotonic() - started:.0f} s"
    raise FailedRun(f"no usable answer from {name} ({tried}): {fault}")


def backoff(attempt: int) -> float:
    """Return the seconds to wait after so many attempts, a little different each time."""
    return float(random.uniform(0.5, 1) * 2 ** (attempt - 2))  # noqa: S311


def records_in(answer: Any) -> list[Record]:
    """Return an answer that is a list of records; raise ValueError."""
    if not isinstance(answer, list) or not all(isinstance(record, dict) for record in answer):
        raise ValueError(f"no list of records, but {excerpt(str(answer), 300)}")
    return answer


def describe_answer(error: HTTPError) -> str:
    """Return the status of an answer, and the beginning of what it says."""
    response = error.response
    said = without_secrets(response.text)
    return f"{response.status_code} {response.reason}: {excerpt(said, 300)}"


def describe_request(error: Exception) -> str:
    """Return why a request failed, without the names of Python's classes around it."""
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON ({describe(error)}), but {excerpt(error.doc, 300)}"
    cause = str(getattr(error.args[0], "reason", error.args[0]) if error.args else error)
    return without_secrets(cause.partition("): ")[2] or cause)


def within(seconds: float, call: Callable[..., T], *values: Any) -> T:
    """Return what a call returns; raise TimeoutError if that takes longer.

    It runs in a thread, which is given up then: a socket's own timeout begins anew with every byte.
    """
    return begin(call, *values).result(seconds)


def begin(call: Callable[..., T], *values: Any) -> Future[T]:
    """Begin a call in a thread of its own, and return what will hold what it returns."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(call(*values))
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=work, daemon=True).start()
    return answer


def open_snapshot(path: Path) -> Snapshot:
    """Return the records of a file, to be asked like the database; raise BadInput."""
    records = read_snapshot(path)
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or not isinstance(record.get("_id"), str):
            raise BadInput(f"{path}: record {number} is no JSON object with a text as its _id")
        if is_deeper(record):
            raise BadInput(f"{path}: record {number} is nested more than {DEPTH} deep")
    for record_id, times in Counter(record["_id"] for record in records).items():
        if times > 1:
            raise BadInput(f"{path}: {times} records have the _id {record_id!r}")
    log.info("asking the snapshot %s: %s", path, count(len(records), "record"))
    return Snapshot(records, path.absolute().parent)


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
    found = {name: translate(part, name) for name, part in value.items()}
    if key in ("$and", "$or", "$nor"):
        found.pop("$comment", None)
    if found.get("$type") in (*LEAST,) and "$gte" not in found:
        found = {"$gte": LEAST[found.pop("$type")], **found}  # only one type is compared
    pattern, options = found.get("$regex"), found.get("$options", "")
    if isinstance(pattern, str) and isinstance(options, str):
        found |= {"$regex": regex(pattern, options), "$options": ""}
    return found


def regex(pattern: str, options: str) -> str:
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


def read_snapshot(path: Path) -> list[Any]:
    """Return the records of a file that holds a JSON array, JSON lines, or one record."""
    text, decoder, blank = read_text(path), json.JSONDecoder(), re.compile(r"\s*")
    records: list[Any] = []
    position = 0
    try:
        while (position := blank.match(text, position).end()) < len(text):  # type: ignore[union-attr]
            value, position = decoder.raw_decode(text, position)
            records += as_list(value)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is neither a JSON array nor JSON lines: {error}") from None
    return records


def fetch_records(
    database: Gateway, query: Record, fields: Sequence[str]
) -> Iterator[list[Record]]:
    """Yield the fields of every record that matches, in pages by record id.

    Pages go by key: what changes in the database while it is read shifts no record out of sight,
    and no page reads again what earlier ones have read.
    """
    most = database.page
    page_size = min(most, FIRST_PAGE)
    match = query
    last: str | None = None
    others: list[Any] | None = None  # ids that are no strings, which $gt passes over
    while True:
        pipeline: list[Record] = [
            {"$match": match},
            {"$sort": {"_id": 1}},
            {"$limit": page_size},
            {"$project": dict.fromkeys(fields, 1)},
        ]
        page = database.aggregate(pipeline)
        if page is None:
            if page_size == 1:
                raise FailedRun(f"the query, or the record after {last!r}, is too large for DocDB")
            most = page_size = page_size // 2
            log.debug("answer too large: asking for %d records at a time", page_size)
            continue
        full = len(page) == page_size
        if match is query and not full:
            yield page
            return
        strings = [record for record in page if isinstance(record.get("_id"), str)]
        ids = [record["_id"] for record in strings]
        if others is None:
            stuck = any(
                one >= other for one, other in pairwise(ids if last is None else [last, *ids])
            )
            stuck |= match is not query and len(ids) < len(page)
            yield strings
        else:
            new = [record["_id"] for record in page if record.get("_id") not in others]
            stuck = bool(ids) or len(new) < len(page)
            others += new
            yield page
            if not full:
                return
        if stuck:
            raise FailedRun(f"DocDB's pages do not go on after the record {last!r}: ask again")
        last, page_size = ids[-1] if ids else last, most
        if full and others is None:
            bounds: list[Record] = [{"_id": {"$gte": ""} if last is None else {"$gt": last}}]
        else:
            others = others or []
            bounds = [{"_id": {"$not": {"$gte": ""}}}, {"_id": {"$nin": others}}]
        match = {"$and": [query, *bounds]}


def helpfully(call: Callable[..., T], *values: Any) -> T | None:
    """Return what a call returns that only helps to understand; None if it fails or takes long."""
    try:
        return begin(call, *values).result(HINT_SECONDS)
    except Exception as error:
        log.debug("no hint: %s", error)
        return None


def explain(database: Database, query: Record) -> None:
    """Log why a filter matches nothing: what each condition matches alone, what is near it."""
    conditions = list(islice(conditions_of(query), NAMES_IN_LOG))
    for condition in conditions:
        number = database.count(condition)
        if number is None:
            continue
        if len(conditions) > 1:
            shown = shorten(pasteable(condition))
            log.warning("alone, %s matches %s", shown, count(number, "record"))
        [(field, wanted)] = condition.items()
        if not number and not field.startswith("$"):
            for value in wanted_values(wanted)[:3] or [MISSING]:
                if hint := hint_for(database, field, value):
                    log.warning("%s", hint)


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
    """Return the plain values that a condition asks for."""
    if isinstance(wanted, dict):
        listed = wanted.get("$in")
        values = listed if isinstance(listed, list) else [wanted.get("$eq")]
    else:
        values = [wanted]
    return [value for value in values if isinstance(value, str | int | float)]


def hint_for(database: Database, field: str, value: Any) -> str:
    """Return which values, or fields, are near to what no record has; "" if nothing helps."""
    there = {one: n for one, n in database.values(field) if isinstance(one, str | int | float)}
    if not there and not database.count({field: {"$exists": True}}):
        return f"no record has the field {field}{near_fields(database, field)}"
    if value is MISSING or not there or value in there:
        return ""
    for other in there:  # a number for a string, or the other way round
        if type(other) is not type(value) and str(other) == str(value):
            kind = "strings" if isinstance(other, str) else "numbers"
            matches = count(there[other], "record")
            return f"the values of {field} are {kind}: {compact(other)} matches {matches}"
    names = {str(one).lower(): one for one in reversed(there)}
    near = difflib.get_close_matches(str(value).lower(), names, 3)
    near = near or [name for name in names if str(value).lower() in name][:3]
    shown = [f"{compact(names[name])} ({there[names[name]]})" for name in near]
    return f"no record has {field} {compact(value)}; {nearest(shown)}"


def near_fields(database: Database, field: str) -> str:
    """Return which fields of a sample of records are named like one that they do not have."""
    paths: dict[str, None] = {}
    for record in database.sample():
        paths |= dict.fromkeys(islice(paths_of(record), 5_000))
    parts: dict[str, str] = {}  # a path by each run of its names, the shortest path first
    for path in sorted(paths, key=len):
        names = path.split(".")
        for start, end in combinations(range(len(names) + 1), 2):
            parts.setdefault(".".join(names[start:end]).lower(), path)
    near = difflib.get_close_matches(field.lower(), parts, 3)
    return f"; {nearest(list(dict.fromkeys(parts[name] for name in near)))}"


def nearest(names: list[str]) -> str:
    """Return what is near to what was asked for, in words."""
    return f"near it: {', '.join(names)}" if names else "nothing there is like it"


def paths_of(value: Any, top: str = "") -> Iterator[str]:
    """Yield the dotted paths of all fields of a record."""
    for item in as_list(value):
        if isinstance(item, dict):
            for name, inner in item.items():
                yield f"{top}{name}"
                yield from paths_of(inner, f"{top}{name}.")


def leaves(record: Record, field: str) -> Iterator[Any]:
    """Yield what a record has at a field, of lists their elements: strings and numbers."""
    waiting = [value_at(record, field)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, str | int | float):
            yield value


def listed_values(query: Record) -> dict[str, list[Any]]:
    """Return the values of each $in on a plain field that all records must match."""
    found: dict[str, list[Any]] = {}
    for part in [query, *as_list(query.get("$and", []))]:
        for name, wanted in part.items() if isinstance(part, dict) else ():
            plain = re.fullmatch(r"[^$.\d][^.]*(\.[^$.\d][^.]*)*", name)
            if plain and isinstance(wanted, dict) and isinstance(wanted.get("$in"), list):
                found[name] = wanted_values(wanted)
    return found


def without_record(database: Database, query: Record, records: list[Record]) -> list[Skip]:
    """Return the values of each $in that no record has, and log what is near the first ones."""
    skipped = []
    for name, values in listed_values(query).items():
        there = {rank(value) for record in records for value in leaves(record, name)}
        ranked = {rank(value): value for value in values}
        lacking = [value for key, value in ranked.items() if key not in there]
        skipped += [Skip(f"no record has this {name}", str(value)) for value in lacking]
        for value in lacking[:3]:
            if hint := helpfully(hint_for, database, name, value):
                log.warning("%s", hint)
    return skipped


def check_fields(database: Database, assets: list[Asset], settings: Settings) -> None:
    """Raise BadInput for a field to filter or group by that no asset has."""
    flags = {
        "--filter_latest": (settings.filter_latest,) if settings.filter_latest else (),
        "--filter_by": settings.filter_by,
        "--group_by": settings.group_by,
        "--unwind_list_fields": settings.unwind_list_fields,
    }
    for flag, names in flags.items():
        for name in names:
            if assets and not any(has_field(asset.record, name.split(".")) for asset in assets):
                near = helpfully(near_fields, database, name) or ""
                raise BadInput(f"{flag}: no record that matches has the field {name}{near}")


def has_field(value: Any, path: list[str]) -> bool:
    """Return whether anything, even null, is at a path."""
    if isinstance(value, list):
        return any(has_field(item, path) for item in value) or not path
    return not path or (
        isinstance(value, dict) and path[0] in value and has_field(value[path[0]], path[1:])
    )


def read_asset_ids(folder: Path) -> list[str]:
    """Return the ids in the CSV of an input folder, each once, in their order; raise BadInput."""
    path = find_input("data_asset_input.csv", folder)
    if not path:
        raise BadInput(f"there is no data_asset_input.csv in {folder}, nor one folder down")
    header, *rows = read_rows(path, "asset_id") or [(0, [])]
    columns = [name.casefold() for name in header[1]]
    if columns.count("asset_id") != 1:
        raise BadInput(f"{path} must have one column asset_id; its columns are {header[1]}")
    place = columns.index("asset_id")
    ids: dict[str, None] = {}
    for line, row in rows:
        if any(row[len(columns) :]):
            raise BadInput(
                f"{path}, line {line} has more values than there are columns: {excerpt(str(row))}"
            )
        if len(row) > place and row[place]:
            is_uuid = re.fullmatch("(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", row[place])
            ids[row[place].lower() if is_uuid else row[place]] = None
    if not ids:
        raise BadInput(f"{path} has no id in its column asset_id")
    log.info("%s: %s", path, count(len(ids), "asset id"))
    return list(ids)


def read_rows(path: Path, column: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a table that are not blank, and the lines they end on; raise BadInput.

    Excel writes commas, semicolons or tabs, by the country and the format, and UTF-8 with a mark,
    UTF-16, or the country's own letters. The separator is the one that makes this column.
    """
    try:
        data = path.read_bytes()
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # an id in which that is wrong is named as unknown
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    csv.field_size_limit(len(text) + 1)
    header = next(filter(str.strip, io.StringIO(text, newline=None)), "")
    for separator in ",;\t":
        names = next(csv.reader([header], delimiter=separator), [])
        if column in [name.strip().casefold() for name in names]:
            break
    else:
        separator = ","
    reader = csv.reader(
        io.StringIO(text, newline=None), delimiter=separator, skipinitialspace=True, strict=True
    )
    try:
        rows = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except csv.Error as error:
        raise BadInput(f"cannot read {path}, line {reader.line_num}: {error}") from None
    return [(line, row) for line, row in rows if any(row)]


def fetch_records_by_asset_id(
    database: Database, ids: list[str], fields: Sequence[str]
) -> Iterator[list[Record]]:
    """Yield the records with any of these Code Ocean ids, in pages, each record once."""
    seen = set()
    for start in range(0, len(ids), database.ids_at_once):
        some = {"$in": ids[start : start + database.ids_at_once]}
        query = {"$or": [{f"{links}.Code Ocean": some} for links in ID_FIELDS]}
        for page in database.find(query, fields):
            yield [record for record in page if repr(record.get("_id")) not in seen]
            seen |= {repr(record.get("_id")) for record in page}


# ------------------------------------------------------------------------------------ assets

NO_LOCATION = "location is not s3://bucket/prefix"
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
    settings: Settings,
    database: Database,
    listing: Listing | None,
    progress: Progress | None = None,
) -> tuple[list[Asset], list[Skip], int]:
    """Return the assets that the settings ask for, what is skipped, and how many records matched.

    From the CSV, assets come in its order, with the ids it gives. From a query, they are ordered
    by name, then record id, with the first of their ids. Their listing begins as they come.
    """
    query = settings.query or {}
    wanted = dict.fromkeys((*ASSET_FIELDS, *GROUP_FIELDS, *settings.fields_in_use))
    wanted |= dict.fromkeys((*settings.unwind_list_fields, *listed_values(query)))
    if not settings.drop_null_groups:
        # of a list, a projection gives the objects alone; here the others count as lacking a field
        wanted |= dict.fromkeys(name.partition(".")[0] for name in settings.unwind_list_fields)
    if settings.dry_run:
        wanted |= dict.fromkeys((SUBJECT_FIELD, *DATE_FIELDS))
    fields = [name for name in wanted if not name.startswith(tuple(f"{top}." for top in wanted))]
    ids: list[str] | None = None
    if settings.query is None:
        ids = read_asset_ids(settings.input_directory)
        pages = fetch_records_by_asset_id(database, ids, fields)
    else:
        pages = database.find(settings.query, fields)
    entries: list[tuple[Record, Asset | Skip]] = []
    for record in chain.from_iterable(pages):
        asset = read_asset(record, database.folder)
        entries.append((record, asset))
        if listing and isinstance(asset, Asset):
            listing.add(asset.location, asset.name)
        if progress:
            progress.records += 1
            progress.show()
    entries.sort(key=lambda entry: (name_of(entry[0]), str(entry[0].get("_id"))))
    chosen = [asset for _, asset in entries]
    skipped: list[Skip] = []
    if ids is not None:
        chosen, skipped = pick_by_id(ids, entries)
    skipped += [asset for asset in chosen if isinstance(asset, Skip)]
    if entries:
        skipped += without_record(database, query, [record for record, _ in entries])
    return [asset for asset in chosen if isinstance(asset, Asset)], skipped, len(entries)


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


def name_of(record: Record) -> str:
    """Return a record's name, or an empty text where it has none."""
    name = record.get("name")
    return name if isinstance(name, str) else ""


def pick_by_id(
    ids: list[str], entries: list[tuple[Record, Asset | Skip]]
) -> tuple[list[Asset | Skip], list[Skip]]:
    """Return each asset with the first id that names it, by the order of ids; and unknown ids.

    A record is one asset, however many of its ids are asked for.
    """
    having: defaultdict[str, list[int]] = defaultdict(list)
    for number, (record, _) in enumerate(entries):
        for asset_id in dict.fromkeys(code_ocean_ids(record)):
            having[asset_id].append(number)
    chosen: dict[int, Asset | Skip] = {}
    for asset_id in ids:
        for number in having.get(asset_id, ()):
            record, asset = entries[number]
            if number in chosen:
                log.warning("%s is an asset that is chosen already: %s", asset_id, name_of(record))
            else:
                if isinstance(asset, Asset):
                    asset = replace(asset, id=asset_id)
                chosen[number] = asset
    unknown = [Skip("no record has this id", id_) for id_ in ids if id_ not in having]
    return list(chosen.values()), unknown


def read_asset(record: Record, folder: Path | None) -> Asset | Skip:
    """Return the asset that a record describes, or why there is none.

    Local locations are read from a snapshot alone, `folder` being the snapshot's own.
    """
    record_id, name, location = record.get("_id"), name_of(record), record.get("location")
    asset_id = next(code_ocean_ids(record), "")
    shown = f"{name} (record {record_id})"
    if not isinstance(record_id, str):
        return Skip("record id is not a text", shown)
    if not isinstance(location, str):
        return Skip(NO_LOCATION, f"{shown}: {location!r}")
    try:
        "".join((asset_id, name, record_id, location)).encode()
    except UnicodeError:
        return Skip("a field is not valid text", shown)
    url = (local_url(location, folder) if folder else location).rstrip("/")
    # s3fs, with which workers read, takes s3://bucket//x for s3://bucket/x
    if re.match(r"s3://[\w.-]{1,255}/[^/]", url, re.ASCII) or (folder and url[:8] == "file:///"):
        return Asset(url, asset_id, name, record_id, record)
    return Skip(NO_LOCATION, f"{shown}: {location!r}")


def local_url(location: str, folder: Path) -> str:
    """Return a snapshot's location as a URL, paths relative to its folder as file:// URLs."""
    if location.startswith("file://"):
        path = str(local_path(location.replace("://localhost/", ":///", 1)))
    elif "://" in location or location.startswith("/") or not location.strip():
        return location
    else:
        path = os.path.join(folder, location)
    return Path(os.path.abspath(path)).as_uri() if path.startswith("/") else location


# ------------------------------------------------------------------------------------ groups

MISSING = object()


# ISO 8601 as programs write it: nanoseconds, 24:00:00 and leap seconds, small letters, spaces
TIME = re.compile(
    r"""(?P<date>\d{4}-\d\d-\d\d)
    ([Tt ](?P<hour>\d\d)(:?(?P<minute>\d\d)(:?(?P<second>\d\d)([.,](?P<fraction>\d+))?)?)?
    [ ]?([Zz]|(?P<sign>[+-])(?P<hours>\d\d)(:?(?P<minutes>\d\d))?)?)?""",
    re.ASCII | re.VERBOSE,
)


def keep_latest(assets: list[Asset], settings: Settings) -> tuple[list[Asset], list[Skip]]:
    """Return the assets of which --filter_latest asks for no later one, and the others.

    An asset stays if it is the latest one for any of the values that it has in --filter_by.
    """
    if not settings.filter_latest:
        return assets, []
    names = (*settings.filter_by, settings.filter_latest)
    rivals: defaultdict[Any, list[tuple[Any, str]]] = defaultdict(list)
    lacking = {}
    for asset in assets:
        entries = values_of(asset, names, settings, needed=len(settings.filter_by))
        if isinstance(entries, Skip):
            lacking[asset.record_id] = entries
            continue
        for *shared, value in entries:
            rivals[rank(shared)].append((value, asset.record_id))
    kept = {latest(entries) for entries in rivals.values()}
    older = f"not the latest by {settings.filter_latest}"
    skipped = [
        lacking.get(asset.record_id) or Skip(older, asset.label, asked=True)
        for asset in assets
        if asset.record_id not in kept
    ]
    return [asset for asset in assets if asset.record_id in kept], skipped


def latest(entries: list[tuple[Any, str]]) -> str:
    """Return the id that comes with the greatest value, of equal values the last id.

    Where all values are times, in the form of ISO 8601, they are compared as times, whatever zones
    they are in; else as the database compares values.
    """
    known = [entry for entry in entries if not is_null(entry[0])] or entries
    times = [instant(value) for value, _ in known]
    ranks = [rank(value) for value, _ in known] if None in times else times
    return max(zip(ranks, (record_id for _, record_id in known), strict=True))[1]


def instant(value: Any) -> tuple[datetime, str] | None:
    """Return the time that a string tells, in UTC if it names no zone; None if it tells none.

    It is the whole second, and the digits of its fraction, which may be more than a datetime holds.
    """
    parts = TIME.fullmatch(value) if isinstance(value, str) else None
    if not parts:
        return None
    hours, minutes, seconds = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    sign = -1 if parts["sign"] == "-" else 1
    offset = timedelta(hours=int(parts["hours"] or 0), minutes=int(parts["minutes"] or 0))
    if hours * 3600 + minutes * 60 + seconds > 86_400 or minutes > 59 or seconds > 60:
        return None
    try:
        day = datetime.fromisoformat(parts["date"])
        second = day + timedelta(hours=hours, minutes=minutes, seconds=seconds) - sign * offset
    except (ValueError, OverflowError):
        return None
    return second, (parts["fraction"] or "").rstrip("0")


def set_groups(assets: list[Asset], settings: Settings) -> tuple[list[Asset], list[Skip]]:
    """Return the assets with their values in --group_by, once for each, and those without any."""
    if not settings.group_by:
        return assets, []
    keys = [key_of(name) for name in settings.group_by]
    found, skipped = [], []
    for asset in assets:
        entries = values_of(asset, settings.group_by, settings)
        if isinstance(entries, Skip):
            skipped.append(entries)
            continue
        groups = (dict(zip(keys, values, strict=True)) for values in entries)
        found += [replace(asset, group=group) for group in groups]
    return found, skipped


def values_of(
    asset: Asset, fields: Sequence[str], settings: Settings, needed: int | None = None
) -> list[list[Any]] | Skip:
    """Return what an asset has in these fields, or why it cannot be grouped or filtered by them.

    There is one entry for each way to take one element of all lists that --unwind_list_fields
    leads to or through, as $unwind stages would; equal ones count once. Only the first `needed`
    fields must be there.
    """
    records = [asset.record]
    tops = {name.partition(".")[0] for name in fields}
    for path in settings.unwind_list_fields:
        if path.partition(".")[0] in tops:
            records = [one for record in records for one in unwind(record, path.split("."))]
    entries: dict[Any, list[Any]] = {}
    for record in records:
        found = [value_at(record, name) for name in fields]
        values = [None if value is MISSING else value for value in found]
        entries.setdefault(rank(values), values)
    kept = [values for values in entries.values() if not any(map(is_null, values[:needed]))]
    if settings.drop_null_groups and not kept:
        columns = list(zip(fields, zip(*entries.values(), strict=True), strict=True))[:needed]
        lacking = [name for name, column in columns if all(map(is_null, column))]
        lacking = lacking or [name for name, column in columns if any(map(is_null, column))]
        return Skip(f"no {' or '.join(lacking)}", asset.label)
    try:
        json.dumps(list(entries.values()), ensure_ascii=False).encode()
    except UnicodeError:
        return Skip(f"no valid text in {' or '.join(fields)}", asset.label)
    return kept if settings.drop_null_groups else list(entries.values())


def unwind(value: Any, path: list[str]) -> Iterator[Any]:
    """Yield a value once for each element of the lists on a path, which the element replaces."""
    for item in (value or [None]) if isinstance(value, list) else [value]:
        if path and isinstance(item, dict) and path[0] in item:
            for inner in unwind(item[path[0]], path[1:]):
                yield {**item, path[0]: inner}
        else:
            yield item


def is_null(value: Any) -> bool:
    """Return whether a value is null, or NaN, for which JSON has no other word."""
    return bool(value is None or value != value)


def is_in(field: str, top: str) -> bool:
    """Return whether a field is another one or lies in it."""
    return f"{field}.".startswith(f"{top}.")


def value_at(value: Any, path: str) -> Any:
    """Return what lies at a dotted path as MongoDB's aggregation has it, MISSING if nothing does.

    Of a list, it is the list of what lies there in each of its objects.
    """
    names = path.split(".") if path else []
    for number, name in enumerate(names):
        if isinstance(value, list):
            rest = ".".join(names[number:])
            found = (value_at(item, rest) for item in value if isinstance(item, dict))
            return [item for item in found if item is not MISSING]
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


def rank(value: Any) -> Any:
    """Return what compares, sorts and hashes as MongoDB orders values; NaN is null here."""
    if is_null(value):
        return (0,)
    if isinstance(value, dict):
        return 3, tuple((key, rank(value[key])) for key in sorted(value))
    if isinstance(value, list):
        return 4, tuple(map(rank, value))
    return {int: 1, float: 1, str: 2, bool: 5}[type(value)], value


# ------------------------------------------------------------------------------------- files


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an asset that is listed by itself: the keys of a folder, or those behind a key."""

    location: str  # of the asset
    folder: str  # a prefix in the bucket that ends in a slash
    after: str = ""  # a key


Found = Counter[str]  # bytes by path below the asset; a folder's are 0 unless they are wanted
Files = dict[str, dict[str, int]]  # bytes by URL, by location of the asset


class Progress:
    """How far a run is: on a terminal a line that changes, else a line in the log now and then."""

    def __init__(self) -> None:
        self.records = self.assets = self.listed = self.files = 0
        self.complete = False  # all records are read, so that all assets are known
        self.started = self.shown = time.monotonic()
        self.on_terminal = sys.stderr.isatty()
        self.bar: tqdm[NoReturn] | None = None

    def show(self) -> None:
        """Say how far it is, unless that has just been said."""
        now = time.monotonic()
        if now - self.shown < (SECONDS_PER_FRAME if self.on_terminal else SECONDS_PER_LINE):
            return
        self.shown = now
        text = f"{self.records:,} records"
        if self.assets:
            rate = self.listed / (now - self.started)
            text += f", {self.listed:,} of {self.assets:,} assets listed, {self.files:,} files"
            text += f", {rate:,.{0 if rate >= 10 else 1}f} assets/s"
            if self.complete and rate:
                text += f", {(self.assets - self.listed) / rate:,.0f} s left"
        if not self.on_terminal:
            log.info("%s", text)
            return
        from tqdm import tqdm

        self.bar = self.bar or tqdm(leave=False, bar_format="{desc} {bar:20}")
        self.bar.total, self.bar.n = self.assets or 1, self.listed
        self.bar.set_description_str(text)

    def close(self) -> None:
        """Take the line off the terminal."""
        if self.bar is not None:
            self.bar.close()


class Listing:
    """The files of assets, listed side by side from the moment that an asset is added.

    The requests are made in one thread of their own, by coroutines (all that is `async`), which
    take parts of assets from a queue: assets in the order in which they come, behind them the parts
    into which a huge one is split.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.progress, self.timeout = progress, settings.timeout
        self.extension, self.weigh = settings.file_extension or "", settings.weigh
        self.connections = settings.max_connections
        self.names: dict[str, str] = {}  # of the assets, by location
        self.found: dict[str, Found] = {}  # by location
        self.open_parts: Counter[str] = Counter()  # their number, by location
        self.finished: SimpleQueue[tuple[Part, tuple[Found, list[Part]] | Exception]]
        self.finished = SimpleQueue()
        self.queue: asyncio.Queue[Part] = asyncio.Queue()
        self.s3: asyncio.Task[S3] | None = None
        self.session: ClientSession
        self.buckets: dict[str, asyncio.Task[Bucket]] = {}
        self.loop = asyncio.new_event_loop()
        self.workers = self.loop.create_task(self.work_side_by_side())
        Thread(target=self.run).start()

    def run(self) -> None:
        """List until closed."""
        try:
            self.loop.run_until_complete(self.workers)
        except asyncio.CancelledError:
            pass
        except ImportError as error:
            self.finished.put((Part("", ""), error))

    def close(self) -> None:
        """Give up what is under way."""
        self.loop.call_soon_threadsafe(self.workers.cancel)

    def prepare(self) -> None:
        """Begin to look for credentials, region and endpoint, before the first asset is known."""
        self.loop.call_soon_threadsafe(self.open_s3)

    def add(self, location: str, name: str) -> None:
        """List an asset, unless one with the same location is listed already."""
        if location in self.found:
            return
        self.names[location], self.found[location] = name, Counter()
        self.progress.assets += 1
        self.start(Part(location, f"{split_location(location)[1]}/"))
        while not self.finished.empty():
            self.collect()

    def start(self, part: Part) -> None:
        """Queue a part."""
        self.open_parts[part.location] += 1
        self.loop.call_soon_threadsafe(self.queue.put_nowait, part)

    def collect(self) -> None:
        """Wait a moment for a part that is listed, take in its files, and queue what it leaves."""
        self.progress.show()
        try:
            part, outcome = self.finished.get(timeout=SECONDS_PER_FRAME)
        except Empty:
            return
        if isinstance(outcome, (FailedRun, ImportError)):
            raise outcome
        if isinstance(outcome, Exception):
            raise FailedRun(
                f"cannot list {part.location} of asset {self.names[part.location]}:"
                f" {outcome}{advice(outcome)}"
            ) from outcome
        found, parts = outcome
        known = self.found[part.location]
        self.progress.files -= len(known)
        known.update(found)
        self.progress.files += len(known)
        for new in parts:
            self.start(new)
        self.open_parts[part.location] -= 1
        self.progress.listed += not self.open_parts[part.location]

    def files(self) -> Files:
        """Wait for all assets; return their files, ordered."""
        self.progress.complete = True
        while self.progress.listed < self.progress.assets:
            self.collect()
        return {
            location: {file_url(location, path): found[path] for path in sorted(found)}
            for location, found in self.found.items()
        }

    async def work_side_by_side(self) -> None:
        """List what is queued, over as many connections as there may be."""
        from aiohttp import ClientSession, ClientTimeout, TCPConnector

        connector = TCPConnector(limit=self.connections)
        timeout = ClientTimeout(total=None)  # ours is for more than the request
        async with ClientSession(connector=connector, timeout=timeout) as self.session:
            await asyncio.gather(*(self.work() for _ in range(self.connections)))

    async def work(self) -> None:
        """List one part after the other."""
        while True:
            part = await self.queue.get()
            try:
                if part.location.startswith("file://"):
                    files = await asyncio.to_thread(self.list_local, part.location)
                    self.finished.put((part, (files, [])))
                else:
                    self.finished.put((part, await self.list_part(part)))
            except Exception as error:
                self.finished.put((part, error))

    def open_s3(self) -> asyncio.Task[S3]:
        """Return what looks for credentials, region and endpoint, begun once."""
        self.s3 = self.s3 or self.loop.create_task(asyncio.to_thread(S3, self.timeout))
        return self.s3

    async def open_bucket(self, name: str) -> tuple[S3, Bucket]:
        """Return a bucket, which is looked for once; raise FailedRun."""

        async def open_bucket() -> Bucket:
            s3 = await self.open_s3()
            return await asyncio.to_thread(s3.open, name)

        if name not in self.buckets:
            self.buckets[name] = self.loop.create_task(open_bucket())
        longest = 20 + 10 * self.timeout  # five attempts, and the pauses between them
        try:
            bucket = await asyncio.wait_for(asyncio.shield(self.buckets[name]), longest)
        except TimeoutError:
            raise FailedRun(
                f"AWS: no credentials or region for s3://{name} in {longest} s"
            ) from None
        return await self.open_s3(), bucket

    async def list_part(self, part: Part) -> tuple[Found, list[Part]]:
        """Return the files of a part, page by page, and the parts that it leaves to be listed.

        When a page ends inside a folder that is one file or a Zarr store, whatever else lies in
        there does not matter, and the next request starts behind it. So a store of a million chunks
        costs one page, and there are never more requests than pages. A part that goes on for many
        pages is split, if there is a way to, and its parts are left to be listed side by side.
        """
        top = len(split_location(part.location)[1]) + 1
        found: Found = Counter()
        last = start = part.after
        token = ""
        pages = 0
        while True:
            page = await self.fetch_page(part, start=start, token=token, last=last)
            closed = None
            for last, size in page.sizes.items():
                closed = self.add_file(found, last[top:], size)
            if not page.token:
                return found, []
            pages += 1
            if pages >= PAGES_IN_A_ROW and page.sizes:
                parts = await self.split(part, list(page.sizes), found)
                if parts is not None:
                    return found, parts
            start, token = "", page.token
            if closed:
                behind = f"{last[:top]}{closed}/{LAST_CHARACTER}"
                start, token = max(last, behind), ""

    async def split(self, part: Part, keys: list[str], found: Found) -> list[Part] | None:
        """Add the files ahead of a page that need no listing; return the parts left to list.

        From the folder of the part down to the last key of the page, `keys` being all its keys, the
        subfolders ahead are asked for, level by level, and become parts; the last part goes on
        behind the page. It ends, with None if that is at once, where a folder holds objects, or
        subfolders so small that a request for each would cost more than pages.
        """
        top = len(split_location(part.location)[1]) + 1
        parts: list[Part] = []
        folder, last = part.folder, keys[-1]
        while True:
            below = [
                key[len(folder) :].partition("/")
                for key in keys
                if key.startswith(folder) and key != folder
            ]
            small = len(below) < KEYS_PER_FOLDER * len({name for name, _, _ in below})
            if small or not all(slash for _, slash, _ in below):
                break
            sizes, subfolders = await self.list_level(replace(part, folder=folder))
            for key, size in sizes.items():
                if key > last:
                    self.add_file(found, key[top:], size)
            parts += [
                Part(part.location, subfolder)
                for subfolder in subfolders
                if subfolder > last and not self.add_file(found, subfolder[top:], 0)
            ]
            folder = next((path for path in subfolders if last.startswith(path)), "")
            if not folder or self.add_file(found, folder[top:], 0):
                return parts
        if folder == part.folder:
            return None
        return [*parts, Part(part.location, folder, after=last)]

    async def list_level(self, part: Part) -> tuple[dict[str, int], list[str]]:
        """Return the sizes of the objects that lie right in a folder, and its subfolders."""
        sizes: dict[str, int] = {}
        subfolders: list[str] = []
        token = ""
        while True:
            page = await self.fetch_page(part, delimiter="/", token=token)
            sizes |= page.sizes
            subfolders += page.folders
            token = page.token
            if not token:
                return sizes, subfolders

    async def fetch_page(
        self, part: Part, *, start: str = "", token: str = "", delimiter: str = "", last: str = ""
    ) -> Page:
        """Return a page of what lies in the folder of a part, behind the key `last`.

        What may pass is tried again, with a new signature, after a pause that grows. Raise OSError
        where it does not pass, PermissionError where S3 refuses.
        """
        from aiohttp import ClientError
        from botocore.exceptions import BotoCoreError

        s3, bucket = await self.open_bucket(split_location(part.location)[0])
        asked = {
            "list-type": "2",
            "encoding-type": "url",  # there are keys that XML cannot spell
            "prefix": part.folder,
            "start-after": start,
            "continuation-token": token,
            "delimiter": delimiter,
        }
        query = urlencode({name: text for name, text in asked.items() if text}, quote_via=quote)
        for attempt in range(1, LIST_TRIES + 1):
            try:
                async with asyncio.timeout(self.timeout):
                    return read_page(await self.ask(s3, bucket, f"{bucket.url}?{query}"), last)
            except PermissionError:
                raise
            except TimeoutError:
                fault = f"nothing within {self.timeout} s (--timeout)"
            except (ClientError, BotoCoreError, OSError, ValueError) as error:
                fault = without_secrets(describe(error))
            pause = min(backoff(attempt), LONGEST_LIST_PAUSE)
            if attempt < LIST_TRIES:
                level = logging.DEBUG if attempt == 1 else logging.WARNING
                log.log(level, "%s: %s; trying again in %.1f s", part.location, fault, pause)
                await asyncio.sleep(pause)
        raise OSError(fault)

    async def ask(self, s3: S3, bucket: Bucket, url: str) -> bytes:
        """Return what S3 answers; raise OSError, PermissionError where asking again is no use."""
        from yarl import URL

        async with self.session.get(
            URL(url, encoded=True),
            headers=await s3.sign(url, bucket.region),
            proxy=bucket.proxy,
            ssl=s3.certificates,
            allow_redirects=False,
        ) as response:
            body = await response.read()
        if response.status == 200:
            return body
        text = body.decode("utf-8", "replace")
        code = re.search(r"<Code>(\w+)</Code>(?:.*<Message>([^<]*)</Message>)?", text, re.DOTALL)
        fault = f"{code[1]}: {code[2]}" if code else f"{response.status} {response.reason}"
        passing = ("ExpiredToken", "RequestTimeout", "SlowDown")
        if response.status >= 500 or response.status in (408, 429) or (code and code[1] in passing):
            raise OSError(fault)
        raise PermissionError(fault)

    def add_file(self, found: Found, path: str, size: int) -> str | None:
        """Count an object to the file that it lies in; return the folder that is now done with.

        That is one which is a file, or a Zarr store, unless the bytes in it are wanted.
        """
        file, closed = file_of(path, self.extension)
        wanted = self.weigh or not closed
        if file:
            found[file] += size if wanted else 0
        return None if file and wanted else closed

    def list_local(self, location: str) -> Found:
        """Return the files under a file:// URL."""
        top = local_path(location)
        files = find_local_files(location, self.extension)
        return Counter({file: size_on_disk(top / file) if self.weigh else 0 for file in files})


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of S3 that lists keys."""

    sizes: dict[str, int]  # bytes by key, in the order of the keys
    folders: list[str]  # with their slash; only where a level was asked for
    token: str  # what the next page is asked for with, "" if there is none


def read_page(body: bytes, last: str) -> Page:
    """Return a page as S3 words it; raise ValueError for anything else, such as a proxy's page.

    Keys in no order, or not behind `last`, are no page either: what lies between would be lost.
    """
    try:
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ValueError(f"what S3 answers is not a listing: {error}") from None
    space = root.tag.removesuffix("ListBucketResult")
    truncated = root.findtext(f"{space}IsTruncated")
    token = root.findtext(f"{space}NextContinuationToken") or ""
    if space == root.tag or truncated not in ("false", "true" if token else "false"):
        raise ValueError(f"what S3 answers is not a listing, but {excerpt(root.tag)}")
    decode = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
    sizes = {
        decode(entry.findtext(f"{space}Key", "")): int(entry.findtext(f"{space}Size", ""))
        for entry in root.iterfind(f"{space}Contents")
    }
    folders = [
        decode(entry.findtext(f"{space}Prefix", ""))
        for entry in root.iterfind(f"{space}CommonPrefixes")
    ]
    keys = list(sizes)
    if keys != sorted(keys) or (keys and keys[0] <= last):
        raise ValueError("what S3 answers is not in the order of the keys")
    return Page(sizes, folders, token if truncated == "true" else "")


def advice(error: Exception) -> str:
    """Return what to do about what S3 said, where that is known."""
    refused = "Access ?Denied|Forbidden|InvalidAccessKeyId|SignatureDoesNot|ExpiredToken"
    if re.search(refused, str(error)):
        return "; check the AWS credentials, and that they may list this bucket"
    return ""


def split_location(location: str) -> tuple[str, str]:
    """Return the bucket and the prefix, without a slash at its end, of an S3 location."""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    return bucket, prefix


def file_url(location: str, path: str) -> str:
    """Return the URL of a file of an asset."""
    if location.startswith("file://"):
        return (local_path(location) / path).as_uri()
    return f"{location}/{path}"


@dataclass(frozen=True)
class Bucket:
    """Where an S3 bucket is asked."""

    url: str
    region: str
    proxy: str | None


class S3:
    """S3 with the credentials, profile, region and endpoint that boto3 finds.

    boto3 is the one that decides, so that this program sees what every other AWS tool sees.
    """

    def __init__(self, timeout: int) -> None:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.httpsession import get_cert_path
        from botocore.session import Session

        self.lock = Lock()
        try:
            core = Session()
            self.session = boto3.session.Session(botocore_session=core)
            self.credentials = self.session.get_credentials()
            self.config = Config(
                signature_version=None if self.credentials else UNSIGNED,
                connect_timeout=timeout,
                read_timeout=timeout,
                retries={"mode": "standard", "max_attempts": TRIES},
            )
            self.client = self.session.client(
                "s3", self.session.region_name or "us-east-1", config=self.config
            )
            bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
            self.certificates = ssl.create_default_context(cafile=get_cert_path(bundle or True))
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            raise FailedRun(f"AWS: {error}") from error
        signed = "signed" if self.credentials else "unsigned: no AWS credentials"
        log.info("S3 requests are %s", signed)

    def open(self, name: str) -> Bucket:
        """Return a bucket, in its own region."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.utils import get_environ_proxies

        try:
            region = self.region_of(name)
            with self.lock:  # sessions may not make two clients at the same time
                client = self.session.client("s3", region, config=self.config)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise FailedRun(f"AWS: {without_secrets(str(error))}{advice(error)}") from error
        url = f"{client.meta.endpoint_url}/{name}"
        proxy = get_environ_proxies(url).get(url.partition(":")[0])
        return Bucket(url, region, proxy)

    def region_of(self, name: str) -> str:
        """Return the region of a bucket, which S3 tells even where it refuses all else."""
        from botocore.exceptions import ClientError

        try:
            answer = self.client.head_bucket(Bucket=name)
        except ClientError as error:
            if error.operation_name != "HeadBucket":  # a role could not be assumed
                raise
            answer = error.response
            status = answer["ResponseMetadata"].get("HTTPStatusCode", 500)
            if status == 404:
                raise FailedRun(f"there is no S3 bucket {name!r}") from None
            if status >= 500:
                raise
        headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
        return str(headers.get("x-amz-bucket-region") or self.client.meta.region_name)

    async def sign(self, url: str, region: str) -> dict[str, str]:
        """Return the headers with which S3 takes a request; credentials that end are renewed."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import RefreshableCredentials

        if not self.credentials:
            return {}
        get = self.credentials.get_frozen_credentials
        expire = isinstance(self.credentials, RefreshableCredentials)
        old = expire and self.credentials.refresh_needed()
        frozen = await asyncio.to_thread(get) if old else get()
        request = AWSRequest("GET", url)
        S3SigV4Auth(frozen, "s3", region).add_auth(request)
        return dict(request.headers)


def local_path(location: str) -> Path:
    """Return the path of a file:// URL."""
    return Path(unquote(location.removeprefix("file://"), errors="surrogateescape"))


def find_local_files(location: str, extension: str) -> Iterator[str]:
    """Return the files under a file:// URL, as paths relative to it."""

    def walk(folder: str, base: str, above: set[str]) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in above:  # a link that leads back up
            return
        for entry in os.scandir(folder):
            is_folder = entry.is_dir()
            file, closed = file_of(f"{base}{entry.name}{'/' if is_folder else ''}", extension)
            if file:
                yield file
            elif is_folder and not closed:
                yield from walk(entry.path, f"{base}{entry.name}/", above | {real})

    top = local_path(location)
    return walk(str(top), "", set()) if top.is_dir() else iter(())


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path]
    if path.is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    size = 0
    for file in files:
        with suppress(OSError):  # a link that leads nowhere
            size += file.stat().st_size
    return size


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
    end = path.find("/")
    while end >= 0:
        folder = path[:end]
        if folder.endswith(extension):
            return folder, folder
        if folder.endswith(".zarr"):
            return None, folder
        end = path.find("/", end + 1)
    return path if path.endswith(extension) else None, None


# -------------------------------------------------------------------------------------- code

QUIET_GIT = {  # the library asks git for a commit; it must fail where it would ask a person
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1",  # bytes a second; with the next, a git that was given up ends
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


def find_process(settings: Settings) -> DataProcess | None:
    """Return what will run the tasks, None if that is not to be known; raise BadInput, FailedRun.

    The consumer's library, here and in the worker, adds a task to it to get the task's code.
    """
    if settings.no_code:
        return None
    from aind_data_schema.core.processing import DataProcess
    from analysis_pipeline_utils.metadata import get_codeocean_process_metadata

    warnings.filterwarnings("ignore", module="aind_data_schema")  # of names that MongoDB dislikes
    if isinstance(settings.analysis_code, Path):
        return DataProcess.model_construct(code=read_code(settings.analysis_code), notes=None)
    domain = os.environ.get("CODEOCEAN_DOMAIN") or "codeocean.allenneuraldynamics.org"
    ask = partial(ask_code_ocean, get_codeocean_process_metadata, domain, settings.analysis_capsule)
    log.info("asking Code Ocean at %s for the capsule %s", domain, settings.analysis_capsule)
    return ask_patiently(ask, f"Code Ocean at {domain}", settings.timeout)


def read_code(path: Path) -> Code:
    """Return the code that a file describes; raise BadInput."""
    from aind_data_schema.base import GenericModel
    from aind_data_schema.components.identifiers import Code
    from pydantic import ValidationError

    found = read_object(path)
    check_values(found, f"{path}: the values")
    try:
        code = Code.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        given = excerpt(str(first["input"]))
        raise BadInput(
            f"{path} is no Code of aind-data-schema: {name}: {first['msg']}, not {given}"
        ) from None
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
        there = computation.processes or []
        if capsule in [process.capsule_id for process in there]:
            return describe(capsule_id=capsule)
        found = [process.name for process in there if capsule in process.name]
        if len(found) != 1:
            names = ", ".join(f"{process.name} ({process.capsule_id})" for process in there)
            raise BadInput(
                f"--analysis_capsule: {len(found) or 'no'} capsules of this pipeline are called"
                f" {capsule!r}; there are {names or 'none at all'}"
            )
        return describe(capsule_name=capsule)
    except Error as error:
        raise error.http_err from None
    except FileNotFoundError as error:
        raise FailedRun(f"the capsule at Code Ocean has no version, and {error}") from None
    except subprocess.CalledProcessError as error:  # it repeats the address, with the token
        raise ValueError(f"git says {excerpt(error.stderr.strip(), 300)}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"an answer that is not as expected: {error!r}") from None


# ------------------------------------------------------------------------------------- tasks


@dataclass(frozen=True)
class Parameters:
    """The parameters of the analysis, as the user gives them."""

    fixed: Record
    sets: list[Record]  # every task is dispatched once with each

    @property
    def merged(self) -> list[Record]:
        """The sets with the fixed parameters in each, for tasks that say nothing else of these."""
        sets = self.sets or ([{}] if self.fixed else [])
        return [{**self.fixed, **one} for one in sets]


def read_parameters(folder: Path) -> Parameters:
    """Return what analysis_parameters.json says, nothing if there is none; raise BadInput."""
    path = find_input("analysis_parameters.json", folder)
    if not path:
        log.info("no analysis_parameters.json in %s or one folder down", folder)
        return Parameters({}, [])
    found = read_object(path)
    unknown = found.keys() - {"fixed_parameters", "distributed_parameters"}
    if unknown:
        raise BadInput(
            f"{path}: unknown key {listed(sorted(unknown))}: there are fixed_parameters and"
            " distributed_parameters"
        )
    fixed = found.get("fixed_parameters", {})
    if not isinstance(fixed, dict):
        raise BadInput(f"{path}: fixed_parameters must be an object")
    sets = found.get("distributed_parameters")
    sets = [] if sets is None else sets
    if not isinstance(sets, list) or not all(isinstance(one, dict) for one in sets):
        raise BadInput(f"{path}: distributed_parameters must be a list of objects")
    check_values(fixed, f"{path}: fixed_parameters")
    check_values(sets, f"{path}: distributed_parameters")
    if sets:
        log.info("%s: every task is dispatched with %s", path, count(len(sets), "parameter set"))
    return Parameters(fixed, sets)


def read_object(path: Path) -> Record:
    """Return the object that a JSON file holds; raise BadInput."""
    text = read_text(path)
    try:
        found = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {describe(error)}") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} is a {type(found).__name__}, not an object")
    return found


def check_values(values: Any, source: str) -> None:
    """Raise BadInput for values that a task cannot carry."""
    if is_deeper(values):
        raise BadInput(f"{source} are nested more than {DEPTH} deep")
    try:
        compact(values).encode()  # which NaN, and halves of characters, are not
    except ValueError as error:
        raise BadInput(f"{source} cannot be sent: {error}") from None


def make_tasks(
    groups: list[list[Asset]],
    files: Files | None,
    settings: Settings,
    sets: list[Record],
) -> Iterator[Record]:
    """Yield the tasks: one for each group, or where no assets are grouped one for each file.

    `files` is None where none were looked for; an asset without any is left out. The lists of a
    task hold the same asset at the same position. Every task comes once per set of parameters, if
    there are any.
    """
    split_files = settings.split_files
    if settings.group_by or GROUP_FIELDS or any(len(group) > 1 for group in groups):
        if split_files and files is not None:
            log.info("assets are grouped: one task per group, so --split_files has no effect")
        split_files = False
    query = provenance(settings.query)
    varieties = [{"distributed_parameters": one} for one in sets] or [{}]
    for group in groups:
        once = {asset.record_id: asset for asset in group}.values()
        some = [asset for asset in once if files is None or files[asset.location]]
        parts: list[Any] = [None]
        if files is not None:  # two assets of a group can be at one location
            parts = [list(dict.fromkeys(url for asset in some for url in files[asset.location]))]
            parts = [[url] for url in parts[0]] if split_files else parts
        for part, varied in product(parts if some else [], varieties):
            task: Record = {
                "s3_location": [asset.location for asset in some],
                "asset_id": [asset.id for asset in some],
                "asset_name": [asset.name for asset in some],
                "docdb_record_id": [asset.record_id for asset in some],
                "file_location": part,
                **varied,
            }
            if shared := in_common([asset.group for asset in some]):
                task["group_metadata"] = shared
            if query:
                task["query"] = query
            yield task


def in_common(groups: list[Record]) -> Record:
    """Return what is the same in all of these."""
    first, *others = groups
    return {
        key: value
        for key, value in first.items()
        if all(key in other and rank(other[key]) == rank(value) for other in others)
    }


def provenance(query: Record | None) -> str | None:
    """Return the query as every task carries it, or None where there is none or it is too long."""
    text = None if query is None else compact(query)
    if text and len(text) > QUERY_LENGTH:
        log.warning("the query is left out of the tasks: it has %d characters", len(text))
        return None
    return text


@cache
def task_model() -> type[BaseModel]:
    """Return the model of a task; its package takes a moment to import."""
    from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel

    class DispatchModel(AnalysisDispatchModel):
        asset_id: list[str]  # which consumers of the model's first generation need

    return DispatchModel


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is written."""

    id: str
    content: bytes
    size: int  # bytes of its files
    result: str | None = None  # the name that its result will have in the results store


def render_tasks(
    tasks: Iterable[Record],
    files: Files | None,
    process: DataProcess | None = None,
    fixed: Record | None = None,
) -> list[Task]:
    """Return every task with its JSON, equal ones once, and what runs it with fixed parameters.

    The tasks are checked against the model that consumers read them with. The id is made from
    the content, so that the same input gives the same files and a pipeline's cache holds. What the
    consumer's library keeps its results by, it computes itself.
    """
    from pydantic_core import to_json

    if process:
        from analysis_pipeline_utils.metadata import processing_prefix, update_analysis_process

    validate = task_model().model_validate
    sizes = {url: size for found in (files or {}).values() for url, size in found.items()}
    rendered: dict[str, Task] = {}
    repeated = 0
    for task in tasks:
        model, result = validate(task), None
        if process:
            task["analysis_code"] = update_analysis_process(process, model, **(fixed or {})).code
            result = processing_prefix(task["analysis_code"])
        # NaN in a record would be no JSON
        content = to_json(task, indent=4, inf_nan_mode="null") + b"\n"
        task_id = str(uuid.uuid5(uuid.NAMESPACE_OID, content.decode()))
        repeated += task_id in rendered
        size = sum(sizes[url] for url in task["file_location"] or ())
        rendered.setdefault(task_id, Task(task_id, content, size, result))
    if repeated:
        log.info("%s not repeated, equal to another one", count(repeated, "task"))
    return list(rendered.values())


def split_processed(tasks: list[Task], settings: Settings) -> tuple[list[Task], list[Task]]:
    """Return the tasks to dispatch, and those whose result is in the results store already."""
    if not settings.skip_processed:
        return tasks, []
    database, collection = (os.environ[name].strip() for name in RESULTS_STORE[1:])
    name = f"the results store {database}/{collection}"
    # v1, whatever the metadata's version is: there the consumer's library looks, and writes
    store = open_gateway("v1", settings.timeout, name, database=database, collection=collection)
    there = fetch_results(store, [task.result for task in tasks if task.result])
    processed = [task for task in tasks if task.result in there]
    for task in processed[:NAMES_IN_LOG]:
        log.info("processed already: %s", label(task))
    if len(processed) > NAMES_IN_LOG:
        log.info("processed already: and %d more", len(processed) - NAMES_IN_LOG)
    return [task for task in tasks if task.result not in there], processed


def fetch_results(store: Gateway, names: list[str]) -> set[str]:
    """Return those of the names that a record of the results store has."""
    there: set[str] = set()
    waiting = [names[n : n + IDS_PER_QUERY] for n in range(0, len(names), IDS_PER_QUERY)]
    while waiting:
        some = waiting.pop()
        match = {"$match": {"name": {"$in": some}}}
        found = store.aggregate([match, {"$project": {"_id": 0, "name": 1}}])
        if found is not None:
            there |= {str(record.get("name")) for record in found}
        elif len(some) > 1:
            waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
        else:
            raise FailedRun(f"the records of the results store called {some[0]} are too large")
    return there


def label(task: Task) -> str:
    """Return what the log calls a task."""
    content = json.loads(task.content)
    named = [listed(content["asset_name"]), listed(content["file_location"] or [])]
    if content.get("distributed_parameters"):
        named.append(shorten(compact(content["distributed_parameters"])))
    return ", ".join(filter(None, [*named, f"its result is {task.result}"]))


# ----------------------------------------------------------------------------------- workers

STAGING = ".dispatch-staging-"
MARKER = ".dispatch-moving"  # lies beside the worker folders while they are moved into place
PLAN_FILES = ("dispatch_plan.csv", "dispatch_plan.html")  # of a dry run; a dispatch replaces them
STAGED: set[Path] = set()  # folders that a signal removes
PLACED = Event()  # from then on the run is as good as done, and no signal stops it


def deal(tasks: Sequence[Task], settings: Settings) -> list[list[Task]]:
    """Return the tasks of each worker, shared out by number or by size."""
    if not tasks:
        return []
    workers = min(settings.max_jobs, max(1, len(tasks) // settings.tasks_per_job))
    return (deal_by_size if settings.balance_by == "size" else deal_in_order)(tasks, workers)


def deal_in_order(tasks: Sequence[T], workers: int) -> list[list[T]]:
    """Return the tasks in so many contiguous runs, whose lengths differ by one at most."""
    ends = [len(tasks) * number // workers for number in range(workers + 1)]
    return [list(tasks[start:end]) for start, end in pairwise(ends)]


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


def heaviest(workers: Sequence[Sequence[Task]], balance_by: str) -> str:
    """Return how much more than the mean the heaviest worker has to do, in words."""
    loads = [len(tasks) for tasks in workers]
    shown = count(max(loads), "task")
    if balance_by == "size":
        loads = [sum(task.size for task in tasks) for tasks in workers]
        shown = file_size(max(loads))
    times = max(loads) * len(loads) / sum(loads) if any(loads) else 1
    return f"the heaviest with {shown}, {times:.2f} times the mean"


def check_output(output: Path, overwrite: bool) -> None:
    """Raise BadInput unless worker folders, and nothing else, can be what the folder shows.

    Whatever a `*` matches in there starts a worker of the pipeline's next step.
    """
    there = next(path for path in (output, *output.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise BadInput(f"--output_directory: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FailedRun(f"--output_directory: {there} may not be written into")
    if there != output:
        return
    shown = sorted(path for path in output.iterdir() if not path.name.startswith("."))
    others = [path.name for path in shown if not is_worker(path) and not is_plan(path)]
    if others:
        raise BadInput(
            f"--output_directory: {output} holds {listed(others)}, which no dispatch wrote and"
            " which would start a worker: move it away, or choose another folder"
        )
    workers = sum(not is_plan(path) for path in shown)
    if workers and not overwrite:
        raise BadInput(
            f"--output_directory: {output} holds {count(workers, 'worker folder')} of an earlier"
            " run: replace them with --overwrite 1, or choose another folder"
        )


def is_plan(path: Path) -> bool:
    """Return whether this is a file that an earlier dry run can have written."""
    return path.name in PLAN_FILES and path.is_file() and not path.is_symlink()


def is_worker(path: Path) -> bool:
    """Return whether this is a folder that an earlier dispatch can have written."""
    return (
        re.fullmatch("0|[1-9][0-9]*", path.name) is not None
        and path.is_dir()
        and not path.is_symlink()
        and all(re.fullmatch(r"[0-9a-f-]{36}\.json", entry.name) for entry in os.scandir(path))
    )


def write_workers(workers: Sequence[Sequence[Task]], output: Path, overwrite: bool) -> None:
    """Write one folder of files per worker, all of them or none.

    They are written into a hidden folder and moved into place at the end. What an earlier run
    left is moved away first, and deleted when the new folders are in place.
    """
    with staged(output, overwrite) as staging:
        new, old = staging / "new", staging / "old"
        try:
            old.mkdir()
            new.mkdir()
            for number, tasks in enumerate(workers):
                write_worker(new / str(number), tasks)
            (staging / "marker").write_text(json.dumps([staging.name, len(workers)]))
            PLACED.set()
            (staging / "marker").rename(output / MARKER)
            for path in [path for path in output.iterdir() if not path.name.startswith(".")]:
                path.rename(old / path.name)
            for number in range(len(workers)):
                (new / str(number)).rename(output / str(number))
            (output / MARKER).unlink()
        finally:
            undo_moves(output)


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


def write_worker(folder: Path, tasks: Sequence[Task]) -> None:
    """Write the folder of one worker."""
    folder.mkdir()
    for task in tasks:  # buffered: an unbuffered write may be partial
        with open(f"{folder}/{task.id}.json", "xb") as file:
            file.write(task.content)


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
    if undo_moves(output):
        log.warning("%s: undone, what a run that was killed had begun to move", output)
    for staging in output.glob(f"{STAGING}*"):
        log.warning("%s: removed, left by a run that was killed", staging)
        shutil.rmtree(staging, ignore_errors=True)


def undo_moves(output: Path) -> bool:
    """Put back what a run has moved, if its marker says that it did not finish.

    Every step can be repeated: a new worker folder that is missing from the staging folder is the
    one in the output folder, and old ones come back when the last new one is out of their way.
    """
    if not (output / MARKER).exists():
        return False
    try:
        staging, workers = json.loads((output / MARKER).read_text())
    except (ValueError, TypeError):
        raise BadInput(f"{output / MARKER} was not written by this program: remove it") from None
    new, old = output / staging / "new", output / staging / "old"
    if new.is_dir():
        for number in map(str, range(workers)):
            if not (new / number).exists():
                (output / number).rename(new / number)
        for path in old.iterdir():
            path.rename(output / path.name)
    (output / MARKER).unlink()
    return True


# -------------------------------------------------------------------------------------- plan

SUBJECT_FIELD = "subject.subject_id"
DATE_FIELDS = ("session.session_start_time", "acquisition.acquisition_start_time")  # v1, v2


@dataclass(frozen=True)
class Plan:
    """What is dispatched, and what is not."""

    matched: int  # records
    skipped: list[Skip]
    assets: list[Asset]  # that groups are made of
    files: Files | None
    workers: list[list[Task]]
    processed: list[Task]  # already, and left out
    left_out: int  # tasks, by --max_tasks


def write_plan(plan: Plan, settings: Settings) -> str:
    """Write the plan as a table and as a page; return the first of its tasks as text."""
    import dispatch_plan

    def row(task: Task) -> dispatch_plan.Row:
        content = json.loads(task.content)
        names, ids = content["asset_name"], content["asset_id"]
        records, files = content["docdb_record_id"], content["file_location"]
        parameters = content.get("distributed_parameters")
        return dispatch_plan.Row(
            task.id, names, ids, records, files, task.size, parameters, task.result
        )

    workers = [[row(task) for task in tasks] for tasks in plan.workers]
    held = {record_id for rows in workers for row in rows for record_id in row.record_ids}
    assets = {asset.record_id: asset for asset in plan.assets if asset.record_id in held}
    output = settings.output_directory
    page = dispatch_plan.Plan(
        command=settings.command,
        warning=warning_of(output, settings.overwrite),
        query=None if settings.query is None else compact(settings.query),
        matched=plan.matched,
        skipped=[(skip.reason, skip.name) for skip in plan.skipped],
        processed=[row(task) for task in plan.processed],
        left_out=plan.left_out,
        workers=workers,
        assets=[
            dispatch_plan.AssetRow(asset.name, subject_of(asset), session_date(asset))
            for asset in assets.values()
        ],
    )
    with staged(output, overwrite=True) as staging:
        dispatch_plan.write(page, staging)
        PLACED.set()
        for name in PLAN_FILES:
            (staging / name).replace(output / name)
    shown = f"filter: {pasteable(settings.query)}\n" if settings.query is not None else ""
    return shown + dispatch_plan.first_tasks(page)


def warning_of(output: Path, overwrite: bool) -> str:
    """Return what the dispatch would do to worker folders that are there, in words."""
    workers = sum(map(is_worker, output.glob("*")))
    there = f"{output} holds {count(workers, 'worker folder')} of an earlier run"
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
    for told in (*(value_at(asset.record, name) for name in DATE_FIELDS), asset.name):
        found = re.search(r"(?:^|_)(\d{4}-\d\d-\d\d)", told) if isinstance(told, str) else None
        if found and instant(found[1]):
            return found[1]
    return None


def file_size(size: float) -> str:
    """Return a number of bytes with its unit."""
    from tqdm import tqdm

    return f"{tqdm.format_sizeof(size)}B"


# -------------------------------------------------------------------------------------- main


def dispatch(settings: Settings) -> None:
    """Do what the settings ask for, from records to worker folders."""
    started = time.monotonic()
    output = settings.output_directory
    if os.path.exists(output / MARKER):
        with lock(output):
            clean_up(output)
    check_output(output, settings.overwrite or settings.dry_run)
    plan = make_plan(settings)
    try:
        if settings.dry_run:
            shown = write_plan(plan, settings)
        else:
            write_workers(plan.workers, output, settings.overwrite)
    except OSError as error:
        raise FailedRun(f"cannot write into {output}: {error}") from error
    if settings.dry_run:
        show(shown)
    done = "dispatched to" if plan.workers else "nothing new to dispatch to"
    if settings.dry_run:
        done = "dry run, nothing is dispatched, the plan is in"
    seconds = time.monotonic() - started
    log.info("%s %s: %s, %.1f s", done, output, summary(plan, settings), seconds)


def show(text: str) -> None:
    """Print a text, to a reader that may have gone away."""
    try:
        print(text, flush=True)
    except OSError:  # a pipe that is closed, a disk that is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_plan(settings: Settings) -> Plan:
    """Return what the settings ask for, from records to the tasks of each worker."""
    parameters = read_parameters(settings.input_directory)
    os.environ.update(QUIET_GIT)  # before there are threads that read it
    question = begin(find_process, settings)  # while DocDB and S3 answer
    assets, skipped, matched, groups, files = find_assets(settings)
    report_skipped(skipped, settings.strict)
    process = question.result()
    report_code(process, parameters, settings)
    sets = parameters.sets if process else parameters.merged
    found = make_tasks(groups, files, settings, sets)
    tasks = render_tasks(found, files, process, parameters.fixed)
    if not tasks:
        raise FailedRun(f"nothing to dispatch: {summarise(matched, skipped)}")
    tasks, processed = split_processed(tasks, settings)
    left_out = max(0, len(tasks) - settings.max_tasks) if settings.max_tasks else 0
    if left_out:
        log.warning("--max_tasks %d: %s left out", settings.max_tasks, count(left_out, "task"))
    workers = deal(tasks[: len(tasks) - left_out], settings)
    return Plan(matched, skipped, assets, files, workers, processed, left_out)


def find_assets(
    settings: Settings,
) -> tuple[list[Asset], list[Skip], int, list[list[Asset]], Files | None]:
    """Return the assets, what is skipped, the records matched, the groups, and the files."""
    if settings.query is not None:
        log.info("the filter: %s", pasteable(settings.query))
    progress = Progress()
    listing = Listing(settings, progress) if settings.file_extension else None
    try:
        if settings.docdb_snapshot:
            database: Database = open_snapshot(settings.docdb_snapshot)
        else:
            database = open_gateway(settings.docdb_version, settings.timeout)
            if listing:
                listing.prepare()  # while DocDB answers
        narrowed = settings.filter_latest or settings.group_by  # not all that match are wanted
        early = None if narrowed else listing
        assets, skipped, matched = choose_assets(settings, database, early, progress)
        if settings.query and not matched:
            helpfully(explain, database, settings.query)
        check_fields(database, assets, settings)
        assets, older = keep_latest(assets, settings)
        assets, lacking = set_groups(assets, settings)
        groups = group_assets(assets)
        files = None
        if listing:
            for asset in assets:
                listing.add(asset.location, asset.name)
            begin(task_model)  # while S3 answers
            files = listing.files()
    finally:
        progress.close()
        if listing:
            listing.close()
    skipped += [*older, *lacking, *without_task(assets, groups, files, settings.file_extension)]
    return assets, skipped, matched, groups, files


def summary(plan: Plan, settings: Settings) -> str:
    """Return what a plan comes to, in words."""
    files = "no files looked for"
    if plan.files is not None:
        at = {asset.location for asset in plan.assets}
        files = count(sum(len(plan.files[location]) for location in at), "file")
    tasks = count(sum(map(len, plan.workers)), "task")
    processed = f"{len(plan.processed)} processed already" if settings.skip_processed else ""
    more = f"{plan.left_out} more left out" if plan.left_out else ""
    others = ", ".join(filter(None, (processed, more)))
    if others:
        tasks += f" ({others})"
    workers = count(len(plan.workers), "worker")
    if plan.workers:
        workers += f", {heaviest(plan.workers, settings.balance_by)}"
    return f"{summarise(plan.matched, plan.skipped)}, {files}, {tasks}, {workers}"


def report_code(process: DataProcess | None, parameters: Parameters, settings: Settings) -> None:
    """Log what the tasks say of their code; raise BadInput for names that the library refuses."""
    fixed = parameters.fixed
    if process:
        code = process.code
        names = " ".join(filter(None, (code.name, code.version or code.commit_hash, code.url)))
        log.info("every task says its code: %s, %s", names, count(len(fixed), "fixed parameter"))
        if taken := fixed.keys() & {"process", "dispatch_inputs"}:
            raise BadInput(
                f"fixed_parameters: the analysis library takes none called {listed(sorted(taken))}"
            )
    elif fixed:
        log.info(
            "the tasks do not say their code (%s): fixed_parameters are merged into"
            " distributed_parameters",
            settings.no_code,
        )


def without_task(
    assets: list[Asset], groups: list[list[Asset]], files: Files | None, extension: str | None
) -> list[Skip]:
    """Return the assets that no task will stand for."""
    grouped = {asset.record_id for asset in chain(*groups)}
    skipped = []
    for asset in {asset.record_id: asset for asset in assets}.values():
        if asset.record_id not in grouped:
            skipped.append(Skip("left out by group_assets", asset.label))
        elif files is not None and not files[asset.location]:
            skipped.append(Skip(f"no {extension} file", f"{asset.name} ({asset.location})"))
    return skipped


def report_skipped(skipped: list[Skip], strict: bool) -> None:
    """Log what is skipped by name; raise FailedRun if nothing may be."""
    by_reason: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for skip in skipped:
        by_reason[logging.INFO if skip.asked else logging.WARNING, skip.reason].append(skip.name)
    for (level, reason), names in by_reason.items():
        for name in names[:NAMES_IN_LOG]:
            log.log(level, "skipped, %s: %s", reason, name)
        if len(names) > NAMES_IN_LOG:
            log.log(level, "skipped, %s: and %d more", reason, len(names) - NAMES_IN_LOG)
    faults = [skip for skip in skipped if not skip.asked]
    if faults and strict:
        raise FailedRun(
            f"--strict 1: {len(faults)} would be skipped, first {faults[0].name}:"
            f" {faults[0].reason}"
        )


def summarise(matched: int, skipped: list[Skip]) -> str:
    """Return the records matched and what was skipped, in words."""
    reasons = Counter(skip.reason for skip in skipped).items()
    why = f" ({', '.join(f'{reason}: {n}' for reason, n in reasons)})" if reasons else ""
    return f"{count(matched, 'record')} matched, {len(skipped)} skipped{why}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def without_secrets(text: str) -> str:
    """Return a text without tokens, and without the user and password that a URL in it has."""
    for name in SECRETS:
        if secret := os.environ.get(name, "").strip():
            text = text.replace(secret, "...")
    return re.sub(r"(?<=://)[^/@\s]+@", "...@", text)


def one_line(text: str) -> str:
    """Return a text with everything that is not printed as itself written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
    for name in ("asyncio", "urllib3", "matplotlib"):  # our own say it already, or of no use
        logging.getLogger(name).setLevel(logging.ERROR)
    name = os.environ.get("LOG_LEVEL", "").strip() or "INFO"
    level = logging.getLevelNamesMapping().get(name.upper())
    log.setLevel(level or logging.INFO)
    if not level:
        log.warning("$LOG_LEVEL is no level, INFO is used: %r", name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    if sys.stderr is None:  # closed by the caller
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where the terminal is not in UTF-8
    configure_log()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stop)
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
        logging.disable()  # what still ends in another thread says nothing behind the last line
        print(f"error: {one_line(without_secrets(fault))}", file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1


def stop(number: int, _: object) -> None:
    """Handle a signal: end the run at once, unless it is as good as done.

    No exception is raised, since Python drops those that come up while it frees an object.
    """
    if not PLACED.is_set():
        for staging in STAGED:
            shutil.rmtree(staging, ignore_errors=True)
        line = f"error: stopped by {signal.Signals(number).name}, nothing is dispatched\n"
        os.write(sys.stderr.fileno(), line.encode())
        os._exit(128 + number)


if __name__ == "__main__":
    status = main()
    if status:
        os._exit(status)  # else requests that are under way in other threads would hold the exit
