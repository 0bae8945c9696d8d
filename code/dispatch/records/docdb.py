"""DocDB: how its gateway is asked for records."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from dispatch.given.values import DEPTH, Record, is_deeper
from dispatch.records.rest import ask_patiently, limit_answers, status_of
from dispatch.terminal.messages import BadInput, FailedRun, excerpt, log

DOCDB_HOST = "api.allenneuraldynamics.org"
RECORDS_PER_PAGE = 5_000  # some 350 bytes each; the gateway refuses answers past 6 MB
FIRST_PAGE = 1_000  # so that listing can begin while further pages are asked for
IDS_PER_QUERY = 5_000  # up to 80 bytes each in all; the gateway takes requests up to 10 MB
MOST_RECORDS = 2_000_000  # some twenty times what any institute's database of assets holds
MOST_PAGES = 20_000  # of such a query; a gateway that cuts pages to 100 records needs as many
VALUES_IN_HINTS = 10_000  # of a field, among which near ones are looked for


class Database(Protocol):
    """What answers a filter: DocDB, a snapshot of it, or another one."""

    @property
    def ids_at_once(self) -> int:
        """How many ids one filter may ask for."""

    @property
    def folder(self) -> Path | None:
        """Where relative locations lead from; None if no location may lead to a local path."""

    def find(self, query: Record, fields: Sequence[str]) -> Iterator[list[Record]]:
        """Yield the fields of every record that matches, in pages."""

    def first(self, query: Record, fields: Sequence[str], number: int) -> list[Record]:
        """Return the fields of the first records that match."""

    def count(self, query: Record) -> int | None:
        """Return how many records match, None if that is not to be known."""

    def common_values(self, path: str) -> Iterator[tuple[Any, int]]:
        """Yield the values at a path and how often each is there, the most frequent ones first."""

    def sample(self) -> list[Record]:
        """Return some records, whole."""


class DocDB:
    """The live database, or the results store, as what answers an aggregation pipeline."""

    ids_at_once = IDS_PER_QUERY
    folder = None

    def __init__(
        self,
        aggregate: Callable[[list[Record]], list[Record] | None],  # None: too much for one answer
        page: int = RECORDS_PER_PAGE,
    ) -> None:
        self.aggregate, self.page = aggregate, page

    def first(self, query: Record, fields: Sequence[str], number: int) -> list[Record]:
        """Return the fields of the first records that match, by record id; less if too large."""
        return self.fetch_page(query, fields, number)[0]

    def count(self, query: Record) -> int | None:
        """Return how many records match, None if the database does not say."""
        answer = self.aggregate([{"$match": query}, {"$count": "records"}])
        if answer is None:
            return None
        number = answer[0].get("records") if answer else 0
        return number if isinstance(number, int) else None

    def find(self, query: Record, fields: Sequence[str]) -> Iterator[list[Record]]:
        """Yield the fields of every record that matches, in pages by record id.

        Each page begins after the last id of the one before: what changes in the database while
        it is read shifts no record out of sight. The end is a page of nothing, since a short one
        may have been cut by what lies between. Ids that are no strings, which $gt passes over, are
        asked for with that one.
        """
        seen = Ids()
        page, asked = self.fetch_page(query, fields, min(self.page, FIRST_PAGE))
        while page:
            seen.check(page)
            yield page
            if len(page) >= asked and seen.last is not None:  # what most queries go on with
                bound = {"$and": [query, {"_id": {"$gt": seen.last}}]}
                page, asked = self.fetch_page(bound, fields, self.page)
                seen.check_strings(page)
                if page:
                    continue
            page, asked = self.fetch_page({"$and": [query, seen.rest()]}, fields, self.page)

    def fetch_page(
        self, query: Record, fields: Sequence[str], size: int
    ) -> tuple[list[Record], int]:
        """Return the first records that match, and how many were asked for: less if too large."""
        shown = {"$project": dict.fromkeys(fields, 1)}
        while True:
            match, limit = {"$match": query}, {"$limit": size}
            page = self.aggregate([match, {"$sort": {"_id": 1}}, limit, shown])
            if page is not None:
                return page, size
            if size == 1:
                raise FailedRun("the query, or one of the records, is too large for DocDB")
            size //= 2
            self.page = size  # of all further ones, too
            log.debug("answer too large: asking for %d records at a time", size)

    def common_values(self, path: str) -> Iterator[tuple[Any, int]]:
        """Yield the values at a path and how often each is there, the most frequent ones first."""
        stages: list[Record] = [
            {"$project": {"_id": 0, "value": f"${path}"}},
            {"$unwind": "$value"},
            {"$group": {"_id": "$value", "records": {"$sum": 1}}},
            {"$sort": {"records": -1, "_id": 1}},
            {"$limit": VALUES_IN_HINTS},
        ]
        for group in self.aggregate(stages) or ():
            yield group.get("_id"), group.get("records", 0)

    def sample(self) -> list[Record]:
        """Return some records, whole."""
        for number in (20, 5, 1):  # some are large
            records = self.aggregate([{"$limit": number}])
            if records is not None:
                return records
        return []

    def known_names(self, names: list[str]) -> set[str]:
        """Return which of these names records have.

        Those that an answer does not tell of are asked for again, as long as that tells of some:
        an answer may have been cut by what lies between.
        """
        known: set[str] = set()
        rest = names
        while rest:
            told = self.names_told(rest)
            if not told:
                break
            known |= told
            rest = [name for name in rest if name not in known]
        return known

    def names_told(self, names: list[str]) -> set[str]:
        """Return which of these names the database tells of, asked once for each."""
        waiting = []
        for start in range(0, len(names), IDS_PER_QUERY):
            waiting.append(names[start : start + IDS_PER_QUERY])
        told = set()
        while waiting:
            asked = waiting.pop()
            match = {"$match": {"name": {"$in": asked}}}
            records = self.aggregate([match, {"$project": {"_id": 0, "name": 1}}])
            if records is not None:
                for record in records:
                    told.add(str(record.get("name")))
            elif len(asked) > 1:  # too much for one answer
                waiting += [asked[: len(asked) // 2], asked[len(asked) // 2 :]]
            else:
                raise FailedRun(f"the records of the results store called {asked[0]} are too large")
        return told & set(names)


class Ids:
    """The ids that pages have had so far, of which each must go on after the one before."""

    def __init__(self) -> None:
        self.last: str | None = None  # of those that are strings
        self.others: list[Any] = []
        self.pages = self.records = 0

    def rest(self) -> Record:
        """Return the condition for all records that no page has had."""
        others: Record = {"_id": {"$not": {"$gte": ""}, "$nin": self.others}}
        if self.last is None:
            return {"$or": [{"_id": {"$gte": ""}}, others]}
        return {"$or": [{"_id": {"$gt": self.last}}, others]}

    def check(self, page: list[Record]) -> None:
        """Take the ids of a page; raise FailedRun if they leave records out, or have no end."""
        for record in page:
            record_id = record.get("_id")
            if isinstance(record_id, str):
                if self.last is not None and record_id <= self.last:
                    raise self.out_of_order()
                self.last = record_id
            elif record_id in self.others:
                raise self.out_of_order()
            else:
                self.others.append(record_id)
        self.pages += 1
        self.records += len(page)
        if self.pages > MOST_PAGES or self.records > MOST_RECORDS:
            came = f"{self.records:,} records on {self.pages:,} pages"
            raise FailedRun(f"DocDB's answer has no end: {came} so far; narrow the filter")

    def check_strings(self, page: list[Record]) -> None:
        """Raise FailedRun for ids that are no strings, where strings are asked for."""
        for record in page:
            if not isinstance(record.get("_id"), str):
                raise self.out_of_order()

    def out_of_order(self) -> FailedRun:
        """Return the error for pages that leave records out, or repeat them."""
        return FailedRun(f"DocDB's pages do not continue after record {self.last!r}: ask again")


def open_docdb(version: str, timeout: int, name: str = "DocDB", **place: str) -> DocDB:
    """Return a live database behind its REST interface; raise BadInput.

    Its place is the metadata's unless another is given. $DOCDB_DATABASE and $DOCDB_COLLECTION are
    the results store's: every step of a pipeline sees them.
    """
    import requests
    from aind_data_access_api.document_db import MetadataDbClient

    host = os.environ.get("DOCDB_HOST", "").strip() or DOCDB_HOST
    host = host.removeprefix("https://").rstrip("/")
    if not re.fullmatch(r"[\w.:\[\]-]+", host):
        raise BadInput("$DOCDB_HOST must be the name of a host, without path, user and password")
    session = requests.Session()
    limit_answers(session, timeout)
    client = MetadataDbClient(host=host, version=version, session=session, **place)
    log.info("asking %s %s at %s", name, version, host)
    name = f"{name} at {host}"

    def ask(pipeline: list[Record]) -> list[Record] | None:
        try:
            answer = client.aggregate_docdb_records(pipeline)
        except requests.HTTPError as error:
            if error.response.status_code == 413:
                return None
            if error.response.status_code == 400:
                raise BadInput(f"{name} refuses the query: {status_of(error)}") from None
            raise
        if not isinstance(answer, list) or not all(isinstance(record, dict) for record in answer):
            raise ValueError(f"not a list of records, but {excerpt(str(answer), 300)}")
        if is_deeper(
            answer, DEPTH + 1
        ):  # a list of records: all at once, which takes some 2 us each
            raise FailedRun(f"{name} answers with a record that is nested more than {DEPTH} deep")
        return answer

    return DocDB(partial(ask_patiently, ask, name, timeout))
