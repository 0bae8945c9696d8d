"""Conditions for times: strings that begin with the day, as the clock of the session had it."""

from __future__ import annotations

import re

from dispatch.given.values import Record, day_after, first_day
from dispatch.records.names import DAY

RANGES = ("$gt", "$gte", "$lt", "$lte")
# Of a pattern for a day, which is the first ten characters of a time: where it may end.
END_OF_DAY = "(?<=^.{10})"
IN_THE_DAY = f"(?:{'|'.join(f'(?<=^.{{{length}}})' for length in range(11))})"


def range_of_days(ranges: Record) -> Record:
    """Return the operators that hold of a time in a range of days, months or years."""
    firsts: list[str] = []  # days of which all have begun
    ends: list[str] = []  # and none of these
    for operator, value in ranges.items():
        if operator == "$gte":
            firsts.append(first_day(value))
        elif operator == "$gt":
            firsts.append(day_after(value))
        elif operator == "$lt":
            ends.append(first_day(value))
        else:
            ends.append(day_after(value))
    bounds: Record = {"$regex": DAY}
    if firsts:
        bounds["$gte"] = max(firsts)
    if ends:
        bounds["$lt"] = min(ends)
    return bounds


def ranges_of_times(ranges: Record) -> list[Record]:
    """Return the operators of which any holds of a time in a range, with a T in it or a blank."""
    if all(len(value) <= 10 for value in ranges.values()):
        return [{"$regex": DAY, **ranges}]
    found = []
    for sign, pattern in (("T", f"{DAY}([^ ]|$)"), (" ", f"{DAY} ")):
        bounds: Record = {"$regex": pattern}
        for operator, value in ranges.items():
            bounds[operator] = re.sub("^(.{10}).", rf"\1{sign}", value)
        found.append(bounds)
    return found


def for_the_day(pattern: str) -> str:
    """Return a pattern that finds in a whole time what another one finds in its day."""
    if re.fullmatch(r"\^([0-9-]|\[[0-9-]+\]){0,10}", pattern):  # it cannot go beyond
        return pattern
    end = re.fullmatch(r"([0-9-]{0,10})\$", pattern)
    if end:
        return f"^.{{{10 - len(end[1])}}}{end[1]}"
    start = pattern[: len(pattern) - len(re.sub(r"^\(\?[a-z]+\)", "", pattern))]
    parts = re.split(
        r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])", pattern.removeprefix(start), flags=re.DOTALL
    )
    for place in range(0, len(parts), 2):  # those that are neither an escape nor a class
        parts[place] = parts[place].replace("$", END_OF_DAY)
    return f"{start}(?:{''.join(parts)}){IN_THE_DAY}"
