"""Why nothing matches, and what is near to what was asked for. Knows any database by its answers.

Nothing here fails a run, or takes long, but for a field to group or filter by that nobody has.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, islice
from typing import Any, TypeVar

from dispatch.assets import Entry, Skip, assets_in
from dispatch.docdb import Database
from dispatch.filters import conditions_of, wanted_values
from dispatch.messages import NAMES_IN_LOG, BadInput, log, plural, shorten
from dispatch.retry import begin, result_of
from dispatch.values import (
    MISSING,
    Record,
    compact,
    has_field,
    pasteable,
    paths_of,
    plain_values,
    rank,
)

T = TypeVar("T")

HINT_SECONDS = 10  # for a question that only helps to understand
PATHS_IN_HINTS = 5_000  # of a record, among which near fields are looked for


def explain(database: Database, query: Record) -> None:
    """Log why a filter matches nothing: what each condition matches alone, what is near it."""
    helpfully(log_matches, database, query)


def helpfully(call: Callable[..., T], *values: Any) -> T | None:
    """Return what a call returns that only helps to understand; None if it fails or takes long."""
    try:
        return result_of(begin(call, *values), HINT_SECONDS)
    except Exception as error:
        log.debug("no hint: %s", error)
        return None


def log_matches(database: Database, query: Record) -> None:
    """Log what each condition of a filter matches alone, and what is near one that has nothing."""
    conditions = list(islice(conditions_of(query), NAMES_IN_LOG))
    for condition in conditions:
        count = database.count(condition)
        if count is None:
            continue
        if len(conditions) > 1:
            shown = shorten(pasteable(condition))
            log.warning("alone, %s matches %s", shown, plural(count, "record"))
        [(field, wanted)] = condition.items()
        if not count and not field.startswith("$"):
            for value in wanted_values(wanted)[:3] or [MISSING]:
                log_near_value(database, field, value)


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
            helpfully(log_near_value, database, field, value)
        for value in lacking.values():
            skips.append(Skip(f"no record has this {field}", str(value)))
    return skips


def check_fields(
    entries: list[Entry], database: Database, fields_by_flag: Mapping[str, Sequence[str]]
) -> None:
    """Raise BadInput for a field to filter or group by that no asset has."""
    records = [asset.record for asset in assets_in(entries)]
    if not records:
        return
    for option, fields in fields_by_flag.items():
        for field in fields:
            path = field.split(".")
            if not any(has_field(record, path) for record in records):
                near = helpfully(near_fields, database, field) or ""
                raise BadInput(f"{option}: no record that matches has the field {field}{near}")


def log_near_value(database: Database, field: str, value: Any) -> None:
    """Log which values, or fields, are near to what no record has, if that helps."""
    hint = near_value(database, field, value)
    if hint:
        log.warning("%s", hint)


def near_value(database: Database, field: str, wanted: Any) -> str:
    """Return which values, or fields, are near to what no record has; "" if nothing helps."""
    counts: dict[str | int | float, int] = {}  # of records, by what they have there
    for value, count in database.common_values(field):
        if isinstance(value, str | int | float):
            counts[value] = count
    if not counts and not database.count({field: {"$exists": True}}):
        return f"no record has the field {field}{near_fields(database, field)}"
    if wanted is MISSING or not counts or wanted in counts:
        return ""
    for value, count in counts.items():  # a number for a string, or the other way round
        if type(value) is not type(wanted) and str(value) == str(wanted):
            kind = "strings" if isinstance(value, str) else "numbers"
            matches = f"{compact(value)} matches {plural(count, 'record')}"
            return f"the values of {field} are {kind}: {matches}"
    shown = []
    for value in near_spellings(wanted, counts):
        shown.append(f"{compact(value)} ({counts[value]})")
    return f"no record has {field} {compact(wanted)}; {nearest(shown)}"


def near_spellings(wanted: Any, counts: dict[str | int | float, int]) -> list[str | int | float]:
    """Return the values that are spelt nearly as one, the most frequent of each spelling."""
    values_by_spelling: dict[str, str | int | float] = {}
    for value in reversed(counts):
        values_by_spelling[str(value).lower()] = value
    spelling = str(wanted).lower()
    near = difflib.get_close_matches(spelling, values_by_spelling, 3)
    if not near:
        near = [longer for longer in values_by_spelling if spelling in longer][:3]
    return [values_by_spelling[name] for name in near]


def near_fields(database: Database, field: str) -> str:
    """Return which fields of a sample of records are named like one that they do not have."""
    paths: dict[str, None] = {}
    for record in database.sample():
        paths |= dict.fromkeys(islice(paths_of(record), PATHS_IN_HINTS))
    paths_by_part: dict[str, str] = {}  # the shortest path that has these names in a row
    for path in sorted(paths, key=len):
        names = path.split(".")
        for start, end in combinations(range(len(names) + 1), 2):
            paths_by_part.setdefault(".".join(names[start:end]).lower(), path)
    near: dict[str, None] = {}
    for part in difflib.get_close_matches(field.lower(), paths_by_part, 3):
        near[paths_by_part[part]] = None
    return f"; {nearest(list(near))}"


def nearest(names: list[str]) -> str:
    """Return what is near to what was asked for, in words."""
    return f"near it: {', '.join(names)}" if names else "nothing there is like it"
