"""What the page of a dry run offers to choose by, and what it says of each asset."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dispatch.assets.assets import Asset
from dispatch.given.values import Record, instant, is_valid, strings_at
from dispatch.records.names import Name
from dispatch.records.schema import (
    DATA_LEVEL,
    MODALITY,
    PROJECT_NAME,
    SESSION_DAY,
    SUBJECT_ID,
    Vocabulary,
)

# The lists of the page, by what its script calls them; the days are another kind of list.
LISTS = {
    "project": PROJECT_NAME.name,
    "subject": SUBJECT_ID.name,
    "modality": MODALITY.name,
    "level": DATA_LEVEL.name,
}


def fields_shown() -> set[str]:
    """Return the fields of a record that the page needs, by their names."""
    return {*LISTS.values(), SESSION_DAY.name}


def choices_of(names: Vocabulary, assets: list[Asset]) -> list[Record]:
    """Return what the page offers to choose by."""
    choices = []
    for title, name in LISTS.items():
        choices.append(values_to_choose(title, names[name], assets))
    choices.append(days_to_choose("date", names[SESSION_DAY.name], assets))
    return choices


def coded(values: Sequence[Any]) -> Record:
    """Return a column as its different values, and which of them each row has."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"values": list(places), "rows": [places[value] for value in values]}


def values_to_choose(title: str, name: Name, assets: list[Asset]) -> Record:
    """Return what the page offers to choose by: a set of values for each asset, or None.

    Values are as they are spelt today; `spelt` has those that records spell otherwise, or hold at
    other paths, with the numbers of the paths, of each asset the first. Those that are not valid
    are left out.
    """
    column: list[tuple[str, ...] | None] = []
    spelt: defaultdict[str, dict[tuple[int, str], None]] = defaultdict(dict)
    for asset in assets:
        labels: dict[str, None] = {}
        is_empty = True
        for number, path in enumerate(name.paths):
            strings = strings_at(asset.record, path)
            is_empty = is_empty and not strings
            new: dict[str, None] = {}
            for string in filter(is_valid, strings):
                label = name.today(string)
                new[label] = None
                if label not in labels:
                    spelt[label][number, string] = None
            labels |= new
        if is_empty:
            column.append(None)
        else:
            column.append(tuple(labels))
    others = []
    for label, pairs in spelt.items():
        if list(pairs) != [(0, label)]:
            others.append([label, list(pairs)])
    return {"name": title, "paths": name.paths, **coded(column), "spelt": others}


def days_to_choose(title: str, name: Name, assets: list[Asset]) -> Record:
    """Return the days that the page offers: for each asset those at each path, None if none.

    They compare with a whole time as with its day.
    """
    column: list[tuple[tuple[str, ...], ...] | None] = []
    for asset in assets:
        days = []
        for path in name.paths:
            days.append(tuple(string[:10] for string in strings_at(asset.record, path)))
        if any(days):
            column.append(tuple(days))
        else:
            column.append(None)
    return {"name": title, "paths": name.paths, **coded(column), "spelt": []}


def subject_of(asset: Asset) -> str | None:
    """Return the subject that an asset is of, None if its record does not tell."""
    subject = asset.value(SUBJECT_ID.name)
    if isinstance(subject, str):
        return subject
    return None


def session_date(asset: Asset) -> str | None:
    """Return the day of an asset's session, by its record, else by its name; YYYY-MM-DD."""
    for string in (asset.value(SESSION_DAY.name), asset.name):
        if isinstance(string, str):
            match = re.search(r"(?:^|_)(\d{4}-\d\d-\d\d)", string)
            if match and instant(match[1]):
                return match[1]
    return None
