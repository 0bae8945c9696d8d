"""Which assets belong together, and which is the latest of them, by what their records say."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dispatch.assets.assets import Asset, Entry, Skip
from dispatch.given.values import (
    Record,
    as_list,
    has_field,
    instant,
    is_null,
    is_valid,
    rank,
    value_at,
)


@dataclass(frozen=True)
class FieldValues:
    """What an asset has in some fields: one list for each way to take one element of its lists."""

    rows: list[list[Any]]
    fault: str = ""  # why the asset cannot be grouped or filtered by these fields


def set_groups(
    entries: list[Entry], names: Sequence[str], unwound: Sequence[str], drop_null: bool
) -> list[Entry]:
    """Return each asset once for each of its values in these fields, and a skip if it has none."""
    keys = [name.replace(".", "__") for name in names]
    grouped: list[Entry] = []
    for entry in entries:
        if isinstance(entry, Skip):
            grouped.append(entry)
            continue
        record = entry.told((*names, *unwound))
        values = values_in_fields(record, names, unwound, drop_null)
        if values.fault:
            grouped.append(Skip(values.fault, entry.label, record=entry.record))
            continue
        for row in values.rows:
            grouped.append(replace(entry, group=dict(zip(keys, row, strict=True))))
    return grouped


def keep_latest(
    entries: list[Entry], by: Sequence[str], latest: str, unwound: Sequence[str], drop_null: bool
) -> list[Entry]:
    """Return the entries, with a skip for each asset that is not the latest of those it is like.

    Assets are like each other that agree in the fields `by`; the latest has the greatest value in
    the field `latest`. An asset stays if it is the latest one for any of the values that it has.
    """
    rivals: defaultdict[Any, list[tuple[Any, str]]] = defaultdict(list)
    skips: dict[str, Skip] = {}  # by record id
    for asset in entries:
        if isinstance(asset, Skip):
            continue
        record = asset.told((*by, latest, *unwound))
        values = values_in_fields(record, (*by, latest), unwound, drop_null, needed=len(by))
        if values.fault:
            skips[asset.record_id] = Skip(values.fault, asset.label, record=asset.record)
            continue
        older = f"not the latest by {latest}"
        skips[asset.record_id] = Skip(older, asset.label, asked=True, record=asset.record)
        for *shared, value in values.rows:
            rivals[rank(shared)].append((value, asset.record_id))
    stay: set[str] = set()
    for candidates in rivals.values():
        stay.add(latest_of(candidates))
        nulls = [record_id for value, record_id in candidates if is_null(value)]
        if len(nulls) < len(candidates):
            reason = f"no {latest}, which others have that agree with it in {', '.join(by)}"
            for record_id in nulls:
                skips[record_id] = replace(skips[record_id], reason=reason, asked=False)
    kept: list[Entry] = []
    for entry in entries:
        if isinstance(entry, Asset) and entry.record_id not in stay:
            kept.append(skips[entry.record_id])
        else:
            kept.append(entry)
    return kept


def latest_of(candidates: list[tuple[Any, str]]) -> str:
    """Return the id that comes with the greatest value, of equal values the last id.

    Where all values are times, in the form of ISO 8601, they are compared as times, whatever zones
    they are in; else as the database compares values.
    """
    known = [pair for pair in candidates if not is_null(pair[0])] or candidates
    times = [instant(value) for value, _ in known]
    ranks: list[Any] = list(times)
    if None in times:
        ranks = [rank(value) for value, _ in known]
    ranked = []
    for value, (_, record_id) in zip(ranks, known, strict=True):
        ranked.append((value, record_id))
    return max(ranked)[1]


def values_in_fields(
    record: Record,
    names: Sequence[str],
    unwound: Sequence[str],
    drop_null: bool,
    needed: int | None = None,
) -> FieldValues:
    """Return what a record has in these fields.

    There is one list of values for each way to take one element of all lists that the paths
    `unwound` lead to or through, as $unwind stages would; equal ones count once. Only the first
    `needed` fields must be there; where nulls are dropped, lists without them are left out.
    """
    rows = unwound_rows(record, names, unwound)
    complete = []
    for row in rows:
        if not any(map(is_null, row[:needed])):
            complete.append(row)
    if drop_null and not complete:
        return FieldValues([], f"no {' or '.join(lacking_fields(names[:needed], rows))}")
    if not is_valid(json.dumps(rows, ensure_ascii=False)):
        return FieldValues([], f"no valid string in {' or '.join(names)}")
    return FieldValues(complete if drop_null else rows)


def unwound_rows(record: Record, names: Sequence[str], unwound: Sequence[str]) -> list[list[Any]]:
    """Return what is in these fields of a record, for each way to unwind it; equal ones once."""
    records = [record]
    tops = {name.partition(".")[0] for name in names}
    for path in unwound:
        if path.partition(".")[0] in tops:
            variants: list[Record] = []
            for one in records:
                variants += unwind(one, path.split("."))
            records = variants
    rows: dict[Any, list[Any]] = {}
    for one in records:
        values = [value_in(one, name) for name in names]
        rows.setdefault(rank(values), values)
    return list(rows.values())


def value_in(record: Record, name: str) -> Any:
    """Return what a record has in a field, None if nothing.

    A list of objects none of which has the field lacks it.
    """
    if not has_field(record, name.split(".")):
        return None
    return value_at(record, name, missing=None)


def lacking_fields(names: Sequence[str], rows: list[list[Any]]) -> list[str]:
    """Return which fields are null in all rows; if none is, those that are in some."""
    always, sometimes = [], []
    for place, name in enumerate(names):
        nulls = sum(is_null(row[place]) for row in rows)
        if nulls:
            sometimes.append(name)
        if nulls == len(rows):
            always.append(name)
    return always or sometimes


def unwind(value: Any, path: list[str]) -> Iterator[Any]:
    """Yield a value once for each element of the lists on a path, which the element replaces."""
    for item in as_list(value) or [None]:
        if path and isinstance(item, dict) and path[0] in item:
            for inner in unwind(item[path[0]], path[1:]):
                yield {**item, path[0]: inner}
        else:
            yield item
