"""Why nothing matches, and what is near to what was asked for.

Nothing here takes long, or fails a run, but for bounds of dates where nothing may go wrong.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, islice
from typing import Any, TypeVar

from dispatch.assets.assets import Asset, name_of
from dispatch.assets.date_ranges import bounds_without_time, odd_bounds, strings_of
from dispatch.assets.endings import ASSETS_ASKED, endings_in
from dispatch.given.filters import conditions_of, wanted_values
from dispatch.given.values import (
    MISSING,
    Record,
    compact,
    has_field,
    is_null,
    pasteable,
    paths_of,
    value_at,
)
from dispatch.records.docdb import Database
from dispatch.records.schema import Choice, Facet, facet_of
from dispatch.stores.locations import Store
from dispatch.terminal.messages import (
    NAMES_IN_LOG,
    FailedRun,
    log,
    log_first,
    plural,
    shorten,
)
from dispatch.terminal.waiting import begin, result_of

T = TypeVar("T")

HINT_SECONDS = 10  # for a question that only helps to understand
PATHS_IN_HINTS = 5_000  # of a record, among which near fields are looked for


def explain(database: Database, query: Record, choices: Sequence[Choice]) -> None:
    """Log why nothing matches: what each condition matches alone, what is near it.

    The conditions are those of the user's filter, and the choices of the form.
    """
    helpfully(log_matches, database, query, choices)


def warn_of_bounds(database: Database, query: Record, strict: bool) -> None:
    """Log the bounds of dates that do not mean what they seem to; raise FailedRun if strict."""
    bounds = bounds_without_time(query)
    if not bounds:
        return
    faults = helpfully(odd_bounds, bounds, strings_of(database)) or []
    for fault in faults:
        log.warning("%s", fault)
    if faults and strict:
        raise FailedRun(f"--strict 1: {faults[0]}")


def name_endings(make_stores: Callable[[], Mapping[str, Store]], assets: Sequence[Asset]) -> None:
    """Log what names in the first assets end in."""
    endings = helpfully(endings_in, make_stores, assets)
    if endings:
        number = min(len(assets), ASSETS_ASKED)
        log.warning("names in the first %s end in %s", plural(number, "asset"), endings)


def helpfully(call: Callable[..., T], *values: Any) -> T | None:
    """Return what a call returns that only helps to understand; None if it fails or takes long."""
    try:
        return result_of(begin(call, *values), HINT_SECONDS)
    except Exception as error:
        log.debug("no hint: %s", error)
        return None


def log_matches(database: Database, query: Record, choices: Sequence[Choice]) -> None:
    """Log what each condition matches alone, and what is near one that has nothing."""
    conditions = list(islice(conditions_of(query), NAMES_IN_LOG))
    is_alone = len(conditions) + len(choices) == 1
    for condition in conditions:
        [(field, wanted)] = condition.items()
        if matches_any(database, condition, pasteable(condition), is_alone):
            continue
        if not field.startswith("$"):
            for value in wanted_values(wanted)[:3] or [MISSING]:
                log_near_value(database, [field], value)
    for choice in choices:
        shown = pasteable(choice.condition)
        if len(choice.facet.paths) > 1:  # too long a filter to be read
            shown = choice.shown
        if not matches_any(database, choice.condition, shown, is_alone):
            for value in choice.values[:3]:
                log_near_value(database, choice.facet.paths, value)


def matches_any(database: Database, condition: Record, shown: str, is_alone: bool) -> bool:
    """Return whether a condition matches, or may; log how many, unless it is the only one."""
    count = database.count(condition)
    if count is not None and not is_alone:
        log.warning("alone, %s matches %s", shorten(shown), plural(count, "record"))
    return count != 0


def name_untold(database: Database, query: Record, choices: Sequence[Choice]) -> None:
    """Log the records that all matches but a choice, and of which that cannot be told."""
    for choice in choices:
        unknown = choice.facet.unknown()
        if unknown:
            others = [one.condition for one in choices if one is not choice]
            conditions = [query, *others, unknown]
            helpfully(log_untold, database, {"$and": conditions}, choice.facet)


def log_untold(database: Database, query: Record, facet: Facet) -> None:
    """Log the records that match, with what they say in place of a value that is known."""
    names = []
    for page in database.find(query, ["_id", "name", *sorted(map(facet.shown, facet.paths))]):
        for record in page:
            said = []
            for path in dict.fromkeys(map(facet.shown, facet.paths)):
                if has_field(record, path.split(".")):
                    said.append(f"{path} {shorten(json.dumps(value_at(record, path)), 60)}")
            what = " and ".join(said) or f"no {facet.shown(facet.paths[0])}"
            names.append(f"{name_of(record)} (record {record.get('_id')}): {what}")
    log_first(logging.WARNING, f"left out, its {facet.title} cannot be told", names)


def advise_on_field(option: str, field: str, lacking: list[Record]) -> None:
    """Log where the records that lack a field hold the same, by older or newer schemas."""
    facet = facet_of(field)
    if not facet:
        return
    for place in dict.fromkeys(map(facet.shown, facet.paths)):
        if place != facet.shown(field):
            path = place.split(".")
            number = sum(has_value(record, path) for record in lacking)
            if number:
                verb = "has" if number == 1 else "have"
                log.warning(
                    "%s %s: %s of these records %s %s instead",
                    option,
                    field,
                    f"{number:,}",
                    verb,
                    place,
                )


def has_value(record: Record, path: list[str]) -> bool:
    """Return whether something that is not null is at a path."""
    return not is_null(value_at(record, ".".join(path), None))


def log_near_value(database: Database, paths: Sequence[str], value: Any) -> None:
    """Log which values, or fields, are near to what no record has, if that helps."""
    hint = near_value(database, paths, value)
    if hint:
        log.warning("%s", hint)


def near_value(database: Database, paths: Sequence[str], wanted: Any) -> str:
    """Return which values, or fields, are near to what no record has; "" if nothing helps."""
    field = paths[0]
    if isinstance(wanted, str) and re.search(r"^[*%]|[*%]$", wanted):
        inner = re.escape(wanted.strip("*%"))
        return f"{field}: a filter knows no * for any letters: write {compact({'$regex': inner})}"
    counts: dict[str | int | float, int] = {}  # of records, by what they have there
    for path in paths:
        for value, count in database.common_values(path):
            if isinstance(value, str | int | float):
                counts[value] = counts.get(value, 0) + count
    if not counts and not database.count({field: {"$exists": True}}):
        return f"no record has the field {field}{near_fields(database, field)}"
    if not counts and wanted is not MISSING:
        return inner_field(database, field, wanted)
    if wanted is MISSING or wanted in counts:
        return ""
    for value, count in counts.items():  # a number for a string, or the other way round
        if type(value) is not type(wanted) and str(value) == str(wanted):
            kind = "strings" if isinstance(value, str) else "numbers"
            matches = f"{compact(value)} matches {plural(count, 'record')}"
            return f"the values of {field} are {kind}: {matches}"
    shown = []
    for value in near_spellings(wanted, counts):
        shown.append(f"{compact(value)} ({counts[value]:,})")
    return f"no record has {field} {compact(wanted)}; {nearest(shown)}"


def inner_field(database: Database, field: str, wanted: Any) -> str:
    """Return where a value lies inside of the objects of a field, "" if it is not known."""
    inner = [path for path in paths_in_sample(database) if path.startswith(f"{field}.")]
    for path in inner[:10]:
        for value, count in database.common_values(path):
            if value == wanted:
                told = f"{path} {compact(wanted)} matches {plural(count, 'record')}"
                return f"the values of {field} are objects: {told}"
    return ""


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


def paths_in_sample(database: Database) -> list[str]:
    """Return the paths of all fields in a sample of records, each once."""
    paths: dict[str, None] = {}
    for record in database.sample():
        paths |= dict.fromkeys(islice(paths_of(record), PATHS_IN_HINTS))
    return list(paths)


def near_fields(database: Database, field: str) -> str:
    """Return which fields of a sample of records are named like one that they do not have."""
    paths = paths_in_sample(database)
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
