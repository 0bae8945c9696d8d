"""Why nothing matches, and what is near to what was asked for.

Nothing here takes long, or fails a run, but for bounds of dates where nothing may go wrong.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, islice
from typing import Any, TypeVar

from dispatch.assets.assets import Asset
from dispatch.assets.date_ranges import (
    bounds_with_time,
    bounds_without_time,
    odd_bounds,
    split_days,
    strings_of,
)
from dispatch.assets.endings import ASSETS_ASKED, endings_in
from dispatch.given.filters import conditions_of, wanted_values
from dispatch.given.values import (
    MISSING,
    Record,
    compact,
    pasteable,
    paths_of,
    values_reached,
)
from dispatch.records.named import Named
from dispatch.records.schema import NAMES, name_at
from dispatch.stores.locations import Store
from dispatch.terminal.messages import (
    NAMES_IN_LOG,
    FailedRun,
    log,
    plural,
    shorten,
)
from dispatch.terminal.waiting import begin, result_of

T = TypeVar("T")

HINT_SECONDS = 10  # for a question that only helps to understand
PATHS_IN_HINTS = 5_000  # of a record, among which near fields are looked for


def explain(database: Named, conditions: Sequence[Record]) -> None:
    """Log why nothing matches: what each condition of a filter matches alone, what is near it."""
    helpfully(log_matches, database, conditions)


def warn_of_bounds(database: Named, query: Record, strict: bool) -> None:
    """Log the bounds of dates that do not mean what they seem to; raise FailedRun if strict."""
    faults: list[str] = []
    bounds = bounds_without_time(query)
    if bounds:
        faults += helpfully(odd_bounds, bounds, strings_of(database)) or []
    whole_times = bounds_with_time(query)
    if whole_times:
        faults += helpfully(split_days, whole_times, query, database) or []
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


def log_matches(database: Named, filters: Sequence[Record]) -> None:
    """Log what each condition matches alone, and what is near one that has nothing."""
    conditions: list[Record] = []
    for one in filters:
        conditions += islice(conditions_of(one), NAMES_IN_LOG)
    for condition in conditions:
        [(field, wanted)] = condition.items()
        if matches_any(database, condition, is_alone=len(conditions) == 1):
            continue
        if not field.startswith("$"):
            for value in wanted_values(wanted)[:3] or [MISSING]:
                log_near_value(database, field, value)


def matches_any(database: Named, condition: Record, *, is_alone: bool) -> bool:
    """Return whether a condition matches, or may; log how many, unless it is the only one."""
    count = database.count(condition)
    if count is not None and not is_alone:
        shown = shorten(pasteable(condition))
        log.warning("alone, %s matches %s", shown, plural(count, "record"))
    return count != 0


def advise_on_field(option: str, field: str, lacking: Sequence[Asset]) -> str:
    """Log what of the assets that lack a field answers to the name that finds it in all shapes.

    Return what to write instead, "" if no asset of them does.
    """
    name = name_at(field)
    if not name or field == name.name:
        return ""
    places: Counter[str] = Counter()
    for asset in lacking:
        for path in name.paths:
            if name.values_of(path, values_reached(asset.record, path)):
                places[path.removesuffix(".abbreviation")] += 1
                break
    advice = f"{option} {name.name} finds it in every record"
    for place, number in places.items():
        where = place
        if place == field.removesuffix(".abbreviation"):
            where = f"{place} in words"
        verb = "have"
        if number == 1:
            verb = "has"
        said = f"{number:,} of these records {verb} {where} instead"
        log.warning("%s %s: %s; %s", option, field, said, advice)
    if not places:
        return ""
    return f"; {advice}"


def log_near_value(database: Named, field: str, value: Any) -> None:
    """Log which values, or fields, are near to what no record has, if that helps."""
    hint = near_value(database, field, value)
    if hint:
        log.warning("%s", hint)


def near_value(database: Named, field: str, wanted: Any) -> str:
    """Return which values, or fields, are near to what no record has; "" if nothing helps."""
    if isinstance(wanted, str) and re.search(r"^[*%]|[*%]$", wanted):
        pattern = compact({"$regex": pattern_of(wanted)})
        return f"{field}: a filter knows no * for any letters: write {pattern}"
    name = database.names.get(field)
    if name and isinstance(wanted, str):
        wanted = name.today(wanted)
    counts: dict[str | int | float, int] = {}  # of records, by what they have there
    for value, count in database.common_values(field):
        if isinstance(value, str | int | float):
            counts[value] = count
    if not counts and not database.has_field(field):
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


def pattern_of(wanted: str) -> str:
    """Return the regular expression for a string in which * or % at an end is any letters."""
    inner = re.escape(wanted.strip("*%"))
    if wanted[0] in "*%":
        return inner
    return f"^{inner}"


def inner_field(database: Named, field: str, wanted: Any) -> str:
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


def paths_in_sample(database: Named) -> list[str]:
    """Return the paths of all fields in a sample of records, each once."""
    paths: dict[str, None] = {}
    for record in database.sample():
        paths |= dict.fromkeys(islice(paths_of(record), PATHS_IN_HINTS))
    return list(paths)


def near_fields(database: Named, field: str) -> str:
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
    near |= dict.fromkeys(difflib.get_close_matches(field.lower(), NAMES, 2))
    near.pop(field, None)  # a name that no record answers to, as its own nearest
    return f"; {nearest(list(near))}"


def nearest(names: list[str]) -> str:
    """Return what is near to what was asked for, in words."""
    return f"near it: {', '.join(names)}" if names else "nothing there is like it"
