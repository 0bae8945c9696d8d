"""What the page of a dry run offers to choose by, and what it says of each asset."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

from dispatch.assets.assets import Asset, Skip
from dispatch.given.values import Record, instant, is_valid, strings_at
from dispatch.plan.commands import Request
from dispatch.plan.comparison import Comparison
from dispatch.records.names import DAY, Name
from dispatch.records.schema import (
    DATA_LEVEL,
    MODALITY,
    PROJECT_NAME,
    SESSION_DAY,
    SUBJECT_ID,
    Vocabulary,
)
from dispatch.tasks.tasks import Task

T = TypeVar("T")

Said = list[list[str]]  # the strings at each path of a name

NO_RECORD = -1  # in place of the place of a set of values
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


def choices_of(
    names: Vocabulary, assets: list[Asset], skips: list[Skip], tasks: list[Task], request: Request
) -> list[Record]:
    """Return the fields to choose by: what each asset has in them, and what each skip has.

    A column is of sets of values, None where a record tells nothing. A skip without a record has
    no place in it. Where the lists of a field are unwound into groups, its value is the task's own.
    """
    choices = []
    for title, wanted in LISTS.items():
        name = names[wanted]
        said = [strings_by_path(name, asset.record) for asset in assets]
        choice = column_of(name, values_in, said, skips)
        labels = labels_of_groups(name, tasks, request)
        spelt = other_spellings(name, said)
        choices.append({"name": title, **choice, "spelt": spelt, "tasks": labels})
    name = names[SESSION_DAY.name]
    said = [strings_by_path(name, asset.record) for asset in assets]
    days = column_of(name, days_in, said, skips)
    choices.append({"name": "date", **days, "spelt": [], "tasks": None})
    return choices


def strings_by_path(name: Name, record: Record) -> Said:
    """Return what a record says at each path of a name."""
    return [strings_at(record, path) for path in name.paths]


def choice_by_comparison(comparison: Comparison, tasks: list[Task], skips: list[Skip]) -> Record:
    """Return the choice by what an earlier plan has; it says nothing of what is skipped."""
    labels = ["new" if task.id in comparison.new else "same" for task in tasks]
    return {
        "name": "compared",
        "title": "compared",
        "paths": [],
        "pattern": DAY,
        "values": [],
        "rows": [],
        "skip_rows": [NO_RECORD] * len(skips),
        "spelt": [],
        "tasks": coded(labels),
    }


def column_of(
    name: Name, set_of: Callable[[Name, Said], Hashable], said: list[Said], skips: list[Skip]
) -> Record:
    """Return the sets of values that assets have of a name, and those of skips with a record."""
    rows = [set_of(name, each) for each in said]
    for skip in skips:
        if skip.record:
            rows.append(set_of(name, strings_by_path(name, skip.record)))
    column = coded(rows)
    of_skips = iter(column["rows"][len(said) :])
    skip_rows = []
    for skip in skips:
        skip_rows.append(next(of_skips) if skip.record else NO_RECORD)
    return {
        "title": name.title,
        "paths": name.paths,
        "pattern": DAY,
        "values": column["values"],
        "rows": column["rows"][: len(said)],
        "skip_rows": skip_rows,
    }


def coded(values: Sequence[Any]) -> Record:
    """Return a column as its different values, and which of them each row has."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"values": list(places), "rows": [places[value] for value in values]}


def each_once(values: Iterable[T]) -> tuple[T, ...]:
    """Return values in their order, those that come again once."""
    return tuple(dict.fromkeys(values))


def values_in(name: Name, said: Said) -> tuple[str, ...] | None:
    """Return what a record says as it is spelt today, each once; None if it says nothing.

    What is not valid is left out.
    """
    strings = list(chain(*said))
    if not strings:
        return None
    return each_once(map(name.today, filter(is_valid, strings)))


def days_in(_name: Name, said: Said) -> tuple[tuple[str, ...], ...] | None:
    """Return the days that a record has at each path, None if it has none.

    They compare with a whole time as with its day.
    """
    days = []
    for strings in said:
        days.append(tuple(string[:10] for string in strings))
    return tuple(days) if any(days) else None


def other_spellings(name: Name, said: list[Said]) -> list[tuple[str, list[Any]]]:
    """Return the values that records spell otherwise than today, or hold elsewhere.

    That is, not at the first path alone. With each come the number of the path and the string
    there, for each of the ways in which it is held; of an asset the first path that has it.
    """
    ways: defaultdict[str, dict[tuple[int, str], None]] = defaultdict(dict)
    for by_path in said:
        known: set[str] = set()
        for number, strings in enumerate(by_path):
            here = set()
            for string in filter(is_valid, strings):
                value = name.today(string)
                here.add(value)
                if value not in known:
                    ways[value][number, string] = None
            known |= here
    others = []
    for value, held in ways.items():
        as_today = (0, value)
        if list(held) != [as_today]:
            others.append((value, list(held)))
    return others


def labels_of_groups(name: Name, tasks: list[Task], request: Request) -> Record | None:
    """Return which value of a field each task is for, if its lists are unwound into groups."""
    grouped = [path for path in request.group_by if path in (*name.paths, name.name)]
    if not any(is_unwound(path, request) for path in grouped):
        return None
    key = grouped[0].replace(".", "__")
    labels = []
    for task in tasks:
        value = task.shared_group().get(key)
        is_string = isinstance(value, str) and is_valid(value)
        labels.append(name.today(str(value)) if is_string else None)
    return coded(labels)


def is_unwound(path: str, request: Request) -> bool:
    """Return whether the lists on the way to this field are taken apart."""
    return any(f"{path}.".startswith(f"{unwound}.") for unwound in request.unwound)


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
