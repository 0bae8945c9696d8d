"""Values as JSON and MongoDB have them: paths, order, limits, times."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from dispatch.terminal.messages import BadInput

Record = dict[str, Any]

DEPTH = 100  # of nesting, as in MongoDB
MISSING = object()
ADDRESS = "[A-Za-z][A-Za-z0-9+.-]*://"  # how a URL begins, and no path


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, anything else as a list of one."""
    return value if isinstance(value, list) else [value]


# --------------------------------------------------------------------------------------- as JSON


def compact(value: Any) -> str:
    """Return JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def pasteable(query: Record) -> str:
    """Return a filter as JSON that the log leaves as it is."""
    string = compact(query)
    return string if string.isprintable() else json.dumps(query)


def unique_keys(pairs: list[tuple[Any, Any]]) -> Record:
    """Return an object; raise BadInput for a key that is no string, or that appears twice."""
    for key, times in Counter(key for key, _ in pairs).items():
        if not isinstance(key, str):
            raise BadInput(f"the key {key!r} is not a string")
        if times > 1:
            raise BadInput(f"the key {key!r} appears twice in one object; a query can use $and")
    return dict(pairs)


def check_values(values: Any, source: str) -> None:
    """Raise BadInput for values that cannot be sent as JSON."""
    if is_deeper(values):
        raise BadInput(f"{source} is nested more than {DEPTH} deep")
    try:
        compact(values).encode()  # which NaN, and halves of characters, are not
    except (TypeError, ValueError) as error:
        raise BadInput(f"{source} cannot be sent as JSON: {error}") from None


def is_deeper(value: Any, levels: int = DEPTH) -> bool:
    """Return whether lists and objects are nested more than so many levels deep."""
    layer = [value]
    for _ in range(levels + 1):
        inner: list[Any] = []
        for one in layer:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        if not inner:
            return False
        layer = inner
    return True


def is_valid(string: str) -> bool:
    """Return whether a string can be sent; a lone surrogate, which JSON can spell, cannot."""
    try:
        string.encode()
    except UnicodeError:
        return False
    return True


# ------------------------------------------------------------------------------- as MongoDB has it


def value_at(value: Any, path: str, missing: Any = MISSING) -> Any:
    """Return what lies at a dotted path as MongoDB's aggregation has it, `missing` if nothing does.

    Of a list, it is the list of what lies there in each of its objects.
    """
    if not path:
        return value
    name, _, rest = path.partition(".")
    if isinstance(value, list):
        inner = []
        for item in value:
            found = value_at(item, path) if isinstance(item, dict) else MISSING
            if found is not MISSING:
                inner.append(found)
        return inner
    if not isinstance(value, dict) or name not in value:
        return missing
    return value_at(value[name], rest, missing)


def plain_values(record: Record, path: str) -> Iterator[Any]:
    """Yield the strings and numbers that a record has at a path, in lists of any depth, too."""
    waiting = [value_at(record, path)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, str | int | float):
            yield value


def values_reached(record: Record, path: str) -> list[Any]:
    """Return the values that a filter compares with at a path of a record.

    These are those that MongoDB reaches there: through the objects of a list on the path, and the
    elements of a list at its end, but no lists in lists.
    """
    values: list[Any] = [record]
    for name in path.split("."):
        inner: list[Any] = []
        for value in values:
            if isinstance(value, dict):  # as most are
                if name in value:
                    inner.append(value[name])
            elif isinstance(value, list):
                inner += [item[name] for item in value if isinstance(item, dict) and name in item]
        if not inner:
            return []
        values = inner
    reached: list[Any] = []
    for value in values:
        reached += as_list(value)
    return reached


def strings_at(record: Record, path: str) -> list[str]:
    """Return the strings that a filter compares with at a path of a record, each once."""
    strings: dict[str, None] = {}
    for value in values_reached(record, path):
        if isinstance(value, str):
            strings[value] = None
    return list(strings)


def has_field(value: Any, path: list[str]) -> bool:
    """Return whether anything, even null, is at a path."""
    if isinstance(value, list):
        return any(has_field(item, path) for item in value) or not path
    if not path:
        return True
    return isinstance(value, dict) and path[0] in value and has_field(value[path[0]], path[1:])


def lists_on(value: Any, path: list[str]) -> Iterator[list[Any]]:
    """Yield the lists that a path leads through."""
    if isinstance(value, list):
        yield value
        for item in value:
            if isinstance(item, dict):
                yield from lists_on(item, path)
    elif isinstance(value, dict) and path and path[0] in value:
        yield from lists_on(value[path[0]], path[1:])


def paths_of(value: Any, top: str = "") -> Iterator[str]:
    """Yield the dotted paths of all fields of a record."""
    for item in as_list(value):
        if isinstance(item, dict):
            for name, inner in item.items():
                yield f"{top}{name}"
                yield from paths_of(inner, f"{top}{name}.")


def is_null(value: Any) -> bool:
    """Return whether a value is null, or NaN, for which JSON has no other word."""
    return bool(value is None or value != value)


def rank(value: Any) -> Any:
    """Return what compares, sorts and hashes as MongoDB orders values; NaN is null here."""
    if is_null(value):
        return (0,)
    if isinstance(value, dict):
        return 3, tuple((key, rank(value[key])) for key in sorted(value))
    if isinstance(value, list):
        return 4, tuple(map(rank, value))
    return {int: 1, float: 1, str: 2, bool: 5}[type(value)], value


# ------------------------------------------------------------------------------------------ times

TIME = re.compile(
    r"""(?P<day>\d{4}-\d\d-\d\d)
    (?:[Tt ](?P<clock>\d\d(?::?\d\d(?::?\d\d(?:[.,](?P<fraction>\d+))?)?)?)
    [ ]?(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)?)?""",
    re.ASCII | re.VERBOSE,
)


def first_day(date: str) -> str:
    """Return the first day of a day, month or year as ISO 8601 writes it, "" if it is none."""
    whole = f"{date}-01-01"[:10] if len(date) == 4 else f"{date}-01"[:10]
    try:
        return datetime.fromisoformat(whole).strftime("%Y-%m-%d")
    except ValueError:
        return ""


def day_after(date: str) -> str:
    """Return the day after a day, month or year."""
    first = datetime.fromisoformat(first_day(date))
    if len(date) == 4:
        return f"{first.year + 1:04}-01-01"
    if len(date) == 7:
        first = first.replace(day=28) + timedelta(days=4)
        return first.strftime("%Y-%m-01")
    return (first + timedelta(days=1)).strftime("%Y-%m-%d")


def instant(value: Any) -> tuple[datetime, str] | None:
    """Return the time that a string tells, in UTC if it names no zone; None if it tells none.

    It is the whole second, and the digits of its fraction, which may be more than a datetime holds.
    """
    parts = TIME.fullmatch(value) if isinstance(value, str) else None
    if not parts:
        return None
    clock, later = parts["clock"] or "00", timedelta()
    fraction = parts["fraction"] or ""
    clock = clock.removesuffix(fraction).rstrip(".,")
    # two that programs write and datetime does not read: the end of a day, and a leap second
    if re.fullmatch("24(:?00){0,2}", clock):
        clock, later = "00", timedelta(days=1)
    elif re.fullmatch(r"\d\d:?\d\d:?60", clock):
        clock, later = f"{clock[:-2]}59", timedelta(seconds=1)
    zone = (parts["zone"] or "Z").upper()
    try:
        moment = datetime.fromisoformat(f"{parts['day']}T{clock}{zone}")
        moment = moment.astimezone(UTC).replace(tzinfo=None) + later
    except (ValueError, OverflowError):
        return None
    return moment, fraction.rstrip("0")
