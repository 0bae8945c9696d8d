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
from dispatch.records.docdb import Database
from dispatch.records.schema import DATE

RANGES = ("$gt", "$gte", "$lt", "$lte")
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


def bounds_without_time(query: Record) -> list[Bound]:
    """Return the bounds of a filter that are wrong, where the values are times."""
    found = []
    for condition in conditions_of(query):
        [(path, wanted)] = condition.items()
        if path.startswith("$") or not isinstance(wanted, dict):
            continue
        bounds: Record = wanted
        if isinstance(wanted.get("$not"), dict):
            bounds = wanted["$not"]
        for operator in RANGES:
            if operator in bounds and not is_time(bounds[operator], operator):
                found.append(Bound(path, operator, bounds[operator]))
    return found


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


def strings_of(database: Database) -> Callable[[str], list[str]]:
    """Return what gives some of the strings that records have at a path."""
    sample: list[Record] = []

    def strings(path: str) -> list[str]:
        if path in DATE.paths:
            return ["2025-03-04T09:12:33"]  # which is known without a question
        if not sample:
            sample.extend(database.sample())
        found: list[str] = []
        for record in sample:
            found += strings_at(record, path)
        return found

    return strings
