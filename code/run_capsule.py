#!/usr/bin/env python3
"""Dispatch an analysis: ask which data assets match, find their files, deal them out to workers.

Read this file from top to bottom, in the order in which the data flows:

    settings   the flags become one Settings
    records    DocDB, or a snapshot of it, says which records match
    assets     a record becomes an Asset; assets are put into groups (edit group_assets)
    files      the objects and folders of each asset that have the extension, from S3
    tasks      a group with its files becomes one task, or one task per file
    workers    tasks become JSON files in numbered folders, one folder per worker
    main       the six steps in a row, the closing line, the exit status

Exit status: 0 dispatched, 2 the input is wrong, 1 the run failed. What a step cannot do it raises
as BadInput or FailedRun, and main alone turns that into one line and a status. Packages that are
slow to import are imported where they are used.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import glob
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import uuid
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar
from urllib.parse import unquote

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from obstore.store import ClientConfig, S3Store

ROOT = Path(__file__).resolve().parent.parent  # in Code Ocean: /, so that this is /data, /results
DOCDB_HOST = "api.allenneuraldynamics.org"
RECORDS_PER_PAGE = 5_000  # some 350 bytes each; the gateway refuses answers past 6 MB
IDS_PER_QUERY = 5_000  # some 40 bytes each, sent twice; the gateway takes requests up to 10 MB
KEYS_PER_PAGE = 1_000  # what S3 returns at most
CONNECTIONS = 64
QUERY_LENGTH = 8_000  # the longest query that is copied into every task, in characters
NAMES_IN_LOG = 20
DEPTH = 100  # of nesting, as in MongoDB

log = logging.getLogger("dispatch")

Record = dict[str, Any]
T = TypeVar("T")


class BadInput(Exception):
    """What the user gave is wrong."""


class FailedRun(Exception):
    """The input is fine, but the run cannot be completed."""


# ---------------------------------------------------------------------------------- settings


def switch(text: str) -> bool:
    """Convert the value of a flag that is off or on."""
    if text not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return text == "1"


def positive(text: str) -> int:
    """Convert a whole number from 1."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError("must be a whole number from 1 to 999999999")
    return int(text)


def suffix(text: str) -> str:
    """Convert the end of a name; a word without a dot gets one."""
    if re.search(r"[/*?\[\]]", text):
        raise ValueError("must be the end of a name, such as .nwb, without any of / * ? [ ]")
    return f".{text}" if text[0].isalnum() and "." not in text else text


def version(text: str) -> str:
    """Convert the name of a generation of the metadata database."""
    if text not in ("v1", "v2"):
        raise ValueError("must be v1 or v2")
    return text


# The command line, the app panel and the README are made from this table. Its headings are theirs.
# fmt: off
FLAGS: dict[str, list[tuple[str, Callable[[str], Any], Any, str, str]]] = {
    # flag and aliases, how the value is converted, default, what the help calls the value, help
    "Choose the assets": [
        ("--query --docdb_query", str, None, "FILTER",
         "Which records: a DocDB filter as a JSON object or Python dict, or the path of a JSON file"
         " (relative to the working folder, else to the input folder)."),
        ("--use_data_asset_csv", switch, 0, "0|1",
         "1: the assets are those whose Code Ocean ids are listed in the column asset_id of"
         " data_asset_input.csv in the input folder; a query is not used then."),
        ("--docdb_version", version, None, "v1|v2",
         "Generation of the metadata database. Blank: $DOCDB_VERSION, else v1."),
        ("--docdb_snapshot", str, None, "FILE",
         "A file of records (JSON array or JSON lines) to query instead of the live database;"
         " looked for like a query file."),
    ],
    "Find the files": [
        ("--file_extension", suffix, None, "SUFFIX",
         "How the names of the files to find end, such as nwb (for .nwb), .nwb.zarr or _probe.json;"
         " a folder with such a name is one file. Blank: none, a task names the asset alone."),
        ("--split_files", switch, 1, "0|1",
         "1: one task per file. 0: one task per asset, all its files in it. Without a file"
         " extension, or for grouped assets, it has no effect."),
    ],
    "Share out the work": [
        ("--max_jobs --num_parallel_workers", positive, 50, "N",
         "The most worker folders."),
    ],
    "Folders and safety": [
        ("--input_directory", Path, ROOT / "data", "FOLDER",
         "Where the CSV, query and snapshot files are looked for."),
        ("--output_directory", Path, ROOT / "results", "FOLDER",
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
    """What one run is asked to do: the flags, with the query read and the version filled in."""

    query: Record | None  # None: the assets come from the CSV
    use_data_asset_csv: bool
    docdb_version: str | None  # None: not in use
    docdb_snapshot: Path | None
    file_extension: str | None
    split_files: bool
    max_jobs: int
    input_directory: Path
    output_directory: Path
    overwrite: bool
    strict: bool


class Flag(argparse.Action):
    """A flag with one value; a blank one, as app panels pass for an empty field, is no value."""

    def __init__(self, convert: Callable[[str], Any], **options: Any) -> None:
        super().__init__(**options)
        self.convert = convert

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Convert and keep the value."""
        if values.strip():
            try:
                setattr(namespace, self.dest, self.convert(values.strip()))
            except ValueError as error:
                raise argparse.ArgumentError(self, f"{error}, not {values!r}") from None


class Parser(argparse.ArgumentParser):
    """The parser of all flags; what is wrong with them is BadInput."""

    def __init__(self) -> None:
        super().__init__(
            prog="run_capsule.py",
            description="Find the data assets that match, and their files, and write one JSON file"
            " per task into one folder per worker.",
            epilog="A blank value (--flag=) means the default. Environment: AWS_* as for every AWS"
            " tool, DOCDB_HOST, DOCDB_VERSION, LOG_LEVEL.",
            allow_abbrev=False,
        )
        for heading, flags in FLAGS.items():
            group = self.add_argument_group(heading)
            for names, convert, default, metavar, text in flags:
                if default is not None:
                    text += f" Default: {default}."
                group.add_argument(
                    *names.split(),
                    **{"action": Flag, "convert": convert, "default": default},
                    metavar=metavar,
                    help=text,
                )

    def error(self, message: str) -> NoReturn:
        """Raise BadInput."""
        raise BadInput(f"{message} (--help lists the flags)")


def parse_settings(argv: Sequence[str] | None = None) -> Settings:
    """Return the settings that the flags and the environment ask for; raise BadInput."""
    chosen = vars(Parser().parse_args(argv))
    query, snapshot, folder = chosen["query"], chosen["docdb_snapshot"], chosen["input_directory"]
    if chosen["use_data_asset_csv"]:
        if query:
            log.warning("--query is not used: --use_data_asset_csv 1 says which assets")
        query = None
    elif not query:
        raise BadInput("no assets chosen: give --query, or --use_data_asset_csv 1")
    if not chosen["docdb_version"] and not snapshot:
        name = os.environ.get("DOCDB_VERSION", "").strip() or "v1"
        try:
            chosen["docdb_version"] = version(name)
        except ValueError as error:
            raise BadInput(f"$DOCDB_VERSION {error}, not {name!r}") from None
    chosen["query"] = query and read_query(query, folder)
    chosen["docdb_snapshot"] = snapshot and find_file(snapshot, folder)
    if snapshot and not chosen["docdb_snapshot"]:
        raise BadInput(f"--docdb_snapshot: there is no file {snapshot!r}, here or in {folder}")
    return Settings(**chosen)


def find_file(name: str, folder: Path) -> Path | None:
    """Return the path of a file named relative to the working folder, else to `folder`."""
    for path in (name, os.path.join(folder, name)):
        # os.path answers False where Path.exists raises: a text too long for a name, say
        if os.path.exists(path) and not os.path.isdir(path):
            return Path(path)
    return None


def read_text(path: Path) -> str:
    """Return a file's text, in UTF-8 with or without a byte order mark; raise BadInput."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from None


def read_query(text: str, folder: Path) -> Record:
    """Return the filter that --query gives, as text or as the path of a file; raise BadInput."""
    text = without_quotes(text)
    if text.startswith("{"):
        return parse_filter(text, "--query")
    if path := find_file(text, folder):
        return parse_filter(without_quotes(read_text(path)), str(path))
    return parse_filter(text, f"--query is no file, here or in {folder}, and")


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
    """Return a filter from a JSON object or a Python dict literal; raise BadInput.

    Where neither reads it, the fault that is told is JSON's, or Python's if the first quote in the
    text is a single one.
    """
    try:
        found = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as json_fault:
        try:
            found = read_literal(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as python_fault:
            quote = re.search("[\"']", text)
            fault = describe(python_fault if quote and quote[0] == "'" else json_fault)
            raise BadInput(
                f"{source} is no JSON object and no dict literal: {fault}: {excerpt(text)}"
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


def read_literal(text: str) -> Any:
    """Return what a Python literal says; raise BadInput for keys that JSON could not keep."""
    with warnings.catch_warnings(action="ignore"):  # of "\d" in a regular expression
        tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            unique_keys([(ast.literal_eval(key), None) for key in node.keys if key])
    return ast.literal_eval(tree)


def unique_keys(pairs: list[tuple[Any, Any]]) -> Record:
    """Return an object; raise BadInput for a key that is no text, or twice there and once lost."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if not isinstance(key, str):
            raise BadInput(f"the query has the key {key!r}, which is not a text")
        if keys.count(key) > 1:
            raise BadInput(f"the query has {key!r} twice in one object: combine them with $and")
    return dict(pairs)


def is_deeper(value: Any, levels: int = DEPTH) -> bool:
    """Return whether lists and objects are nested more than so many levels deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(is_deeper(item, levels - 1) for item in inner)


def compact(value: Any) -> str:
    """Return JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def excerpt(text: str, length: int = 60) -> str:
    """Return the beginning of a text, quoted."""
    return repr(text if len(text) <= length else text[:length] + "...")


def describe(fault: BaseException) -> str:
    """Return what is wrong with a text, and where."""
    if isinstance(fault, SyntaxError):
        return f"{fault.msg}: line {fault.lineno} column {fault.offset}"
    return str(fault).partition(": <")[0] or type(fault).__name__  # without an object's address


# ----------------------------------------------------------------------------------- records


class PageTooLarge(Exception):
    """The answer has more bytes than the gateway lets pass."""


@dataclass(frozen=True)
class Database:
    """Where records come from, live or a snapshot."""

    aggregate: Callable[[list[Record]], list[Record]]  # from a pipeline to its records
    page: int  # records to ask for at once
    folder: Path | None = None  # of the snapshot; None: live, so no location may be a local path


def open_gateway(version: str | None) -> Database:
    """Return the live database behind its REST interface.

    $DOCDB_DATABASE and $DOCDB_COLLECTION are not read: pipelines set them for the store of
    results.
    """
    import requests
    from aind_data_access_api.document_db import MetadataDbClient
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class LoggedRetry(Retry):
        def increment(self, *args: Any, **kwargs: Any) -> Self:
            left = super().increment(*args, **kwargs)
            log.warning("no answer from DocDB yet, trying again (tries left: %s)", left.total)
            return left

    class PatientAdapter(HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> requests.Response:
            kwargs["timeout"] = (10, 60)  # connect, read; the client sets none: it waits for ever
            return super().send(*args, **kwargs)

    host = os.environ.get("DOCDB_HOST", "").strip() or DOCDB_HOST
    host = host.removeprefix("https://").rstrip("/")
    if "/" in host:
        raise BadInput(f"$DOCDB_HOST must be the name of a host, not {host!r}")
    retries = LoggedRetry(
        total=4,
        allowed_methods=None,  # all: the POST of an aggregation only reads
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        backoff_factor=0.5,
        backoff_jitter=0.5,
        retry_after_max=60,
    )
    session = requests.Session()
    session.mount("https://", PatientAdapter(max_retries=retries))
    client = MetadataDbClient(host=host, version=version, session=session)
    log.info("asking DocDB %s at %s", version, host)

    def aggregate(pipeline: list[Record]) -> list[Record]:
        try:
            records = client.aggregate_docdb_records(pipeline)
        except requests.exceptions.HTTPError as error:
            response = error.response
            if response.status_code == 413:
                raise PageTooLarge from None
            answer = f"{response.status_code} {response.reason}: {excerpt(response.text, 300)}"
            if response.status_code == 400:
                raise BadInput(f"DocDB at {host} refuses the query: {answer}") from None
            raise FailedRun(f"DocDB at {host} answers {answer}") from None
        except (OSError, ValueError) as error:  # requests' own, and those for odd hosts and files
            cause = str(getattr(error.args[0], "reason", error) if error.args else error)
            cause = cause.partition("): ")[2] or cause  # without the name of a Python class
            raise FailedRun(f"no usable answer from DocDB at {host}: {cause}") from None
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise FailedRun(
                f"DocDB at {host} answers with no list of records: {excerpt(str(records), 300)}"
            )
        return records

    return Database(aggregate, RECORDS_PER_PAGE)


def open_snapshot(path: Path) -> Database:
    """Return a database in memory that holds the records of a file; raise BadInput."""
    import mongomock

    records = read_snapshot(path)
    numbers: dict[str, int] = {}
    for number, record in enumerate(records, 1):
        record_id = record.get("_id") if isinstance(record, dict) else None
        if not isinstance(record_id, str):
            raise BadInput(f"{path}: record {number} is no JSON object with a text as its _id")
        if is_deeper(record):
            raise BadInput(f"{path}: record {number} is nested more than {DEPTH} deep")
        if numbers.setdefault(record_id, number) < number:
            raise BadInput(
                f"{path}: records {numbers[record_id]} and {number} both have the _id {record_id!r}"
            )
    collection = mongomock.MongoClient().metadata_index.data_assets
    if records:
        collection.insert_many(records)
    log.info("asking the snapshot %s: %s", path, count(len(records), "record"))

    def aggregate(pipeline: list[Record]) -> list[Record]:
        try:
            return list(collection.aggregate(pipeline))
        except Exception as error:  # mongomock's errors for a wrong filter have no common base
            raise BadInput(
                f"the query cannot be asked of a snapshot: {type(error).__name__}: {error}"
            ) from error

    return Database(aggregate, len(records) + 1, path.absolute().parent)


def read_snapshot(path: Path) -> list[Any]:
    """Return the records of a file that holds a JSON array, JSON lines, or one record."""
    text = read_text(path)
    try:
        return as_list(json.loads(text))
    except (ValueError, RecursionError):
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    records = []
    for number, line in lines:
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"{path} is neither a JSON array nor JSON lines: line {number}: {error}"
            ) from None
    return records


def fetch_records(database: Database, query: Record, fields: Sequence[str]) -> list[Record]:
    """Return the fields of every record that matches, in the order of the record ids.

    Pages go by key: what changes in the database while it is read shifts no record out of sight,
    and no page reads again what earlier ones have read.
    """
    records: list[Record] = []
    page_size = database.page
    last: str | None = None
    # $gt compares texts with texts alone; where there are pages, ids of other types come at the end
    others = {"$and": [query, {"_id": {"$not": {"$gte": ""}}}]}
    match = query
    while True:
        pipeline: list[Record] = [
            {"$match": match},
            {"$sort": {"_id": 1}},
            {"$limit": page_size},
            {"$project": dict.fromkeys(fields, 1)},
        ]
        try:
            page = database.aggregate(pipeline)
        except PageTooLarge:
            if page_size == 1:
                raise FailedRun(
                    f"the query, or the record after {last!r}, is too large for DocDB"
                ) from None
            page_size //= 2
            log.debug("answer too large: asking for %d records at a time", page_size)
            continue
        if match is others:
            records = [record for record in records if isinstance(record.get("_id"), str)]
        records += page
        if len(page) < page_size:
            if last is None or match is others:
                return records
            match = others
            continue
        end = page[-1].get("_id")
        if not isinstance(end, str) or end <= (last or ""):
            raise FailedRun(f"DocDB's pages do not go on after the record {end!r}")
        last = end
        match = {"$and": [query, {"_id": {"$gt": last}}]}


def read_asset_ids(folder: Path) -> list[str]:
    """Return the ids in the CSV of an input folder, each once, in their order; raise BadInput."""
    import pandas

    path = find_input("data_asset_input.csv", folder)
    try:
        with warnings.catch_warnings(action="ignore"):  # of rows with a comma at the end, whose
            table = pandas.read_csv(  # ids would become an index if index_col did not forbid it
                path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
            )
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise BadInput(f"cannot read {path}: {error}") from None
    columns = [str(name).strip() for name in table.columns]
    if columns.count("asset_id") != 1:
        raise BadInput(f"{path} must have one column asset_id; its columns are {columns}")
    column = table.iloc[:, columns.index("asset_id")]
    ids = [asset_id for asset_id in column.str.strip().unique() if asset_id]
    if not ids:
        raise BadInput(f"{path} has no id in its column asset_id")
    log.info("%s: %s", path, count(len(ids), "asset id"))
    return ids


def find_input(name: str, folder: Path) -> Path:
    """Return an input file that lies in a folder or one folder down, where pipelines stage it."""
    if os.path.isfile(folder / name):
        return folder / name
    found = sorted(glob.glob(os.path.join(glob.escape(str(folder)), "*", name)))
    if not found:
        raise BadInput(f"there is no {name} in {folder}, nor one folder down")
    if len(found) > 1:
        raise BadInput(f"which {name}? There are {' and '.join(found)}")
    return Path(found[0])


def fetch_records_by_asset_id(
    database: Database, ids: list[str], fields: Sequence[str]
) -> list[Record]:
    """Return the records with any of these Code Ocean ids, each once."""
    found: dict[str, Record] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = {"$in": ids[start : start + IDS_PER_QUERY]}
        query = {"$or": [{f"{links}.Code Ocean": some} for links in ID_FIELDS]}
        for record in fetch_records(database, query, fields):
            found[repr(record.get("_id"))] = record
    return list(found.values())


# ------------------------------------------------------------------------------------ assets

NO_LOCATION = "location is not s3://bucket/prefix"
ID_FIELDS = ("external_links", "other_identifiers")  # v1, v2; some v1 records have both
ASSET_FIELDS = ("_id", "name", "location", *ID_FIELDS)


@dataclass(frozen=True)
class Asset:
    """A data asset, as its record describes it."""

    location: str  # s3://bucket/prefix, from a snapshot also a file:// URL; no slash at the end
    id: str  # the Code Ocean id, "" where there is none
    name: str
    record_id: str
    record: Record = field(repr=False)  # ASSET_FIELDS and GROUP_FIELDS of it


@dataclass(frozen=True)
class Skip:
    """Something that no task will stand for, and why."""

    reason: str
    name: str


# Edit here to analyse several assets in one task. GROUP_FIELDS names the fields of the record that
# your grouping reads (dots reach inside), group_assets returns the assets in groups: one task per
# group. For one task per subject:
#
#     GROUP_FIELDS = ("subject.subject_id",)
#
#
#     def group_assets(assets: list[Asset]) -> list[list[Asset]]:
#         """Return the assets of each subject."""
#         groups = defaultdict(list)
#         for asset in assets:
#             subject = asset.record.get("subject") or {}
#             groups[subject.get("subject_id")].append(asset)
#         return list(groups.values())

GROUP_FIELDS: tuple[str, ...] = ()


def group_assets(assets: list[Asset]) -> list[list[Asset]]:
    """Return the assets in groups, here each asset alone."""
    return [[asset] for asset in assets]


def choose_assets(settings: Settings, database: Database) -> tuple[list[Asset], list[Skip], int]:
    """Return the assets that the settings ask for, what is skipped, and how many records matched.

    From the CSV, assets come in its order, with the ids it gives. From a query, they are ordered
    by name, then record id, with the first of their ids.
    """
    fields = (*ASSET_FIELDS, *GROUP_FIELDS)
    skipped: list[Skip] = []
    if settings.use_data_asset_csv:
        ids = read_asset_ids(settings.input_directory)
        records = fetch_records_by_asset_id(database, ids, fields)
    else:
        records = fetch_records(database, settings.query or {}, fields)
    records.sort(key=lambda record: (name_of(record), str(record.get("_id"))))
    if settings.use_data_asset_csv:
        chosen, skipped = pick_by_id(ids, records)
    else:
        chosen = [(next(code_ocean_ids(record), ""), record) for record in records]
    assets = []
    for asset_id, record in chosen:
        asset = read_asset(asset_id, record, database.folder)
        if isinstance(asset, Skip):
            skipped.append(asset)
        else:
            assets.append(asset)
    return assets, skipped, len(records)


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
    ids: list[str], records: list[Record]
) -> tuple[list[tuple[str, Record]], list[Skip]]:
    """Return each record with the first id that names it, by the order of ids; and unknown ids.

    A record is one asset, however many of its ids are asked for.
    """
    records_of: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        for asset_id in dict.fromkeys(code_ocean_ids(record)):
            records_of[asset_id].append(record)
    chosen: dict[str, tuple[str, Record]] = {}
    skipped = []
    for asset_id in ids:
        if asset_id not in records_of:
            skipped.append(Skip("no record has this id", asset_id))
        for record in records_of.get(asset_id, []):
            first, _ = chosen.setdefault(repr(record.get("_id")), (asset_id, record))
            if first != asset_id:
                log.warning("%s and %s are one asset: %s", first, asset_id, name_of(record))
    return list(chosen.values()), skipped


def read_asset(asset_id: str, record: Record, folder: Path | None) -> Asset | Skip:
    """Return the asset that a record describes, or why there is none.

    Local locations are read from a snapshot alone, `folder` being the snapshot's own.
    """
    record_id, name, location = record.get("_id"), name_of(record), record.get("location")
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
    # obstore and s3fs alike would list s3://bucket//x as s3://bucket/x
    if re.match(r"s3://[\w.-]{1,255}/[^/]", url, re.ASCII) or (folder and url[:8] == "file:///"):
        return Asset(url, asset_id, name, record_id, record)
    return Skip(NO_LOCATION, f"{shown}: {location!r}")


def local_url(location: str, folder: Path) -> str:
    """Return a snapshot's location as a URL, paths relative to its folder as file:// URLs."""
    if location.startswith("file://"):
        path = location.removeprefix("file://").removeprefix("localhost")
        path = unquote(path, errors="surrogateescape")
    elif "://" in location or location.startswith("/") or not location.strip():
        return location
    else:
        path = os.path.join(folder, location)
    return Path(os.path.abspath(path)).as_uri() if path.startswith("/") else location


# ------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class Bucket:
    """An S3 bucket, and the two ways to list it."""

    name: str
    store: S3Store
    s3fs_options: dict[str, Any]


def find_files(assets: list[Asset], extension: str | None) -> dict[str, list[str]] | None:
    """Return the URLs of the files with the extension, by the location of the asset.

    Locations are listed side by side; a listing that fails ends the run. None: no extension.
    """
    if not extension:
        return None
    names = {asset.location: asset.name for asset in assets}
    buckets = open_buckets(
        sorted({split_location(at)[0] for at in names if at.startswith("s3://")})
    )

    def find(location: str) -> list[str]:
        if location.startswith("file://"):
            return find_local_files(location, extension)
        bucket, prefix = split_location(location)
        found = list_keys(buckets[bucket], prefix, extension)
        return [f"{location}/{path}" for path in sorted(found)]

    files: dict[str, list[str]] = {}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = {pool.submit(find, location): location for location in names}
        finished = progress(as_completed(futures), len(futures))
        try:
            for future in finished:
                location = futures[future]
                files[location] = future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):
                raise
            raise FailedRun(
                f"cannot list {location} of asset {names[location]}: {list_fault(error)}"
            ) from error
    return files


def progress(items: Iterable[T], total: int) -> Iterable[T]:
    """Return the items, counted by a bar where a person is watching."""
    if not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    return tqdm(items, "listing", total, leave=False, unit="asset")


def list_fault(error: Exception) -> str:
    """Return what S3 said, and what to do about it."""
    text = str(error).partition("\n\nDebug source")[0]  # obstore appends its own structures
    code = re.search(r"<Code>(\w+)</Code>.*<Message>([^<]*)</Message>", text, re.DOTALL)
    if code:
        text = f"{code[1]}: {code[2]}"
    if re.search("Access ?Denied|Forbidden|InvalidAccessKeyId|SignatureDoesNot|ExpiredToken", text):
        text += "; check the AWS credentials, and that they may list this bucket"
    return text


def split_location(location: str) -> tuple[str, str]:
    """Return the bucket and the prefix, without a slash at its end, of an S3 location."""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    return bucket, prefix


def open_buckets(names: list[str]) -> dict[str, Bucket]:
    """Return the buckets, opened with the credentials, region and endpoint that boto3 finds.

    boto3 is the one that decides, so that this program sees what every other AWS tool sees.
    """
    if not names:
        return {}
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.session import Session
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    try:
        core = Session()
        session = boto3.session.Session(botocore_session=core)
        signed = session.get_credentials() is not None
        # botocore renews credentials 10 minutes before they end, obstore 5 before the ttl does
        provider = Boto3CredentialProvider(session, ttl=timedelta(minutes=10)) if signed else None
        config = Config(signature_version=None if signed else UNSIGNED, read_timeout=30)
        client_options: ClientConfig = {}
        bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        if bundle:
            client_options["root_certificate"] = Path(bundle).read_bytes()
        log.info("S3 requests are %s", "signed" if signed else "unsigned: no AWS credentials found")
        client = session.client("s3", session.region_name or "us-east-1", config=config)
        buckets = {}
        for name in names:
            region = bucket_region(client, name)
            endpoint = session.client("s3", region, config=config).meta.endpoint_url
            store = S3Store(
                name,
                region=region,
                aws_endpoint_url_s3=endpoint,
                virtual_hosted_style_request=False,
                skip_signature=not signed,
                credential_provider=provider,
                client_options={**client_options, "allow_http": endpoint.startswith("http://")},
            )
            region_options = {"client_kwargs": {"region_name": region}}
            options = {"anon": not signed, "endpoint_url": endpoint, **region_options}
            buckets[name] = Bucket(name, store, options)
        return buckets
    except (BotoCoreError, ClientError, BaseError, OSError, ValueError) as error:
        raise FailedRun(f"AWS: {list_fault(error)}") from error


def bucket_region(client: BaseClient, name: str) -> str:
    """Return the region of a bucket, which S3 tells even where it refuses everything else."""
    from botocore.exceptions import ClientError

    try:
        answer = client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.operation_name != "HeadBucket":  # a role could not be assumed
            raise
        answer = error.response
        if answer["ResponseMetadata"].get("HTTPStatusCode") == 404:
            raise FailedRun(f"there is no S3 bucket {name!r}") from None
    headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region") or client.meta.region_name)


def list_keys(bucket: Bucket, prefix: str, extension: str) -> set[str]:
    """Return the files with the extension under a prefix, as paths relative to it."""
    from obstore.exceptions import InvalidPathError

    try:
        return list_with_obstore(bucket.store, prefix, extension)
    except (InvalidPathError, ValueError):  # a key, or the prefix itself, is no path for obstore
        log.debug("s3://%s/%s: listing with s3fs", bucket.name, prefix)
        return list_with_s3fs(bucket, prefix, extension)


def list_with_obstore(store: S3Store, prefix: str, extension: str) -> set[str]:
    """Return the files under a prefix from its pages of keys, jumping over closed folders.

    When a page ends inside a folder that is one file or a Zarr store, whatever else lies in there
    does not matter, and the next request starts behind it. So a store of a million chunks costs
    one page, and there are never more requests than pages.
    """
    import obstore

    found = set()
    offset: str | None = None
    top = f"{prefix}/"
    while True:
        for page in obstore.list(store, prefix, offset=offset, chunk_size=KEYS_PER_PAGE):
            closed = None
            for meta in page:
                if not meta["path"].startswith(top):  # the marker of the folder itself
                    continue
                file, closed = file_of(meta["path"][len(top) :], extension)
                if file:
                    found.add(file)
            # "0" follows "/": the first key behind the folder. It is passed over itself, so stay
            # when it could be a match.
            if len(page) == KEYS_PER_PAGE and closed and not f"{closed}0".endswith(extension):
                offset = f"{prefix}/{closed}0"
                break
        else:
            return found


def list_with_s3fs(bucket: Bucket, prefix: str, extension: str) -> set[str]:
    """Return the files under a prefix, whatever its keys are made of."""
    import s3fs

    filesystem = s3fs.S3FileSystem(**bucket.s3fs_options)
    top = f"{bucket.name}/{prefix}/"
    paths = filesystem.find(top.removesuffix("/"), withdirs=True)
    matches = (file_of(path[len(top) :], extension)[0] for path in paths if path.startswith(top))
    return {file for file in matches if file}


def find_local_files(location: str, extension: str) -> list[str]:
    """Return the URLs of the files under a file:// URL, ordered by path."""
    top = Path(unquote(location.removeprefix("file://"), errors="surrogateescape"))

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

    found = walk(str(top), "", set()) if top.is_dir() else ()
    return [(top / path).as_uri() for path in sorted(found)]


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


# ------------------------------------------------------------------------------------- tasks


def make_tasks(
    groups: list[list[Asset]],
    files: dict[str, list[str]] | None,
    split_files: bool,
    query: str | None,
) -> list[Record]:
    """Return the tasks: one for each group, or where no assets are grouped one for each file.

    `files` are those of each location, None where none were looked for; an asset without any is
    left out. The lists of a task hold the same asset at the same position.
    """
    if any(len(group) > 1 for group in groups):
        split_files = False
        log.info("assets are grouped: one task per group, so --split_files has no effect")
    tasks = []
    for group in groups:
        some = [asset for asset in group if files is None or files[asset.location]]
        parts: list[Any] = [None if files is None else [f for a in some for f in files[a.location]]]
        if split_files and files is not None:
            parts = [[file] for file in parts[0]]
        for part in parts if some else []:
            task: Record = {
                "s3_location": [asset.location for asset in some],
                "asset_id": [asset.id for asset in some],
                "asset_name": [asset.name for asset in some],
                "docdb_record_id": [asset.record_id for asset in some],
                "file_location": part,
            }
            if query:
                task["query"] = query
            tasks.append(task)
    return tasks


def provenance(query: Record | None) -> str | None:
    """Return the query as every task carries it, or None where there is none or it is too long."""
    text = None if query is None else compact(query)
    if text and len(text) > QUERY_LENGTH:
        log.warning("the query is left out of the tasks: it has %d characters", len(text))
        return None
    return text


def render_tasks(tasks: list[Record]) -> list[tuple[str, str]]:
    """Return the file name and the JSON text of every task, equal ones once.

    The tasks are checked against the model that consumers read them with. The name is made from
    the text, so that the same input gives the same files and a pipeline's cache holds.
    """
    from analysis_pipeline_utils.analysis_dispatch_model import AnalysisDispatchModel

    class DispatchModel(AnalysisDispatchModel):
        asset_id: list[str]  # which consumers of the model's first generation need

    rendered = {}
    for task in tasks:
        DispatchModel.model_validate(task)
        text = json.dumps(task, indent=4) + "\n"
        rendered[f"{uuid.uuid5(uuid.NAMESPACE_OID, text)}.json"] = text
    if len(rendered) < len(tasks):
        log.info("%d tasks equal another one and are not repeated", len(tasks) - len(rendered))
    return list(rendered.items())


# ----------------------------------------------------------------------------------- workers

STAGING = ".dispatch-staging-"
MARKER = ".dispatch-moving"  # lies beside the worker folders while they are moved into place


def deal(tasks: Sequence[T], max_jobs: int) -> list[Sequence[T]]:
    """Return the tasks in contiguous runs, at most `max_jobs`, whose lengths differ by one."""
    workers = min(max_jobs, len(tasks))
    ends = [len(tasks) * number // workers for number in range(workers + 1)]
    return [tasks[start:end] for start, end in pairwise(ends)]


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
    others = [path.name for path in shown if not is_worker(path)]
    if others:
        raise BadInput(
            f"--output_directory: {output} holds {listed(others)}, which no dispatch wrote and"
            " which would start a worker: move it away, or choose another folder"
        )
    if shown and not overwrite:
        raise BadInput(
            f"--output_directory: {output} holds {len(shown)} worker folders of an earlier run:"
            " replace them with --overwrite 1, or choose another folder"
        )


def is_worker(path: Path) -> bool:
    """Return whether this is a folder that an earlier dispatch can have written."""
    return (
        re.fullmatch("0|[1-9][0-9]*", path.name) is not None
        and path.is_dir()
        and not path.is_symlink()
        and all(re.fullmatch(r"[0-9a-f-]{36}\.json", entry.name) for entry in os.scandir(path))
    )


def write_workers(
    workers: Sequence[Sequence[tuple[str, str]]], output: Path, overwrite: bool
) -> None:
    """Write one folder of files per worker, all of them or none.

    They are written into a hidden folder and moved into place at the end. What an earlier run
    left is moved away first, and deleted when the new folders are in place.
    """
    output.mkdir(parents=True, exist_ok=True)
    with lock(output):
        clean_up(output)
        check_output(output, overwrite)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=output))
        new, old = staging / "new", staging / "old"
        try:
            old.mkdir()
            for number, files in enumerate(workers):
                (new / str(number)).mkdir(parents=True)
                for name, text in files:
                    (new / str(number) / name).write_text(text, encoding="utf-8")
            (staging / "marker").write_text(json.dumps([staging.name, len(workers)]))
            (staging / "marker").rename(output / MARKER)
            for path in [path for path in output.iterdir() if not path.name.startswith(".")]:
                path.rename(old / path.name)
            for number in range(len(workers)):
                (new / str(number)).rename(output / str(number))
            (output / MARKER).unlink()
        finally:
            undo_moves(output)
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
    except ValueError:
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


# -------------------------------------------------------------------------------------- main


def dispatch(settings: Settings) -> None:
    """Do what the settings ask for, from records to worker folders."""
    started = time.monotonic()
    if os.path.exists(settings.output_directory / MARKER):
        with lock(settings.output_directory):
            clean_up(settings.output_directory)
    check_output(settings.output_directory, settings.overwrite)

    snapshot = settings.docdb_snapshot
    database = open_snapshot(snapshot) if snapshot else open_gateway(settings.docdb_version)
    assets, skipped, matched = choose_assets(settings, database)
    groups = group_assets(assets)
    files = find_files(list(chain(*groups)), settings.file_extension)
    skipped += without_task(assets, groups, files, settings.file_extension)
    report_skipped(skipped, settings.strict)
    tasks = make_tasks(groups, files, settings.split_files, provenance(settings.query))
    if not tasks:
        raise FailedRun(f"nothing to dispatch: {summarise(matched, skipped)}")
    rendered = render_tasks(tasks)
    workers = deal(rendered, settings.max_jobs)
    write_workers(workers, settings.output_directory, settings.overwrite)
    log.info(
        "dispatched to %s: %s, %s, %s, %s, %.1f s",
        settings.output_directory,
        summarise(matched, skipped),
        "no files looked for" if files is None else count(sum(map(len, files.values())), "file"),
        count(len(rendered), "task"),
        count(len(workers), "worker"),
        time.monotonic() - started,
    )


def without_task(
    assets: list[Asset],
    groups: list[list[Asset]],
    files: dict[str, list[str]] | None,
    extension: str | None,
) -> list[Skip]:
    """Return the assets that no task will stand for."""
    grouped = {asset.record_id for asset in chain(*groups)}
    skipped = []
    for asset in assets:
        if asset.record_id not in grouped:
            skipped.append(Skip("left out by group_assets", asset.name))
        elif files is not None and not files[asset.location]:
            skipped.append(Skip(f"no {extension} file", f"{asset.name} ({asset.location})"))
    return skipped


def report_skipped(skipped: list[Skip], strict: bool) -> None:
    """Log what is skipped by name; raise FailedRun if nothing may be."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for skip in skipped:
        by_reason[skip.reason].append(skip.name)
    for reason, names in by_reason.items():
        for name in names[:NAMES_IN_LOG]:
            log.warning("skipped, %s: %s", reason, name)
        if len(names) > NAMES_IN_LOG:
            log.warning("skipped, %s: and %d more", reason, len(names) - NAMES_IN_LOG)
    if skipped and strict:
        raise FailedRun(
            f"--strict 1: {len(skipped)} would be skipped, first {skipped[0].name}:"
            f" {skipped[0].reason}"
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


def one_line(text: str) -> str:
    """Return a text with everything that is not printed as itself written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class OneLineFormatter(logging.Formatter):
    """Writes every message on one line, whatever the names in it are made of."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return one_line(super().format(record))


def configure_log() -> None:
    """Log to standard error, this program from $LOG_LEVEL up, all else from WARNING up."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # whose retries are logged as our own
    name = os.environ.get("LOG_LEVEL", "").strip() or "INFO"
    level = logging.getLevelNamesMapping().get(name.upper())
    log.setLevel(level or logging.INFO)
    if not level:
        log.warning("$LOG_LEVEL is no level, INFO is used: %r", name)


def fail(status: int, fault: str) -> int:
    """Print what is wrong, as one line; return the exit status."""
    if log.isEnabledFor(logging.DEBUG):
        traceback.print_exc()
    print(f"error: {one_line(fault)}", file=sys.stderr)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    if sys.stderr is None:  # closed by the caller
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    configure_log()
    try:
        dispatch(parse_settings(argv))
    except BadInput as error:
        return fail(2, str(error))
    except FailedRun as error:
        return fail(1, str(error))
    except KeyboardInterrupt:
        return fail(130, "interrupted")
    except Exception as error:
        return fail(1, f"{type(error).__name__}: {error} (LOG_LEVEL=DEBUG shows where)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
