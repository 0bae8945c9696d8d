"""What was asked for and no record has: values that are skipped, fields that are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dispatch.assets.assets import Asset, Entry, Skip, assets_in
from dispatch.assets.hints import advise_on_field, helpfully, log_near_value, near_fields
from dispatch.given.filters import lists_in
from dispatch.given.values import MISSING, Record, has_field, lists_on, plain_values, rank
from dispatch.records.named import Named
from dispatch.records.names import Name, Time, spelt_number
from dispatch.terminal.messages import BadInput


def skip_values_without_record(
    database: Named, conditions: Sequence[Record], entries: Sequence[Entry]
) -> list[Skip]:
    """Return the values of each $in that no record has, and log what is near the first ones."""
    skips = []
    for condition in conditions:
        for field, values in lists_in(condition).items():
            lacking = values_without_record(database.names.get(field), field, values, entries)
            for value in lacking[:3]:
                helpfully(log_near_value, database, field, value)
            for value in lacking:
                skips.append(Skip(f"no record has this {field}", str(value)))
    return skips


def values_without_record(
    name: Name | None, field: str, values: Sequence[Any], entries: Sequence[Entry]
) -> list[Any]:
    """Return which values of a field no record has, by their order, each once."""
    lacking: dict[Any, Any] = {}
    for value in values:
        lacking[key_of(name, value)] = value
    for entry in entries:
        if name:
            for strings in name.strings_in(entry.record):
                for string in strings:
                    lacking.pop(key_of(name, string), None)
        else:
            for value in plain_values(entry.record, field):
                lacking.pop(key_of(name, value), None)
    return list(lacking.values())


def key_of(name: Name | None, value: Any) -> Any:
    """Return what is the same for values that are the same, to a name in all their spellings."""
    if name is None:
        return rank(value)
    if not isinstance(value, str):
        value = spelt_number(value)
    if isinstance(name, Time):
        value = re.sub("^(.{10}) ", r"\1T", value)
    return name.today(value)


def check_fields(
    entries: list[Entry],
    database: Named,
    fields_by_flag: Mapping[str, Sequence[str]],
    drop_null: bool,
) -> None:
    """Raise BadInput for a field to filter or group by that no asset has.

    Where assets without it are kept, it is enough that another record of the database has it.
    """
    assets = assets_in(entries)
    for option, fields in fields_by_flag.items():
        for field in fields:
            lacking = [asset for asset in assets if not has(asset, field)]
            advice = advise_on_field(option, field, lacking)
            if not lacking or len(lacking) < len(assets):
                continue
            if not drop_null and helpfully(database.has_field, field):
                continue
            records = [asset.record for asset in assets]
            if not helpfully(have_empty_lists, database, records, field.split(".")):
                near = advice or helpfully(near_fields, database, field) or ""
                raise BadInput(f"{option}: no record that matches has the field {field}{near}")


def has(asset: Asset, field: str) -> bool:
    """Return whether an asset has anything in a field, even null."""
    name = asset.names.get(field)
    if name:
        return name.value_in(asset.record) is not MISSING
    return has_field(asset.record, field.split("."))


def have_empty_lists(database: Named, records: list[Record], path: list[str]) -> bool:
    """Return whether the lists on the way to a field are there and empty, so that it may be there.

    Of a list, the database gives the objects alone, so it is asked whether nothing else was in it.
    """
    ids = []
    for record in records:
        lists = list(lists_on(record, path))
        if any(lists):
            return False
        if lists:
            ids.append(record["_id"])
    tops = [".".join(path[:length]) for length in range(1, len(path))]
    if not ids or not tops:
        return False
    asked = ids[: database.ids_at_once]
    empty = [{"_id": {"$in": asked}}, {"$or": [{top: []} for top in tops]}]
    return database.count({"$and": empty}) == len(asked)
