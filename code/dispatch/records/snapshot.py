"""A snapshot: a file of records that answers a filter as MongoDB would, or refuses it."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.given.values import Record, compact, plain_values
from dispatch.records.docdb import VALUES_IN_HINTS
from dispatch.records.record_files import read_records
from dispatch.terminal.messages import BadInput, excerpt, log, plural

RECORDS_IN_SAMPLE = 200


@dataclass(frozen=True)
class Snapshot:
    """Records of a file, which answer as the live database would."""

    records: list[Record]
    folder: Path  # of the file; locations may be relative to it
    ids_at_once: int = sys.maxsize

    def count(self, query: Record) -> int:
        """Return how many records match."""
        return sum(map(predicate(query), self.records))

    def find(self, query: Record, fields: Sequence[str]) -> Iterator[list[Record]]:
        """Yield the fields of every record that matches, all on one page."""
        paths = [name.split(".") for name in fields]
        page = []
        for record in filter(predicate(query), self.records):
            page.append(project(record, paths))
        yield page

    def first(self, query: Record, fields: Sequence[str], number: int) -> list[Record]:
        """Return the fields of the first records that match."""
        [page] = self.find(query, fields)
        return page[:number]

    def common_values(self, path: str) -> Iterator[tuple[Any, int]]:
        """Yield the values at a path and how often each is there, the most frequent ones first."""
        counts: Counter[Any] = Counter()
        for record in self.records:
            counts.update(plain_values(record, path))
        yield from counts.most_common(VALUES_IN_HINTS)

    def fields(self) -> set[str]:
        """Return the plain fields that any record has."""
        found: set[str] = set()
        for record in self.records:
            found |= record.keys()
        return found

    def sample(self) -> list[Record]:
        """Return some records, whole."""
        return self.records[:RECORDS_IN_SAMPLE]


def open_snapshot(path: Path) -> Snapshot:
    """Return the records of a file; raise BadInput."""
    records = read_records(path)
    log.info("asking the snapshot %s: %s", path, plural(len(records), "record"))
    return Snapshot(records, path.absolute().parent)


def project(value: Any, paths: list[list[str]]) -> Any:
    """Return what lies at these paths as MongoDB does: of a list, what the objects in it have."""
    if isinstance(value, list):
        return [project(item, paths) for item in value if isinstance(item, dict | list)]
    below: dict[str, list[list[str]]] = {}
    for name, *rest in paths:
        if name in value:
            below.setdefault(name, []).append(rest)
    kept = {}
    for name, rests in below.items():
        if [] in rests:
            kept[name] = value[name]
        elif isinstance(value[name], dict | list):
            kept[name] = project(value[name], rests)
    return kept


def predicate(query: Record) -> Callable[[Record], bool]:
    """Return what tells whether a record matches a filter, as MongoDB would; raise BadInput."""
    from mgqpy import Query

    try:
        filter_ = translate(json.loads(compact(query)))  # as it would be sent: tuples are lists
        return Query(filter_).test  # type: ignore[no-any-return]
    except ValueError as error:
        raise BadInput(
            f"the query cannot be asked of a snapshot: {error}; ask the live database, without"
            " --records"
        ) from None


LOGICAL = ("$and", "$or", "$nor")
COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin")
LEAST = {"string": "", "object": {}, "array": [], "bool": False}  # values of the types of JSON


def translate(value: Any, key: str = "$and") -> Any:
    """Return a filter, or what stands behind a key of it, in words that mean the same to mgqpy.

    Raise ValueError where there are none.
    """
    if isinstance(value, list):
        inner = key if key in (*LOGICAL, "$all") else "$eq"
        return [translate(item, inner) for item in value]
    if not isinstance(value, dict):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} has more than 64 bits")
        return value
    is_expression = next(iter(value), "").startswith("$")
    if key in COMPARISONS or (not is_expression and (key == "$all" or not key.startswith("$"))):
        return translate_object(value)
    query = {name: translate(part, name) for name, part in value.items()}
    if key in LOGICAL:
        query.pop("$comment", None)
    if query.get("$type") in (*LEAST,) and "$gte" not in query:
        query = {"$gte": LEAST[query.pop("$type")], **query}  # only one type is compared
    pattern, options = query.get("$regex"), query.get("$options", "")
    if isinstance(pattern, str) and isinstance(options, str):
        query |= {"$regex": python_regex(pattern, options), "$options": ""}
    return query


def translate_object(value: Record) -> Record:
    """Return an object to compare with; raise ValueError for one that is more than that."""
    for name in value:
        if name.startswith("$"):  # an operator too deep, or extended JSON, such as $date
            raise ValueError(f"{name} is inside a value to compare with")
    return {name: translate(part, "$eq") for name, part in value.items()}


# The regular expressions that PCRE and Python read alike, their options apart: characters, groups,
# classes, repetition. Not \v, \B, \1, {,3}, x++, [[:alpha:]], (?>x), and the like.
REGEX = re.compile(
    r"""(?:\(\?([a-z]+)\))?
    ((?: [^\\\[({+] | (?<![*+?}])\+ | \\[AbdDsSwWfnrt -/:-@[-`{-~] | \{\d+(?:,\d*)?\}
    | \((?![?*]) | \(\?(?:[:=!]|<[=!]|P<[a-zA-Z_]\w*>)
    | \[(?!:.*:])\^?]?+(?:(?!--|&&|~~|\|\|)[^][\\] | \\[dDsSwWfnrt -/:-@[-`{-~])*]
    )*)""",
    re.VERBOSE | re.ASCII,
)


def python_regex(pattern: str, options: str) -> str:
    """Return a regular expression for Python that finds what MongoDB's finds; raise ValueError.

    There, words, digits and spaces are those of ASCII. Regardless of case, only letters of ASCII
    are taken; that PCRE counts U+017F as an s then, and U+212A as a k, is left aside.
    """
    parts = REGEX.fullmatch(pattern)
    inline = (parts and parts[1]) or ""
    letters = options.replace("u", "") + inline
    if not parts or set(letters) - {"i", "s"} or ("i" in letters and not pattern.isascii()):
        shown = f"$regex {excerpt(pattern)} with $options {options!r}"
        raise ValueError(f"{shown} may not mean the same to MongoDB and to Python")
    return f"(?a{letters}){parts[2]}"
