"""Filters with names find in records of all generations what a slow reference finds in them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from conftest import fuzz
from dispatch.records.named import Named
from dispatch.records.schema import NAMES
from dispatch.records.snapshot import Snapshot
from dispatch.records.vocabulary import in_full
from dispatch.terminal.messages import BadInput
from reference import matches
from vocabularies import SEVERAL, WHERE, a_filter, a_record, answers, some_plain, value_of

Record = dict[str, Any]


def a_world(number: int) -> tuple[random.Random, set[str], list[Record]]:
    """Return what to draw with, and records, some of whose names are columns of a table."""
    dice = random.Random(number)  # noqa: S311
    plain = some_plain(dice)
    records = [a_record(dice, place, plain) for place in range(25)]
    found = set().union(*records)
    return dice, plain & found, records


def test_a_filter_with_names_finds_what_the_reference_finds() -> None:
    def check(number: int) -> None:
        dice, plain, records = a_world(number)
        database = Named(Snapshot(records, Path()), plain)
        for _ in range(5):
            query = a_filter(dice)
            expected = [one["_id"] for one in records if answers(query, one, plain)]
            asked = database.in_full(query)
            assert not set(WHERE) & (set(names_of(asked)) - plain), query
            said = (query, asked)
            assert [one["_id"] for one in records if matches(asked, one)] == expected, said
            [page] = database.find(query, ["_id"])
            assert [one["_id"] for one in page] == expected, said
            assert database.in_full(asked) == asked or plain, said

    fuzz(check, 0.15, number=st.integers(0, 2**48))


def names_of(query: Record) -> list[str]:
    """Return the keys of a filter and of the filters in it."""
    found = list(query)
    for parts in query.values():
        if isinstance(parts, list):
            for part in parts:
                found += names_of(part) if isinstance(part, dict) else []
    return found


def test_a_record_answers_to_a_name_as_the_reference_says() -> None:
    def check(number: int) -> None:
        _, plain, records = a_world(number)
        names = Named(Snapshot(records, Path()), plain).names
        for one in records:
            for name in [*WHERE, "session_name"]:
                found = names[name].value_in(one)
                expected = value_of(name, one, plain)
                assert (found if isinstance(found, str | list) else None) == expected, (name, one)
                assert expected is None or isinstance(expected, list) or name not in SEVERAL

    fuzz(check, number=st.integers(0, 2**48))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"subject_id": {"$gt": "1"}}, "subject_id"),
        ({"subject_id": ["1", "2"]}, "subject_id"),
        ({"subject_id": {"$all": ["1"]}}, "subject_id"),
        ({"subject_id": {"a": 1}}, "subject_id"),
        ({"subject_id": {}}, "subject_id"),
        ({"subject_id": {"$in": "1"}}, "subject_id"),
        ({"subject_id": {"$in": [["1"]]}}, "subject_id"),
        ({"subject_id": True}, "subject_id"),
        ({"tags": {"$size": 2}}, "tags"),
        ({"modality": {"$elemMatch": {"abbreviation": "fib"}}}, "modality"),
        ({"modality": {"$not": "fib"}}, "modality"),
        ({"modality": {"$options": "i"}}, "modality"),
        ({"$or": [{"$and": [{"modality": {"$not": {"$gt": "a"}}}]}]}, "modality"),
        ({"session_day": "2025-03"}, '"2025-03-04"'),
        ({"session_day": {"$gte": "2025-03-01T10:00:00"}}, '"2025-03-04"'),
        ({"session_day": {"$gte": "spring"}}, '"2025-03-04"'),
        ({"session_day": {"$gte": 2025}}, '"2025-03-04"'),
        ({"session_day": {"$lt": None}}, '"2025-03-04"'),
        ({"session_start": {"$lt": "03/04/2025"}}, '"2025-03-04T09:12:33"'),
        ({"session_name": "ecephys_1_2025-03-04_09-12-33"}, '{"name":{"$regex":"^ecephys_1_'),
    ],
)
def test_what_a_name_does_not_understand_is_bad_input(query: Record, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        in_full(query, NAMES)
    assert words in str(caught.value)
    assert "write" in str(caught.value)
    assert next(name for name in (*WHERE, "session_name") if name in json.dumps(query)) in str(
        caught.value
    )


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"name": "a", "$comment": "x"},
        {"subject": {"subject_id": "1"}},
        {"subject.subject_id": {"$gt": "1"}},
        {"subject": {"$elemMatch": {"subject_id": "1"}}},
        {"created": {"$gte": "2025"}},
        {"$or": [{"a": 1}, {"$nor": [{"modality.0": 1}]}]},
    ],
)
def test_a_filter_without_names_is_asked_as_it_is(query: Record) -> None:
    assert in_full(query, NAMES) is query


def test_a_filter_of_one_name_with_one_path_stays_short() -> None:
    both = ["x", "y"]
    for wanted in ("x", None, {"$ne": "x"}, {"$in": both}, {"$nin": both}):
        found = in_full({"project_name": wanted}, NAMES)
        assert found == {"data_description.project_name": wanted}
