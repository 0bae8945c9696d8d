"""What was asked for and no record has: values that are skipped, fields that are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dispatch.assets.assets import Entry, Skip, assets_in
from dispatch.assets.hints import advise_on_field, helpfully, log_near_value, near_fields
from dispatch.given.values import Record, has_field, lists_on, plain_values, rank
from dispatch.records.docdb import Database
from dispatch.records.schema import Choice
from dispatch.terminal.messages import BadInput


def skip_values_without_record(
    database: Database, lists: dict[str, list[Any]], entries: Sequence[Entry]
) -> list[Skip]:
    """Return the values of each $in that no record has, and log what is near the first ones."""
    skips = []
    for field, values in lists.items():
        lacking = {rank(value): value for value in values}
        for entry in entries:
            for value in plain_values(entry.record, field):
                lacking.pop(rank(value), None)
        for value in list(lacking.values())[:3]:
            helpfully(log_near_value, database, [field], value)
        for value in lacking.values():
            skips.append(Skip(f"no record has this {field}", str(value)))
    return skips


def skip_choices_without_record(
    database: Database, choices: Sequence[Choice], entries: Sequence[Entry]
) -> list[Skip]:
    """Return the values chosen that no record has, and log what is near the first ones."""
    skips = []
    for choice in choices:
        facet = choice.facet
        known: set[str] = set()
        for entry in entries:
            known |= set(facet.values_in(entry.record))
            for strings in facet.strings_in(entry.record):
                known |= set(strings)
        lacking = [value for value in choice.values if value not in known]
        for value in lacking[:3]:
            helpfully(log_near_value, database, facet.paths, value)
        for value in lacking:
            skips.append(Skip(f"no record has this {facet.paths[0]}", value))
    return skips


def check_fields(
    entries: list[Entry],
    database: Database,
    fields_by_flag: Mapping[str, Sequence[str]],
    drop_null: bool,
) -> None:
    """Raise BadInput for a field to filter or group by that no asset has.

    Where assets without it are kept, it is enough that another record of the database has it.
    """
    records = [asset.record for asset in assets_in(entries)]
    for option, fields in fields_by_flag.items():
        for field in fields:
            path = field.split(".")
            lacking = [record for record in records if not has_field(record, path)]
            advise_on_field(option, field, lacking)
            if not lacking or len(lacking) < len(records):
                continue
            if not drop_null and is_anywhere(database, field):
                continue
            if not helpfully(have_empty_lists, database, records, path):
                near = helpfully(near_fields, database, field) or ""
                raise BadInput(f"{option}: no record that matches has the field {field}{near}")


def is_anywhere(database: Database, field: str) -> bool:
    """Return whether any record of the database is known to have a field."""
    return bool(helpfully(database.count, {field: {"$exists": True}}))


def have_empty_lists(database: Database, records: list[Record], path: list[str]) -> bool:
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
