"""The list of assets: how it is read, by a flag or from a table, and which records it chooses."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from dispatch.assets.assets import ID_FIELDS, Asset, Entry, Skip, code_ocean_ids, name_of
from dispatch.given.inputs import find_file, find_input, named_file, read_bytes
from dispatch.given.lists import LIST_FILE, parts_of
from dispatch.given.values import Record
from dispatch.records.docdb import Database
from dispatch.records.tables import Row, Table, decode, first_line, read_table, separator_in
from dispatch.terminal.messages import BadInput, log, log_first, plural

LISTS = ("data_asset_input.csv", "data_asset_input.xlsx")  # in the input folder
IDS = ("asset_id", "code_ocean_asset_id", "asset id")  # columns, the better one first
NAMES = ("asset_name", "name", "asset name")
OTHERS = ("location", "id")  # where there is neither
COLUMNS = (*IDS, *NAMES, *OTHERS)
MOST_TABLES = 20  # that are looked into, for one that may be meant
UUID = re.compile("(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ANY = "id, name or location"  # what a value is where no column says


@dataclass(frozen=True)
class AssetList:
    """A list of assets: Code Ocean ids, names and locations, each once, in the user's order."""

    kinds: dict[str, str]  # by value: what it is said to be, such as a name
    skips: list[Skip] = field(default_factory=list)  # rows without any

    @property
    def values(self) -> list[str]:
        """The ids, names and locations."""
        return list(self.kinds)

    def named_by(self, entry: Entry) -> list[str]:
        """Return what names a record in such a list, each once."""
        names = [*code_ocean_ids(entry.record), name_of(entry.record)]
        location = entry.record.get("location")
        if isinstance(location, str):
            names.append(location.rstrip("/"))
        return list(dict.fromkeys(names))

    def names_of(self, assets: Sequence[Asset]) -> dict[str, str]:
        """Return a value that names each asset, by its record's id."""
        names: dict[str, str] = {}
        for asset in assets:
            named = [name for name in self.named_by(asset) if name in self.kinds]
            names[asset.record_id] = asset.id if asset.id in named else (named or [asset.name])[0]
        return names


def query_for(values: Sequence[str]) -> Record:
    """Return the filter for the records that ids, names and locations name."""
    plain = [value for value in values if "/" not in value]
    locations = [value for value in values if "/" in value]
    branches: list[Record] = []
    if plain:
        branches = [{f"{links}.Code Ocean": {"$in": plain}} for links in ID_FIELDS]
        branches.append({"name": {"$in": plain}})
    if locations:
        with_slash = [f"{location}/" for location in locations]
        branches.append({"location": {"$in": locations + with_slash}})
    return {"$or": branches}


def spelt_as_records_do(value: str) -> str:
    """Return a UUID in small letters, a location without the slash at its end, or what it is."""
    if UUID.fullmatch(value):
        return value.lower()
    return value.rstrip("/") if "/" in value else value


# ------------------------------------------------------------------------------------- where it is


def list_of_assets(given: Sequence[str], folder: Path) -> AssetList:
    """Return the list that a flag gives, itself or as files, else that of the input folder.

    Raise BadInput.
    """
    if not given:
        return read_asset_list(folder)
    kinds: dict[str, str] = {}
    skips: list[Skip] = []
    for value in given:
        if "://" in value or not LIST_FILE.search(value):
            kinds.setdefault(spelt_as_records_do(value), ANY)
        elif " " in value and not find_file(value, folder):  # several
            inner = list_of_assets(value.split(), folder)
            kinds, skips = inner.kinds | kinds, skips + inner.skips
        else:
            inner = read_listed(named_file("--asset", value, folder))
            kinds, skips = kinds | inner.kinds, skips + inner.skips
    return AssetList(kinds, skips)


def read_asset_list(folder: Path) -> AssetList:
    """Return what the table in an input folder lists; raise BadInput."""
    paths = [path for path in (find_input(name, folder) for name in LISTS) if path]
    if len(paths) > 1:
        raise BadInput(f"which list of assets? There are {paths[0]} and {paths[1]}")
    if not paths:
        other = find_other_list(folder)
        raise BadInput(f"there is no {LISTS[0]} in {folder}, nor one folder down{other}")
    return read_listed(paths[0])


def find_other_list(folder: Path) -> str:
    """Return what to do about the one table there that has ids, by whatever name, "" if none has.

    The institute's library takes the first CSV that it finds, whatever it is called.
    """
    paths = []
    for pattern in ("*.csv", "*/*.csv", "*.xlsx", "*/*.xlsx"):
        paths += sorted(folder.glob(pattern))
    found = []
    for path in paths[:MOST_TABLES]:
        with suppress(BadInput):
            if IDS[0] in map(str.casefold, read_table(path, COLUMNS).columns):
                found.append(path)
    if len(found) != 1:
        return ""
    called = f"data_asset_input{found[0].suffix}"
    return f"; {found[0]} has a column asset_id: rename it to {called}, or give --asset {found[0]}"


# --------------------------------------------------------------------------------- what it says


def read_listed(path: Path) -> AssetList:
    """Return what a file lists, each once, in its order; raise BadInput.

    Of a table, each row counts by its id, else by its name; a text without such a column is a list
    of values itself.
    """
    if path.suffix.lower() == ".txt" and not has_column(path):
        string = decode(read_bytes(path))
        values: list[str] = []
        for line in string.splitlines():
            values += [line.strip()] if "/" in line else parts_of(line)
        kinds = {spelt_as_records_do(value): ANY for value in values if value}
        asset_list = AssetList(kinds)
    else:
        asset_list = read_rows(path, read_table(path, COLUMNS))
    what = " and ".join(f"asset {kind}" for kind in dict.fromkeys(asset_list.kinds.values()))
    if not asset_list.kinds:
        raise BadInput(f"{path} lists no asset")
    log.info("%s: %s", path, f"{plural(len(asset_list.kinds), 'asset')}, each by its {what}")
    return asset_list


def has_column(path: Path) -> bool:
    """Return whether the first line of a text names a column of assets."""
    header = first_line(decode(read_bytes(path)))
    names = header.casefold().split(separator_in(header, COLUMNS))
    return any(name.strip(" \"'") in COLUMNS for name in names)


def read_rows(path: Path, table: Table) -> AssetList:
    """Return what the rows of a table list; raise BadInput."""
    columns = columns_of_assets(path, table.columns)
    kinds: dict[str, str] = {}
    skips = []
    for row in table.rows:
        value, kind = first_value(row, columns)
        if value:
            kinds.setdefault(value, kind)
        else:
            lacking = " or ".join(dict.fromkeys(columns.values()))
            skips.append(Skip(f"no {lacking} in a row", f"{path}, {row.place}"))
    if not kinds:
        names = " and ".join(table.columns[at] for at in columns)
        kind = " or ".join(dict.fromkeys(columns.values()))
        raise BadInput(f"{path} has no {kind} in its column {names}")
    return AssetList(kinds, skips)


def first_value(row: Row, columns: dict[int, str]) -> tuple[str, str]:
    """Return the first value of a row in some columns, and its kind; "" if there is none."""
    for at, kind in columns.items():
        if row.cells[at]:
            return spelt_as_records_do(row.cells[at]), kind
    return "", ""


def columns_of_assets(path: Path, header: list[str]) -> dict[int, str]:
    """Return what kind of value is in a column, by its place, the better one first.

    Raise BadInput where there is none, or one that is there twice.
    """
    names = list(map(str.casefold, header))
    found: dict[int, str] = {}
    for kind, spellings in (("id", IDS), ("name", NAMES), ("location", OTHERS[:1]), ("id", OTHERS)):
        known = [name for name in spellings if name in names]
        if known and (spellings in (IDS, NAMES) or not found):
            if names.count(known[0]) > 1:
                raise BadInput(f"{path} must have one column {known[0]}; its columns are {header}")
            found[names.index(known[0])] = kind
            if known[0] not in (IDS[0], NAMES[0]):
                log.info("%s: the column %s counts, as an asset %s", path, known[0], kind)
    if len(found) > 1:
        log.info("%s: a row counts by its %s", path, ", else by its ".join(found.values()))
    if not found:
        needed = "one column asset_id, or one asset_name"
        raise BadInput(f"{path} must have {needed}; its columns are {header}")
    return found


# ------------------------------------------------------------------------------ what it chooses


def find_listed(
    database: Database, asset_list: AssetList, fields: Sequence[str]
) -> Iterator[list[Record]]:
    """Yield the records that a list names, in pages, each record once."""
    seen: set[str] = set()
    for start in range(0, len(asset_list.values), database.ids_at_once):
        wanted = asset_list.values[start : start + database.ids_at_once]
        for page in database.find(query_for(wanted), fields):
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
    misplaced = []
    for value, kind in asset_list.kinds.items():
        if value not in numbers:
            unknown.append(Skip(f"no record has this {kind}", value))
            continue
        for number in numbers[value]:
            entry = entries[number]
            is_id = value in code_ocean_ids(entry.record)
            if kind == "id" and not is_id:
                misplaced.append(value)
            if number in chosen:
                name = name_of(entry.record)
                log.warning("%s names an asset that another id has chosen: %s", value, name)
            elif isinstance(entry, Asset) and is_id:
                chosen[number] = replace(entry, id=value)
            else:
                chosen[number] = entry
    log_first(logging.INFO, "found by its name, though listed as an id", misplaced)
    return [*chosen.values(), *unknown, *asset_list.skips]
