"""Values: how MongoDB orders them, where fields are, and what day and time a string tells."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import fuzz
from dispatch.given.values import (
    DEPTH,
    check_values,
    day_after,
    first_day,
    has_field,
    instant,
    lists_on,
    rank,
)
from dispatch.terminal.messages import BadInput

# one kind after the other, as MongoDB orders them
ORDERED: list[Any] = [
    *(None, -1, 0, 0.5, 2, "", "a", "b"),
    *({"a": 1}, {"a": 1, "b": 0}, {"a": 2}, {"b": 0}, [], [None], [1], ["a"], [{"a": 1}], [[1]]),
    *(False, True),
]


def test_values_are_ordered_as_mongodb_orders_them() -> None:
    for _ in range(20):
        shuffled = random.sample(ORDERED, len(ORDERED))
        assert list(map(repr, sorted(shuffled, key=rank))) == list(map(repr, ORDERED))
    assert rank(float("nan")) == rank(None)


def test_values_may_be_nested_as_deeply_as_mongodb_lets_them() -> None:
    value: Any = 1
    for _ in range(DEPTH):
        value = [value]
    check_values(value, "it")
    with pytest.raises(BadInput, match="it is nested more than 100 deep"):
        check_values([value], "it")


@pytest.mark.parametrize(
    ("value", "path", "is_there", "lists"),
    [
        ({"a": None}, "a", True, []),
        ({}, "a", False, []),
        ({"a": 1}, "a.b", False, []),
        ({"a": {"b": 1}}, "a.b", True, []),
        ({"a": [{"b": [1]}]}, "a.b", True, [[{"b": [1]}], [1]]),
        ({"a": [{"c": 1}, 2]}, "a.b", False, [[{"c": 1}, 2]]),
        ({"a": []}, "a", True, [[]]),
        ({"a": []}, "a.b", False, [[]]),
    ],
)
def test_a_field_is_there_or_not_and_lists_lead_to_it(
    value: Any, path: str, is_there: bool, lists: list[Any]
) -> None:
    assert has_field(value, path.split(".")) == is_there
    assert list(lists_on(value, path.split("."))) == lists


def test_a_day_a_month_and_a_year_begin_and_end_as_in_the_calendar() -> None:
    def check(day: date) -> None:
        assert first_day(f"{day}") == f"{day}"
        assert day_after(f"{day}") == f"{day + timedelta(days=1)}"
        month = day.replace(day=1)
        assert first_day(f"{day:%Y-%m}") == f"{month}"
        assert day_after(f"{day:%Y-%m}") == f"{(month + timedelta(days=31)).replace(day=1)}"
        year = date(day.year, 1, 1)
        assert first_day(f"{day:%Y}") == f"{year}"
        assert day_after(f"{day:%Y}") == f"{(year + timedelta(days=366)).replace(day=1)}"

    fuzz(check, 0.025, day=st.dates(date(1000, 1, 1), date(2999, 12, 31)))
    for wrong in ("2025-02-30", "2025-13", "2025-00-01", "25", "2025-1"):
        assert first_day(wrong) == ""


def test_a_time_is_told_as_datetime_reads_it_in_utc() -> None:
    def check(moment: datetime, hours: int, utc: str) -> None:
        told = instant(f"{moment.isoformat()}{f'{hours:+03}:00' if hours else utc}")
        fraction = f"{moment.microsecond:06}".rstrip("0")
        there = moment.replace(microsecond=0) - timedelta(hours=hours)
        assert told == (there, fraction)

    fuzz(
        check,
        0.025,
        moment=st.datetimes(datetime(1000, 1, 1), datetime(2999, 12, 31)),
        hours=st.integers(-12, 14),
        utc=st.sampled_from(["", "Z", "z", "+00:00", "+0000"]),
    )


@pytest.mark.parametrize(
    ("string", "told"),
    [
        ("2025-03-04T24:00:00", datetime(2025, 3, 5)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1)),
        ("2025-03-04", datetime(2025, 3, 4)),
        ("9999-12-31T23:00:00-12:00", None),  # later than a datetime can be
        ("0001-01-01T00:00:00+14:00", None),
        ("2025-02-30", None),
        ("2025-03-04T25:00", None),
        ("yesterday", None),
        (20250304, None),
    ],
)
def test_a_time_that_datetime_does_not_read_is_told_or_none(
    string: Any, told: datetime | None
) -> None:
    assert instant(string) == (told and (told, ""))
