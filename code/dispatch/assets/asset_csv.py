"""The list of assets: how its CSV is read, and which records it chooses."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dispatch.assets.assets import ID_FIELDS, Asset, Entry, Skip, code_ocean_ids, name_of
from dispatch.given.inputs import find_input, read_bytes
from dispatch.given.values import Record
from dispatch.records.docdb import Database
from dispatch.terminal.messages import BadInput, excerpt, log, plural

ASSET_CSV = "data_asset_input.csv"
COLUMNS = ("asset_id", "asset_name", "name")  # of which the first that is there counts
MOST_CSVS = 20  # that are looked into, for one that may be meant
UUID = re.compile("(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class AssetList:
    """A list of assets, by their Code Ocean ids or by their names."""

    values: list[str]
    by_name: bool = False

    def named_by(self, entry: Entry) -> list[str]:
        """Return what names a record in such a list, each once."""
        if self.by_name:
            return [name_of(entry.record)]
        return list(dict.fromkeys(code_ocean_ids(entry.record)))

    def query(self, values: list[str]) -> Record:
        """Return the filter for the records that these values name."""
        if self.by_name:
            return {"name": {"$in": values}}
        return {"$or": [{f"{links}.Code Ocean": {"$in": values}} for links in ID_FIELDS]}


def list_of_assets(names: Sequence[str], ids: Sequence[str], folder: Path) -> AssetList:
    """Return the list that says which assets: of names or ids that are given, else the CSV's."""
    if names:
        return AssetList(list(names), by_name=True)
    if ids:
        return AssetList(list(map(spelt_as_records_do, ids)))
    return read_asset_list(folder)


def read_asset_list(folder: Path) -> AssetList:
    """Return what the CSV of an input folder lists, each once, in its order; raise BadInput.

    Ids that are UUIDs are in small letters.
    """
    path = find_input(ASSET_CSV, folder)
    if not path:
        other = find_other_csv(folder)
        raise BadInput(f"there is no {ASSET_CSV} in {folder}, nor one folder down{other}")
    rows = read_rows(path, COLUMNS) or [(0, [])]
    header = rows.pop(0)[1]
    columns = [name.casefold() for name in header]
    known = [name for name in COLUMNS if name in columns]
    if not known or columns.count(known[0]) != 1:
        needed = "one column asset_id, or one asset_name"
        raise BadInput(f"{path} must have {needed}; its columns are {header}")
    name = known[0]
    if len(known) > 1 and name == "asset_id":
        log.info("%s: asset_id counts, %s is not used", path, known[1])
    by_name, column = name != "asset_id", columns.index(name)
    values: dict[str, None] = {}
    for line, row in rows:
        if any(row[len(columns) :]):
            more = f"has more values than there are columns: {excerpt(str(row))}"
            raise BadInput(f"{path}, line {line} {more}")
        value = "".join(row[column : column + 1])
        if value:
            values[value if by_name else spelt_as_records_do(value)] = None
    what = "asset name" if by_name else "asset id"
    if not values:
        raise BadInput(f"{path} has no {what.split()[1]} in its column {name}")
    log.info("%s: %s", path, plural(len(values), what))
    return AssetList(list(values), by_name)


def find_other_csv(folder: Path) -> str:
    """Return what to do about the one CSV there that has ids, by whatever name, "" if none has.

    The institute's library takes the first CSV that it finds, whatever it is called.
    """
    found = []
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")])[:MOST_CSVS]:
        with suppress(BadInput):
            rows = read_rows(path, COLUMNS)
            if rows and "asset_id" in [name.casefold() for name in rows[0][1]]:
                found.append(path)
    if len(found) != 1:
        return ""
    return f"; {found[0]} has a column asset_id: rename it to {ASSET_CSV}, or link it there"


def spelt_as_records_do(asset_id: str) -> str:
    """Return an id with small letters, if it is a UUID."""
    return asset_id.lower() if UUID.fullmatch(asset_id) else asset_id


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return the rows of a table that are not blank, and the lines they end on; raise BadInput.

    Excel writes commas, semicolons or tabs, by the country and the format, and UTF-8 with a mark,
    UTF-16, or the country's own letters. The separator is the one that makes one of these columns.
    """
    string = read_table(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(string) + 1))
    separator = separator_in(string, columns)
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


def separator_in(string: str, columns: Sequence[str]) -> str:
    """Return what separates the values of a table; if nothing makes one of the columns, a comma."""
    header = next(filter(str.strip, io.StringIO(string, newline=None)), "")
    for separator in ",;\t":
        names = next(csv.reader([header], delimiter=separator), [])
        if {name.strip().casefold() for name in names} & set(columns):
            return separator
    return ","


def find_listed(
    database: Database, asset_list: AssetList, fields: Sequence[str]
) -> Iterator[list[Record]]:
    """Yield the records that a list names, in pages, each record once."""
    seen: set[str] = set()
    for start in range(0, len(asset_list.values), database.ids_at_once):
        wanted = asset_list.values[start : start + database.ids_at_once]
        for page in database.find(asset_list.query(wanted), fields):
            new = []
            for record in page:
                record_id = repr(record.get("_id"))
                if record_id not in seen:
                    seen.add(record_id)
                    new.append(record)
            yield new


def pick_listed(asset_list: AssetList, entries: list[Entry]) -> list[Entry]:
    """Return each entry with the first id that names it, by the order of the list; then the rest.

    A record is one asset, however many of its ids are asked for; values that name none are skips.
    """
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        for value in asset_list.named_by(entry):
            numbers[value].append(number)
    chosen: dict[int, Entry] = {}
    unknown: list[Entry] = []
    for value in asset_list.values:
        if value not in numbers:
            kind = "name" if asset_list.by_name else "id"
            unknown.append(Skip(f"no record has this {kind}", value))
            continue
        for number in numbers[value]:
            entry = entries[number]
            if number in chosen:
                name = name_of(entry.record)
                log.warning("%s names an asset that another id has chosen: %s", value, name)
            elif isinstance(entry, Asset) and not asset_list.by_name:
                chosen[number] = replace(entry, id=value)
            else:
                chosen[number] = entry
    return [*chosen.values(), *unknown]
