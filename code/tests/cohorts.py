"""References for groups and the latest."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from typing import Any

from standins import reached

Record = dict[str, Any]


def unwind_stage(document: Record, path: list[str]) -> list[Record]:
    """Return what $unwind gives of a document; nothing gets lost, as if empty lists held a null."""
    holder: Any = document
    for name in path[:-1]:
        holder = holder.get(name) if isinstance(holder, dict) else None
    found = holder.get(path[-1]) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        return [document]
    documents = []
    for element in found or [None]:
        documents.append(copy.deepcopy(document))
        holder = documents[-1]
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = element
    return documents


def combinations(real: Record, fields: list[str], unwound: list[str]) -> list[tuple[str, ...]]:
    """Return the values of the fields as JSON, from a $unwind stage for each list on a path."""
    documents = [real]
    for names in [name.split(".") for name in unwound if name]:
        for length in range(1, len(names) + 1):
            documents = [one for some in documents for one in unwind_stage(some, names[:length])]
    found = []
    for document in documents:
        found.append(tuple(json.dumps(held(document, name), sort_keys=True) for name in fields))
    return list(dict.fromkeys(found))


def held(document: Record, name: str) -> Any:
    """Return what a document has in a field; a list in which nothing has the field lacks it."""
    if not is_anywhere(document, name.split(".")):
        return None
    return (reached(document, name.split(".")) or [None])[0]


def is_anywhere(value: Any, path: list[str]) -> bool:
    """Return whether a field is somewhere in a record."""
    if isinstance(value, list):
        return not path or any(is_anywhere(item, path) for item in value)
    return not path or (
        isinstance(value, dict) and path[0] in value and is_anywhere(value[path[0]], path[1:])
    )


def reference_latest(
    records: list[Record], latest: str, by: list[str], unwound: list[str], drop: bool
) -> list[Record]:
    """Return the records that --filter_latest keeps, by sorting."""
    best: dict[Any, str] = {}
    for real in sorted(records, key=lambda r: (order(reached(r, latest.split("."))), r["_id"])):
        for _, *shared in combinations(real, [latest, *by], unwound):
            if not (drop and "null" in shared):
                best[tuple(shared)] = real["_id"]
    return [real for real in records if real["_id"] in best.values()]


def order(found: list[Any]) -> Any:
    value = found[0] if found else None
    kinds: list[type] = [type(None), int, str]
    return (kinds.index(type(value)), value if value is not None else 0)


def reference_groups(
    records: list[Record], by: list[str], unwound: list[str], drop: bool
) -> dict[str, list[str]]:
    """Return the ids of each group, by the JSON of its metadata."""
    groups = defaultdict(list)
    for real in sorted(records, key=lambda r: (r["name"], r["_id"])):
        for values in combinations(real, by, unwound):
            if not (drop and "null" in values):
                keys = [name.replace(".", "__") for name in by]
                metadata = dict(zip(keys, map(json.loads, values), strict=True))
                groups[json.dumps(metadata, sort_keys=True)].append(real["_id"])
    return groups


SUBJECT, START = "subject.subject_id", "session.session_start_time"
MODALITY = "data_description.modality.abbreviation"


def best(sizes: list[int], workers: int) -> int:
    """Return the load of the heaviest worker in the best of all shares, by trying them all."""
    states = {(0,) * workers}
    for size in sizes:
        states = {
            tuple(sorted((*state[:n], state[n] + size, *state[n + 1 :])))
            for state in states
            for n in range(workers)
        }
    return min(state[-1] for state in states)
