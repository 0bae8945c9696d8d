"""The CSV of asset ids: how it is read, and which records it chooses. Knows no flag."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dispatch.assets import ID_FIELDS, Asset, Entry, Skip, code_ocean_ids, name_of
from dispatch.docdb import Database
from dispatch.inputs import find_input, read_bytes
from dispatch.messages import BadInput, excerpt, log, plural
from dispatch.values import Record

ASSET_CSV = "data_asset_input.csv"
MOST_CSVS = 20  # that are looked into, for one that may be meant
UUID = re.compile("(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read_asset_ids(folder: Path) -> list[str]:
    """Return the ids in the CSV of an input folder, each once, in their order; raise BadInput.

    UUIDs are in small letters.
    """
    path = find_input(ASSET_CSV, folder)
    if not path:
        other = find_other_csv(folder)
        raise BadInput(f"there is no {ASSET_CSV} in {folder}, nor one folder down{other}")
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
        if asset_id:
            ids[spelt_as_records_do(asset_id)] = None
    if not ids:
        raise BadInput(f"{path} has no id in its column asset_id")
    log.info("%s: %s", path, plural(len(ids), "asset id"))
    return list(ids)


def find_other_csv(folder: Path) -> str:
    """Return what to do about the one CSV there that has ids, by whatever name, "" if none has.

    The institute's library takes the first CSV that it finds, whatever it is called.
    """
    found = []
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")])[:MOST_CSVS]:
        with suppress(BadInput):
            rows = read_rows(path, "asset_id")
            if rows and "asset_id" in [name.casefold() for name in rows[0][1]]:
                found.append(path)
    if len(found) != 1:
        return ""
    return f"; {found[0]} has a column asset_id: rename it to {ASSET_CSV}, or link it there"


def spelt_as_records_do(asset_id: str) -> str:
    """Return an id with small letters, if it is a UUID."""
    return asset_id.lower() if UUID.fullmatch(asset_id) else asset_id


def read_rows(path: Path, column: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a table that are not blank, and the lines they end on; raise BadInput.

    Excel writes commas, semicolons or tabs, by the country and the format, and UTF-8 with a mark,
    UTF-16, or the country's own letters. The separator is the one that makes this column.
    """
    string = read_table(path)
    csv.field_size_limit(len(string) + 1)
    separator = separator_in(string, column)
    lines = io.StringIO(string, newline=None)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    rows = []
    try:
        for values in reader:
            row = [value.strip() for value in values]
            if any(row):
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise BadInput(f"cannot read {path}, line {reader.line_num}: {error}") from None
    return rows


def read_table(path: Path) -> str:
    """Return what a table says, in whichever letters Excel wrote it; raise BadInput."""
    content = read_bytes(path)
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return content.decode("latin-1")  # an id in which that is wrong is named as unknown


def separator_in(string: str, column: str) -> str:
    """Return what separates the values of a table; if nothing makes this column, a comma."""
    header = next(filter(str.strip, io.StringIO(string, newline=None)), "")
    for separator in ",;\t":
        names = next(csv.reader([header], delimiter=separator), [])
        if column in [name.strip().casefold() for name in names]:
            return separator
    return ","


def find_by_asset_id(
    database: Database, ids: list[str], fields: Sequence[str]
) -> Iterator[list[Record]]:
    """Yield the records with any of these Code Ocean ids, in pages, each record once."""
    seen: set[str] = set()
    for start in range(0, len(ids), database.ids_at_once):
        wanted = {"$in": ids[start : start + database.ids_at_once]}
        query = {"$or": [{f"{links}.Code Ocean": wanted} for links in ID_FIELDS]}
        for page in database.find(query, fields):
            new = []
            for record in page:
                record_id = repr(record.get("_id"))
                if record_id not in seen:
                    seen.add(record_id)
                    new.append(record)
            yield new


def pick_by_id(ids: list[str], entries: list[Entry]) -> list[Entry]:
    """Return each entry with the first id that names it, by the order of ids; then unknown ids.

    A record is one asset, however many of its ids are asked for.
    """
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        for asset_id in dict.fromkeys(code_ocean_ids(entry.record)):
            numbers[asset_id].append(number)
    chosen: dict[int, Entry] = {}
    unknown: list[Entry] = []
    for asset_id in ids:
        if asset_id not in numbers:
            unknown.append(Skip("no record has this id", asset_id))
            continue
        for number in numbers[asset_id]:
            entry = entries[number]
            if number in chosen:
                name = name_of(entry.record)
                log.warning("%s names an asset that another id has chosen: %s", asset_id, name)
            elif isinstance(entry, Asset):
                chosen[number] = replace(entry, id=asset_id)
            else:
                chosen[number] = entry
    return [*chosen.values(), *unknown]
