"""Days of sessions against a calendar; bounds of dates that do not mean what they seem to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from operator import ge, gt, le, lt
from pathlib import Path

import pytest
from hypothesis import strategies as st

from chosen import Record, names, write_snapshot
from conftest import Run, fuzz, in_turn, refusal
from dispatch.assets.date_ranges import Bound, bounds_without_time, odd_bounds, without_bound
from dispatch.records.schema import NAMES
from dispatch.records.vocabulary import in_full
from reference import matches
from standins import DocDB, record

SESSION = "session.session_start_time"


# Where either version of the metadata, and imaging, keep the start of a session.
PLACES: dict[str, Callable[[str], Record]] = {
    "1": lambda time: {"session": {"session_start_time": time}},
    "2": lambda time: {"acquisition": {"acquisition_start_time": time}},
    "imaging": lambda time: {"acquisition": {"session_start_time": time}},
}


@pytest.mark.parametrize(
    ("flags", "expected", "where"),
    in_turn([
        (["--session_from=2025-03-01", "--session_to=2025-03-31"], "2025-03"),
        (["--session_from=2025-03", "--session_to=2025-03"], "2025-03"),
        (["--session_from=2025", "--session_to="], "2025"),
        (["--session_from=", "--session_to=2024"], "2024-12-31"),
        (["--session_from=", "--session_to=2025-03-01"], "2024-12-31|2025-03-01"),
        (["--session_from=2025-04", "--query={'name': {'$regex': '-2$'}}"], "2025-04.*-2$"),
    ], ["v1", "v2", "snapshot"]),
)  # fmt: skip
def test_the_days_of_sessions_are_chosen_in_both_versions(
    flags: list[str], expected: str, where: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    records = []
    for place, at in PLACES.items():
        for day in ("2024-12-31", "2025-03-01", "2025-03-31", "2025-04-01"):
            for clock in ("T00:00:00", "T23:59:59.999999-08:00"):
                records.append(record(f"{day}{clock}-{place}", **at(day + clock)))
    records += [record("untold"), record("odd", session={"session_start_time": "March 2025"})]
    if where == "snapshot":
        flags = [*flags, write_snapshot(tmp_path, records)]
    else:
        docdb.put(*records, version=where)
        flags = [*flags, "--docdb_version", where]
    result = run(*flags)
    assert result.status == 0, result.log
    assert sorted(names(result)) == sorted(
        one["name"] for one in records if re.match(expected, one["name"])
    )
    untold = "left out, its session date cannot be told: odd (record id-odd)"
    assert (untold in result.log) == ("-2" not in expected)


def test_a_day_that_is_none_is_told_with_the_form_that_serves() -> None:
    for value in ("04/01/2025", "2025-3-1", "2025-02-30", "2025-13", "25", "now", "20250301"):
        for flag in ("--session_from", "--session_to"):
            words = f"{flag}: must be a date such as 2025-03-01, or a month, 2025-03, or a year"
            assert words in refusal(f"{flag}={value}")
    assert "must be a date" in refusal("--session_from=0000")


EDGES = (  # of the months and the year that are asked for
    *("1999-12-31", "2000-01-01", "2000-01-31", "2000-02-01", "2000-02-28", "2000-02-29"),
    *("2000-03-01", "2000-12-31", "2001-01-01"),
)


@pytest.mark.parametrize("bound", ["2000-02-29", "2000-02", "2000"])
@pytest.mark.parametrize(
    ("operator", "holds"), [("$gt", gt), ("$gte", ge), ("$lt", lt), ("$lte", le)]
)
def test_the_filter_for_days_is_that_of_a_calendar(
    operator: str, holds: Callable[[str, str], bool], bound: str
) -> None:
    query = in_full({"session_day": {operator: bound}}, NAMES)
    found = [day for day in EDGES if matches(query, PLACES["1"](f"{day}T12:00:00"))]
    assert found == [day for day in EDGES if holds(day[: len(bound)], bound)]


@pytest.mark.parametrize(
    ("bound", "written", "where", "field"),
    in_turn([
        ({"$gte": "04/01/2025"}, '{"$gte":"2025-04-01"}'),
        ({"$gte": "2025-3-1"}, '{"$gte":"2025-03-01"}'),
        ({"$lt": "31.12.2025"}, '{"$lt":"2025-12-31"}'),
        ({"$gt": 2025}, '{"$gt":"2025"}'),
        ({"$gt": 20250301}, '{"$gt":"2025-03-01"}'),
        ({"$lte": "2025-03-06"}, '{"$lt":"2025-03-07"}'),
        ({"$not": {"$gte": "2025/3/1"}}, '{"$gte":"2025-03-01"}'),
        ({"$gte": "spring"}, 'write a date as "2025-03-04"'),
    ], ["database", "snapshot"], [SESSION, "created"]),
)  # fmt: skip
def test_a_bound_that_is_no_date_is_told_as_it_should_be_written(
    field: str, where: str, bound: Record, written: str, run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    records = []
    for day in range(1, 29):
        time = f"2025-03-{day:02}T12:00:00"
        records.append(record(time, session={"session_start_time": time}, created=time))
    docdb.put(*records)
    flags = [f"--query={json.dumps({'$and': [{field: bound}, {'name': {'$ne': 'x'}}]})}"]
    if where == "snapshot":
        flags.append(write_snapshot(tmp_path, records))
    strict = run(*flags, "--strict=1")
    [warning] = [line for line in strict.log.splitlines() if f"WARNING {field}" in line]
    assert written in warning
    assert strict.status == 1
    assert "--strict 1: " in strict.error
    assert written in strict.error


@pytest.mark.parametrize(
    "query",
    [
        {SESSION: {"$gte": "2025-03-01", "$lt": "2025-04"}},
        {SESSION: {"$lte": "2025-03-06T12:00:00"}},
        {"name": {"$gte": "a", "$lt": "z"}},
        {"number": {"$gt": 3}},
        {"day": {"$lte": "2025-03-06"}},  # whose values are days
        {"nowhere": {"$gte": "04/01/2025"}},
    ],
)
def test_a_bound_that_means_what_it_seems_to_is_not_told(query: Record) -> None:
    values = {"name": ["b", "c"], "day": ["2025-03-01", "2025-03-06"]}
    times = ["2025-03-06T09:00:00"]
    bounds = bounds_without_time(query)
    assert not odd_bounds(bounds, lambda path: values.get(path, times if path == SESSION else []))


def test_a_filter_without_a_bound_keeps_all_else() -> None:
    held = {"$gte": "2025", "$lt": "2026", "$not": {"$gte": "2025"}}
    kept = {"$exists": True, "$lt": "2026"}
    branches = [{"day": held}, {"$or": [{"day": held, "name": "a"}]}, {"day": "2025"}]
    left = [{"day": kept}, {"$or": [{"day": kept, "name": "a"}]}, {"day": "2025"}]
    query = {"$and": branches, "$nor": [{"day": held}], "other": held}
    assert without_bound(query, Bound("day", "$gte", "2025")) == {**query, "$and": left}


def test_a_wrong_bound_is_told_whenever_it_changes_what_is_found() -> None:
    def check(day: date, form: str, operator: str) -> None:
        bound = day.strftime(form)
        right = str(day) if operator != "$lte" else str(day + timedelta(days=1))
        stored = []
        for near in range(-40, 40):
            stored.append(f"{day + timedelta(days=near)}T12:00:00")
        wanted = {SESSION: {operator if operator != "$lte" else "$lt": right}}
        given = {SESSION: {operator: bound}}
        faults = odd_bounds(bounds_without_time(given), lambda _: stored)
        differ = False
        for moment in stored:
            held = {"session": {"session_start_time": moment}}
            differ = differ or matches(given, held) != matches(wanted, held)
        assert bool(faults) >= differ
        if faults and form in ("%Y-%m-%d", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d"):
            assert right in faults[0]

    fuzz(
        check,
        0.025,
        day=st.dates(date(2001, 1, 1), date(2029, 1, 1)),
        form=st.sampled_from(
            ["%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%B %d, %Y", "%d %b %y"]
        ),
        operator=st.sampled_from(["$gte", "$lt", "$lte"]),
    )
