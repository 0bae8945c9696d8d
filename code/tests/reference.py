"""What the program must find, said another way: slowly, and declaring rather than walking."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from operator import eq, ge, gt, le, lt
from typing import Any


def expected_files(
    keys: Iterable[str] | Mapping[str, int], prefix: str, extension: str | tuple[str, ...]
) -> set[str]:
    """Return the keys, without the prefix, of all files with an extension below a prefix.

    All objects and folders there are, less those that are not named so, less those inside a folder
    that is closed: named so, or like a Zarr store, an N5 container or an NWB file. Less folders
    that hold nothing but empty markers of folders. Keys without their bytes are of empty objects.
    """
    sizes = keys if isinstance(keys, Mapping) else dict.fromkeys(keys, 0)
    nodes = set()  # (components, is it a folder)
    filled = set()  # folders with something in them
    for key, size in sizes.items():
        if key.startswith(prefix + "/"):
            parts = tuple(key[len(prefix) + 1 :].split("/"))
            nodes |= {(parts[:n], n < len(parts)) for n in range(1, len(parts) + 1)}
            if size or parts[-1]:
                filled |= {parts[:n] for n in range(1, len(parts))}
    closed = {
        parts
        for parts, is_folder in nodes
        if is_folder and any(map(parts[-1].endswith, (extension, ".zarr", ".n5", ".nwb")))
    }
    return {
        "/".join(parts)
        for parts, is_folder in nodes
        if parts[-1].endswith(extension)
        and (parts in filled or not is_folder)
        and not any(parts[:n] in closed for n in range(1, len(parts)))
    }


def expected_bytes(
    sizes: Mapping[str, int], prefix: str, extension: str | tuple[str, ...]
) -> dict[str, int]:
    """Return the bytes of all files below a prefix: of the object, and of all in the folder."""
    return {
        file: sum(
            size
            for key, size in sizes.items()
            if key == f"{prefix}/{file}" or key.startswith(f"{prefix}/{file}/")
        )
        for file in expected_files(sizes, prefix, extension)
    }


def expected_sets(
    sizes: Mapping[str, int],
    prefix: str,
    extensions: tuple[str, ...],
    sidecars: tuple[str, ...],
    takes: Callable[[str, int], bool],
) -> tuple[list[list[str]], set[str]]:
    """Return each file with its sidecars, by their paths, and the files that lack any.

    `takes` tells whether a file counts, by its path and bytes. Of two endings that a name has, the
    longer one counts.
    """
    endings = (*extensions, *sidecars)
    found = expected_bytes(sizes, prefix, endings)
    sets, lacking = [], set()
    for path in sorted(found):
        ending = max(filter(path.endswith, endings), key=len)
        if ending in sidecars or not takes(path, found[path]):
            continue
        whole = [path, *(path[: len(path) - len(ending)] + sidecar for sidecar in sidecars)]
        if set(whole) <= found.keys():
            sets.append(whole)
        else:
            lacking.add(path)
    return sets, lacking


# What a filter matches, from MongoDB's manual: "Query an Array", "Query for Null or Missing
# Fields", "Comparison/Sort Order", and the pages of the operators.

MISSING = object()
KINDS: list[type] = [type(None), int, str, dict, list, bool]  # in MongoDB's order
TYPES = {"string": str, "object": dict, "array": list, "bool": bool}


def matches(query: dict[str, Any], record: Any) -> bool:
    """Return whether a record matches a filter: all of its conditions hold."""
    return all(holds(name, wanted, record) for name, wanted in query.items())


def holds(name: str, wanted: Any, record: Any) -> bool:
    """Return whether one condition of a filter holds."""
    if name in ("$and", "$or", "$nor"):
        found = [matches(query, record) for query in wanted]
        return {"$and": all(found), "$or": any(found), "$nor": not any(found)}[name]
    if name == "$comment":
        return True
    places = at_path(record, name.split("."))
    if not is_expression(wanted):
        wanted = {"$eq": wanted}
    return meets(wanted, places)


def is_expression(wanted: Any) -> bool:
    """Return whether what is wanted of a field is said in operators."""
    return isinstance(wanted, dict) and bool(wanted) and next(iter(wanted))[0] == "$"


# The values at a path, and whether a list there stands for its elements, too.
Places = list[tuple[Any, bool]]


def at_path(value: Any, path: list[str]) -> Places:
    """Return the values at a path.

    Objects in a list are searched, lists in it are not. A number names an element as well, and an
    element that a path ends with is taken as it is.
    """
    if not path:
        return [(value, True)]
    name, *rest = path
    if isinstance(value, dict):
        return at_path(value[name], rest) if name in value else [(MISSING, False)]
    if not isinstance(value, list):
        return [(MISSING, False)]
    places = [place for item in value if isinstance(item, dict) for place in at_path(item, path)]
    if re.fullmatch("0|[1-9][0-9]*", name) and int(name) < len(value):
        item = value[int(name)]
        if not rest:
            places.append((item, False))
        elif isinstance(item, (dict, list)):
            places += at_path(item, rest)
    return places


def meets(wanted: dict[str, Any], places: Places) -> bool:
    """Return whether the values at a path meet each operator, any value any operator."""
    whole = [value for value, _ in places]
    each = [
        item for value, spread in places if spread and isinstance(value, list) for item in value
    ]
    options = wanted.get("$options", "")
    for name, operand in wanted.items():
        if name in ("$ne", "$nin", "$not"):
            positive = {"$ne": {"$eq": operand}, "$nin": {"$in": operand}, "$not": operand}[name]
            found = not meets(positive, places)
        elif name == "$all":
            parts = [part if is_expression(part) else {"$eq": part} for part in operand]
            found = bool(parts) and all(meets(part, places) for part in parts)
        elif name == "$exists":
            found = any(value is not MISSING for value in whole) == bool(operand)
        elif name == "$size":
            found = any(isinstance(value, list) and len(value) == operand for value in whole)
        elif name == "$elemMatch":
            lists = [value for value in whole if isinstance(value, list)]
            found = any(fits(item, operand) for value in lists for item in value)
        elif name == "$options":
            found = True
        else:
            found = any(compares(value, name, operand, options) for value in [*each, *whole])
        if not found:
            return False
    return True


def fits(item: Any, wanted: dict[str, Any]) -> bool:
    """Return whether an element fits $elemMatch: its operators, or, for an object, its filter."""
    if is_expression(wanted) and next(iter(wanted)) not in ("$and", "$or", "$nor"):
        return meets(wanted, [(item, False)])
    if isinstance(item, list):  # an object whose fields are numbers
        item = {str(number): value for number, value in enumerate(item)}
    return isinstance(item, dict) and matches(wanted, item)


def compares(value: Any, name: str, operand: Any, options: str) -> bool:
    """Return whether a single value compares with an operand."""
    if name == "$in":
        return any(compares(value, "$eq", one, "") for one in operand)
    if name == "$type":
        return isinstance(value, TYPES[operand])
    if name == "$regex":
        inline = f"(?a{options.replace('u', '')})"
        return isinstance(value, str) and bool(re.search(inline + operand, value))
    if name == "$mod":
        divisor, remainder = operand
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (abs(int(value)) % abs(divisor)) * (-1 if value < 0 else 1) == remainder
    if value is MISSING:
        return operand is None and name in ("$eq", "$gte", "$lte")
    if kind(value) != kind(operand):
        return False
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "$eq": eq, "$gt": gt, "$gte": ge, "$lt": lt, "$lte": le
    }  # fmt: skip
    return compare[name](ordered(value), ordered(operand))


def kind(value: Any) -> int:
    """Return the place of a value's type in MongoDB's order."""
    return KINDS.index(int if type(value) is float else type(value))


def ordered(value: Any) -> Any:
    """Return what compares as values of one type do, in lists and objects of any type."""
    if isinstance(value, dict):
        return [(kind(part), name, ordered(part)) for name, part in value.items()]
    if isinstance(value, list):
        return [(kind(item), ordered(item)) for item in value]
    return 0 if value is None else value
