"""Files of records: JSON, tables, and lists of locations, each of which becomes records."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dispatch.given.inputs import read_bytes
from dispatch.given.values import DEPTH, Record, as_list, is_deeper
from dispatch.records.tables import (
    EXCEL,
    Table,
    decode,
    first_line,
    is_excel,
    read_table,
    separator_in,
)
from dispatch.terminal.messages import BadInput, log, plural

TABLES = (".csv", ".tsv", *EXCEL)
LOCATION = "location"  # the column that is enough
PLACE = re.compile(r"\w+://|[/~]|\.\.?/")  # what a location begins with, and no column does
COLUMN = re.compile(r"[^.$][^.]*(\.[^.$][^.]*)*")

Placed = tuple[str, Any]  # a record, behind the words for where it is in the file


def read_records(path: Path) -> list[Record]:
    """Return the records of a file, each with an _id and a name; raise BadInput.

    A JSON array, JSON lines or one record; a table, of which each row is a record; or a location a
    line. Where a record does not say its _id or name, its location and the end of that stand for
    them.
    """
    content = read_bytes(path)
    placed: Iterator[Placed]
    if is_excel(path, content):
        placed = records_in(path, read_table(path, [LOCATION]))
    else:
        placed = read_text_records(path, content)
    by_id: dict[str, Record] = {}
    repeated = 0
    for place, record in placed:
        whole, is_named = identified(f"{path}: {place}", record)
        earlier = by_id.setdefault(whole["_id"], whole)
        if earlier is whole:
            continue
        if is_named or {**earlier, LOCATION: ""} != {**whole, LOCATION: ""}:  # but for a slash
            raise_twice(path, place, whole["_id"], is_named=is_named)
        repeated += 1
    if repeated:
        log.info("%s: %s that repeats another counts once", path, plural(repeated, "record"))
    return list(by_id.values())


def raise_twice(path: Path, place: str, record_id: str, *, is_named: bool) -> None:
    """Raise BadInput for a record whose _id another one has."""
    what = f"the _id {record_id!r}"
    if not is_named:
        what = f"the location {record_id!r} and no _id, and say other things of it"
    raise BadInput(f"{path}: 2 records have {what}; the second is {place}")


def read_text_records(path: Path, content: bytes) -> Iterator[Placed]:
    """Yield the records that a text holds; raise BadInput for what is none of records."""
    beginning = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not content.strip():
        return
    if beginning in b"[{":
        yield from read_json(path, content)
        return
    string = decode(content)
    header = first_line(string)
    names = header.casefold().split(separator_in(string, [LOCATION]))
    is_table = LOCATION in [name.strip(" \"'") for name in names]
    suffix = path.suffix.lower()
    if is_table or (suffix in TABLES and not PLACE.match(header.strip("\"'"))):
        yield from records_in(path, read_table(path, [LOCATION]))
    elif suffix in (".csv", ".tsv"):
        yield from places_in(path, read_table(path, [LOCATION]))
    elif suffix == ".txt" or PLACE.match(header):
        for number, line in enumerate(string.splitlines(), 1):
            if line.strip():
                yield f"line {number}", {LOCATION: line.strip()}
    else:
        kinds = "a table (.csv, .tsv, .xlsx), or one location a line (.txt)"
        what = "is neither a JSON array nor JSON lines"
        raise BadInput(f"{path} {what}, nor {kinds}: it begins with {header[:60]!r}")


def read_json(path: Path, content: bytes) -> Iterator[Placed]:
    """Yield the records of a JSON array or of JSON lines."""
    try:
        values = list(values_in(content.decode("utf-8-sig")))
    except UnicodeError as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is neither a JSON array nor JSON lines: {error}") from None
    for number, value in enumerate(values, 1):
        yield f"record {number}", value


def values_in(string: str) -> Iterator[Any]:
    """Yield the JSON values that stand one after the other, and the elements of those lists."""
    decoder, blank = json.JSONDecoder(), re.compile(r"\s*")
    position = 0
    while True:
        position = blank.match(string, position).end()  # type: ignore[union-attr]
        if position == len(string):
            return
        value, position = decoder.raw_decode(string, position)
        yield from as_list(value)


def identified(place: str, record: Any) -> tuple[Record, bool]:
    """Return a record with an _id and a name, and whether the _id is its own; raise BadInput."""
    if isinstance(record, str):  # of a JSON array of locations
        record = {LOCATION: record}
    if not isinstance(record, dict):
        raise BadInput(f"{place} is not a JSON object with a string as its _id")
    if is_deeper(record):
        raise BadInput(f"{place} is nested more than {DEPTH} deep")
    location, record_id, name = record.get(LOCATION), record.get("_id"), record.get("name")
    at = location.rstrip("/") if isinstance(location, str) else ""
    if record_id is None and not at:
        raise BadInput(f"{place} has neither an _id nor a location")
    if record_id is not None and not isinstance(record_id, str):
        raise BadInput(f"{place} is not a JSON object with a string as its _id")
    whole = {"_id": at, **record}
    whole["_id"] = record_id or at
    if name is None and at:
        end = at.rpartition("/")[2]
        whole["name"] = unquote(end) if at.startswith("file:") else end
    return whole, record_id is not None


def places_in(path: Path, table: Table) -> Iterator[Placed]:
    """Yield a record for each location of a table that has no names of columns."""
    if len(table.columns) > 1:
        raise BadInput(
            f"{path}: its first line must name the columns, one of them {LOCATION}, and not begin"
            f" with {table.columns[0]!r}"
        )
    yield "line 1", {LOCATION: table.columns[0]}
    for row in table.rows:
        yield row.place, {LOCATION: row.cells[0]}


def records_in(path: Path, table: Table) -> Iterator[Placed]:
    """Yield the records that the rows of a table are; a column with dots is nested."""
    columns = check_columns(path, table)
    for row in table.rows:
        record: Record = {}
        for at, names in columns.items():
            if row.cells[at]:
                put(record, names, row.cells[at], f"{path}: {row.place}")
        yield row.place, record


def check_columns(path: Path, table: Table) -> dict[int, list[str]]:
    """Return the parts of the names of columns, by their places; raise BadInput."""
    columns: dict[int, list[str]] = {}
    for at, name in enumerate(table.columns):
        if not name:
            log.info("%s: column %d has no name, and is not used", path, at + 1)
            continue
        name = LOCATION if name.casefold() == LOCATION else name
        if not COLUMN.fullmatch(name):
            raise BadInput(f"{path}: the column {name!r} is no field, such as subject.subject_id")
        columns[at] = name.split(".")
    for name, times in Counter(map(".".join, columns.values())).items():
        if times > 1:
            raise BadInput(f"{path}: {times} columns are called {name!r}")
    return columns


def put(record: Record, names: list[str], value: str, place: str) -> None:
    """Put a value at a path of a record; raise BadInput where something else is on the path."""
    *tops, last = names
    inner = record
    for name in tops:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            break
    if not isinstance(inner, dict) or last in inner:
        raise BadInput(f"{place} has a value at {'.'.join(names)!r} and one around or inside it")
    inner[last] = value
