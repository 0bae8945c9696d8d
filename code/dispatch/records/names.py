"""What a record answers to a name, whichever generation wrote it.

A name stands for several paths, of which records have one or another, and for values that are
spelt in one way or another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from dispatch.given.values import MISSING, Record, values_reached

DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"  # what a time begins with
# A modality that was written out as Python prints it: name='…' abbreviation='ecephys'
WRITTEN_OUT = re.compile("abbreviation=['\"]([^'\"]+)['\"]")
# What a name begins with, of a session and of all that was made from it (aind-data-schema-models,
# data_name_patterns.py: DERIVED)
SESSION = re.compile(r".*?(?<![0-9])[0-9]{4}(?:-[0-9]{2}){2}_[0-9]{2}(?:-[0-9]{2}){2}(?![0-9])")


@dataclass(frozen=True)
class Name:
    """A name that records answer to: where they hold it, and how it is spelt."""

    name: str
    title: str  # in a sentence
    paths: tuple[str, ...]  # of several, the first that has a value counts
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by that of today
    holds_list: bool = False  # several values, of all paths
    may_be_written_out: bool = False
    numeric: tuple[str, ...] = ()  # paths at which a number is what it spells
    is_for_filters: bool = True
    takes_all: bool = False  # in filters, the operator $all

    @cached_property
    def todays(self) -> dict[str, str]:
        """How values are spelt today, by all of their spellings in small letters."""
        todays: dict[str, str] = {}
        for value, spellings in self.spellings.items():
            todays |= dict.fromkeys(map(str.casefold, (value, *spellings)), value)
        return todays

    @cached_property
    def tops(self) -> tuple[str, ...]:
        """The paths that lie in no other one."""
        inside = tuple(f"{path}." for path in self.paths)
        return tuple(path for path in self.paths if not path.startswith(inside))

    def with_columns(self, columns: Sequence[str]) -> Name:
        """Return the name for a table that has it in these columns; there, any may hold numbers."""
        paths = (*self.paths, *columns)
        return replace(self, paths=paths, numeric=paths)

    def today(self, string: str) -> str:
        """Return how a value is spelt today; what is not known stays as it is."""
        if self.may_be_written_out:
            written = WRITTEN_OUT.search(string)
            if written:
                string = written[1]
        return self.todays.get(string.casefold(), string)

    def strings_of(self, path: str, values: Iterable[Any]) -> list[str]:
        """Return what values at a path say, as they say it, each once."""
        strings: dict[str, None] = {}
        for value in values:
            if isinstance(value, str):
                strings[value] = None
            elif path in self.numeric and is_number(value):
                strings[spelt_number(value)] = None
        return list(strings)

    def strings_in(self, record: Record) -> list[list[str]]:
        """Return what a record says at each of the paths, as it says it."""
        return [self.strings_of(path, values_reached(record, path)) for path in self.paths]

    def values_of(self, path: str, values: Iterable[Any]) -> list[str]:
        """Return what values at a path say, each as it is spelt today, once."""
        said = map(self.today, self.strings_of(path, values))
        return list(dict.fromkeys(filter(None, said)))

    def values_in(self, record: Record) -> list[str]:
        """Return the values that a record has, each as it is spelt today, once."""
        values: dict[str, None] = {}
        for path in self.paths:
            values |= dict.fromkeys(self.values_of(path, values_reached(record, path)))
            if values and not self.holds_list:
                break
        return list(values)

    def value_in(self, record: Record) -> Any:
        """Return the value that a record has, of names with several the list; else MISSING."""
        values = self.values_in(record)
        if not values:
            return MISSING
        if self.holds_list or len(values) > 1:
            return values
        return values[0]


class Time(Name):
    """The time of something; records hold it as a string, in the zone in which it took place."""

    def today(self, string: str) -> str:
        """Return a time as it is, and "" for what is none."""
        if re.match(DAY, string):
            return string
        return ""


class Day(Time):
    """The day of a time, as the clock had it."""

    def today(self, string: str) -> str:
        """Return the day of a time, and "" for what is none."""
        return super().today(string)[:10]


class Session(Name):
    """The session that an asset is of, or was made from, by the names of assets."""

    def values_of(self, path: str, values: Iterable[Any]) -> list[str]:
        """Return the sessions that values at a path tell; a column of one's own is what it is."""
        strings = self.strings_of(path, values)
        if path == self.name:
            return list(filter(None, strings))
        sessions: dict[str, None] = {}
        for string in strings:
            session = SESSION.match(string)
            if session:
                sessions[session[0]] = None
        return list(sessions)


def is_number(value: Any) -> bool:
    """Return whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def spelt_number(value: float) -> str:
    """Return a number as people write it: of whole ones no .0, which tables add."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def told(record: Record, names: Iterable[Name]) -> Record:
    """Return a record that has these names as plain fields; those without a value it has not."""
    named = dict(record)
    for name in names:
        value = name.value_in(record)
        if value is MISSING:
            named.pop(name.name, None)
        else:
            named[name.name] = value
    return named
