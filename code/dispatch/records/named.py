"""A database that is asked by names, too: each filter goes to it with what they stand for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from dispatch.given.values import Record
from dispatch.records.docdb import VALUES_IN_HINTS, Database
from dispatch.records.schema import Vocabulary, vocabulary_of
from dispatch.records.vocabulary import in_full, is_name


class Named:
    """DocDB or a snapshot, which answers to names as to plain fields."""

    def __init__(self, database: Database, plain: Collection[str] = ()) -> None:
        self.database = database
        self.names: Vocabulary = vocabulary_of(plain)

    @property
    def ids_at_once(self) -> int:
        """How many ids one filter may ask for."""
        return self.database.ids_at_once

    @property
    def folder(self) -> Path | None:
        """Where relative locations lead from; None if no location may lead to a local path."""
        return self.database.folder

    def in_full(self, query: Record) -> Record:
        """Return the filter as it is asked, without a name in it."""
        return in_full(query, self.names)

    def find(self, query: Record, fields: Sequence[str]) -> Iterator[list[Record]]:
        """Yield the fields of every record that matches, in pages."""
        return self.database.find(self.in_full(query), self.paths_of(fields))

    def first(self, query: Record, fields: Sequence[str], number: int) -> list[Record]:
        """Return the fields of the first records that match."""
        return self.database.first(self.in_full(query), self.paths_of(fields), number)

    def count(self, query: Record) -> int | None:
        """Return how many records match, None if that is not to be known."""
        return self.database.count(self.in_full(query))

    def common_values(self, field: str) -> Iterator[tuple[Any, int]]:
        """Yield the values of a field and how often each is there, the most frequent ones first.

        Those of a name are as they are spelt today.
        """
        if not is_name(field, self.names):
            yield from self.database.common_values(field)
            return
        name = self.names[field]
        counts: dict[str, int] = {}
        for path in name.paths:
            for value, number in self.database.common_values(path):
                for said in name.values_of(path, [value]):
                    counts[said] = counts.get(said, 0) + number
        ranked = sorted(counts.items(), key=lambda pair: -pair[1])
        yield from ranked[:VALUES_IN_HINTS]

    def sample(self) -> list[Record]:
        """Return some records, whole."""
        return self.database.sample()

    def has_field(self, field: str) -> bool:
        """Return whether any record is known to have a field, even null."""
        name = self.names.get(field)
        if not name:
            return bool(self.count({field: {"$exists": True}}))
        return bool(self.count({"$or": [{path: {"$exists": True}} for path in name.paths]}))

    def paths_of(self, fields: Sequence[str]) -> list[str]:
        """Return the paths at which records hold these fields, none of them inside another one."""
        paths: set[str] = set()
        for field in fields:
            if field in self.names:
                paths |= set(self.names[field].paths)
            else:
                paths.add(field)
        inside = tuple(f"{path}." for path in paths)
        return sorted(path for path in paths if not path.startswith(inside))
