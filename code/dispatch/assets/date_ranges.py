"""Ranges of dates in a filter: which bounds do not mean what they seem to.

Records hold times as strings, which compare as strings do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from dispatch.given.filters import conditions_of
from dispatch.given.values import Record, compact, day_after, first_day, instant, strings_at
from dispatch.records.named import Named
from dispatch.records.schema import SESSION_DAY, SESSION_START, TIMES
from dispatch.records.times import RANGES
from dispatch.terminal.messages import plural

PARTS = re.compile(
    r"(\d{4})[-/. ]?(\d{1,2})[-/. ]?(\d{1,2})(?!\d)|(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})"
)


@dataclass(frozen=True)
class Bound:
    """What a filter compares the values at a path with."""

    path: str
    operator: str
    value: Any


def odd_bounds(bounds: list[Bound], values_at: Callable[[str], list[str]]) -> list[str]:
    """Return what is wrong with such bounds, in words.

    `values_at` gives some of the strings that records have at a path.
    """
    faults = (fault_of(bound, values_at(bound.path)) for bound in bounds)
    return list(filter(None, faults))


def bounds_in(query: Record) -> list[Bound]:
    """Return the bounds in a filter, but for those of days, which mean what they seem to."""
    found = []
    for condition in conditions_of(query):
        [(path, wanted)] = condition.items()
        if path.startswith("$") or path == SESSION_DAY.name or not isinstance(wanted, dict):
            continue
        bounds: Record = wanted
        if isinstance(wanted.get("$not"), dict):
            bounds = wanted["$not"]
        for operator in RANGES:
            if operator in bounds:
                found.append(Bound(path, operator, bounds[operator]))
    return found


def bounds_without_time(query: Record) -> list[Bound]:
    """Return the bounds of a filter that are wrong, where the values are times."""
    return [bound for bound in bounds_in(query) if not is_time(bound.value, bound.operator)]


def bounds_with_time(query: Record) -> list[Bound]:
    """Return the bounds of a filter that are whole times, of paths that hold them as they like."""
    found = []
    for bound in bounds_in(query):
        is_whole = instant(bound.value) and len(bound.value) > 10
        if is_whole and bound.path != SESSION_START.name:
            found.append(bound)
    return found


def split_days(bounds: list[Bound], query: Record, database: Named) -> list[str]:
    """Return in words which bounds split a day by how records write its times, not by these.

    Some have a blank in place of the T, and a blank sorts before any T.
    """
    faults = []
    for bound in bounds:
        value = bound.value
        pattern, how = " ", "a blank in place of the T"
        if value[10] == " ":
            pattern, how = "[Tt]", "a T in place of the blank"
        like_it = {bound.path: {"$regex": f"^{value[:10]}{pattern}"}}
        number = database.count({"$and": [without_bound(query, bound), like_it]})
        if number:
            wanted = {bound.operator: value}
            advice = "give both spellings, in an $or"
            if bound.path in TIMES:
                advice = f"write {compact({SESSION_START.name: wanted})}"
            records = f"{plural(number, 'record')} of that day with {how} sort otherwise"
            faults.append(f"{bound.path} {compact(wanted)}: {records}: {advice}")
    return faults


def without_bound(query: Record, bound: Bound) -> Record:
    """Return a filter without a bound, wherever it stands in it."""
    kept: Record = {}
    for key, wanted in query.items():
        kept[key] = wanted
        if key in ("$and", "$or") and isinstance(wanted, list):
            kept[key] = [without_bound(part, bound) for part in wanted]
        elif key == bound.path and isinstance(wanted, dict):
            operators: Record = {"$exists": True}
            for operator, value in wanted.items():
                if operator != "$not" and (operator, value) != (bound.operator, bound.value):
                    operators[operator] = value
            kept[key] = operators
    return kept


def is_time(bound: Any, operator: str) -> bool:
    """Return whether a bound is a whole time, or one that means what it seems to."""
    if not isinstance(bound, str):
        return False
    if len(bound) <= 10 and first_day(bound):
        return not (operator == "$lte" and len(bound) == 10)
    return instant(bound) is not None


def fault_of(bound: Bound, values: list[str]) -> str:
    """Return what is wrong with a bound for such values, "" if nothing is."""
    value, given = bound.value, f"{bound.path} {compact({bound.operator: bound.value})}"
    times = [value for value in values if instant(value)]
    if not values or 2 * len(times) < len(values):  # no dates
        return ""
    are_days = all(len(time) == 10 for time in times)
    is_day = isinstance(value, str) and len(value) == 10 and first_day(value)
    if is_day and are_days:
        return ""
    meant = value if is_day else day_of(value)
    written = f"write {compact({bound.operator: meant})}"
    if bound.operator == "$lte" and not are_days and meant:
        written = f"write {compact({'$lt': day_after(meant)})}"
    if is_day:
        return f"{given} leaves out that day, but for midnight: {written}"
    if not meant:
        written = 'write a date as "2025-03-04"'
    return f"{given} is no date as records write it: {written}"


def day_of(bound: Any) -> str:
    """Return the day that a bound can be meant to be, as in ISO 8601, "" if that is not known."""
    string = str(bound).strip()
    if re.fullmatch("[12][0-9]{3}", string):
        return string
    parts = PARTS.match(string)
    if not parts:
        return ""
    if parts[1]:
        orders = [(parts[1], parts[2], parts[3])]
    else:  # as Americans write it, else as others do
        orders = [(parts[6], parts[4], parts[5]), (parts[6], parts[5], parts[4])]
    for year, month, day in orders:
        try:
            return date(int(year), int(month), int(day)).isoformat()
        except ValueError:
            continue
    return ""


def strings_of(database: Named) -> Callable[[str], list[str]]:
    """Return what gives some of the strings that records have at a path."""
    sample: list[Record] = []

    def strings(path: str) -> list[str]:
        if path in (*TIMES, SESSION_START.name):
            return ["2025-03-04T09:12:33"]  # which is known without a question
        if not sample:
            sample.extend(database.sample())
        found: list[str] = []
        for record in sample:
            found += strings_at(record, path)
        return found

    return strings
